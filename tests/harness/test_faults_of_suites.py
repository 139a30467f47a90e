"""Faults and simulated time from a suite, the command line and Python to the results."""

import json

import pytest
from house import ROOT

import fedkd
from fedkd import testing
from fedkd.cli import main
from fedkd.errors import ConfigError
from fedkd.plugins.registry import load_registry
from fedkd.report.results import read_results
from fedkd.suite.entries import normalise
from fedkd.suite.grid import grid
from fedkd.suite.suite import build_suite, load_suite

TOY = str(ROOT / "tests" / "plugins" / "toy_plugin.py")
SUITE = {
    "name": "x",
    "rounds": 2,
    "clients": 3,
    "seeds": [0],
    "datasets": ["digits"],
    "partitions": ["iid"],
    "models": ["mlp"],
    "training": {"local_steps": 1, "batch_size": 8},
    "strategies": ["fedavg"],
}


def suite_of(**keys):
    return build_suite(normalise({**SUITE, **keys}, "x"), "x")


def cells(**keys):
    return grid(suite_of(**keys), testing.toys.toy_registry())


def test_without_faults_a_cell_has_the_hash_that_it_had():
    (plain,), (none,), (empty,) = cells(), cells(faults="none"), cells(faults={})
    assert plain.config_hash == none.config_hash == empty.config_hash
    assert not {"faults", "clock"} & plain.config["protocol"].keys()
    first, second = cells(faults=["none", {"drop": 0.3}])
    assert first.config_hash == plain.config_hash != second.config_hash
    assert second.config["protocol"]["faults"] == {
        "drop": {"share": 0.3, "drawn": "round"}
    }
    (timed,) = cells(clock={"compute": 5, "bandwidth": 7})
    assert timed.config["protocol"]["clock"] == {
        "compute": {"value": 5.0},
        "bandwidth": {"value": 7.0},
    }
    assert [column.name for column in timed.columns] == ["simulated_seconds"]


def test_a_list_of_faults_is_an_axis_with_labels_that_are_no_part_of_the_hash():
    scaled = {"corrupt": {"share": 0.1, "kind": "scale"}}
    lists = [["none", scaled], ["none", {**scaled, "label": "boosted"}]]
    plain, named = (cells(faults=one) for one in lists)
    assert [c.config_hash for c in plain] == [c.config_hash for c in named]
    words = [[dict(c.run.axes)["faults"] for c in some] for some in (plain, named)]
    assert words == [["none", "corrupt 0.1 scale"], ["none", "boosted"]]
    (one,) = cells(faults={"drop": 0.3, "late": 0.3})
    assert one.run.axes == ()
    below = cells(faults={"drop": [0.1, 0.3]})
    assert [c.run.axes for c in below] == [
        (("faults.drop", "0.1"),),
        (("faults.drop", "0.3"),),
    ]
    for odd, said in (
        ([scaled, {"corrupt": {"share": 0.1, "kind": "scal"}}], "scal"),
        ([{"dorp": 1}, "none"], "unknown key.*drop"),
        ([scaled, scaled], "expected one value, or a list of different ones"),
    ):
        with pytest.raises(ConfigError, match=said):
            cells(faults=odd)


def test_a_suite_that_is_kept_knows_its_files_by_their_content(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("client,first,last\n0,1,2\n")
    faults = ["none", {"availability": str(path), "label": "a trace"}]
    suite = suite_of(faults=faults)
    first = [c.config_hash for c in grid(suite, testing.toys.toy_registry())]
    path.unlink()
    again = build_suite(normalise(suite.plain(), "x"), "x")
    assert [c.config_hash for c in grid(again, testing.toys.toy_registry())] == first
    path.write_text("client,first,last\n0,1,3\n")
    assert [c.config_hash for c in cells(faults=faults)][1] != first[1]
    path.unlink()
    with pytest.raises(ConfigError, match=r"availability: .*there is no such file"):
        cells(faults=faults)


def test_the_suite_of_faults_has_every_class_of_strategies():
    registry = load_registry()
    listed = {entry.name for entry in load_suite("faults").strategies}
    every = {n for n, e in registry.entries("strategies").items() if e.owner == "fedkd"}
    assert listed == every, "add what is missing to benchmarks/suites/faults.yaml"
    kinds = {e.run.axes[0][1].split()[0] for e in grid(load_suite("faults"), registry)}
    asked = set(fedkd.simulation.faults.config.KINDS)
    assert kinds == {"none", *asked} - {"availability"}


def test_from_the_command_line_to_the_results(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    keys = {**SUITE, "datasets": ["toy-written"], "clients": 4}
    lines = [f"{key}: {json.dumps(value)}" for key, value in keys.items()]
    (tmp_path / "x.yaml").write_text("\n".join([*lines, ""]))
    faults = "faults=[none, {drop: 0.5, backdoor: 0.5, label: bad}]"
    clock = "clock={compute: 100, bandwidth: 1.0e+6}"
    common = ["bench", "x.yaml", "--plugin", TOY, "--set", faults, "--set", clock]
    assert main([*common, "--dry-run", "--out", "out"]) == 0
    assert "bad" in capsys.readouterr().out
    common += ["--plain", "--no-plots", "--jobs", "1", "--out", "out"]
    assert main(common) == 0
    none, bad = read_results(tmp_path / "out/results.csv")
    assert dict(bad.axes) == {"faults": "bad"}
    assert (bad.value("faults_drop"), bad.value("faults_backdoor")) == (4, 4)
    assert none.value("faults_drop") is None
    assert none.value("attack_success") is None
    assert 0 <= bad.value("attack_success") <= 100
    assert none.value("simulated_seconds") > 0
    assert bad.bytes_up * 2 == none.bytes_up
    said = capsys.readouterr()
    assert "Attack success" in said.out
    assert "nothing says how to show" not in said.err
    before = (tmp_path / "out/results.csv").read_text()
    assert main(common) == 0
    assert (tmp_path / "out/results.csv").read_text() == before
    once = fedkd.run(
        "fedavg",
        "toy-written",
        "iid",
        clients=4,
        models="mlp",
        rounds=2,
        training=SUITE["training"],
        faults={"drop": 0.5, "backdoor": 0.5},
        clock={"compute": 100, "bandwidth": 1e6},
        plugins=[TOY],
        progress=False,
    )
    assert once.row.config_hash == bad.config_hash


IMPOSSIBLE = {
    "faults={backdoor: {share: 0.5, target: 12}}": "expected a class from 0 to 9.",
    "faults={availability: here.csv}": "found client 9 from round 1 to 2, expected a",
    "clock={devices: fast.csv}": "found no line for client 2, expected a line with two",
}


@pytest.mark.parametrize(("assigned", "said"), IMPOSSIBLE.items())
def test_faults_that_cannot_be_are_known_before_the_first_cell(
    tmp_path, monkeypatch, capsys, assigned, said
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.csv").write_text("client,first,last\n0,1,2\n9,1,2\n")
    (tmp_path / "fast.csv").write_text("client,compute,bandwidth\n0,8,1\n1,8,1\n")
    (tmp_path / "x.yaml").write_text(json.dumps(SUITE))
    assert main(["bench", "x.yaml", "--set", assigned, "--dry-run"]) == 2
    assert said in capsys.readouterr().err


def test_files_of_clients_hold_up_no_strategy_that_has_all_data_in_one_place(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fast.csv").write_text("client,compute,bandwidth\n1,8,1\n")
    keys = {"strategies": ["central"], "clock": {"devices": "fast.csv"}}
    (tmp_path / "x.yaml").write_text(json.dumps({**SUITE, **keys}))
    assert main(["bench", "x.yaml", "--dry-run"]) == 0
