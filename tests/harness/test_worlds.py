"""Worlds beyond label skew, from a suite to a federation."""

from collections import Counter

import pytest
import torch
from house import ROOT

from fedkd.errors import ConfigError
from fedkd.harness.builder import RunBuilder
from fedkd.plugins.registry import load_registry
from fedkd.suite.grid import grid
from fedkd.suite.suite import load_suite

SUITE = """\
name: toy
rounds: 2
clients: {clients}
seeds: [0]
datasets: [toy-written]
partitions: [{partition}]
models: [mlp]
training: {{local_steps: 2, batch_size: 8, lr: 0.05}}
strategies: [fedavg]
{more}
"""

PUBLIC = "public: {share: 0.25}"


@pytest.fixture(scope="module")
def registry():
    return load_registry([str(ROOT / "tests" / "plugins" / "toy_plugin.py")])


@pytest.fixture
def cells(registry, tmp_path):
    """Return a function that gives the cells of a suite."""

    def cells(partition="natural", clients=3, more=""):
        path = tmp_path / "toy.yaml"
        path.write_text(SUITE.format(partition=partition, clients=clients, more=more))
        return grid(load_suite(str(path)), registry)

    return cells


@pytest.fixture
def builder(registry, tmp_path):
    return RunBuilder(registry, tmp_path, torch.device("cpu"))


@pytest.mark.parametrize("partition", ["natural", "{name: groups, min_size: 1}"])
@pytest.mark.parametrize("shards", ["matched", "iid"])
@pytest.mark.parametrize("public", ["", PUBLIC])
def test_a_client_is_measured_on_test_images_of_its_own_group(
    builder, cells, partition, shards, public
):
    (cell,) = cells(partition, more=f"test_shards: {shards}\n{public}")
    federation, split = builder.federation(cell)
    groups = federation.data.groups
    for k in range(3):
        assert set(groups.train[federation.clients[k].indices].tolist()) == {k}
        assert set(groups.test[federation.test_shards[k]].tolist()) == {k}
    assert split.groups.tolist() == [0, 1, 2]


def test_a_partition_by_labels_takes_test_images_of_every_group(builder, cells):
    (cell,) = cells("iid")
    federation, split = builder.federation(cell)
    assert split.groups is None
    assert (
        len(set(federation.data.groups.test[federation.test_shards[0]].tolist())) == 3
    )


SHIFTS = "shifts: [none, {features: [noise]}, {concepts: 2}, {periods: 2}]"


def test_shifts_are_an_axis_of_the_grid_and_are_named_in_the_tables(cells):
    found = cells("iid", more=SHIFTS)
    assert [cell.run.dataset for cell in found] == [
        "toy-written",
        "toy-written with noise 0.5",
        "toy-written with 2 concepts",
        "toy-written with 2 periods 0.1",
    ]
    assert len({cell.config_hash for cell in found}) == 4
    assert [cell.config.get("shift", {}).get("concepts") for cell in found] == [
        *(None, 1, 2, 1)
    ]


@pytest.mark.parametrize("none", ["none", "[none]", "[{}]", "null"])
def test_a_run_without_a_shift_keeps_its_name(cells, none):
    (before,) = cells("iid")
    (after,) = cells("iid", more=f"shifts: {none}")
    assert after.config == before.config
    assert "shift" not in before.config


def test_a_suite_without_a_shift_is_written_as_it_was(tmp_path):
    def plain(more):
        path = tmp_path / "toy.yaml"
        path.write_text(SUITE.format(partition="iid", clients=3, more=more))
        return load_suite(str(path)).plain()

    assert "shifts" not in plain("")
    shift = plain("shifts: {concepts: 2}")["shifts"]
    assert [one["concepts"] for one in shift] == [2]


def test_a_shift_that_is_listed_twice_is_refused(cells):
    with pytest.raises(ConfigError, match=r"shifts: .* is listed twice"):
        cells("iid", more="shifts: [none, {}]")


def test_a_federation_has_the_images_that_its_clients_see(builder, cells):
    plain, noisy, concepts, drifting = (
        builder.federation(cell)[0] for cell in cells("iid", more=SHIFTS)
    )
    own = plain.clients[1].indices
    assert not torch.equal(noisy.data.x_train[own], plain.data.x_train[own])
    assert torch.equal(noisy.clients[1].labels, plain.clients[1].labels)
    assert not (concepts.clients[1].labels == plain.clients[1].labels).any()
    assert torch.equal(concepts.clients[2].labels, plain.clients[2].labels)
    assert len(noisy.data.x_test) == sum(map(len, noisy.test_shards))
    assert drifting.data is plain.data
    parts = drifting.periods[1]
    assert sorted(torch.cat([p.indices for p in parts]).tolist()) == sorted(
        own.tolist()
    )


def test_every_strategy_of_a_seed_sees_one_world(builder, cells):
    more = "shifts: {features: [noise], concepts: 3}"
    (cell,) = cells("iid", more=more)
    assert builder.federation(cell)[0].data is builder.federation(cell)[0].data
    again = RunBuilder(builder.registry, builder.root, builder.device)
    one, two = (each.federation(cell)[0].data for each in (builder, again))
    assert torch.equal(one.x_train, two.x_train)
    assert torch.equal(one.y_test, two.y_test)
    assert Counter(one.notes)[one.notes[-1]] == 1


@pytest.mark.parametrize(
    "partition",
    [
        "iid",
        "natural",
        "{name: groups, min_size: 1}",
        "{name: dirichlet, alpha: 0.5, min_size: 1}",
        "{name: dirichlet, alpha: 0.5, min_size: 1, seed: 5}",
        "{name: quantity, min_size: 2}",
        "{name: shards, per_client: 2}",
    ],
)
@pytest.mark.parametrize("shift", ["none", "{features: [noise]}", "{periods: 2}"])
def test_no_client_trains_on_an_image_that_is_held_out(
    builder, cells, partition, shift
):
    (cell,) = cells(partition, more=f"{PUBLIC}\nshifts: {shift}")
    federation, _ = builder.federation(cell)
    total = len(federation.data.y_train)
    public = federation.public.positions.tolist()
    assert len(public) == len(federation.public) == round(total / 4)
    owned = torch.cat([client.indices for client in federation.clients]).tolist()
    parts = [part.indices for each in federation.periods for part in each]
    used = torch.cat(parts).tolist() if parts else owned
    assert not set(used) & set(public)
    assert sorted([*owned, *public]) == list(range(total))


def test_what_is_public_is_not_among_the_images_of_clients(builder, cells):
    (cell,) = cells("iid", more=PUBLIC)
    federation, _ = builder.federation(cell)
    pixels = federation.data.x_train
    open_to_all = {bytes(image.numpy()) for image in federation.public.pixels}
    assert len(open_to_all) == len(federation.public), "the toy's images differ"
    for client in federation.clients:
        own = {bytes(image.numpy()) for image in pixels[client.indices]}
        assert not own & open_to_all
    pooled = federation.pooled()
    own = {bytes(image.numpy()) for image in pixels[pooled.clients[0].indices]}
    assert not own & open_to_all
