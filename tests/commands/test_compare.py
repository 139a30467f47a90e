"""``fedkd compare``: what it prints, and by which exit code a CI goes red."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from fedkd.cli import main
from fedkd.report.results import Row, write_results


def rows(label, *accuracies, **changes):
    return [
        Row(
            "guard", label, "digits", "iid", None, "cnn", 2, 3, seed, "done",
            global_accuracy=accuracy, run_id=f"{label}-{seed}", split_hash=f"s{seed}",
            **changes,
        )
        for seed, accuracy in enumerate(accuracies)
    ]  # fmt: skip


@pytest.fixture
def places(tmp_path):
    before = [*rows("fedavg", 80.0, 60.0, 70.0), *rows("mine", 80.0, 60.0, 70.0)]
    after = [*rows("fedavg", 80.0, 60.0, 70.0), *rows("mine", 77.0, 56.6, 67.4)]
    for name, found in (("a", before), ("b", after)):
        (tmp_path / name).mkdir()
        write_results(found, tmp_path / name / "results.csv")
    return str(tmp_path / "a"), str(tmp_path / "b")


def compare(capsys, *arguments, code=0):
    assert main(["compare", *arguments]) == code
    return capsys.readouterr()


def test_a_regression_is_exit_code_1_and_equal_results_are_0(capsys, places):
    out = compare(capsys, *places, code=1).out
    assert "1 value lost more than 1 percentage point." in " ".join(out.split())
    assert "fedavg" not in out
    out = compare(capsys, places[0], places[0]).out
    assert "2 values compared: 2 equal. None lost" in " ".join(out.split())


def test_a_threshold_and_a_level_say_what_is_lost(capsys, places):
    compare(capsys, *places, "--threshold", "3.5")
    compare(capsys, *places, "--level", "0.999")
    err = compare(capsys, *places, "--level", "1", code=2).err
    assert "0.5<=x<1" in err


@pytest.mark.parametrize(
    "odd", [("--threshold", "nan"), ("--level", "nan"), ("--threshold", "inf")]
)
def test_what_is_no_number_lets_no_loss_pass(capsys, places, odd):
    err = compare(capsys, *places, *odd, code=2).err
    assert f"Invalid value for '{odd[0]}': '{odd[1]}' is no finite number" in err


def test_markdown_is_a_summary_for_github(capsys, places):
    out = compare(capsys, *places, "--format", "markdown", code=1).out
    lines = out.splitlines()
    assert lines[:4] == [
        f"## {places[1]} against {places[0]}",
        "",
        "> [!CAUTION]",
        "> 2 values compared: 1 equal, 1 worse. 1 value lost more than 1 percentage "
        "point.",
    ]
    (mine,) = [line for line in lines if line.startswith("| mine")]
    assert [text.strip() for text in mine.strip("|").split("|")] == [
        "mine", "global", "70.00 ± 10.00", "67.00 ± 10.21", "-3.00 [-3.99, -2.01]", "3",
        "worse, more than 1",
    ]  # fmt: skip
    assert "<details><summary>1 value did not change</summary>" in lines
    quiet = compare(capsys, places[0], places[0], "--format", "markdown").out
    assert "> [!NOTE]" in quiet


def test_json_has_every_change_and_what_failed(capsys, places):
    out = compare(capsys, *places, "--format", "json", code=1).out
    found = json.loads(out)
    assert (found["failed"], found["threshold"]) == (True, 1.0)
    same, mine = found["changes"]
    assert (same["verdict"], same["regression"]) == ("equal", False)
    assert mine["before"] == [80.0, 60.0, 70.0]
    assert mine["difference"] == pytest.approx(-3.0)
    assert mine["interval"]["high"] == pytest.approx(-2.006, abs=5e-4)
    assert (mine["verdict"], mine["regression"]) == ("worse", True)


def test_a_cell_that_failed_is_exit_code_1(capsys, places):
    before, after = map(Path, places)
    failed = rows("mine", None)[0]
    lost = Row(**{**vars(failed), "status": "failed", "reason": "boom"})
    write_results([*rows("fedavg", 80.0, 60.0, 70.0), lost], after / "results.csv")
    out = compare(capsys, str(before), str(after / "results.csv"), code=1).out
    assert "mine, digits, iid: failed; it had a result before" in " ".join(out.split())


def test_results_of_two_suites_are_no_comparison(capsys, places, tmp_path):
    write_results(rows("other", 1.0), tmp_path / "results.csv")
    err = compare(capsys, places[0], str(tmp_path / "results.csv"), code=2).err
    assert "have no cell in common; expected results of one suite" in err


def test_a_place_without_results_is_refused(capsys, places, tmp_path):
    err = compare(capsys, places[0], str(tmp_path), code=2).err
    assert f"{tmp_path} holds no results; expected a results folder" in err


def test_a_file_with_two_results_of_one_seed_is_refused(capsys, places, tmp_path):
    one, two = (*rows("a", 80.0), *rows("a", 81.0))
    twins = [one, replace(two, run_id="again")]
    write_results(twins, tmp_path / "twins.csv")
    _, err = compare(capsys, places[0], str(tmp_path / "twins.csv"), code=2)
    assert "again of" in err
    assert "expected one result a seed" in err


@pytest.mark.filterwarnings("default:.*is not what was written there")
def test_what_a_spreadsheet_saved_is_compared_too(capsys, places):
    path = Path(places[1]) / "results.csv"
    found = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(found)
    compare(capsys, *places, code=1)


@pytest.mark.parametrize("columns", ["60", None])
def test_no_number_breaks_in_a_narrow_terminal_nor_in_a_pipe(
    capsys, tmp_path, monkeypatch, columns
):
    label = "fedavg-equal-work-at-each-of-the-clients"
    folders = []
    for name, found in (("a", (80.0, 60.0, 70.0)), ("b", (77.0, 56.6, 67.4))):
        folders.append(tmp_path / name)
        folders[-1].mkdir()
        write_results(rows(label, *found), folders[-1] / "results.csv")
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    words = compare(capsys, *map(str, folders), code=1).out.replace(";", " ").split()
    assert {"before", "after", "change", "70.00", "67.00", "10.21", "-3.00"} <= {*words}
    assert label in words
