"""The recorded tables are those of the recorded results, here and in the pages."""

import importlib.util
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fedkd.plugins.registry import load_registry
from fedkd.report.results import Row, read_results
from fedkd.report.summary import summarise

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = sorted(p.parent for p in (ROOT / "benchmarks/results").glob("*/table.md"))


@pytest.fixture(scope="module")
def tables():
    path = ROOT / "benchmarks" / "tables.py"
    sys.path.insert(0, str(path.parent))  # as it is for a script that lies there
    spec = importlib.util.spec_from_file_location("recorded_tables", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(str(path.parent))
    return module


def test_every_recorded_table_is_fresh(tables):
    stale = [str(p) for p, text in tables.texts() if p.read_text("utf-8") != text]
    assert stale == [], "run: python benchmarks/tables.py"


def test_a_table_goes_into_its_own_place_and_no_other(tables):
    pages = {
        "a": "# a\n\n## Head\n\n1\n\n## Other\n\n2\n",
        "b": "# b\n\n## Head\n\n3\n",
    }
    place = "<!-- table:{}:{} -->\n{}<!-- /table -->\n\ntext\n"
    wanted = place.format("a", "Head", "\n1\n\n") + place.format("b", "Head", "\n3\n\n")
    for before in ("", "\n", "\nold\n\n", "\nold\n\nlonger\n"):
        text = place.format("a", "Head", before) + place.format("b", "Head", "\nx\n\n")
        assert tables.filled(text, pages) == wanted
    open_end = "<!-- table:a:Head -->\n\nnever closed\n\n"
    assert tables.filled(open_end + wanted, pages) == open_end + wanted


def test_a_page_is_made_anew_but_for_what_only_the_runs_knew(tables, tmp_path):
    source = ROOT / "benchmarks" / "results" / "quick"
    (tmp_path / "quick").mkdir()
    for name in ("results.csv", "table.md"):
        text = (source / name).read_text("utf-8")
        (tmp_path / "quick" / name).write_text(text, "utf-8")
    path = tmp_path / "quick" / "table.md"
    whole = path.read_text("utf-8")
    path.write_text(whole.replace("94.44 ± 2.68 ≈", "99.99 ± 0.00"), "utf-8")
    assert tables.renewed(path, tables.load_registry(quiet=True)) == whole
    assert "## What each stage did" in whole
    assert "- BatchNorm statistics: average." in whole


WITHOUT_GLOBAL = {
    "fedbn", "local", "fedper", "lgfedavg", "fedrep", "fedrep-paper", "fedmd", "feddistill",
    "feddistill-htfllib", "fedproto", "fedproto-code", "fedtgp", "fedgh", "fedgh-htfllib",
}  # fmt: skip
"""Strategies whose clients share no whole model."""


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_recorded_rows_say_what_their_global_accuracy_is_of(folder):
    rows = [r for r in read_results(folder / "results.csv") if r.status == "done"]
    own = {row.strategy for row in rows if row.global_of == "clients"}
    assert {row.global_of for row in rows} <= {"model", "clients"}
    assert own == {row.strategy for row in rows} & WITHOUT_GLOBAL


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_the_command_of_a_page_runs_the_cell_that_it_names(tables, folder):
    """It is parsed as the command line is, and asks for a run as it was recorded."""
    text = (ROOT / "docs" / "results" / f"{folder.name}.md").read_text("utf-8")
    *_, again = re.findall(r"```sh\nfedkd bench (.*)\n```", text)
    registry, pages = load_registry(quiet=True), tables.pages_of_results
    suites = pages.suites_of(f"fedkd bench {again}", registry)
    runs = pages.asked_for(suites, registry)
    first = next(r for r in read_results(folder / "results.csv") if r.status == "done")
    asked = {(one.strategy, one.dataset, one.partition, one.seed) for one in runs}
    assert asked == {(first.strategy, first.dataset, first.partition, first.seed)}
    assert first.models in {one.models for one in runs}


def test_what_a_command_asks_for_and_nobody_ran_is_named(tables):
    holes = sys.modules["holes"]
    folder = ROOT / "benchmarks" / "results" / "byzantine"
    rows = read_results(folder / "results.csv")
    command = (folder / "command.txt").read_text("utf-8")
    registry = load_registry(quiet=True)
    asked = holes.asked_for(holes.suites_of(command, registry), registry)
    assert holes.holes(rows, asked) == []
    label, axes = rows[0].strategy, rows[0].axes
    one = {(r.strategy, r.seed, r.axes) for r in rows} & {(label, 1, axes)}
    kept = [r for r in rows if r.seed < 3 and (r.strategy, r.seed, r.axes) not in one]
    first, *others = holes.holes(kept, asked)
    assert re.fullmatch(rf"digits, iid.*, seed 1: `{label}`", first)
    assert others
    for line in others:
        assert line.endswith(", seeds 3, 4: all rows")


def rows(label, *accuracies, dataset="digits", **changes):
    shared = {"status": "done", "global_of": "model", "split_hash": dataset, **changes}
    return [
        Row(
            "toy", label, dataset, "iid", None, "cnn", 2, 3, seed,
            global_accuracy=accuracy, run_id=f"{label}-{dataset}-{seed}", **shared,
        )
        for seed, accuracy in enumerate(accuracies)
    ]  # fmt: skip


def test_words_say_who_leads_and_is_worse_on_the_common_seeds(tables):
    found = [
        *rows("a", 50.0, 51.0, 50.5, 90.0, 91.0, 92.0),
        *rows("b", 52.0, 53.2, 52.4),
    ]
    table = summarise(found)
    assert tables.pages_of_results._best(table, *table.settings) == (
        "`a` has the best mean of those with a global model that compete; it is worse than "
        "the runner-up, `b`, on their common seeds: -2.03 [-2.41, -1.65]."
    )


def test_words_say_from_whom_the_best_is_not_separated(tables):
    found = [*rows("a", 82.0, 74.0, 66.0), *rows("b", 80.0, 71.0, 62.0)]
    start = "`a` has the best mean of those with a global model that compete; it is "
    table = summarise(found)
    assert tables.pages_of_results._best(table, *table.settings) == (
        f"{start}separated from all that come after; from the runner-up, `b`: +3.00 "
        "[+0.52, +5.48]."
    )
    table = summarise([*found, *rows("c", 80.0, 90.0, 39.0)])
    assert tables.pages_of_results._best(table, *table.settings) == (
        f"{start}not separated from `c`, in place 3: +4.33 [-49.31, +57.98]."
    )


def test_words_name_who_has_no_interval_and_of_how_few_seeds(tables):
    found = [*rows("fedavg", 50.0, 60.0, 70.0), *rows("x", 53.0, 63.0, 73.0)]
    found += [*rows("y", 30.0, 40.0), *rows("z", 50.0, 60.1, 70.0)]
    against = tables.pages_of_results._against

    def pairs(*labels):
        every = tables.pages_of_results.against(found, "fedavg").items()
        return {label: pair for (label, _), pair in every if label in labels}

    few = (
        "no interval against `fedavg`: `x` +3.00 (3 equal differences); `y` -20.00 (2 "
        "common seeds)."
    )
    *_, neither, last = against("fedavg", pairs("x", "y", "z"), "")
    assert neither == (
        "not separated from `fedavg`: `z` +0.03 [-0.11, +0.18]. Of 1 comparison at 95 %, "
        "0.05 would leave 0 by chance alone if nothing differed."
    )
    assert last == few
    nothing = "from `fedavg` nothing can be separated"
    assert against("fedavg", pairs("x", "y"), "") == [f"{nothing}.", few]
    assert len(against("fedavg", pairs("z"), "")) == 3
    alone = [f"{nothing}: nobody else competes there."]
    assert against("fedavg", {}, "") == alone


def test_a_page_says_that_its_runs_were_made_at_several_commits(tables):
    origin = "- 3 runs at commit 64b876a9.\n- 2 runs at commit 51f9b72c."
    one = SimpleNamespace(sections={"Provenance": origin})
    assert tables.pages_of_results._commits(one) == (
        "The recorded runs were made at commits 64b876a, 51f9b72."
    )


def test_costs_are_no_multiples_of_a_baseline_without_a_result(tables):
    cost = {"client_examples": 1000}
    found = [
        *rows("fedavg", 50.0, **cost),
        *rows("a", 50.0, client_examples=10),
        *rows("fedavg", None, dataset="mnist", status="diverged"),
        *rows("a", 50.0, dataset="mnist", **cost),
    ]
    one = SimpleNamespace(rows=found, table=summarise(found))
    lines = tables.pages_of_results._costs(one).splitlines()[2:5]
    images = [line.split("|")[4].strip() for line in lines]
    assert images == ["1,000 (1 x)", "10 (0.01 x)", "1,000"]


def test_words_say_what_paired_intervals_leave_zero():
    text = (ROOT / "docs" / "results" / "methods-fmnist.md").read_text("utf-8")
    lines = text.split("## What is separated, and what is not")[1].splitlines()
    (above,) = (x for x in lines if "Global accuracy: separated above" in x)
    assert above.endswith(
        "`feddyn` +4.46 [+2.05, +6.87]; `fedavgm` +3.02 [+0.06, +5.98]."
    )
    (neither,) = (x for x in lines if "Global accuracy: not separated" in x)
    assert "`fedadam` +3.26 [-3.05, +9.58]" in neither
    assert "fedbn" not in neither  # it has no global model
    assert "Of 8 comparisons at 95 %, 0.4 would" in neither


def test_a_page_has_what_is_measured_beside_accuracy_and_not_on_which_part():
    pages = ROOT / "docs" / "results"
    text = (pages / "byzantine.md").read_text("utf-8")
    assert "\n## Attack success\n" in text
    for path in pages.glob("*.md"):
        assert "\n## Validation" not in path.read_text("utf-8"), path.name
