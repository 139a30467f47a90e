"""Any key as an axis of the grid, and labels of data sets, partitions and models."""

from pathlib import Path

import pytest
import yaml

from fedkd.cli import main
from fedkd.errors import ConfigError
from fedkd.plugins.registry import load_registry
from fedkd.report.grouping import Setting, group, setting_titles
from fedkd.report.results import csv_text, read_results
from fedkd.suite.grid import grid
from fedkd.suite.overrides import Overrides, load_overridden
from fedkd.suite.suite import load_suite

PLUGIN = str(Path(__file__).parents[1] / "plugins" / "toy_plugin.py")
TOY = {
    "rounds": 1,
    "clients": 3,
    "seeds": 0,
    "datasets": ["toy"],
    "partitions": ["iid"],
    "models": ["toy-linear"],
    "training": {"local_steps": 2, "batch_size": 8, "lr": 0.05},
    "strategies": ["fedavg"],
}


@pytest.fixture
def suite_of(tmp_path):
    registry = load_registry([PLUGIN])

    def make(*assignments, **values):
        path = tmp_path / "toy.yaml"
        path.write_text(yaml.safe_dump({**TOY, **values}), encoding="utf-8")
        suite = load_overridden(str(path), Overrides(assignments=assignments), registry)
        return suite, grid(suite, registry)

    return make


def test_a_list_of_a_key_is_an_axis_and_no_hash_knows_of_it(suite_of):
    _, (low,) = suite_of("training.lr=0.01")
    suite, cells = suite_of("training.lr=[0.01, 0.05]", "buffers=[average, local]")
    assert [cell.run.axes for cell in cells] == [
        (("buffers", "average"), ("training.lr", "0.01")),
        (("buffers", "average"), ("training.lr", "0.05")),
        (("buffers", "local"), ("training.lr", "0.01")),
        (("buffers", "local"), ("training.lr", "0.05")),
    ]
    assert cells[0].config_hash == low.config_hash
    assert cells[0].run_id == low.run_id
    assert suite.plain()["training"]["lr"] == [0.01, 0.05]
    assert suite.plain()["buffers"] == ["average", "local"]


def test_a_suite_with_axes_is_read_again_as_it_was(suite_of, tmp_path):
    suite, cells = suite_of(clients=[2, 3], evaluation={"every": [1, 2]})
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(suite.plain()), encoding="utf-8")
    assert grid(load_suite(str(path)), load_registry([PLUGIN])) == cells


def test_a_key_whose_first_value_is_its_default_is_written_with_all(suite_of, tmp_path):
    """Keys at their default are left out of the file, and these are not."""
    suite, cells = suite_of("accept.norm=[null, 500]", "faults.drop=[null, 0.3]")
    assert suite.plain()["accept"]["norm"] == [None, 500]
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(suite.plain()), encoding="utf-8")
    assert grid(load_suite(str(path)), load_registry([PLUGIN])) == cells


def test_other_seeds_are_those_of_every_point(suite_of):
    suite, cells = suite_of("training.lr=[0.01, 0.05]")
    (seed,) = suite.seeds
    again = grid(suite.with_seeds([seed + 1]), load_registry([PLUGIN]))
    assert [(one.run.axes, one.run.seed) for one in again] == [
        (one.run.axes, seed + 1) for one in cells
    ]


def test_a_strategy_with_rounds_of_its_own_is_there_once(suite_of):
    strategies = ["fedavg", {"name": "fedprox", "rounds": 1}]
    _, cells = suite_of(rounds=[2, 4], strategies=strategies)
    found = [(cell.run.strategy, cell.run.rounds) for cell in cells]
    assert found == [("fedavg", 2), ("fedprox", 1), ("fedavg", 4)]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"clients": []},
            r"clients: found \[\], expected one value, or a list of diff",
        ),
        ({"clients": [3, 3]}, r"clients: found \[3, 3\]"),
        ({"clients": [3, "many"]}, r"clients: found 'many'"),
        ({"buffers": ["local", "locl"]}, r"buffers: found 'locl'"),
        (
            {
                "training": {"local_steps": 2, "lr": [0.1, 0.2]},
                "strategies": [{"name": "fedavg", "training": {"lr": 0.3}}],
            },
            "training.lr is an axis, and changes nothing for the strategy 'fedavg'",
        ),
    ],
)
def test_what_is_no_axis_is_refused(suite_of, values, words):
    with pytest.raises(ConfigError, match=words):
        suite_of(**values)


def test_a_list_of_an_option_is_an_entry_for_each_value(suite_of):
    _, cells = suite_of(
        "partition.alpha=[0.1, 0.5]", partitions=[{"name": "dirichlet", "alpha": 1}]
    )
    assert [cell.run.split for cell in cells] == ["dirichlet 0.1", "dirichlet 0.5"]
    mu = {"name": "fedprox", "mu": [0.01, 1], "training": {"lr": [0.1, 0.2]}}
    _, cells = suite_of(strategies=[mu])
    assert [cell.run.strategy for cell in cells] == [
        "fedprox-mu-0_01-lr-0_1",
        "fedprox-mu-0_01-lr-0_2",
        "fedprox-mu-1-lr-0_1",
        "fedprox-mu-1-lr-0_2",
    ]
    assert cells[2].config["strategy"]["options"]["mu"] == 1
    assert cells[2].config["protocol"]["training"]["lr"] == 0.1
    _, cells = suite_of("model.width=[0.5, 1]", models=["cnn"])
    assert [cell.run.models for cell in cells] == ["cnn[width=0.5]", "cnn"]


def test_labels_name_data_sets_partitions_and_models_and_no_hash(suite_of):
    _, (plain,) = suite_of(models=["cnn"], partitions=["dirichlet"])
    suite, (cell,) = suite_of(
        datasets=[{"name": "toy", "label": "small toys"}],
        partitions=[{"name": "dirichlet", "label": "strong skew"}],
        models=[{"name": "cnn", "label": "net"}],
    )
    assert cell.run.title == "fedavg, small toys, strong skew, net, seed 0"
    assert cell.run_id == plain.run_id
    assert suite.plain()["partitions"] == [
        {"name": "dirichlet", "label": "strong skew"}
    ]
    mix = {"clients": ["cnn", "mlp"], "label": "mixed"}
    suite, (cell,) = suite_of(models=[mix])
    assert cell.run.models == "mixed"
    assert suite.plain()["models"] == [mix]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"models": [[{"name": "cnn", "label": "a"}, "mlp"]]}, "one for all of it"),
        ({"datasets": [{"name": "toy", "label": "a,b"}]}, "label: found 'a,b'"),
        (
            {"partitions": [{"name": n, "label": "a"} for n in ("iid", "dirichlet")]},
            "partitions: the label 'a' comes twice",
        ),
        ({"models": [{"clients": ["cnn"], "lable": "a"}]}, "unknown key 'lable'"),
    ],
)
def test_labels_that_mislead_are_refused(suite_of, values, words):
    with pytest.raises(ConfigError, match=words):
        suite_of(**values)


def test_what_part_of_a_test_set_is_measured_is_said_beside_a_label(suite_of):
    named = {"name": "digits", "label": "figures", "test_fraction": 0.5}
    _, (cell,) = suite_of(datasets=[named])
    assert cell.run.dataset == "figures[test_fraction=0.5]"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run a suite with two axes, and again with a label."""
    out = tmp_path_factory.mktemp("axes")
    path = out / "toy.yaml"
    path.write_text(yaml.safe_dump({**TOY, "rounds": [1, 2]}), encoding="utf-8")
    command = ["bench", str(path), "--plugin", PLUGIN, "--out", str(out / "out")]
    command += [
        "--plain",
        "--no-plots",
        "--jobs",
        "1",
        "--set",
        "training.lr=[0.01,0.05]",
    ]
    assert main(command) == 0
    return out / "out", command


def test_results_have_a_column_for_each_axis_and_tables_tell_them_apart(run):
    out, command = run
    rows = read_results(out / "results.csv")
    assert [(row.rounds, row.axes) for row in rows] == [
        (1, (("training.lr", "0.01"),)),
        (1, (("training.lr", "0.05"),)),
        (2, (("training.lr", "0.01"),)),
        (2, (("training.lr", "0.05"),)),
    ]
    assert csv_text(rows) == (out / "results.csv").read_text("utf-8")
    settings = [setting for _, setting in group(rows)]
    assert setting_titles(settings)[0] == (
        "toy, iid, training.lr 0.01, rounds 1",
        "toy, iid, training.lr 0.05, rounds 1",
        "toy, iid, training.lr 0.01, rounds 2",
        "toy, iid, training.lr 0.05, rounds 2",
    )
    page = (out / "table.md").read_text("utf-8")
    assert "toy, iid, training.lr 0.05, rounds 2" in page
    line = "The grid goes through rounds 1, 2; training.lr 0.01, 0.05; these lines have"
    assert line in page
    before = {p: p.stat().st_mtime_ns for p in out.rglob("metrics.jsonl")}
    label = ["--set", "datasets=[{name: toy, label: toys}]"]
    assert main([*command, *label]) == 0
    assert before == {p: p.stat().st_mtime_ns for p in out.rglob("metrics.jsonl")}
    assert {row.dataset for row in read_results(out / "results.csv")} == {"toys"}


def test_runs_that_differ_in_rounds_only_are_apart_and_others_are_not(run):
    rows = read_results(run[0] / "results.csv")
    assert {Setting.of(row).axes for row in rows[:2]} == {row.axes for row in rows[:2]}
    (one, two) = (setting for _, setting in group(rows[:2]))
    assert ("rounds", "1") not in (*one.axes, *two.axes)
