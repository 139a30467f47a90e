"""Damaged files in a results folder: one cell is made again, and the others stay."""

import json
import re
import shutil
from pathlib import Path

import pytest
from toy_suite import PLUGIN, toy_suite

from fedkd.cli import main
from fedkd.harness import cell as cell_module
from fedkd.report.description import said_since_start
from fedkd.report.results import read_results

OUT = Path("out")
TIMES = ("seconds", "peak_memory_bytes", "engine")
pytestmark = pytest.mark.filterwarnings("default::RuntimeWarning")
BEFORE = (
    "its metrics.jsonl does not fit its last checkpoint",
    "goes on from the one before",
)
ANEW = ("its metrics.jsonl does not fit its checkpoint", "starts from round 1")


def bench():
    given = ["--plugin", PLUGIN, "--out", "out", "--plain", "--no-plots", "--jobs", "1"]
    return main(["bench", "toy.yaml", *given])


def report(*arguments):
    return main(["report", "out", "--no-plots", "--plugin", PLUGIN, *arguments])


def numbers():
    """Return the rows without what a second run may change, and the reason."""
    plain = [row.plain() for row in read_results(OUT / "results.csv")]
    kept = [name for name in plain[0] if name not in {*TIMES, "reason"}]
    return [{name: row[name] for name in kept} for row in plain]


def reasons():
    return [row.reason for row in read_results(OUT / "results.csv")]


def times(folders):
    """Return when each file of some runs was written."""
    return {p: p.stat().st_mtime_ns for one in folders for p in one.iterdir()}


@pytest.fixture
def cells(tmp_path, monkeypatch, capsys):
    """Run a bench of three cells; return their folders."""
    monkeypatch.chdir(tmp_path)
    Path("toy.yaml").write_text(toy_suite(seeds="[0, 1, 2]"), encoding="utf-8")
    assert bench() == 0
    capsys.readouterr()
    return sorted((OUT / "runs").iterdir())


def cut(text, _):
    return text[: len(text) // 2]


def empty(_, __):
    return ""


def no_row(_, __):
    return "[1, 2]\n"


def of_another_cell(_, other):
    return other


def forged(text, _):
    row = json.loads(text)
    return json.dumps({**row, "global_accuracy": row["global_accuracy"] / 2})


@pytest.mark.parametrize("damage", [cut, empty, no_row, of_another_cell, forged])
def test_a_damaged_result_is_made_again_and_the_others_stay(cells, capsys, damage):
    before, others = numbers(), times([cells[0], cells[2]])
    texts = [(folder / "result.json").read_text() for folder in cells]
    (cells[1] / "result.json").write_text(damage(texts[1], texts[2]))
    assert bench() == 0
    said = capsys.readouterr().err
    assert said.count("is damaged, or not of the metrics.jsonl and the other") == 1
    assert str(cells[1] / "result.json") in said
    assert "is damaged" in said_since_start(cells[1] / "log")
    assert numbers() == before
    assert times([cells[0], cells[2]]) == others
    result = json.loads((cells[1] / "result.json").read_text())
    assert (result["seed"], result["status"]) == (1, "done")


def test_a_checkpoint_of_another_cell_starts_that_cell_anew(cells, capsys):
    before, others = numbers(), times([cells[0], cells[2]])
    (cells[1] / "result.json").unlink()
    name = "checkpoint.safetensors"
    shutil.copy(cells[2] / name, cells[1] / name)
    assert bench() == 0
    said = capsys.readouterr()
    why = "its checkpoint is another run's; starts from round 1"
    assert f"seed 1: {why}.\n" in said.err
    assert f"RuntimeWarning: {why}" in (cells[1] / "log").read_text()
    assert reasons() == ["", why, ""]
    assert numbers() == before
    assert times([cells[0], cells[2]]) == others


def torn(line):
    return line[: len(line) // 2] + b"\n"


@pytest.mark.parametrize("line", [0, 1, 2])
def test_a_torn_line_stops_neither_report_nor_bench(cells, capsys, line):
    before, others = numbers(), times([cells[0], cells[2]])
    path = cells[1] / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line] = torn(lines[line])
    path.write_bytes(b"".join(lines))
    assert report("--format", "markdown") == 0
    said = capsys.readouterr()
    assert f"{path}:{line + 1}: not JSON" in said.err
    assert "The run is shown without its rounds" in said.err
    assert "| toy-mean |" in said.out
    assert bench() == 0
    said = capsys.readouterr()
    # The checkpoint before is of round 2: only the last line is none of its lines.
    is_last = line == 2
    why = "; ".join(BEFORE if is_last else ANEW)
    remark = f"{BEFORE[0]}; goes on after round 2 of 3\n" if is_last else f"{why}.\n"
    assert f"seed 1: {remark}" in said.err
    heading = "with a damaged checkpoint" if is_last else "that started anew"
    page = (OUT / "table.md").read_text()
    assert re.search(rf"## Runs {heading}\n\n- .*, seed 1: {why}\n", page)
    assert f"RuntimeWarning: {why}" in (cells[1] / "log").read_text()
    assert numbers() == before
    assert times([cells[0], cells[2]]) == others
    assert len(path.read_bytes().splitlines()) == 3


def test_runs_that_started_anew_have_a_section_of_the_table(cells, capsys):
    (cells[1] / "metrics.jsonl").unlink()
    assert "started anew" not in (OUT / "table.md").read_text()
    assert bench() == 0
    page = (OUT / "table.md").read_text()
    section = page.partition("## Runs that started anew\n\n")[2].split("\n\n")[0]
    assert section == f"- toy-mean, toy, iid, toy-linear, seed 1: {'; '.join(ANEW)}"
    assert "## Runs without a result" not in page
    # A later bench, and a report, still say it.
    capsys.readouterr()
    assert bench() == 0
    assert "; ".join(ANEW) in " ".join(capsys.readouterr().out.split())
    assert report("--format", "markdown") == 0
    assert section in capsys.readouterr().out


@pytest.mark.parametrize(
    ("damage", "place", "what"),
    [
        (lambda data: data[: len(data) - 40], 4, "the file ends inside a line"),
        (lambda data: b"\n".join(_short(data)), 3, r"found \d+ fields, expected \d+"),
        (lambda data: data.replace(b"suite", b"suits", 1), 1, "column"),
    ],
)
def test_a_torn_table_of_results_is_said_and_made_again(
    cells, capsys, damage, place, what
):
    path, before = OUT / "results.csv", times(cells)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert report() == 1
    said = capsys.readouterr().err
    assert re.search(rf"{re.escape(str(path))}:{place}: .*{what}", said), said
    assert bench() == 0
    assert path.read_bytes() == whole
    assert times(cells) == before


def _short(data):
    """Return the lines, the third of them without its end."""
    lines = data.split(b"\n")
    return [*lines[:2], lines[2][: len(lines[2]) // 2], *lines[3:]]


def test_a_run_that_starts_again_has_no_result_of_before(cells, monkeypatch):
    """Killed in the middle, it would be called damaged."""

    def cut_off(*_, **__):
        raise KeyboardInterrupt

    (cells[1] / "result.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(cell_module, "simulate", cut_off)
    bench()
    assert not (cells[1] / "result.json").exists()
