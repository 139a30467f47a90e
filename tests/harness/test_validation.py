"""`validation` in a suite: held out, measured on, named; off, no bit and no hash moves."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from fedkd.cli import main
from fedkd.errors import ConfigError
from fedkd.harness.builder import RunBuilder
from fedkd.metrics.fairness import WorstClient
from fedkd.plugins.registry import load_registry
from fedkd.report.results import read_results
from fedkd.simulation.federation import Federation, Validation
from fedkd.simulation.simulator import simulate
from fedkd.suite.grid import grid
from fedkd.suite.overrides import Overrides, load_overridden

PLUGIN = str(Path(__file__).parents[1] / "plugins" / "toy_plugin.py")
TOY = {
    "rounds": 2,
    "clients": 3,
    "seeds": 0,
    "datasets": ["toy"],
    "partitions": ["iid"],
    "models": ["toy-linear"],
    "training": {"local_steps": 2, "batch_size": 8, "lr": 0.05},
    "strategies": ["fedavg"],
}


@pytest.fixture(scope="module")
def registry():
    return load_registry([PLUGIN])


@pytest.fixture
def cell_of(registry, tmp_path):
    def make(**values):
        path = tmp_path / "toy.yaml"
        path.write_text(yaml.safe_dump({**TOY, **values}), encoding="utf-8")
        suite = load_overridden(str(path), Overrides(), registry)
        (cell,) = grid(suite, registry)
        return suite, cell

    return make


@pytest.fixture
def builder(registry, tmp_path):
    return RunBuilder(registry, tmp_path, torch.device("cpu"))


def test_it_is_in_the_hash_where_it_is_given_and_nowhere_else(cell_of):
    suite, plain = cell_of()
    assert "validation" not in plain.config
    assert "validation" not in suite.plain()
    assert plain.columns == ()
    suite, cell = cell_of(validation=0.25)
    assert cell.config["validation"] == 0.25
    assert suite.plain()["validation"] == 0.25
    assert cell.config_hash != plain.config_hash
    assert [column.name for column in cell.columns] == [
        "validation_global_accuracy",
        "validation_local_accuracy",
    ]


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.1])
def test_what_is_no_share_is_refused(cell_of, share):
    with pytest.raises(ConfigError, match="validation: found"):
        cell_of(validation=share)


@pytest.mark.parametrize(
    "world",
    [
        {},
        {"shifts": {"features": ["noise"], "concepts": 2}},
        {"shifts": {"periods": 2}},
    ],
)
def test_nobody_trains_on_validation_images(cell_of, builder, world):
    _, cell = cell_of(validation=0.25, **world)
    _, usual = cell_of(**world)
    federation, split = builder.federation(cell)
    whole, _ = builder.federation(usual)
    for k, held in enumerate(federation.validation.shards):
        own = set(federation.clients[k].indices.tolist())
        assert own.isdisjoint(held.tolist())
        assert own | set(held.tolist()) == set(whole.clients[k].indices.tolist())
        assert federation.test_shards[k].tolist() == whole.test_shards[k].tolist()
        for part in federation.periods[k] if federation.periods else ():
            assert set(part.indices.tolist()) <= own
    assert split.hash != ""
    exam = federation.exams["validation"]
    assert len(exam.data.y_test) == sum(map(len, federation.validation.shards))
    first = federation.validation.shards[1]
    assert torch.equal(exam.data.x_test[exam.shards[1]], federation.data.x_train[first])


def test_validation_images_look_as_their_client_sees_them(cell_of, builder):
    shift = {"features": ["noise"], "concepts": 2}
    _, cell = cell_of(validation=0.25, shifts=shift)
    _, usual = cell_of(validation=0.25)
    seen, plain = (builder.federation(c)[0].exams["validation"] for c in (cell, usual))
    other = seen.shards[1]  # the second client is in the second cluster
    assert not torch.equal(seen.data.x_test[other], plain.data.x_test[other])
    assert not (seen.data.y_test[other] == plain.data.y_test[other]).any()


def rerun(builder, cell, federation, **more):
    strategy = builder.strategy(cell)
    return simulate(strategy, federation, cell.parts.protocol, 0, **more)


def test_measuring_on_it_is_measuring_a_test_set_of_these_images(cell_of, builder):
    """A world whose test set are the validation images gives the numbers."""
    slow = {**TOY["training"], "lr": 1e-3}
    _, cell = cell_of(validation=0.25, strategies=["ditto"], training=slow)
    federation, split = builder.federation(cell)
    exam = federation.exams["validation"]
    twin = Federation(
        exam.data,
        split.indices,
        [shard.numpy() for shard in exam.shards],
        federation.specs,
        builder.registry.model,
    )
    metrics = {"worst": WorstClient()}
    line = rerun(builder, cell, federation, metrics=metrics).metrics
    other = rerun(builder, cell, twin, metrics=metrics).metrics
    for name in ("global_accuracy", "local_accuracy", "worst"):
        assert line[f"validation_{name}"] == other[name]
    assert line["local_accuracy"] != other["local_accuracy"]


def test_measuring_on_it_moves_no_bit_of_anything_else(cell_of, builder):
    _, cell = cell_of(validation=0.25, strategies=["ditto"])
    federation, split = builder.federation(cell)
    bare = Federation(
        federation.data,
        split.indices,
        [shard.numpy() for shard in federation.test_shards],
        federation.specs,
        builder.registry.model,
    )
    with_it, without = (rerun(builder, cell, w).history for w in (federation, bare))
    for line, other in zip(with_it, without, strict=True):
        known = {k: v for k, v in other.items() if k not in ("seconds", "clients")}
        assert {k: line[k] for k in known} == known


def test_the_test_set_can_be_left_alone(cell_of, builder):
    _, cell = cell_of(validation=0.25)
    federation, _ = builder.federation(cell)
    whole = rerun(builder, cell, federation).metrics
    federation.validation = Validation(federation.validation.shards, alone=True)
    del federation.exams
    line = rerun(builder, cell, federation).metrics
    assert line["global_accuracy"] is line["local_accuracy"] is None
    for name in ("validation_global_accuracy", "validation_local_accuracy"):
        assert line[name] == whole[name] is not None


def test_the_pooled_world_has_the_validation_images_of_all(cell_of, builder):
    _, cell = cell_of(validation=0.25)
    federation, _ = builder.federation(cell)
    (shard,) = federation.pooled().validation.shards
    every = sorted(p for held in federation.validation.shards for p in held.tolist())
    assert shard.tolist() == every


def test_a_bench_has_its_columns_and_says_what_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {**TOY, "validation": 0.25}
    Path("toy.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    command = ["bench", "toy.yaml", "--plugin", PLUGIN, "--out", "out", "--plain"]
    assert main([*command, "--no-plots", "--jobs", "1"]) == 0
    (row,) = read_results(Path("out/results.csv"))
    (lines,) = Path("out/runs").glob("*/metrics.jsonl")
    last = json.loads(lines.read_text("utf-8").splitlines()[-1])
    for name in ("validation_global_accuracy", "validation_local_accuracy"):
        assert row.metrics[name] == pytest.approx(last[name], abs=1e-6)
    page = Path("out/table.md").read_text("utf-8")
    assert "25 % of every client's training images, class by class" in page
    assert "## Validation global accuracy" in page
    assert "On the validation images, after the last round." in page
    (log,) = Path("out/runs").glob("*/log")
    note = "training images held out from the clients, for validation"
    assert note in log.read_text("utf-8")
    Path("out/table.md").unlink()
    assert main(["report", "out"]) == 0
