"""The recorded tables are those of the recorded results, here and in the pages."""

import importlib.util
from pathlib import Path

import pytest

from fedkd.report.results import read_results

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = sorted(p.parent for p in (ROOT / "benchmarks/results").glob("*/table.md"))


@pytest.fixture(scope="module")
def tables():
    path = ROOT / "benchmarks" / "tables.py"
    spec = importlib.util.spec_from_file_location("recorded_tables", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_recorded_table_is_fresh(tables):
    stale = [str(p) for p, text in tables.texts() if p.read_text("utf-8") != text]
    assert stale == [], "run: python benchmarks/tables.py"


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
