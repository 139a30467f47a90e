"""Rows of results: their file, their means, and the page that shows them."""

import csv
import dataclasses
import io
import json
import os
import stat
from dataclasses import replace

import pytest
from rich.console import Console

from fedkd.base.files import write_atomic, write_json_atomic
from fedkd.base.folders import RunFolder
from fedkd.errors import ConfigError, DataError
from fedkd.metrics.classification import Loss
from fedkd.report.grouping import column_titles, setting_titles, split_conflicts
from fedkd.report.paper.latex import tables_latex
from fedkd.report.parts import Grid
from fedkd.report.results import (
    COLUMNS,
    Row,
    csv_text,
    joined_notes,
    notes_of,
    read_results,
    write_results,
)
from fedkd.report.rows.merging import merge_results
from fedkd.report.stages import last_values, stage_table
from fedkd.report.stats.pairs import against
from fedkd.report.summary import baseline_of, summarise
from fedkd.report.table import entry_text, table_markdown
from fedkd.report.targets import with_target
from fedkd.report.terminal import table_rich
from fedkd.report.text import amount, spread
from fedkd.simulation.metrics import read_metrics

HEADER = (
    "suite,strategy,dataset,partition,alpha,models,clients,rounds,seed,status,reason,"
    "global_accuracy,local_accuracy,bytes_up,bytes_down,client_examples,"
    "server_examples,seconds,seconds_local,seconds_data,seconds_transport,"
    "seconds_server,seconds_evaluation,seconds_bookkeeping,"
    "peak_memory_bytes,split_hash,config_hash,run_id,precision,engine,notes,global_of"
)


def row(strategy="fedavg", seed=0, accuracy=80.0, **changes):
    values = {
        "suite": "quick",
        "strategy": strategy,
        "dataset": "digits",
        "partition": "dirichlet",
        "alpha": 0.1,
        "models": "cnn",
        "clients": 10,
        "rounds": 20,
        "seed": seed,
        "status": "done",
        "global_accuracy": accuracy,
        "split_hash": f"split{seed}",
    } | changes
    name = f"{strategy}-{values['dataset']}-{values['alpha']}-{values['suite']}-s{seed}"
    return Row(**({"run_id": name} | values))


def rows_of(strategy, *accuracies, **changes):
    return [row(strategy, i, value, **changes) for i, value in enumerate(accuracies)]


def lost(strategy, seed, status, reason, **changes):
    return row(strategy, seed, None, status=status, reason=reason, **changes)


def text_of(rows, label, references=()):
    table = summarise(rows, references)
    return entry_text(table.entries[label, table.settings[0]], table)


def marks(rows, references=()):
    table = summarise(rows, references)
    return {s: table.entries[s, table.settings[0]].mark for s in table.strategies}


# --- results.csv ---------------------------------------------------------------------


def test_the_columns_are_the_contract():
    assert ",".join(COLUMNS) == HEADER


def test_a_row_is_written_with_these_characters():
    full = row(
        accuracy=82.123456,
        local_accuracy=90.0,
        bytes_up=1200,
        bytes_down=1300,
        client_examples=64,
        server_examples=0,
        seconds=1.23456,
        peak_memory_bytes=1048576,
        precision="bf16",
        engine="serial",
        config_hash="abc",
        run_id="r1",
    )
    assert csv_text([full]) == (
        f"{HEADER}\nquick,fedavg,digits,dirichlet,0.1,cnn,10,20,0,done,,82.1235,90.0,"
        "1200,1300,64,0,1.235,,,,,,,1048576,split0,abc,r1,bf16,serial,,\n"
    )


def test_missing_and_infinite_values_are_empty():
    line = csv_text([row(accuracy=float("nan"), alpha=None)]).splitlines()[1]
    assert line.split(",")[4] == ""
    assert line.split(",")[11] == ""


def test_written_rows_are_read_back_equal(tmp_path):
    rows = [
        row(alpha=None, accuracy=None, seconds=0.5, peak_memory_bytes=12),
        lost("mosaic", 1, "failed", 'needs "batch norm", found none; ä'),
    ]
    write_results(rows, tmp_path / "results.csv")
    assert read_results(tmp_path / "results.csv") == rows


def test_a_reason_of_two_lines_takes_one(tmp_path):
    path = tmp_path / "r.csv"
    write_results([lost("a", 0, "failed", "one\n  two \x1b[31mred")], path)
    assert read_results(path)[0].reason == r"one two \x1b[31mred"
    # By hand, too.
    path.write_text(csv_text([lost("a", 0, "failed", "R")]).replace("R", '"\x1b\n|"'))
    assert read_results(path)[0].reason == r"\x1b |"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",20,0,done", ",20,x,done", ":2: seed: found 'x', expected a whole number"),
        (",0.1,", ",low,", ":2: alpha: found 'low', expected a number"),
        (",80.0,", ",nan,", ":2: global_accuracy: found 'nan', expected a percentage"),
        (
            ",80.0,,,",
            f",80.0,,{'9' * 400},",
            ":2: bytes_up: found '999",
        ),
        (
            ",80.0,",
            ",179.4,",
            ":2: global_accuracy: found '179.4', expected a percentage "
            "from 0 to 100. Was the file changed by hand?",
        ),
        (
            ",80.0,,",
            ",80.0,-3,",
            ":2: local_accuracy: found '-3', expected a percentage",
        ),
        (
            ",80.0,,,",
            ",80.0,,-1,",
            ":2: bytes_up: found '-1', expected a whole number from 0 on",
        ),
        (
            ",10,20,0,",
            ",0,20,0,",
            ":2: clients: found '0', expected a whole number from 1",
        ),
        (",20,0,done", ",20,-1,done", ":2: seed: found '-1', expected a whole number"),
        (",0.1,", ",-0.1,", ":2: alpha: found '-0.1', expected a number from 0 on"),
        (
            ",fp32,",
            ",fp8,",
            ":2: precision: found 'fp8', expected one of fp32, tf32, bf16",
        ),
        (",done,", ",finished,", ":2: status: found 'finished', expected one of done"),
        ("quick,", "", ":2: found 31 fields, expected 32"),
        ("quick,", ",", ":2: suite: found nothing, expected a value"),
        ("seconds,", "", ":1: column seconds is missing"),
        ("seconds,", "seconds,hours,", ":1: column 'hours' is unknown"),
        ("alpha,models", "alpha,alpha,models", ":1: a column is there twice"),
        (",10,20", ',"10,20', ":2: not CSV"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_the_line(tmp_path, old, new, message):
    path = tmp_path / "results.csv"
    text = csv_text([row()])
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError) as error:
        read_results(path)
    assert str(error.value).startswith(f"{path}{message}")


def test_a_file_that_was_cut_short_is_an_error(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(csv_text(rows_of("a", 1.0, 2.0))[:-3])
    with pytest.raises(DataError, match=r":3: the file ends inside a line"):
        read_results(path)


def test_an_empty_file_is_no_line_that_was_cut(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("")
    with pytest.raises(
        DataError, match=r"results.csv: the file is empty, expected a he"
    ):
        read_results(path)


def test_a_run_that_is_there_twice_is_an_error(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(csv_text([row(), row()]))
    with pytest.raises(DataError, match=r":3: run_id .* is also on line 2"):
        read_results(path)


def test_results_of_an_earlier_version_lack_columns_and_can_be_read(tmp_path):
    path = tmp_path / "results.csv"
    later = ["seconds_local", "precision", "engine", "notes"]
    kept = [name for name in COLUMNS if name not in later]
    full = list(csv.DictReader(io.StringIO(csv_text([row()]))))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, kept, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(full)
    (found,) = read_results(path)
    assert found == dataclasses.replace(row(), seconds_local=None, engine="")


def test_a_missing_file_is_an_error_that_tells_what_writes_it(tmp_path):
    with pytest.raises(DataError, match=r"does not exist; 'fedkd bench' writes it"):
        read_results(tmp_path / "results.csv")


def test_merging_keeps_equal_runs_once_and_all_others():
    first, second = rows_of("a", 1.0, 2.0), rows_of("a", 1.0, 2.0, suite="late")
    assert merge_results({"x": first, "y": [*first, *second]}) == [*first, *second]


def test_merging_a_run_that_was_made_twice_keeps_the_first():
    first, again = (
        row(seconds=1.0),
        row(seconds=2.0, seconds_local=1.5, peak_memory_bytes=5),
    )
    assert merge_results({"x": [first], "y": [again]}) == [first]


def test_merging_different_results_of_one_run_is_an_error():
    with pytest.raises(
        ConfigError, match=r"x and y .* \(global_accuracy is 1.0 and 2.0"
    ):
        merge_results({"x": rows_of("a", 1.0), "y": rows_of("a", 2.0)})


# --- columns of metrics ---------------------------------------------------------------

LOSS, LOCAL_LOSS = Loss().columns("loss")


def test_columns_of_metrics_come_last_and_say_where_they_were_not_asked_for():
    more = {"global_loss": 0.12345678, "to": 7, "faults": 2}
    text = csv_text([row("a", metrics={"to": None}), row("b", metrics=more)])
    header, first, second = text.splitlines()
    assert header == f"{HEADER},to,global_loss,faults"
    assert first.endswith(",fp32,,,,,NA,")
    assert second.endswith(",fp32,,,,7,0.123457,2")


def test_columns_of_metrics_are_read_back_equal(tmp_path):
    rows = [row("a", metrics={"loss": 0.5, "to": 7}), row("b", metrics={"loss": None})]
    write_results(rows, tmp_path / "results.csv")
    assert read_results(tmp_path / "results.csv") == rows


def test_a_metric_that_was_not_asked_for_is_undefined_in_no_file(tmp_path):
    path = tmp_path / "results.csv"
    rows = [*losses("a", 0.5), *rows_of("b", 1.0), *losses("c", None)]
    write_results(rows, path)
    table = summarise(read_results(path), (), LOSS)
    counts = {label: entry.counts for (label, _), entry in table.entries.items()}
    assert counts == {"a": {"done": 1}, "b": {"done": 1}, "c": {"undefined": 1}}


def test_a_damaged_number_of_a_metric_is_an_error(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(csv_text([row(metrics={"loss": 0.5})]).replace(",0.5", ",half"))
    with pytest.raises(DataError, match=r":2: loss: found 'half', expected a number"):
        read_results(path)


def test_only_an_accuracy_of_every_file_is_within_its_bounds(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(csv_text([row(local_accuracy=100.5)]))
    with pytest.raises(DataError, match=r"local_accuracy: found '100.5', expected a p"):
        read_results(path)
    metrics = {"gain": -100.5, "drop_accuracy": -1.5}
    path.write_text(csv_text([row(metrics=metrics)]))
    assert read_results(path)[0].metrics == metrics


def test_runs_that_differ_in_what_was_measured_only_are_one_run():
    plain = row("a", run_id="a-1", config_hash="1", seconds=1.0)
    more = row("a", run_id="a-2", config_hash="2", metrics={"loss": 0.5})
    most = row("a", run_id="a-3", config_hash="3", metrics={"loss": 0.5, "to": 7})
    (found,) = merge_results({"x": [plain], "y": [more], "z": [most]})
    assert found == dataclasses.replace(plain, metrics={"loss": 0.5, "to": 7})
    found = merge_results({"x": [plain], "y": [more]}, lambda row: len(row.metrics))
    assert found == [more]


def test_runs_at_two_values_of_an_axis_are_not_one_though_their_results_are_equal():
    def at(end, **metrics):
        return [
            row("a", axes=(("training.x", x),), run_id=x + end, metrics=metrics)
            for x in "12"
        ]

    found = merge_results({"x": at(""), "y": at("m", loss=0.5)})
    assert found == [dataclasses.replace(one, metrics={"loss": 0.5}) for one in at("")]


def test_a_seed_counts_once_whatever_its_runs_were_told_beside_their_setting():
    def of(end, **changes):
        return [
            row("a", seed, run_id=f"a-{seed}-{end}", config_hash=end, **changes)
            for seed in range(3)
        ]

    merged = merge_results({"x": of("1"), "y": of("2")})
    assert merged == of("1")
    assert text_of(merged, "a") == "80.00 ± 0.00"
    skipped = {"accuracy": None, "status": "skipped", "reason": "no"}
    assert merge_results({"x": of("1", **skipped), "y": of("2", **skipped)}) == of(
        "1", **skipped
    )
    # Other rounds, precisions and suites are no other runs of one seed.
    apart = [of("2", rounds=9), of("3", precision="bf16"), of("4", suite="late")]
    tables = {str(i): rows for i, rows in enumerate([of("1"), *apart])}
    assert len(merge_results(tables)) == 12


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"accuracy": 81.0}, "global_accuracy is 80.0 and 81.0"),
        ({"metrics": {"loss": 0.6, "to": 7}}, "loss is 0.5 and 0.6"),
        ({"split_hash": "other"}, "split_hash is 'split0' and 'other'"),
    ],
)
def test_two_results_of_one_seed_are_refused_and_both_runs_named(changes, differs):
    one = row("a", run_id="a-1", metrics={"loss": 0.5})
    two = row("a", run_id="a-2", **{"metrics": {"loss": 0.5}, **changes})
    wanted = (
        "a-1 of x and a-2 of y are both a, digits, dirichlet 0.1, cnn, seed 0, and their "
        f"results differ ({differs}); expected one result a seed. Report them apart, or "
        "remove one."
    )
    with pytest.raises(ConfigError) as caught:
        merge_results({"x": [one], "y": [two]})
    assert str(caught.value) == wanted


@pytest.mark.parametrize("end", ["1", "2"])
def test_a_run_that_failed_or_was_skipped_gives_way_to_one_that_ended(end):
    done = row("a", run_id="a-1", config_hash="1")
    failed = lost("a", 0, "failed", "OOM", run_id=f"a-{end}", split_hash="")
    for ended in (done, lost("a", 0, "diverged", "NaN", run_id="a-1")):
        assert merge_results({"x": [failed], "y": [ended]}) == [ended]
        assert merge_results({"x": [ended], "y": [failed]}) == [ended]
    # Of two without a result the first counts, whatever the reasons were.
    other = dataclasses.replace(failed, run_id="a-1", reason="line 6")
    assert merge_results({"x": [failed], "y": [other]}) == [failed]
    skipped = dataclasses.replace(other, status="skipped")
    assert merge_results({"x": [skipped], "y": [failed]}) == [skipped]


def test_a_run_that_gives_way_has_no_part_in_a_refusal():
    failed, one, two = (
        lost("a", 0, "failed", "OOM", run_id="a-1"),
        row("a", 0, 1.0, run_id="a-1"),
        row("a", 0, 2.0, run_id="a-1"),
    )
    with pytest.raises(ConfigError, match=r"^y and z hold different results"):
        merge_results({"x": [failed], "y": [one], "z": [two]})


def test_a_run_that_diverged_is_no_other_one_that_is_done():
    one, two = row("a", run_id="a-1"), lost("a", 0, "diverged", "NaN", run_id="a-2")
    with pytest.raises(ConfigError, match="status is 'done' and 'diverged'"):
        merge_results({"x": [one], "y": [two]})
    later = dataclasses.replace(two, rounds=two.rounds + 1)
    with pytest.raises(ConfigError, match=r"^y and z hold .* \(rounds is"):
        merge_results({"y": [two], "z": [later]})


@pytest.mark.parametrize("end", ["1", "2"])
def test_merging_keeps_what_only_one_of_two_equal_runs_says(end):
    old = row("a", run_id="a-1")
    new = row("a", run_id=f"a-{end}", global_of="clients", notes="few images")
    said = {"global_of": "clients", "notes": "few images"}
    for tables in ({"x": [old], "y": [new]}, {"x": [new], "y": [old]}):
        (found,) = merge_results(tables)
        assert {name: getattr(found, name) for name in said} == said
        (entry,) = summarise([found]).entries.values()
        assert entry.is_of_clients


def test_one_run_under_two_labels_is_not_told_to_have_two_results():
    one, two = row("a", alpha=0.3), row("a", partition="strong", alpha=None)
    with pytest.raises(ConfigError) as caught:
        merge_results({"x": [one], "y": [dataclasses.replace(two, run_id=one.run_id)]})
    assert str(caught.value) == (
        f"x and y have run {one.run_id!r} under two labels (partition is "
        f"{one.partition!r} and 'strong'); expected one. Give it the same label in both "
        "suites: what is done is not run again."
    )


def test_merging_names_the_metric_in_which_a_run_differs():
    one, two = (row("a", metrics={"loss": value}) for value in (0.5, 0.6))
    with pytest.raises(ConfigError, match=r"\(loss is 0.5 and 0.6\)"):
        merge_results({"x": [one], "y": [two]})


def test_a_target_is_called_plainly_and_takes_no_place_of_the_suites_own():
    def lines(row):
        return [{"round": 1, "global_accuracy": 50.0, "bytes_up": 1, "bytes_down": 1}]

    own = row(metrics={"rounds_to_0_00001": 7})
    (found,), columns = with_target([own], lines, 1e-5)
    assert found.metrics == {"rounds_to_0_00001": 7, "bytes_to_0_00001": 2}
    assert [column.name for column in columns] == list(found.metrics)
    for target, end in ((80.0, "80"), (12.5, "12_5"), (100 / 3, "33_3333")):
        assert with_target([], lines, target)[1][0].name == f"rounds_to_{end}"


def losses(strategy, *values):
    return [
        row(strategy, seed, metrics={"global_loss": value})
        for seed, value in enumerate(values)
    ]


def entries_of(rows, column):
    table = summarise(rows, (), column)
    column = {s: table.entries[s, table.settings[0]] for s in table.strategies}
    return {s: (entry_text(e, table), e.mark) for s, e in column.items()}


def test_the_best_is_the_lowest_where_lower_is_better():
    rows = losses("a", 0.5, 0.6, 0.7) + losses("b", 0.1, 0.1, 0.2)
    rows += losses("c", 9.0, 9.1, 9.0)
    assert entries_of(rows, LOSS) == {
        "a": ("0.600 ± 0.100", "second"),
        "b": ("0.133 ± 0.058", "best"),
        "c": ("9.033 ± 0.058", ""),
    }


def test_a_run_that_is_done_without_an_accuracy_is_told_everywhere():
    rows = [*rows_of("a", 80.0, None), *rows_of("b", 70.0, 70.0)]
    assert [text_of(rows, label) for label in "ab"] == [
        "80.00 (n=1, 1 undefined)",
        "70.00 ± 0.00 (n=2)",
    ]
    why = "undefined: the run is done, and its row has no global accuracy"
    page = table_markdown(rows, title="t")
    assert f"- a, digits, dirichlet 0.1, seed 1: {why}" in page
    console = Console(file=io.StringIO(), width=200)
    console.print(table_rich(rows))
    assert why in console.file.getvalue()
    paper = tables_latex(rows, title="t")
    assert "Undefined: a: the run is done, and its row has no global accuracy" in paper


def test_who_has_no_value_in_a_run_says_so_and_is_not_marked():
    rows = [*losses("a", 0.5, None), *losses("b", 0.6, 0.6), *losses("c", 0.7, 0.7)]
    rows += [*losses("d", None, None), *rows_of("e", 80.0)]
    assert entries_of(rows, LOSS) == {
        "a": ("0.500 (n=1, 1 undefined)", ""),
        "b": ("0.600 ± 0.000 (n=2) ≈", "leading"),
        "c": ("0.700 ± 0.000 (n=2)", ""),
        "d": ("2 undefined", ""),
        "e": ("-", ""),
    }


def test_a_page_has_a_section_for_each_metric_that_a_run_was_asked_for():
    rows = [*losses("a", 0.5), *losses("b", 0.25)]
    page = table_markdown(rows, title="t", columns=[LOSS, LOCAL_LOSS])
    section = page.partition("## Global loss\n")[2].partition("\n##")[0]
    assert "| a        |                 0.500 |" in section
    assert "| b        |               0.250 ≈ |" in section
    assert (
        "Mean cross-entropy of the test images, in nats. On the whole test set, after "
        "the last round. Lower is better. n = 1 seed: no spread is known. ≈ has the best "
        "mean, but at least one other is not separated from it. b above a: 1 common seed; "
        "an interval takes 3 or more."
    ) in section
    assert "## Local loss" not in page
    rows = losses("a", None)
    page = table_markdown(rows, title="t", columns=[LOSS])
    assert "| a        |             undefined |" in page
    assert "A run that is undefined has no such value." in page


def test_a_terminal_shows_each_metric_but_no_local_means():
    rows = [row("a", metrics={"global_loss": 0.5, "local_loss": 0.4})]
    console = Console(file=io.StringIO(), width=100)
    console.print(table_rich(rows, title="t", columns=[LOSS, LOCAL_LOSS]))
    text = console.file.getvalue()
    assert "Global loss" in text
    assert "0.500" in text
    assert "0.400" not in text


def test_large_numbers_are_easy_to_read():
    assert spread([1234567.0, 1234569.0], decimals=0) == "1,234,568 ± 1"


# --- atomic files --------------------------------------------------------------------


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomic(path, "old")

    def fail(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_written_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_text("")
    write_atomic(tmp_path / "file", b"\x00")
    modes = [
        stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("usual", "file")
    ]
    assert modes[0] == modes[1]


def test_a_folder_that_is_gone_is_not_made_anew_by_a_write(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "gone" / "file", "new")
    assert list(tmp_path.iterdir()) == []


def test_json_with_a_number_that_is_not_finite_is_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json_atomic({"x": float("nan")}, tmp_path / "x.json")
    assert not (tmp_path / "x.json").exists()


# --- means ---------------------------------------------------------------------------


def test_mean_and_sample_deviation_of_80_82_84():
    assert text_of(rows_of("a", 80.0, 82.0, 84.0), "a") == "82.00 ± 2.00"


def test_one_seed_has_no_deviation():
    assert text_of(rows_of("a", 80.0), "a") == "80.00"


def test_a_mean_over_the_survivors_says_so():
    rows = [*rows_of("a", 80.0, 82.0), lost("a", 2, "diverged", "nan")]
    assert text_of(rows, "a") == "81.00 ± 1.41 (n=2, 1 diverged)"


def test_n_is_in_every_entry_once_it_differs():
    rows = rows_of("a", 80.0, 82.0) + rows_of("b", 70.0)
    assert text_of(rows, "a") == "81.00 ± 1.41 (n=2) ≈"
    assert text_of(rows, "b") == "70.00 (n=1)"


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["skipped", "skipped"], "skipped"),
        (["diverged"], "diverged"),
        (["failed", "failed"], "2 failed"),
        (["failed", "diverged"], "1 diverged, 1 failed"),
    ],
)
def test_an_entry_without_a_result_says_what_became_of_it(statuses, expected):
    rows = [lost("a", seed, status, "why") for seed, status in enumerate(statuses)]
    assert text_of(rows, "a") == expected


def test_only_runs_that_are_done_count():
    rows = [*rows_of("a", 80.0), row("a", 1, 10.0, status="diverged")]
    assert text_of(rows, "a") == "80.00 (n=1, 1 diverged)"


def test_a_cell_that_was_not_run_is_a_dash():
    rows = rows_of("a", 1.0) + rows_of("b", 2.0, dataset="mnist")
    assert text_of(rows, "b") == "-"


def test_the_best_of_one_seed_is_not_separated_and_references_are_not_marked():
    rows = [
        *rows_of("low", 70.0),
        *rows_of("high", 90.0),
        *rows_of("middle", 80.0),
        *rows_of("centralised", 99.0),
    ]
    assert marks(rows, {"centralised"}) == {
        "low": "",
        "high": "leading",
        "middle": "",
        "centralised": "",
    }


def test_what_looks_equal_in_the_table_is_a_tie():
    rows = [*rows_of("a", 80.001), *rows_of("b", 80.004), *rows_of("c", 79.0)]
    assert marks(rows) == {"a": "leading", "b": "leading", "c": ""}


def test_nobody_is_best_where_all_are_equal():
    assert marks(rows_of("a", 10.0) + rows_of("b", 10.0)) == {"a": "", "b": ""}


def test_one_competitor_alone_is_not_best():
    rows = rows_of("a", 80.0) + rows_of("centralised", 99.0)
    assert marks(rows, {"centralised"}) == {"a": "", "centralised": ""}


def test_strategies_and_settings_keep_the_order_of_the_rows():
    rows = [
        *rows_of("z", 1.0, dataset="svhn"),
        *rows_of("a", 1.0, dataset="digits"),
        *rows_of("a", 1.0, dataset="svhn"),
    ]
    table = summarise(rows)
    assert table.strategies == ("z", "a")
    assert [setting.dataset for setting in table.settings] == ["svhn", "digits"]


def test_a_one_shot_method_shares_the_column_of_the_others():
    rows = rows_of("dense", 70.0, rounds=1) + rows_of("fedavg", 80.0, rounds=50)
    assert len(summarise(rows).settings) == 1


def test_suites_are_kept_apart_only_where_they_hold_the_same_cell():
    joined = rows_of("a", 1.0, suite="x") + rows_of("b", 2.0, suite="y")
    apart = rows_of("a", 1.0, suite="x") + rows_of("a", 2.0, suite="y")
    assert len(summarise(joined).settings) == 1
    assert [s.suite for s in summarise(apart).settings] == ["x", "y"]


def test_seeds_of_two_suites_or_of_other_rounds_make_no_mean():
    first, other = rows_of("a", 1.0, 2.0), rows_of("a", 9.0, 9.0, 8.0)[2:]
    for changes in ({"suite": "y"}, {"rounds": 7}, {"precision": "bf16"}):
        late = [dataclasses.replace(row, **changes) for row in other]
        entries = summarise(first + late).entries.values()
        assert [entry.mean for entry in entries] == [1.5, 8.0]


def test_titles_hold_only_what_differs():
    rows = [
        *rows_of("a", 1.0),
        *rows_of("a", 1.0, alpha=None, partition="iid", models="vgg11"),
    ]
    titles, shared = setting_titles(summarise(rows).settings)
    assert titles == ("digits, dirichlet 0.1, models cnn", "digits, iid, models vgg11")
    assert shared == "10 clients"


def test_columns_that_are_data_sets_do_not_repeat_their_partition():
    mnist = rows_of("a", 1.0, dataset="mnist")
    settings = summarise(rows_of("a", 1.0) + mnist).settings
    assert setting_titles(settings)[0][1] == "mnist, dirichlet 0.1"
    titles, shared = column_titles(settings)
    assert titles == ("digits", "mnist")
    assert shared == "dirichlet 0.1, models cnn, 10 clients"
    wide = rows_of("a", 1.0, dataset="mnist", models="vgg11")
    titles, shared = column_titles(summarise(rows_of("a", 1.0) + wide).settings)
    assert titles == ("digits, models cnn", "mnist, models vgg11")
    assert shared == "dirichlet 0.1, 10 clients"
    for other in (
        rows_of("a", 1.0, alpha=0.5),
        rows_of("a", 1.0, dataset="mnist", alpha=0.5),
    ):
        settings = summarise(rows_of("a", 1.0) + other).settings
        assert column_titles(settings) == setting_titles(settings)
    alone = summarise(rows_of("a", 1.0)).settings
    assert column_titles(alone) == setting_titles(alone)


def test_too_few_seeds_in_many_settings_are_said_once():
    rows = rows_of("a", 1.0) + rows_of("b", 2.0)
    more = rows_of("a", 1.0, dataset="mnist") + rows_of("b", 2.0, dataset="mnist")
    text = table_markdown(rows + more, title="t")
    sentence = (
        "The best and one after it have fewer than 3 seeds in common everywhere, and an "
        "interval takes 3 or more."
    )
    assert text.count(sentence) == 1
    assert "common seed;" not in text
    third = [
        *rows_of("a", 1.0, 2.0, 4.0, dataset="svhn"),
        *rows_of("b", 2.0, 2.5, 4.1, dataset="svhn"),
    ]
    text = table_markdown(rows + more + third, title="t")
    assert "svhn: b above a: +0.53" in text
    assert "seeds in common on digits; mnist, and an interval takes" in text


def test_differences_are_paired_by_seed():
    rows = rows_of("fedavg", 80.0, 60.0, 70.0) + rows_of("b", 82.0, 63.0)
    (pair,) = against(rows, "fedavg").values()
    assert pair.differences == {0: 2.0, 1: 3.0}
    assert spread(pair.values, "+") == "+2.50 ± 0.71"


@pytest.mark.parametrize(
    ("labels", "references", "expected"),
    [
        (["mosaic", "fedavg"], (), "fedavg"),
        (["local", "mosaic", "dense"], {"local"}, "mosaic"),
        (["local"], {"local"}, "local"),
    ],
)
def test_the_baseline_is_fedavg_else_the_first_competitor(labels, references, expected):
    rows = [one for label in labels for one in rows_of(label, 1.0)]
    assert baseline_of(summarise(rows, references)) == expected


def test_a_baseline_has_results():
    rows = [
        lost("fedavg", 0, "skipped", "no"),
        *rows_of("local", 1.0),
        *rows_of("mosaic", 2.0),
    ]
    assert baseline_of(summarise(rows, {"local"})) == "mosaic"
    assert baseline_of(summarise(rows[:2], {"local"})) == "local"
    assert baseline_of(summarise(rows[:1])) is None


def test_different_splits_at_one_seed_are_found():
    rows = [*rows_of("a", 1.0, 2.0), row("b", 1, 3.0, split_hash="other")]
    assert [seed for _, seed in split_conflicts(rows)] == [1]


def part(digest):
    return f"the files hold 3 of 9 images: no results on the published set (part {digest})."


def test_runs_that_saw_different_parts_of_a_set_are_told_apart_and_not_paired():
    rows = [
        *rows_of("a", 1.0, 2.0),
        row("b", 0, 3.0, notes=part("0123abcd")),
        row("b", 1, 3.0, notes=part("99999999")),
    ]
    # Who says nothing of the part, as runs of earlier versions, may have seen either.
    assert split_conflicts(rows) == []
    text = page(rows)
    assert (
        "WARNING: digits: runs saw different files: 0123abcd, 99999999. Their" in text
    )
    rows[0] = replace(rows[0], notes=part("99999999"))
    assert [seed for _, seed in split_conflicts(rows)] == [0]
    rows[0] = replace(rows[0], notes=part("0123abcd"))
    rows[-1] = replace(rows[-1], notes=part("0123abcd"))
    assert split_conflicts(rows) == []
    assert "WARNING" not in page(rows)


# --- table.md ------------------------------------------------------------------------


def page(rows, **changes):
    return table_markdown(rows, title="quick", **changes)


def lines_of(text, start):
    return [line for line in text.splitlines() if line.startswith(start)]


def fields(line):
    return [text.strip() for text in line.strip("|").split("|")]


def test_the_page_has_best_bold_second_underlined_and_references_marked():
    rows = [
        *rows_of("fedavg", 80.0, 82.0, 84.0),
        *rows_of("mosaic", 85.0, 87.0, 88.0),
        *rows_of("fedprox", 70.0, 71.0, 73.0),
        *rows_of("centralised", 97.0, 97.0, 97.0),
    ]
    text = page(rows, references={"centralised"})
    found = [fields(line) for line in text.splitlines()[4:10] if line.startswith("| ")]
    assert found[2:] == [
        ["fedavg", "<u>82.00 ± 2.00</u>"],
        ["mosaic", "**86.67 ± 1.53**"],
        ["fedprox", "71.33 ± 1.53"],
        ["centralised †", "97.00 ± 0.00"],
    ]
    assert "after the last round" in text
    assert "n = 3." in text
    assert "All: models cnn, 10 clients, 20 rounds." in text


def test_the_page_has_the_costs_of_a_run_in_mean():
    rows = [
        row(seed=0, bytes_up=1_000_000, bytes_down=2_500_000, client_examples=1000,
            server_examples=0, seconds=1.0, peak_memory_bytes=3 * 2**20),
        row(seed=1, bytes_up=2_000_000, bytes_down=2_500_000, client_examples=2000,
            server_examples=0, seconds=2.0, peak_memory_bytes=5 * 2**20),
    ]  # fmt: skip
    (line,) = lines_of(page(rows), "| fedavg   |     20")
    assert fields(line) == ["fedavg", "20", "1.50", "2.50", "1,500", "0", "1.50", "4"]


def test_costs_count_runs_that_are_done_only():
    rows = [row(seconds=1.0), lost("fedavg", 1, "diverged", "nan", seconds=99.0)]
    (line,) = lines_of(page(rows), "| fedavg   |     20")
    assert fields(line)[6] == "1"


def test_the_page_has_local_accuracy_only_where_it_was_measured():
    assert "## Local accuracy" not in page([row()])
    with_local = page([row(local_accuracy=91.5)])
    assert (
        "own model where the strategy has one, else of the global model" in with_local
    )
    assert "## Local accuracy" in with_local
    assert "91.50" in with_local


def test_the_page_has_differences_from_the_baseline():
    rows = rows_of("fedavg", 80.0, 60.0) + rows_of("mosaic", 82.0, 63.0)
    text = page(rows)
    part = text[text.index("## Differences from fedavg") :]
    assert lines_of(part, "| mosaic") == ["| mosaic   |          +2.50 ± 0.71 |"]
    assert lines_of(part, "| fedavg") == []
    assert "n = 2." in part


def test_the_page_has_the_reasons_once_with_their_seeds():
    rows = [
        *rows_of("a", 1.0, 2.0),
        *(lost("b", s, "skipped", "no BN") for s in (0, 1)),
    ]
    assert "- b, digits, dirichlet 0.1, seeds 0, 1: skipped: no BN\n" in page(rows)


def test_the_page_has_the_protocol_and_the_provenance():
    text = page([row()], protocol_lines=["buffers: average"], provenance=["torch 2"])
    assert "## Protocol\n\n- buffers: average\n" in text
    assert "## Provenance\n\n- torch 2\n" in text


def test_the_page_warns_of_different_splits():
    rows = [row("a", 0, 1.0), row("b", 0, 1.0, split_hash="other")]
    assert "WARNING: runs of one seed saw different data splits" in page(rows)
    assert "same data split" in page([row("a", 0, 1.0), row("b", 0, 1.0)])


def test_the_page_of_no_rows_says_so():
    assert page([]) == "# quick\n\nThere are no results yet.\n"


def test_the_page_of_failures_only_is_whole():
    text = page([lost("a", 0, "failed", "boom")])
    assert "boom" in text
    assert "## Costs" not in text
    assert "## Differences" not in text


def test_a_bar_in_a_name_does_not_break_the_table():
    grid = Grid.of(["a|b"], [["c"]])
    assert grid.markdown == "| a\\|b |\n| ---- |\n| c    |"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "-"),
        (0, "0"),
        (0.01234, "0.0123"),
        (3.456, "3.46"),
        (1234567.8, "1,234,568"),
    ],
)
def test_costs_are_written_in_about_three_digits(value, expected):
    assert amount(value) == expected


def test_a_difference_that_rounds_to_zero_has_no_minus():
    assert spread([-0.001], "+") == "+0.00"


# --- metrics.jsonl -------------------------------------------------------------------


def line(index, **changes):
    counts = dict.fromkeys(("bytes_up", "bytes_down", "client_examples"), index)
    return {"round": index, "global_accuracy": 50.0, **counts, **changes}


def test_metrics_are_read_without_a_last_line_that_was_cut(tmp_path):
    text = json.dumps(line(1)) + "\n" + json.dumps(line(2))[:10]
    (tmp_path / "metrics.jsonl").write_text(text)
    assert read_metrics(RunFolder(tmp_path)) == [line(1)]


def test_metrics_of_a_run_that_left_none_are_empty(tmp_path):
    assert read_metrics(RunFolder(tmp_path)) == []


@pytest.mark.parametrize("bad", ["{", "[]", '{"round": "1"}'])
def test_a_damaged_line_of_metrics_is_an_error(tmp_path, bad):
    (tmp_path / "metrics.jsonl").write_text(f"{json.dumps(line(1))}\n{bad}\n")
    with pytest.raises(DataError, match=r"metrics.jsonl:2: "):
        read_metrics(RunFolder(tmp_path))


def test_the_last_value_of_an_early_stage_is_kept():
    lines = [
        line(1, measured={"teacher": 60.0}, logged={"share": 0.5, "train_loss": 1.0}),
        line(2, measured={"teacher": 70.0}, logged={"share": None}),
        line(3, measured={}, logged={"share": float("nan")}),
    ]
    found = last_values(lines)
    assert {name: (v.value, v.round) for name, v in found.items()} == {
        "measured teacher": (70.0, 2),
        "share": (0.5, 1),
    }


def test_stages_are_means_over_seeds():
    runs = [
        (one, [line(1, measured={"teacher": value}, logged={"share": value / 100})])
        for one, value in zip(rows_of("mosaic", 1.0, 1.0), (70.0, 74.0), strict=True)
    ]
    table = stage_table(runs).splitlines()
    assert [fields(line) for line in table[2:4]] == [
        ["mosaic", "measured teacher", "72.00 ± 2.83", "2", "1"],
        ["mosaic", "share", "0.72 ± 0.0283", "2", "1"],
    ]


def test_stages_leave_out_runs_that_are_not_done():
    runs = [(lost("a", 0, "diverged", "nan"), [line(1, measured={"teacher": 1.0})])]
    assert stage_table(runs) == ""


def test_training_losses_alone_are_no_stage():
    assert stage_table([(row(), [line(1, logged={"train_loss": 0.3})])]) == ""


def test_rows_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        row().seed = 1


def test_each_note_on_the_data_is_told_once_with_the_data_set():
    notes = joined_notes(["Left out: 3 files.", "There is one class | only."])
    rows = [row(notes=notes, seed=0), row(notes=notes, seed=1), row()]
    assert notes_of(rows) == [
        "digits: Left out: 3 files.",
        "digits: There is one class / only.",
    ]
    page = table_markdown(rows, title="x")
    assert (
        "## Notes on the data\n\n- digits: Left out: 3 files.\n- digits: There" in page
    )
    assert "Notes on the data" not in table_markdown([row()], title="x")


@pytest.mark.parametrize("status", ["diverged", "failed", "skipped"])
def test_the_survivors_of_a_strategy_are_not_best(status):
    rows = rows_of("fedavg", 80.0, 81.0) + rows_of("fedprox", 70.0, 71.0)
    rows += [row("mine", 0, 99.0), lost("mine", 1, status, "it was too fast")]
    assert marks(rows)["mine"] == ""
    assert marks(rows)["fedavg"] == "leading"


def test_a_results_file_with_a_byte_order_mark_or_other_line_ends_is_read(tmp_path):
    path = tmp_path / "results.csv"
    write_results([row()], path)
    text = path.read_bytes()
    for saved in (b"\xef\xbb\xbf" + text, text.replace(b"\n", b"\r\n")):
        path.write_bytes(saved)
        assert read_results(path) == [row()]


@pytest.mark.parametrize(("mark", "word"), [(";", "semicolons"), ("\t", "tabs")])
def test_a_results_file_of_another_separator_is_refused_by_name(tmp_path, mark, word):
    path = tmp_path / "results.csv"
    path.write_text(csv_text([row()]).replace(",", mark), encoding="utf-8")
    with pytest.raises(DataError, match=f":1: the columns are separated by {word}"):
        read_results(path)
