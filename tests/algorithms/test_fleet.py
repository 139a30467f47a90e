"""What averages with what, when clients have several architectures."""

import pytest
import torch

from fedkd import testing
from fedkd.algorithms.averaging import Update
from fedkd.algorithms.fleet import Fleet, assemble
from fedkd.party import ModelSpec
from fedkd.simulation.federation import Federation
from fedkd.simulation.sides import Sides


def one(value):
    return {"w": torch.tensor([float(value)])}


def test_clients_average_with_those_of_their_own_architecture():
    fleet = Fleet((0, 1, 0, 1), {0: one(0), 1: one(0)})
    ups = {0: Update(one(1), 1), 1: Update(one(10), 5), 2: Update(one(5), 3)}
    after = fleet.averaged(ups, 0)
    # (1 x 1 + 3 x 5) / 4, and client 1 alone.
    assert after.of(0, 0)["w"].item() == after.whole["w"].item() == 4
    assert after.of(1, 0)["w"].item() == after.of(3, 0)["w"].item() == 10


def test_an_architecture_that_sat_out_keeps_its_weights():
    fleet = Fleet((0, 1), {0: one(0), 1: one(7)})
    assert fleet.averaged({0: Update(one(1), 1)}, 0).of(1, 0)["w"].item() == 7


def test_clients_that_cannot_train_a_distilled_model_stand_for_it_unchanged():
    ups = {0: Update(one(1), 1), 1: Update(one(10), 5), 2: Update(one(5), 2)}
    fleet = Fleet((0, 1, 0), {0: one(0), 1: one(0)}).taught(one(8))
    after = fleet.averaged(ups, 0)
    # (1 x 1 + 5 x 8 + 2 x 5) / 8, and client 1 alone.
    assert after.whole["w"].item() == pytest.approx(51 / 8)
    assert after.of(1, 0)["w"].item() == 10
    assert after.distilled
    assert fleet.averaged({1: ups[1]}, 0).whole["w"].item() == 8


def test_with_one_architecture_a_distilled_model_is_replaced_bit_for_bit():
    ups = {0: Update(one(0.1), 1), 1: Update(one(0.7), 2)}
    fleet = Fleet((0, 0), {0: one(0)})
    after = fleet.taught(one(8)).averaged(ups, 0)
    assert torch.equal(after.whole["w"], fleet.averaged(ups, 0).whole["w"])


def test_every_architecture_starts_from_its_own_initial_weights():
    federation = testing.toy_federation(models=("cnn", "mlp"))
    sides = Sides(federation, testing.toy_protocol(), 0)
    fleet = assemble(sides.server())
    assert fleet.kinds == (0, 1, 0)
    assert fleet.mixed
    assert fleet.server_is_new
    for k in range(3):
        initial = sides.client(k, testing.toy_protocol().training).initial
        assert fleet.of(k, 0).keys() == initial.keys()
        assert all(torch.equal(fleet.of(k, 0)[name], v) for name, v in initial.items())


def test_a_server_may_have_an_architecture_of_its_own():
    toy = testing.toy_federation()
    federation = Federation(
        toy.data,
        [c.indices.numpy() for c in toy.clients],
        [shard.numpy() for shard in toy.test_shards],
        [ModelSpec("cnn")],
        toy._factory,
        server=ModelSpec("mlp"),
    )
    fleet = assemble(Sides(federation, testing.toy_protocol(), 0).server())
    assert fleet.kinds == (1, 1, 1)
    assert fleet.server_is_new
    assert not fleet.mixed


def test_an_architecture_is_known_once_a_client_has_sent_it():
    fleet = Fleet((0, 1, 1), {0: one(0), 1: one(0)})
    assert fleet.server_is_new
    after = fleet.averaged({1: Update(one(1), 1)}, 0)
    assert after.heard == (1,)
    assert after.server_is_new
    after = after.averaged({0: Update(one(1), 1), 2: Update(one(1), 1)}, 1)
    assert after.heard == (0, 1)
    assert not after.server_is_new


def test_nested_sub_models_are_known_once_any_client_has_sent_one():
    """All of them count as the server's architecture, whatever their width."""
    wide, narrow = (ModelSpec("cnn", {"width": width}) for width in (1.0, 0.5))
    federation = testing.toy_federation(models=(wide, narrow))
    sides = Sides(federation, testing.toy_protocol(), 0)
    fleet = assemble(sides.server(), "static")
    assert fleet.kinds == (0, 0, 0)
    assert fleet.server_is_new
    after = fleet.averaged({1: Update(fleet.of(1, 0), 1)}, 0)
    assert after.heard == (0,)
    assert not after.server_is_new
