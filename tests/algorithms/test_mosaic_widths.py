"""Mosaic where the clients' models are nested sub-models of the server's."""

import pytest
import torch

from fedkd import testing
from fedkd.algorithms.averaging import AverageConfig
from fedkd.algorithms.fedavg import FedAvg
from fedkd.algorithms.fleet import assemble
from fedkd.algorithms.mosaic.config import (
    DistilConfig,
    GeneratorConfig,
    MosaicConfig,
    TeacherConfig,
)
from fedkd.algorithms.mosaic.experts import Members
from fedkd.algorithms.mosaic.strategy import Mosaic
from fedkd.algorithms.mosaic.teacher import build_experts
from fedkd.ops.ensembles import apart
from fedkd.party import ModelSpec
from fedkd.simulation.federation import Federation
from fedkd.simulation.requirements import reason_to_skip
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import simulate
from fedkd.strategy import read_weights

SCHEMES = ["static", "rolling", "random"]


def nested_federation(widths=(1.0, 0.5, 0.25)):
    toy = testing.toy_federation()
    return Federation(
        toy.data,
        [c.indices.numpy() for c in toy.clients],
        [shard.numpy() for shard in toy.test_shards],
        [ModelSpec("cnn", {"width": width}) for width in widths],
        toy._factory,
        server=ModelSpec("cnn", {"width": 1.0}),
    )


def config(aggregate, steps=2, **teacher):
    return MosaicConfig(
        aggregate=aggregate,
        warmup=2,
        finetune_lr=None,
        generator=GeneratorConfig(steps=2, batch_size=8, width=2, latent_size=4),
        teacher=TeacherConfig(steps=2, samples_per_client=4, **teacher),
        distil=DistilConfig(steps=steps, batch_size=8),
    )


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", ["meta", "global"])
@pytest.mark.parametrize("origin_prior", [False, True])
def test_mosaic_teaches_a_federation_of_nested_widths(scheme, kind, origin_prior):
    strategy = Mosaic(config(scheme, kind=kind, origin_prior=origin_prior))
    federation, protocol = nested_federation(), testing.toy_protocol(4)
    assert reason_to_skip(strategy.requires, federation, protocol.buffers) is None
    result = simulate(strategy, federation, protocol, seed=0)
    assert "after_distillation" in result.history[1]["measured"]
    assert not result.state.fleet.mixed


@pytest.mark.parametrize("scheme", SCHEMES)
def test_without_server_steps_it_is_fedavg_on_the_same_widths(scheme):
    federation, protocol = nested_federation(), testing.toy_protocol(3)
    result = simulate(Mosaic(config(scheme, steps=0)), federation, protocol, seed=0)
    fedavg = FedAvg(AverageConfig(aggregate=scheme))
    expected = simulate(fedavg, federation, protocol, seed=0)
    assert same(result.state.weights, expected.state.weights)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_at_full_width_it_is_mosaic(scheme):
    federation, protocol = testing.toy_federation(), testing.toy_protocol(4)
    result = simulate(Mosaic(config(scheme)), federation, protocol, seed=0)
    if scheme == "random":  # it draws the name of its windows, once
        assert result.metrics["global_accuracy"] is not None
        return
    expected = simulate(Mosaic(config("plain")), federation, protocol, seed=0)
    assert same(result.state.weights, expected.state.weights)


def test_an_expert_averages_those_who_hold_a_coordinate_and_its_class():
    server = Sides(nested_federation(), testing.toy_protocol(), 0).server()
    fleet = assemble(server, "static")
    models = {}
    for k in range(3):
        weights = read_weights(server.client_model(k, fleet.of(k, 0)))
        models[k] = {n: torch.full_like(v, k + 1.0) for n, v in weights.items()}
    counts = [[3, 1, 0], [1, 0, 0], [0, 4, 0]]
    labels = dict(enumerate(torch.tensor(counts)))
    experts = build_experts(Members(fleet, models, labels, 0), TeacherConfig(), server)
    assert experts.fuse is apart
    bias = next(n for n in fleet.whole if n.endswith("0.weight"))
    first, second = (
        dict(m.named_parameters())[bias][:, 0, 0, 0] for m in experts.members
    )
    half, quarter = (len(models[k][bias]) for k in (1, 2))
    # Class 0: clients 0 (value 1, 3 images) and 1 (value 2, 1 image).
    assert first[:half].tolist() == [1.25] * half
    assert first[half:].tolist() == [1.0] * (len(first) - half)
    # Class 1: clients 0 (value 1, 1 image) and 2 (value 3, 4 images).
    torch.testing.assert_close(second[:quarter], torch.full((quarter,), 2.6))
    assert second[quarter:].tolist() == [1.0] * (len(second) - quarter)


def test_other_architectures_are_skipped_with_a_reason():
    federation = testing.toy_federation(models=("cnn", "mlp"))
    reason = reason_to_skip(Mosaic(config("rolling")).requires, federation, "average")
    assert "needs one family at nested widths" in reason
