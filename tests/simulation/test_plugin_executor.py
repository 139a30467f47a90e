"""An executor that a plug-in brings: it stands beside those that fedkd has."""

import json

import pytest
import torch

from fedkd.cli import main
from fedkd.errors import ConfigError
from fedkd.plugins.registry import load_registry
from fedkd.report.results import read_results

PLUGIN = """
import fedkd

class Backwards(fedkd.Executor):
    '''Does the turns from the last client to the first.'''
    name = "backwards"

    @classmethod
    def check_usable(cls, device):
        if device.type == "cuda":
            raise fedkd.ConfigError("'backwards' is for CPUs.")

    @classmethod
    def speed(cls, turns, workers):
        return {speed}

    def answers(self, orders):
        for k in reversed(orders.round.clients):
            yield k, self.turns.do(k, orders)

class Lame(Backwards):
    name = "another"

@fedkd.hookimpl
def fedkd_register_executors(register):
    register("backwards", ":Backwards", summary="The other way round.")
    register("lame", ":Lame")
"""


@pytest.fixture
def plugin(tmp_path):
    def write(speed=None):
        path = tmp_path / "other_way.py"
        path.write_text(PLUGIN.replace("{speed}", str(speed)), encoding="utf-8")
        return str(path)

    return write


def bench(plugin, out, *more):
    call = ["bench", "smoke", "--plain", "--no-plots", "--device", "cpu"]
    more = ["--strategies", "fedavg", "--rounds", "2", "--out", str(out), *more]
    return main([*call, "--plugin", plugin, *more])


def engines(out):
    return [row.engine for row in read_results(out / "results.csv")]


def numbers(out):
    keys = ("run_id", "seed", "global_accuracy", "local_accuracy", "split_hash")
    rows = read_results(out / "results.csv")
    return [[getattr(row, key) for key in keys] for row in rows]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_cell_that_it_did_has_its_name_and_the_same_numbers(plugin, tmp_path, jobs):
    out, more = tmp_path / "out", ["--seeds", "0,1", "--jobs", jobs]
    assert bench(plugin(), out, "--executor", "backwards", *more) == 0
    assert set(engines(out)) == {"backwards"}
    plain, here = tmp_path / "plain", [*more[:-1], "1"]
    assert bench(plugin(), plain, "--executor", "serial", *here) == 0
    assert numbers(out) == numbers(plain)
    assert "- Clients' turns: backwards." in (out / "table.md").read_text("utf-8")


@pytest.mark.parametrize(("speed", "taken"), [(3.0, "backwards"), (1.0, "serial")])
def test_auto_takes_it_if_it_says_that_it_is_faster(
    plugin, tmp_path, capsys, speed, taken
):
    assert bench(plugin(speed), tmp_path / "out") == 0
    assert set(engines(tmp_path / "out")) == {taken}
    assert "Lame.name is 'another'" in capsys.readouterr().err, "who is left out"


def test_it_is_listed_and_shown(plugin, capsys):
    file = plugin()
    assert main(["list", "executors", "--format", "json", "--plugin", file]) == 0
    listed = json.loads(capsys.readouterr().out)["executors"]
    assert [each["name"] for each in listed] == [
        "backwards", "graphs", "lame", "processes", "ray", "serial", "stacked",
    ]  # fmt: skip
    assert main(["show", "backwards", "--plugin", file]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("backwards (executor, other_way.py sha256:")
    assert "Does the turns from the last client to the first." in shown


def test_an_unknown_name_is_refused_with_a_suggestion(plugin, tmp_path, capsys):
    assert bench(plugin(), tmp_path / "out", "--executor", "backward") == 2
    said = capsys.readouterr().err
    assert "unknown executor 'backward'. Did you mean 'backwards'?" in said
    assert not (tmp_path / "out").exists()


def test_what_it_cannot_do_is_refused_by_itself(plugin):
    executor = load_registry([plugin()]).executor("backwards")
    with pytest.raises(ConfigError, match="is for CPUs"):
        executor.check_usable(torch.device("cuda"))
