"""A search before the table: chosen on validation images, resumed, and what it cost."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml

from fedkd.base.folders import ResultsFolder
from fedkd.cli import main
from fedkd.errors import ConfigError, DataError
from fedkd.harness import bench as bench_module
from fedkd.harness import builder as builder_module
from fedkd.harness.bench import Bench, Settings
from fedkd.harness.proposals import proposer
from fedkd.harness.search import Search
from fedkd.plugins.registry import load_registry
from fedkd.report.results import read_results
from fedkd.report.tuning import read_tuning, tuning_lines
from fedkd.simulation import requirements
from fedkd.suite.grid import grid
from fedkd.suite.overrides import Overrides, load_overridden
from fedkd.suite.suite import load_suite
from fedkd.suite.trials import Study, studies_of

PLUGIN = str(Path(__file__).parents[1] / "plugins" / "toy_plugin.py")
SEARCH = {
    "trials": 4,
    "seeds": 100,
    "training.lr": [1e-4, 1e-3, 0.02, 0.05],
    "strategy.mu": {"low": 0.001, "high": 1, "log": True},
}
TOY = {
    "rounds": 2,
    "clients": 3,
    "seeds": 0,
    "datasets": ["toy"],
    "partitions": ["iid"],
    "models": ["toy-linear"],
    "training": {"local_steps": 2, "batch_size": 8, "lr": 1e-4},
    "strategies": ["fedavg", "fedprox"],
    "validation": 0.25,
    "search": SEARCH,
}


@pytest.fixture(scope="module")
def registry():
    return load_registry([PLUGIN])


@pytest.fixture
def suite_of(registry, tmp_path):
    def make(*assignments, **values):
        path = tmp_path / "toy.yaml"
        path.write_text(yaml.safe_dump({**TOY, **values}), encoding="utf-8")
        return load_overridden(str(path), Overrides(assignments=assignments), registry)

    return make


def search_of(suite, registry):
    settings = Settings(ResultsFolder(Path("out")), Path(), torch.device("cpu"))
    return Search(Bench(suite, registry, settings), suite.search)


def tried(suite, registry):
    """Return the values that each strategy tries, by label."""
    found = {}
    for study in studies_of(suite, registry):
        asked = proposer(study, higher_is_better=True)
        found[study.entry.label] = list(iter(asked.ask, None))
    return found


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs the toy suite and gives what was chosen."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, code=0, out="out", **search):
        suite = {**TOY, "search": {**SEARCH, **search}}
        Path("toy.yaml").write_text(yaml.safe_dump(suite), encoding="utf-8")
        command = ["bench", "toy.yaml", "--plugin", PLUGIN, "--out", out, "--plain"]
        assert main([*command, "--no-plots", "--jobs", "1", *arguments]) == code
        tuning = read_tuning(ResultsFolder(Path(out)))
        return None if tuning is None else tuning.chosen

    return run


# ---- what is searched -------------------------------------------------------------


def test_it_changes_no_hash_and_is_written_as_it_was_read(suite_of, registry, tmp_path):
    suite = suite_of()
    assert suite.plain()["search"] == {
        "trials": 4, "seeds": [100], "rounds": None, "method": "random",
        "metric": "global_accuracy", "prune": False, "families": [],
        "training.lr": SEARCH["training.lr"], "strategy.mu": SEARCH["strategy.mu"],
    }  # fmt: skip
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(suite.plain()), encoding="utf-8")
    assert load_suite(str(path)).plain() == suite.plain()
    path.write_text(yaml.safe_dump({**TOY, "search": None}), encoding="utf-8")
    without = grid(load_suite(str(path)), registry)
    hashes = [cell.config_hash for cell in grid(suite, registry)]
    assert hashes == [cell.config_hash for cell in without]


def test_all_have_one_budget_and_share_what_they_share(suite_of, registry):
    found = tried(suite_of(), registry)
    rates = [one["training.lr"] for one in found["fedavg"]]
    assert sorted(rates) == SEARCH["training.lr"]
    assert [one["training.lr"] for one in found["fedprox"]] == rates
    mus = [one["strategy.mu"] for one in found["fedprox"]]
    assert len(set(mus)) == 4
    assert all(0.001 <= mu <= 1 for mu in mus)
    assert all("strategy.mu" not in one for one in found["fedavg"])


def test_a_strategy_may_have_its_own_and_a_setting_has_its_own(suite_of, registry):
    own = {"name": "fedprox", "search": {"strategy.mu": [1, 2], "training.lr": [0.5]}}
    search = {"trials": 2, "seeds": 100, "method": "grid", "training.lr": [0.1, 0.2]}
    suite = suite_of(strategies=["fedavg", own], search=search, clients=[2, 3])
    assert tried(suite, registry) == {
        "fedavg": [{"training.lr": 0.1}, {"training.lr": 0.2}],
        "fedprox": [
            {"training.lr": 0.5, "strategy.mu": 1},
            {"training.lr": 0.5, "strategy.mu": 2},
        ],
    }
    assert [one.axes for one in studies_of(suite, registry)] == [
        *[(("clients", "2"),)] * 2,
        *[(("clients", "3"),)] * 2,
    ]
    assert suite.plain()["strategies"][1]["search"]["strategy.mu"] == [1, 2]


def test_a_range_of_whole_numbers_gives_whole_numbers(suite_of, registry):
    search = {"trials": 20, "seeds": 7, "training.batch_size": {"low": 2, "high": 4}}
    found = tried(suite_of(search=search), registry)["fedavg"]
    assert {one["training.batch_size"] for one in found} == {2, 3, 4}


def test_a_trial_is_the_run_of_its_values_and_sees_no_test_image(suite_of, registry):
    suite = suite_of("search.rounds=5", "search.seeds=[100, 101]")
    _, study = studies_of(suite, registry)
    cells = study.cells({"training.lr": 0.3, "strategy.mu": 0.5}, registry)
    assert [(cell.run.seed, cell.run.rounds) for cell in cells] == [(100, 5), (101, 5)]
    for cell in cells:
        assert cell.config["protocol"]["training"]["lr"] == 0.3
        assert cell.config["strategy"]["options"]["mu"] == 0.5
        assert cell.config["blind"] is cell.parts.blind is True
        assert cell.run.axes == (("training.lr", "0.3"), ("strategy.mu", "0.5"))


def test_what_only_strategies_have_that_were_left_out_is_no_matter(suite_of, registry):
    search = search_of(suite_of(strategies=["fedavg"]), registry)
    assert [list(study.space) for study in search.studies] == [["training.lr"]]


def test_a_strategy_of_one_round_has_one_in_its_trials(suite_of, registry):
    one = {"name": "fedavg", "rounds": 1}
    suite = suite_of("search.rounds=5", strategies=[one, "fedprox"])
    assert [study.rounds for study in studies_of(suite, registry)] == [1, 5]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"validation": None}, "add validation: 0.1"),
        ({"seeds": [0, 100]}, "search.seeds: 100 is also a seed of the table"),
        ({"training": {"local_steps": 2, "lr": [0.1, 0.2]}}, "training.lr is an axis"),
        ({"search": {**SEARCH, "rounds.x": [1]}}, "'rounds.x' is no value that can be"),
        ({"search": {**SEARCH, "training.lr": 0.1}}, "0.1 is nothing to choose from"),
        ({"search": {**SEARCH, "trails": 3}}, "trails: unknown key. Did you mean"),
        (
            {"search": {**SEARCH, "strategy.mu": {"low": 1, "high": 0.1}}},
            "low 1 is not below high 0.1",
        ),
        (
            {"search": {**SEARCH, "strategy.mu": {"low": 0, "high": 1, "log": True}}},
            "low 0 has no logarithm",
        ),
        ({"search": {**SEARCH, "prune": True}}, "prune is of the method tpe"),
        (
            {"search": {**SEARCH, "strategy.proximl": [1]}},
            "no strategy has the option 'proximl' of strategy.proximl",
        ),
        ({"search": {"trials": 2, "seeds": 100}}, "found nothing to search"),
        ({"search": {**SEARCH, "families": [["digits", "toy"]]}}, "is not in the suite"),
        ({"search": {**SEARCH, "families": [["toy"], ["toy"]]}}, "found toy twice"),
        ({"search": {**SEARCH, "families": [[]]}}, "a family without data sets"),
        ({"search": {**SEARCH, "method": "grid"}}, "strategy.mu: a grid goes through"),
        (
            {"search": {**SEARCH, "method": "grid", "trials": 3, "strategy.mu": [1]}},
            "the grid of fedavg has 4 points",
        ),
        ({"search": {**SEARCH, "metric": "global_acuracy"}}, "Did you mean 'global_acc"),
        ({"search": {**SEARCH, "training.lrr": [0.1]}}, "lrr: unknown key"),
        ({"search": {**SEARCH, "training.lr": [0.1, -1]}}, "lr: found -1"),
        (
            {"search": {**SEARCH, "method": "tpe", "training.momentum": {
                "low": 0, "high": 1.2}}},
            "momentum: found 1.2",
        ),
        (
            {"search": None, "strategies": [{"name": "fedprox", "search": {
                "strategy.mu": [1]}}]},
            "give the suite its budget",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_refused(suite_of, registry, values, words):
    with pytest.raises(ConfigError, match=words):
        search_of(suite_of(**values), registry)


NO_SCORE = "This trial has no score; the others are run."


@pytest.fixture
def searched_together(monkeypatch):
    """Two options of which each can have its values, but not both their last ones."""
    own = {"strategy.adapts": ["round", "never"], "strategy.alpha_decay": [0.0, 0.02]}
    apfl = {"name": "apfl", "search": own}
    for key, value in {"strategies": [apfl], "rounds": 1}.items():
        monkeypatch.setitem(TOY, key, value)
    return {"training.lr": [1e-3], "trials": 12}


@pytest.mark.parametrize("method", ["grid", "random"])
def test_combinations_that_are_known_are_checked_before_anything_is_written(
    run, searched_together, capsys, method
):
    search = {**searched_together, "method": method}
    for arguments in (["--dry-run"], []):
        assert run(*arguments, code=2, **search) is None
        said = capsys.readouterr().err
        assert "alpha does not move with adapts: never" in said
        tried = "strategy.adapts never, strategy.alpha_decay 0.02."
        assert f"Tried by the search: training.lr 0.001, {tried}" in said
        assert not Path("out").exists()


@pytest.mark.filterwarnings(f"always:.*{NO_SCORE}")
def test_what_an_estimator_proposes_and_cannot_be_has_no_score(
    run, searched_together, capsys
):
    search = {**searched_together, "method": "tpe", "trials": 8}
    (one,) = run(**search)
    assert (one.trials, one.score is None) == (8, False)
    assert dict(one.values)["strategy.adapts"] in {"round", "never"}
    said = capsys.readouterr().err
    assert f"never, strategy.alpha_decay 0.02. {NO_SCORE}" in said
    for row in read_results(Path("out/search/results.csv")):
        values = row.value("strategy.adapts"), row.value("strategy.alpha_decay")
        assert (row.status, values) != ("done", ("never", "0.02"))
    assert run(**search) == (one,)


@pytest.mark.filterwarnings(f"ignore:.*{NO_SCORE}")
def test_a_search_of_which_no_trial_can_be_leaves_values_as_they_were(
    run, searched_together, monkeypatch
):
    cells = Study.cells

    def refused(self, values, registry):
        if values:
            raise ConfigError("that cannot be.")
        return cells(self, values, registry)

    monkeypatch.setattr(Study, "check", lambda *_: None)
    monkeypatch.setattr(Study, "cells", refused)
    (one,) = run(**{**searched_together, "method": "tpe", "trials": 2})
    assert (one.trials, one.score, one.values) == (2, None, {})


def test_a_batch_that_a_model_cannot_have_costs_an_estimator_one_trial(
    run, monkeypatch
):
    monkeypatch.setitem(TOY, "strategies", ["fedavg"])
    check = requirements.check_batches

    def checked(federation, protocol):
        if protocol.training.batch_size == 1:
            raise ConfigError("training.batch_size: found 1, expected at least 2.")
        check(federation, protocol)

    monkeypatch.setattr(requirements, "check_batches", checked)
    search = {"training.batch_size": [8, 1], "trials": 4}
    (one,) = run(**search, method="tpe")
    assert one.values["training.batch_size"] == 8
    rows = read_results(Path("out/search/results.csv"))
    assert {row.status for row in rows} == {"done", "failed"}
    run(**search, out="drawn", code=2)
    assert not list(Path("drawn/search/runs").iterdir())


def test_without_optuna_a_sentence_names_the_extra(suite_of, registry, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'fedkd\[search\]'"):
        search_of(suite_of("search.method=tpe"), registry)


# ---- what is chosen ---------------------------------------------------------------


def test_trials_that_are_skipped_are_no_runs(run):
    chosen = run("--set", "strategies=[fedavg, toy-picky]", prune=False)
    assert [(one.strategy, one.score is None) for one in chosen] == [
        ("fedavg", False),
        ("toy-picky", True),
    ]
    statuses = [row.status for row in read_results(Path("out/search/results.csv"))]
    assert sorted(statuses) == ["done"] * 4 + ["skipped"] * 4
    assert "It took 4 runs: " in Path("out/table.md").read_text("utf-8")


def test_the_table_runs_with_what_is_best_on_validation_images(run, capsys):
    chosen = run()
    trials = read_results(Path("out/search/results.csv"))
    assert len(trials) == 8
    assert {row.seed for row in trials} == {100}
    assert all(row.global_accuracy is row.local_accuracy is None for row in trials)
    for one in chosen:
        scores = {
            row.value("training.lr"): row.metrics["validation_global_accuracy"]
            for row in trials
            if row.strategy == one.strategy
        }
        assert one.score == max(scores.values())
        assert scores[str(one.values["training.lr"])] == one.score
        assert one.values["training.lr"] != TOY["training"]["lr"]
        assert one.trials == 4
    said, told = capsys.readouterr()
    # Once, before the first trial, and not again before the table.
    assert told.startswith("fedkd: uses cpu: ")
    assert told.count("uses cpu") == 1
    page = Path("out/table.md").read_text("utf-8")
    for line in tuning_lines(ResultsFolder(Path("out"))):
        assert line in said
        assert f"- {line}" in page
    assert "It took 8 runs: " in page
    for row in read_results(Path("out/results.csv")):
        config = yaml.safe_load(Path(f"out/runs/{row.run_id}/config.yaml").read_text())
        (one,) = (c for c in chosen if c.strategy == row.strategy)
        assert config["protocol"]["training"]["lr"] == one.values["training.lr"]
        assert row.global_accuracy is not None
    trials = load_suite("out/search/suite.yaml")
    assert (trials.search, trials.seeds) == (None, (100,))
    before = {p: p.stat().st_mtime_ns for p in Path("out").rglob("metrics.jsonl")}
    capsys.readouterr()
    assert run() == chosen
    assert "uses cpu" not in capsys.readouterr().err
    assert before == {
        p: p.stat().st_mtime_ns for p in Path("out").rglob("metrics.jsonl")
    }
    Path("out/chosen.json").write_text("{")
    with pytest.raises(DataError, match=r"chosen.json: is damaged"):
        read_tuning(ResultsFolder(Path("out")))


def test_what_is_best_at_an_end_of_what_was_tried_is_said_to_be(run, monkeypatch):
    monkeypatch.setitem(TOY, "strategies", ["fedprox"])
    # True is a number to Python; of one value there are no ends, and texts have none.
    others = {"strategy.mu": [1], "training.augment": [True, False]}
    others |= {"training.drop_last": ["always", "never"]}
    (one,) = run(**{"training.lr": [1e-5, 1e-4, 0.05], **others}, trials=8)
    assert one.values["training.lr"] == 0.05
    assert one.ends == {"training.lr": [1e-5, 0.05]}
    (said, _) = tuning_lines(ResultsFolder(Path("out")))
    assert "training.lr 0.05, the greatest of those tried" in said
    assert said.count("tried") == 1
    page = Path("out/table.md").read_text("utf-8")
    assert "training.lr 0.05, the greatest of those tried" in page
    # Said of the search of another bench, too.
    run(*("--chosen", "out/chosen.json"), **{"training.lr": [0.05], **others}, out="b")
    assert "0.05, the greatest of those tried" in Path("b/table.md").read_text("utf-8")


def test_a_family_shares_what_is_chosen_on_its_first_set(run, monkeypatch):
    """Searched on the first data set at the first partition, at no other setting."""
    suite = {
        "datasets": [{"name": "digits", "fraction": 0.1}, "toy"],
        "partitions": ["iid", {"name": "dirichlet", "alpha": 10}],
        "models": ["cnn"],
        "strategies": ["fedavg"],
    }
    for key, value in suite.items():
        monkeypatch.setitem(TOY, key, value)
    search = {"training.lr": [1e-4, 0.05], "trials": 2, "families": [["digits", "toy"]]}
    (one,) = run(**{**search, "strategy.mu": [1]})
    assert one.values == {"training.lr": 0.05}
    trials = read_results(Path("out/search/results.csv"))
    assert [(row.dataset, row.split) for row in trials] == [
        (trials[0].dataset, "iid")
    ] * 2
    rows = read_results(Path("out/results.csv"))
    assert len({(row.dataset, row.split) for row in rows}) == len(rows) == 4
    for row in rows:
        config = yaml.safe_load(Path(f"out/runs/{row.run_id}/config.yaml").read_text())
        assert config["protocol"]["training"]["lr"] == 0.05
    said = tuning_lines(ResultsFolder(Path("out")))
    assert said[1].startswith(f"What was chosen on {trials[0].dataset}, iid counts for")
    assert said[1].endswith("every other setting of digits, toy.")


def test_a_poisoned_test_set_changes_no_choice(run, monkeypatch):
    chosen = run()
    load = builder_module.RunBuilder._load

    def poisoned(self, dataset):
        data = load(self, dataset)
        data.x_test.fill_(255)
        data.y_test.copy_((data.y_test + 1) % data.num_classes)
        return data

    monkeypatch.setattr(builder_module.RunBuilder, "_load", poisoned)
    assert run(out="poisoned") == chosen
    sound, other = (
        [row.global_accuracy for row in read_results(Path(out) / "results.csv")]
        for out in ("out", "poisoned")
    )
    assert sound != other


class Killed(BaseException):
    """The process is killed."""


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("search", "left"), [({}, 5), ({"method": "tpe", "prune": True, "rounds": 4}, 11)]
)
def test_a_search_that_was_killed_goes_on_and_chooses_the_same(
    run, monkeypatch, search, left
):
    chosen = run(**search)
    started = bench_module._Recorder.started

    def killing(self, cell):
        nonlocal left
        left -= 1
        if not left:
            raise Killed
        started(self, cell)

    monkeypatch.setattr(bench_module._Recorder, "started", killing)
    with pytest.raises(Killed):
        run(out="killed", **search)
    assert not Path("killed/chosen.json").exists()
    kept = {p: p.stat().st_mtime_ns for p in Path("killed").rglob("result.json")}
    assert kept
    assert run(out="killed", **search) == chosen
    assert kept == {p: p.stat().st_mtime_ns for p in kept}


def test_a_trial_that_is_worse_than_others_ends_early(run, capsys):
    search = {"method": "tpe", "prune": True, "rounds": 4, "trials": 8}
    search["training.lr"] = {"low": 1e-5, "high": 0.02, "log": True}
    chosen = run(**search)
    assert all(one.trials == 8 for one in chosen)
    assert sum(one.pruned for one in chosen) > 0
    lines = [
        p.read_text().count("\n") for p in Path("out/search").rglob("metrics.jsonl")
    ]
    assert min(lines) < 4
    assert max(lines) == 4
    whole = len(list(Path("out/search").rglob("result.json")))
    assert whole == 16 - sum(one.pruned for one in chosen)
    assert "ended early" in Path("out/table.md").read_text("utf-8")
    run("--dry-run", **search)
    assert "0 of 2 cells to do" in capsys.readouterr().out


def test_where_no_trial_is_done_values_stay_as_they_were(run):
    one, _ = run(**{"training.lr": [1e30, 1e31]}, code=0, trials=2)
    assert (one.values, one.score) == ({}, None)
    assert "as it was; none of 2 trials was done." in Path("out/table.md").read_text()
    config = next(Path("out/runs").glob("fedavg*/config.yaml")).read_text("utf-8")
    assert yaml.safe_load(config)["protocol"]["training"]["lr"] == 1e-4


def test_an_interrupted_search_says_how_to_go_on(run, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench_module._Recorder, "started", interrupted)
    monkeypatch.setattr(sys, "argv", ["fedkd", "bench", "toy.yaml", "--fresh"])
    assert run("--fresh", code=130) is None
    said = capsys.readouterr().err
    assert "interrupted in the search with 0 of at most 8 runs done" in said
    assert said.endswith("are kept. Go on with: fedkd bench toy.yaml\n")


def test_a_fresh_search_that_is_interrupted_tells_of_older_runs_of_the_table(
    run, monkeypatch, capsys
):
    def interrupted(*_):
        raise KeyboardInterrupt

    run()
    monkeypatch.setattr(bench_module._Recorder, "started", interrupted)
    run("--fresh", code=130)
    assert (
        "these are kept. The table has 2 runs from before --fresh; what the search "
        "chooses again then counts as done. To run that again, too, remove "
        f"{Path('out', 'runs')} first. Go on with: "
    ) in capsys.readouterr().err
    run(code=130)
    assert "these are kept. Go on with: " in capsys.readouterr().err


def test_a_dry_run_after_the_search_is_of_the_values_that_it_chose(run, capsys):
    few = {"training.lr": [1e-4, 0.02], "strategy.mu": [0.01]}
    run(trials=2, **few)
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")}
    run("--dry-run", trials=2, **few)
    shown = capsys.readouterr().out
    assert "A search comes first" not in shown
    assert "0 of 2 cells to do" in shown
    assert {p: p.stat().st_mtime_ns for p in Path("out").rglob("*")} == before
    # One value more, or all anew: then the search has something to run.
    for arguments, rates in ([], [1e-4, 0.02, 0.05]), (["--fresh"], [1e-4, 0.02]):
        run(*arguments, "--dry-run", **few | {"training.lr": rates}, trials=3)
        assert "A search comes first: at most 6 runs." in capsys.readouterr().out


def test_a_dry_run_says_that_a_search_comes_first(run, capsys):
    assert run("--dry-run") is None
    assert "A search comes first: at most 8 runs." in capsys.readouterr().out
    assert not Path("out/search").exists()


def test_chosen_values_are_taken_in_place_of_a_search(run, capsys):
    run()
    before = read_results(Path("out/results.csv"))
    chosen = run("--chosen", "out/chosen.json", "--strategies", "fedprox", out="again")
    (again,) = read_results(Path("again/results.csv"))
    (first,) = (row for row in before if row.strategy == "fedprox")
    assert again.config_hash == first.config_hash
    assert again.global_accuracy == first.global_accuracy
    assert not Path("again/search").exists()
    # The table of what was taken says what was chosen, of all that the search was of.
    assert {one.strategy for one in chosen} == {"fedavg", "fedprox"}
    page = Path("again/table.md").read_text()
    assert "The search was that of another bench; this one took its values." in page
    assert "another bench" not in Path("out/table.md").read_text()
    capsys.readouterr()
    run("--chosen", "out/chosen.json", "--dry-run", out="other")
    assert "A search comes first" not in capsys.readouterr().out


def test_seeds_of_an_earlier_call_stay_in_the_report(run, capsys):
    """They have the values that were chosen, as those of this call do."""
    run()
    run("--seeds", "1")
    both = [0, 1]
    assert sorted({row.seed for row in read_results(Path("out/results.csv"))}) == both
    run("--chosen", "out/chosen.json", "--seeds", "1", out="again")
    run("--chosen", "out/chosen.json", out="again")
    assert sorted({row.seed for row in read_results(Path("again/results.csv"))}) == both
    assert "are not in this table" not in capsys.readouterr().out


def test_a_seed_that_values_were_chosen_with_stays_out_of_the_table(run, capsys):
    """Whatever was run in the folder before, the page says that no seed is of both."""
    one_value = {"training.lr": [0.05], "strategy.mu": [1], "trials": 1}
    run(**one_value)
    capsys.readouterr()
    run("--seeds", "1", seeds=0, **one_value)
    assert (
        "2 finished runs in out/runs are not in this table: they are of other "
        "strategies, options or metrics, or of seed 0 of the search."
    ) in capsys.readouterr().out
    assert load_suite("out/suite.yaml").seeds == (1,)
    assert "with seed 0 and none of the table's" in Path("out/table.md").read_text()
    assert {row.seed for row in read_results(Path("out/results.csv"))} == {1}
    # Not of the suite's search, but of the one whose values are taken.
    run("--chosen", "out/chosen.json", "--seeds", "2", **one_value)
    assert {row.seed for row in read_results(Path("out/results.csv"))} == {1, 2}


def test_values_are_not_taken_for_the_splits_that_they_were_chosen_for(run, capsys):
    run("--seeds", "1,2", seeds=[0, 3])
    run("--chosen", "out/chosen.json", "--seeds", "0-3", out="again", code=2)
    assert (
        "--chosen out/chosen.json: found seeds 0, 3 in its search and in the table"
    ) in capsys.readouterr().err
    assert not Path("again").exists()
    run("--chosen", "out/chosen.json", "--seeds", "4", "--dry-run", out="again")


def test_values_of_all_that_is_searched_are_taken_or_none(run, capsys):
    run()
    taken = json.loads(Path("out/chosen.json").read_text())
    (prox,) = (one for one in taken["chosen"] if one["strategy"] == "fedprox")
    del prox["values"]["strategy.mu"]
    Path("taken.json").write_text(json.dumps(taken))
    run("--chosen", "taken.json", out="again", code=2)
    said = "taken.json: fedprox, toy, iid, toy-linear: found no value of strategy.mu,"
    assert said in capsys.readouterr().err
    prox["values"] = {}
    Path("taken.json").write_text(json.dumps(taken))
    run("--chosen", "taken.json", out="again", code=2)
    assert "found no value of strategy.mu, training.lr," in capsys.readouterr().err
    assert not Path("again").exists()
    # No trial had a score: the strategy is run as it was.
    prox["score"] = None
    Path("taken.json").write_text(json.dumps(taken))
    run("--chosen", "taken.json", out="again")
    config = next(Path("again/runs").glob("fedprox*/config.yaml")).read_text("utf-8")
    assert yaml.safe_load(config)["protocol"]["training"]["lr"] == 1e-4


def test_the_first_of_a_family_is_chosen_for_where_it_is_left_out(run, monkeypatch):
    two = [{"name": "toy"}, {"name": "digits", "fraction": 0.05}]
    monkeypatch.setitem(TOY, "datasets", two)
    monkeypatch.setitem(TOY, "models", ["cnn"])
    run(families=[["toy", "digits"]])
    before = {(r.strategy, r.dataset): r for r in read_results(Path("out/results.csv"))}
    # Neither toy nor the partition that was searched is in this one.
    arguments = ("--datasets", "digits", "--chosen", "out/chosen.json")
    run(*arguments, "--seeds", "0", families=[["toy", "digits"]], out="again")
    for row in read_results(Path("again/results.csv")):
        assert row.config_hash == before[row.strategy, row.dataset].config_hash
    skewed = ("--set", "partitions=[shards]")
    run(*arguments, *skewed, "--dry-run", families=[["toy", "digits"]], out="shards")
    monkeypatch.setitem(TOY, "models", ["mlp"])
    run(*arguments, families=[["toy", "digits"]], out="mlp", code=2)


def test_values_that_cannot_be_taken_are_refused(run, capsys):
    run()
    text = Path("out/chosen.json").read_text()
    others = text.replace('"fedavg"', '"fedrs"').replace('"fedprox"', '"fedrs"')
    of_text = text.replace(" 100\n", ' "0"\n', 1)
    refused = {
        "{": "is no JSON",
        "[]": "is damaged",
        '{"chosen": []}': "is damaged: 'seeds'",
        of_text: "is damaged: seeds ('0',) are no whole numbers",
        re.sub(r'"ends": \{', r'\g<0>"a": [1], ', text): "is damaged: ends [[1], ",
        others: "found nothing for fedavg on toy, iid, toy-linear, only for fedrs",
        text.replace("training.lr", "strategy.nu"): (
            "fedavg, toy, iid, toy-linear: found strategy.nu, and the suite searches"
        ),
    }
    run("--chosen", "taken.json", out="again", code=2)
    assert "--chosen taken.json: cannot be read: No such" in capsys.readouterr().err
    for content, words in refused.items():
        Path("taken.json").write_text(content, encoding="utf-8")
        run("--chosen", "taken.json", out="again", code=2)
        assert f"--chosen taken.json: {words}" in capsys.readouterr().err
    assert not Path("again/results.csv").exists()


def test_values_are_not_taken_over_others(run, capsys):
    run()
    text = Path("out/chosen.json").read_text()
    Path("taken.json").write_text(
        re.sub(r'"training.lr": [\d.e-]+', '"training.lr": 9', text)
    )
    run("--chosen", "taken.json", code=2)
    assert "out/chosen.json has other values" in capsys.readouterr().err
    run("--chosen", "out/chosen.json")  # its own
    run("--chosen", "out/chosen.json", "--set", "search=null", code=2)
    assert "has no search, which the values would be of" in capsys.readouterr().err
