"""Results are recorded piece by piece: what is recorded outlives its runs."""

import itertools
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import fedkd
from fedkd.base import sums
from fedkd.base.folders import ResultsFolder
from fedkd.errors import ConfigError
from fedkd.plugins.registry import load_registry
from fedkd.report.results import read_results
from fedkd.report.tuning import Chosen, Tuning

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
COMMAND = "fedkd bench smoke --strategies fedavg,ccvr --seeds 0-2 --set clients=2"


@pytest.fixture(scope="module")
def recording():
    sys.path.insert(0, str(BENCHMARKS))
    import record

    yield record
    sys.path.remove(str(BENCHMARKS))


def _bench(out, strategies, seeds, **changes):
    changes = {"clients": 2, **changes}
    fedkd.bench("smoke", out=out, strategies=strategies, seeds=seeds, set=changes)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "recorded"
    path.mkdir()
    (path / "command.txt").write_text(COMMAND + "\n")
    return path


def test_a_piece_is_added_to_pieces_whose_runs_are_gone(recording, folder, tmp_path):
    registry = load_registry(quiet=True)
    both = ["fedavg", "ccvr"]
    _bench(tmp_path / "first", both, [0])
    assert recording.record(folder, [tmp_path / "first"], registry) == []
    alone = (folder / "table.md").read_text()
    assert "- Seeds: 0;" in alone
    before = read_results(folder / "results.csv")
    shutil.rmtree(tmp_path / "first")

    # Another seed, of which one row is in another folder, and a third that is unfinished.
    _bench(tmp_path / "second", ["fedavg"], [1, 2])
    left = recording.record(folder, [tmp_path / "second"], registry)
    assert [(row.strategy, row.seed) for row in left] == [("fedavg", 1), ("fedavg", 2)]
    assert (folder / "table.md").read_text() == alone
    shutil.rmtree(tmp_path / "second")
    _bench(tmp_path / "third", ["ccvr"], [1])
    sources = [tmp_path / "third"]
    left = recording.record(folder, sources, registry)
    assert [(row.strategy, row.seed) for row in left] == [("fedavg", 2)]
    rows = read_results(folder / "results.csv")
    assert [(row.strategy, row.seed) for row in rows] == [
        (label, seed) for seed in (0, 1) for label in both
    ]
    assert [row for row in rows if row.seed == 0] == before
    page = (folder / "table.md").read_text()
    assert "- Seeds: 0, 1;" in page
    assert page.count(", commit ") <= 1  # the provenance is equal, and told once
    stages = recording.sections(page)["What each stage did"].splitlines()
    experts = [line for line in stages if "measured uncalibrated" in line]
    assert [line.split("|")[4].strip() for line in experts] == ["2"]
    # Recorded again it is the same, also when the runs' own folders are gone by then.
    known = (folder / "stages.csv").read_text()
    recording.record(folder, sources, registry)
    shutil.rmtree(tmp_path / "third" / "runs")
    recording.record(folder, sources, registry)
    assert (folder / "table.md").read_text() == page
    assert (folder / "stages.csv").read_text() == known
    # When everything is done, nothing waits.
    (begun,) = read_results(folder / "begun.csv")
    assert (begun.strategy, begun.seed) == ("fedavg", 2)
    _bench(tmp_path / "last", ["ccvr"], [2])
    assert recording.record(folder, [tmp_path / "last"], registry) == []
    assert len(read_results(folder / "results.csv")) == 6
    assert not (folder / "begun.csv").exists()


def test_a_further_command_asks_for_fewer_rows_elsewhere(recording, folder, tmp_path):
    registry = load_registry(quiet=True)
    fewer = "fedkd bench smoke --strategies fedavg --seeds 0 --set clients=2"
    (folder / "command.txt").write_text(
        f"{COMMAND.replace('0-2', '0')}\n{fewer} --set partition.alpha=0.1\n"
    )
    _bench(tmp_path / "first", ["fedavg", "ccvr"], [0])
    _bench(tmp_path / "second", ["fedavg"], [0], **{"partition.alpha": 0.1})
    sources = [tmp_path / "first", tmp_path / "second"]
    assert recording.record(folder, sources, registry) == []
    rows = read_results(folder / "results.csv")
    assert [(row.strategy, row.alpha) for row in rows] == [
        ("fedavg", 0.5),
        ("ccvr", 0.5),
        ("fedavg", 0.1),
    ]
    asked = sys.modules["holes"].asked_for(
        recording.suites_of((folder / "command.txt").read_text(), registry), registry
    )
    assert sys.modules["holes"].holes(rows, asked) == []


def test_another_protocol_and_no_finished_piece_are_refused(
    recording, folder, tmp_path
):
    registry = load_registry(quiet=True)
    _bench(tmp_path / "other", ["fedavg"], [0], rounds=1)
    with pytest.raises(ConfigError, match="other ran rounds otherwise than"):
        recording.record(folder, [tmp_path / "other"], registry)
    _bench(tmp_path / "half", ["fedavg"], [0])
    with pytest.raises(ConfigError, match="nothing to record yet"):
        recording.record(folder, [tmp_path / "half"], registry)
    # Another number of rounds makes another name, and no other place.
    _bench(tmp_path / "one", ["fedavg", "ccvr"], [0])
    path = tmp_path / "one" / "results.csv"
    head, row, other = path.read_text().splitlines()
    rounds = str(read_results(path)[0].rounds)
    twin = row.replace("s0-", "s0-f").replace(f",{rounds},0,", f",{rounds}0,0,")
    (tmp_path / "one" / sums.NAME).unlink()
    path.write_text("\n".join([head, row, twin, other, ""]))
    with pytest.raises(ConfigError, match=r"are both fedavg, digits.*, run with"):
        recording.record(folder, [tmp_path / "one"], registry)
    assert [path.name for path in folder.iterdir()] == ["command.txt"]


def test_one_label_for_two_data_sets_and_values_that_no_search_chose_are_refused(
    recording, folder, tmp_path
):
    registry = load_registry(quiet=True)
    named = "'datasets=[{name: digits, label: D}]'"
    searched = "'search={trials: 2, rounds: 1, seeds: 9, training.lr: [0.05, 0.2]}'"
    validated = "--set validation=0.2"
    (folder / "command.txt").write_text(
        "fedkd bench smoke --strategies fedavg --seeds 0-1 --set clients=2 "
        f"--set {named} --set {searched} {validated}\n"
    )
    data = {"name": "digits", "label": "D"}
    lr = {"training.lr": [0.05, 0.2]}
    same = {
        "validation": 0.2,
        "search": {"trials": 2, "rounds": 1, "seeds": 9, **lr},
        "datasets": [data],
    }
    _bench(tmp_path / "first", ["fedavg"], [0], **same)
    assert recording.record(folder, [tmp_path / "first"], registry) == []
    before = (folder / "results.csv").read_bytes()
    part = {"datasets": [{**data, "fraction": 0.5}]}
    for name, changes in {"datasets.D": part, "fedavg": {"search": None}}.items():
        other = tmp_path / name
        _bench(other, ["fedavg"], [1], **{**same, **changes})
        with pytest.raises(
            ConfigError, match=f"ran suite 'smoke' with different.*{name}"
        ):
            recording.record(folder, [other], registry)
    assert (folder / "results.csv").read_bytes() == before


def _tuning(*settings, lr=0.1):
    chosen = tuple(Chosen("fedavg", s, {"lr": lr}, 50.0, 3, 0) for s in settings)
    families = {settings[0]: settings[1:]}
    return Tuning("global", "grid", (100,), chosen, 3, 10, 20, 30, 4.0, families)


def test_costs_of_two_searches_add_up_and_one_is_counted_once(recording):
    one, other = _tuning("a", "b"), _tuning("c")
    assert recording.merged_tuning([]) is None
    assert recording.merged_tuning([one, _tuning("a"), one]) == one
    assert recording.merged_tuning([_tuning("a"), one]) == one
    both = recording.merged_tuning([one, other])
    assert [c.setting for c in both.chosen] == ["a", "b", "c"]
    assert both.families == {"a": ("b",), "c": ()}
    assert (both.runs, both.client_examples, both.server_examples) == (6, 20, 40)
    assert (both.bytes, both.seconds) == (60, 8.0)
    with pytest.raises(ConfigError, match="different values for fedavg, a"):
        recording.merged_tuning([one, _tuning("a", lr=0.3)])
    with pytest.raises(ConfigError, match="cannot be added"):
        recording.merged_tuning([one, _tuning("b", "c")])


def test_values_that_were_taken_from_a_recorded_search_are_part_of_it(recording):
    own = _tuning("a", "b")
    taken, less = replace(own, taken=True), replace(_tuning("a"), taken=True)
    for sides in ([own, taken, less], [taken, own], [less, own], [own, less]):
        assert recording.merged_tuning(sides) == own
    assert recording.merged_tuning([less, taken]) == taken
    both = [own, _tuning("c")]
    for sides in itertools.permutations([*both, taken, less]):
        assert recording.merged_tuning(sides).runs == recording.merged_tuning(both).runs


@pytest.mark.parametrize("settings", [("c",), ("a", "b", "c")])
def test_a_search_of_the_benchs_own_and_others_that_it_took_are_not_one(
    recording, settings
):
    sides = [_tuning("a", "b"), replace(_tuning(*settings), taken=True)]
    for both in (sides, sides[::-1]):
        with pytest.raises(ConfigError, match="in their taken: "):
            recording.merged_tuning(both)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"metric": "loss"}, "in their metric: global and loss;"),
        ({"method": "tpe"}, "in their method: grid and tpe;"),
        ({"seeds": (7, 8)}, r"in their seeds: \(100,\) and \(7, 8\);"),
    ],
)
def test_searches_of_two_kinds_are_not_added_up(recording, changes, told):
    for settings in ("c", "a"):
        other = replace(_tuning(settings), **changes)
        with pytest.raises(ConfigError, match=told):
            recording.merged_tuning([_tuning("a", "b"), other])


def test_the_protocol_is_of_all_that_the_commands_ask_for(recording):
    commands = (
        "fedkd bench seven --datasets mnist,svhn\n"
        "fedkd bench seven --datasets cifar100 --strategies fedavg"
    )
    registry = load_registry(quiet=True)
    asked = recording._together_asked(recording.suites_of(commands, registry))
    labels = [entry.label for entry in asked.datasets]
    assert [label.split()[0] for label in labels] == ["MNIST", "SVHN", "CIFAR-100"]
    assert len(asked.strategies) == 17
    assert len(asked.partitions) == len(asked.models) == 1


def test_commands_may_ask_for_other_rows_on_other_models(recording):
    commands = (
        "fedkd bench seven-hetero --models widths --strategies heterofl,dfrd-rolling\n"
        "fedkd bench seven-hetero --models mix-5 --strategies dfrd"
    )
    registry = load_registry(quiet=True)
    suites = recording.suites_of(commands, registry)
    asked = recording._together_asked(suites)
    assert [mix.label or mix.clients[0].name for mix in asked.models] == [
        "widths",
        "mix-5",
    ]
    assert [e.label for e in asked.strategies] == ["heterofl", "dfrd-rolling", "dfrd"]
    for suite in suites:
        ran = SimpleNamespace(suites={ResultsFolder(Path("runs")): suite})
        recording._check_same(asked, Path("here"), {Path("runs"): ran}, registry)
