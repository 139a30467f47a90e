"""``fedkd report``: what it prints, where it draws, what it refuses."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

import fedkd
from fedkd.base.folders import ResultsFolder
from fedkd.cli import main
from fedkd.report.reading import read_report
from fedkd.report.results import COLUMNS, Row, write_results
from fedkd.report.tuning import Chosen, Tuning, tuning_lines, write_tuning

PLUGIN = '''
import fedkd

@fedkd.hookimpl
def fedkd_register_strategies(register):
    register("toy-ceiling", ":Ceiling")
    register("toy-mean", ":Mean")

class Mean(fedkd.Strategy):
    def nothing(self, *arguments):
        """Reports run no strategy."""

    init = broadcast = local = aggregate = predictors = nothing

class Ceiling(Mean):
    is_reference = True
'''

SUITE = """
rounds: 3
clients: 2
seeds: 0-2
datasets: [digits]
partitions: [iid]
models: [cnn]
training: {local_steps: 1}
strategies: [toy-mean, toy-ceiling]
"""


def rows(label, *accuracies, suite="quick", **changes):
    return [
        Row(
            suite, label, "digits", "iid", None, "cnn", 2, 3, seed, "done",
            global_accuracy=accuracy, run_id=f"{label}-{suite}-s{seed}", **changes,
        )
        for seed, accuracy in enumerate(accuracies)
    ]  # fmt: skip


def bench(folder, found, suite=SUITE):
    """Write a results folder with one line of metrics a run."""
    folder.mkdir(exist_ok=True)
    write_results(found, folder / "results.csv")
    if suite:
        (folder / "suite.yaml").write_text(f"name: {found[0].suite}{suite}")
    for row in found:
        home = folder / "runs" / row.run_id
        home.mkdir(parents=True)
        line = {
            "round": 3,
            "global_accuracy": row.global_accuracy,
            "bytes_up": 1,
            "bytes_down": 1,
            "client_examples": 1,
            "measured": {"teacher": 70.0},
        }
        (home / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    return str(folder)


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "plugin.py"
    path.write_text(PLUGIN)
    return str(path)


@pytest.fixture
def quick(tmp_path):
    found = rows("toy-mean", 80.0, 82.0, 84.0) + rows("toy-ceiling", 97.0, 97.0, 97.0)
    return bench(tmp_path / "quick", found)


def report(capsys, *arguments, code=0):
    assert main(["report", *arguments]) == code
    return capsys.readouterr()


def test_the_table_is_printed_and_drawn(capsys, quick, plugin):
    out, err = report(capsys, quick, "--plugin", plugin)
    assert "82.00 ± 2.00" in out
    assert "toy-ceiling †" in out
    assert "after the last round" in out
    assert "Figures: 1 in" in err
    assert [p.name for p in (Path(quick) / "plots").iterdir()] == [
        "accuracy-digits-iid-cnn.png"
    ]


@pytest.mark.parametrize("form", ["latex", "csv", "results-csv", "json"])
def test_what_is_no_page_is_the_file_alone(capsys, quick, plugin, tmp_path, form):
    target = tmp_path / "paper" / "made"
    report(capsys, quick, "--plugin", plugin, "--format", form, "--out", str(target))
    assert [path.name for path in target.parent.iterdir()] == ["made"]
    assert report(capsys, quick, "--plugin", plugin, "--format", form).err == ""
    assert not (Path(quick) / "plots").exists()


def test_no_plots_draws_nothing(capsys, quick, plugin):
    report(capsys, quick, "--plugin", plugin, "--no-plots")
    assert not (Path(quick) / "plots").exists()


def test_markdown_has_the_page_with_its_protocol_and_stages(capsys, quick, plugin):
    options = ("--format", "markdown", "--plugin", plugin, "--no-plots")
    out = report(capsys, quick, *options).out
    assert out.startswith("# quick\n")
    assert "3 rounds, 2 clients" in out
    (line,) = [one for one in out.splitlines() if one.startswith("| toy-mean    | mea")]
    assert line.split()[5:] == ["|", "70.00", "±", "0.00", "|", "3", "|", "3", "|"]


def test_json_has_rows_and_means(capsys, quick, plugin):
    options = ("--format", "json", "--plugin", plugin, "--no-plots")
    found = json.loads(report(capsys, quick, *options).out)
    assert [row["global_accuracy"] for row in found["rows"][:3]] == [80.0, 82.0, 84.0]
    first, second = found["means"]
    assert (first["strategy"], first["n"]) == ("toy-mean", 3)
    assert (first["global_accuracy_mean"], first["global_accuracy_std"]) == (82.0, 2.0)
    assert (first["reference"], second["reference"]) == (False, True)
    assert "local_accuracy_mean" not in first


def test_json_has_means_of_local_accuracy(capsys, tmp_path):
    found = [
        replace(row, local_accuracy=local)
        for row, local in zip(
            rows("fedavg", 1.0, 2.0, 3.0), (60.0, 61.0, 62.0), strict=True
        )
    ]
    folder = bench(tmp_path / "quick", found, "")
    (entry,) = json.loads(report(capsys, folder, "--format", "json").out)["means"]
    assert (entry["local_accuracy_mean"], entry["local_accuracy_std"]) == (61.0, 1.0)


def test_csv_has_the_columns_of_the_contract(capsys, quick, plugin):
    options = ("--format", "results-csv", "--plugin", plugin, "--no-plots")
    lines = list(csv.reader(io.StringIO(report(capsys, quick, *options).out)))
    assert tuple(lines[0]) == COLUMNS
    assert len(lines) == 7


def test_out_writes_the_file_and_the_figures_beside_it(capsys, quick, plugin, tmp_path):
    target = tmp_path / "paper" / "table.md"
    options = ("--format", "markdown", "--plugin", plugin, "--out", str(target))
    assert report(capsys, quick, *options).out == ""
    assert target.read_text().startswith("# quick\n")
    assert (tmp_path / "paper" / "plots" / "accuracy-digits-iid-cnn.png").is_file()


def test_a_table_in_a_file_has_no_terminal_codes(capsys, quick, plugin, tmp_path):
    target = tmp_path / "table.txt"
    report(capsys, quick, "--plugin", plugin, "--out", str(target), "--no-plots")
    assert "82.00 ± 2.00" in target.read_text()
    assert "\x1b" not in target.read_text()


def test_folders_are_joined_into_one_table(capsys, quick, plugin, tmp_path):
    late = bench(tmp_path / "late", rows("dense", 90.0, 91.0, 92.0, suite="late"), "")
    out = report(capsys, quick, late, "--plugin", plugin, "--format", "json").out
    means = {one["strategy"]: one for one in json.loads(out)["means"]}
    assert means["dense"]["global_accuracy_mean"] == 91.0
    assert means["dense"]["best"]
    assert not (tmp_path / "late" / "plots").exists()


def test_what_folders_of_one_suite_share_is_said_once(capsys, tmp_path):
    found = rows("fedprox", 80.0, 81.0, 82.0)
    parts = {"a: 0": found[:1], "b: [2, 1]": found[1:]}
    suite = SUITE.replace("[toy-mean, toy-ceiling]", "[fedprox]")
    both = [
        bench(tmp_path / key[0], own, suite.replace(": 0-2", key[1:]))
        for key, own in parts.items()
    ]
    for folder in map(Path, both):
        (folder / "environment.json").write_text('{"fedkd": "0.1", "device": "cpu"}')
    page = report(capsys, *both, "--format", "markdown").out
    protocol, origin = page.partition("## Protocol\n\n")[2].split("## Provenance\n\n")
    assert protocol.startswith("- 3 rounds, 2 clients, 100 % of them in each round.\n")
    assert "\n- Seeds: 0, 2, 1; a seed names" in protocol
    for lines in (protocol.splitlines(), origin.splitlines()):
        assert len(lines) == len(set(lines)) > 1


def test_the_same_run_in_two_folders_counts_once(capsys, quick, plugin, tmp_path):
    copy = bench(tmp_path / "copy", rows("toy-mean", 80.0, 82.0, 84.0))
    out = report(capsys, quick, copy, "--plugin", plugin, "--format", "json").out
    assert [one["n"] for one in json.loads(out)["means"]] == [3, 3]


def test_of_two_folders_with_a_run_the_one_with_its_curves_counts(tmp_path):
    found = rows("toy-mean", 80.0)
    bare, whole = (ResultsFolder(Path(bench(tmp_path / name, found))) for name in "ab")
    bare.run(found[0].run_id).metrics.unlink()
    for folders in ((bare, whole), (whole, bare)):
        report = read_report(folders, remark=lambda _: None)
        assert report.folders[found[0].run_id] == whole.run(found[0].run_id)


def test_of_two_folders_with_a_run_the_one_in_which_it_is_done_counts(tmp_path):
    found = rows("toy-mean", 80.0)
    lost = [replace(found[0], status="failed", reason="OOM", global_accuracy=None)]
    done, failed = (
        ResultsFolder(Path(bench(tmp_path / name, some)))
        for name, some in (("done", found), ("failed", lost))
    )
    for folders in ((done, failed), (failed, done)):
        report = read_report(folders, remark=lambda _: None)
        assert [row.status for row in report.rows] == ["done"]
        assert report.folders[found[0].run_id] == done.run(found[0].run_id)


def test_a_seed_that_was_measured_oftener_in_one_folder_counts_once(
    capsys, quick, plugin, tmp_path
):
    found = [
        replace(row, run_id=f"{row.run_id}-often", config_hash="often")
        for row in rows("toy-mean", 80.0, 82.0, 84.0)
    ]
    often = SUITE + "evaluation: {every: 2}\n"
    other = bench(tmp_path / "often", found, often)
    for row in found:
        path = ResultsFolder(Path(other)).run(row.run_id).metrics
        path.write_text(path.read_text().replace('"round": 3', '"round": 1') * 2)
    for folders in ((quick, other), (other, quick)):
        more = ("--plugin", plugin, "--format", "json")
        read = json.loads(report(capsys, *folders, *more).out)
        (entry,) = (one for one in read["means"] if one["strategy"] == "toy-mean")
        assert (entry["n"], entry["global_accuracy_std"]) == (3, 2.0)
        kept = {one["run_id"] for one in read["rows"] if one["strategy"] == "toy-mean"}
        assert kept == {row.run_id for row in found}


def test_two_results_of_one_run_are_refused(capsys, quick, plugin, tmp_path):
    other = bench(tmp_path / "other", rows("toy-mean", 80.0, 82.0, 85.0))
    err = report(capsys, quick, other, "--plugin", plugin, code=2).err
    assert "'toy-mean-quick-s2' (global_accuracy is 84.0 and 85.0)" in err


def test_folders_of_one_suite_with_other_rounds_are_no_seeds_of_one_thing(
    capsys, quick, plugin, tmp_path
):
    found = [replace(row, seed=9, run_id="late") for row in rows("toy-mean", 80.0)]
    late = bench(tmp_path / "late", found, SUITE.replace("rounds: 3", "rounds: 9"))
    err = report(capsys, quick, late, "--plugin", plugin, code=2).err
    assert "ran suite 'quick' with different 'rounds'" in err


CUT = SUITE.partition("strategies:")[0] + "strategies: "
SEARCHED = "[fedprox]\nvalidation: 0.1\nsearch: {trials: 1, seeds: 9, training.lr: [1]}"


def two(tmp_path, first, second):
    """Write two folders of one suite, a seed each; their strategies and more are given."""
    both = zip("ab", rows("fedprox", 80.0, 81.0), (first, second), strict=True)
    return [bench(tmp_path / name, [row], CUT + more) for name, row, more in both]


@pytest.mark.parametrize(
    ("first", "second", "key"),
    [
        ("[fedprox]", "[fedprox]\nvalidation: 0.4", "validation"),
        ("[fedprox]", "[fedprox]\npublic: {share: 0.1}", "public"),
        ("[fedprox]", "[{name: fedprox, mu: 50}]", "strategies.fedprox"),
        ("[fedprox]", "[{name: fedprox, rounds: 2}]", "strategies.fedprox"),
        ("[fedprox]", "[{name: fedprox, training: {lr: 1}}]", "strategies.fedprox"),
        ("[fedprox]", "[{name: fedavg, label: fedprox}]", "strategies.fedprox"),
        ("[{name: gone, some: 1}]", "[{name: gone, some: 2}]", "strategies.gone"),
        ("[fedprox]\nvalidation: 0.1", SEARCHED, "strategies.fedprox"),
    ],
)
def test_runs_of_other_options_are_no_seeds_of_one_thing(
    capsys, tmp_path, first, second, key
):
    err = report(capsys, *two(tmp_path, first, second), code=2).err
    assert f"ran suite 'quick' with different '{key}'" in err


@pytest.mark.parametrize(
    ("key", "thing", "option", "one", "other"),
    [
        ("datasets", "digits", "test_fraction", 0.5, 0.6),
        ("partitions", "shards", "per_client", 2, 3),
        ("models", "cnn", "hidden", 8, 9),
    ],
)
def test_one_label_of_other_options_is_refused(  # noqa: PLR0917
    capsys, tmp_path, key, thing, option, one, other
):
    before = next(x for x in SUITE.splitlines() if x.startswith(f"{key}:"))

    def labelled(value):
        entry = f"{key}: [{{name: {thing}, {option}: {value}, label: mine}}]"
        return SUITE.replace(before, entry)

    a, b, same = (
        bench(tmp_path / folder, [row], labelled(value))
        for folder, row, value in zip(
            "abc", rows("toy-mean", 80.0, 81.0, 82.0), (one, other, one), strict=True
        )
    )
    err = report(capsys, a, b, code=2).err
    assert f"ran suite 'quick' with different '{key}.mine'" in err
    out = report(capsys, a, same, "--format", "json").out
    assert [one["n"] for one in json.loads(out)["means"]] == [2]


def test_options_that_come_to_the_same_are_seeds_of_one_thing(capsys, tmp_path):
    same = "[{name: fedprox, mu: 0.01, rounds: 3}, {name: fedavg, training: {lr: 1}}]"
    out = report(capsys, *two(tmp_path, "[fedprox]", same), "--format", "json").out
    assert [one["n"] for one in json.loads(out)["means"]] == [2]


def test_what_searches_chose_differs_by_setting_and_not_by_folder(capsys, tmp_path):
    folders = two(tmp_path, SEARCHED, SEARCHED)

    def chosen(folder, rate, setting):
        one = Chosen("fedprox", setting, {"training.lr": rate}, 80.0, 1, 0)
        tuning = Tuning("m", "grid", (9,), (one,), 1, 1, 1, 1, 1.0)
        write_tuning(tuning, ResultsFolder(Path(folder)))

    chosen(folders[0], 0.1, "digits, iid, cnn")
    chosen(folders[1], 0.2, "mnist, iid, cnn")
    report(capsys, *folders, "--no-plots")
    chosen(folders[1], 0.2, "digits, iid, cnn")
    err = report(capsys, *folders, code=2).err
    assert "different 'strategies.fedprox, as chosen for digits, iid, cnn'" in err


def test_runs_with_a_seed_that_values_were_chosen_with_are_reported_apart(
    capsys, tmp_path
):
    first, second = two(tmp_path, SEARCHED, SEARCHED)
    tuning = Tuning("m", "grid", (0,), (), 1, 1, 1, 1, 1.0)
    write_tuning(tuning, ResultsFolder(Path(second)))
    suite = Path(second, "suite.yaml")
    own = suite.read_text().replace("0-2", "1").replace("seeds: 9", "seeds: 0")
    suite.write_text(own)
    err = report(capsys, first, second, code=2).err
    assert f"{first} has runs of seed 0, with which the search of {second} chose" in err
    report(capsys, second, "--no-plots")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.1, "training.lr 0.1, the least of those tried (m"),
        (0.3, "training.lr 0.3, the greatest of those tried (m"),
        (0.2, "training.lr 0.2 (m"),
    ],
)
def test_a_value_at_an_end_of_those_tried_is_said_to_be(tmp_path, value, said):
    own, ends = {"training.lr": value}, {"training.lr": (0.1, 0.3)}
    one = Chosen("fedprox", "digits", own, 50.0, 1, 0, ends=ends)
    folder = ResultsFolder(tmp_path)
    write_tuning(Tuning("m", "grid", (9,), (one,), 1, 1, 1, 1, 1.0), folder)
    assert said in tuning_lines(folder)[0]


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (69.5, "m 69.50,"),
        (100.0, "m 100.00,"),
        (0.3412, "m 0.341,"),
        (3.4e-4, "m 0.00034"),
    ],
)
def test_the_score_of_a_search_has_digits_whatever_its_size(tmp_path, score, said):
    one = Chosen("fedprox", "digits", {"training.lr": 0.1}, score, 1, 0)
    folder = ResultsFolder(tmp_path)
    write_tuning(Tuning("m", "grid", (9,), (one,), 1, 1, 1, 1, 1.0), folder)
    assert said in tuning_lines(folder)[0]


def test_a_folder_without_results_is_refused(capsys, tmp_path):
    err = report(capsys, str(tmp_path), code=2).err
    assert err == (
        f"fedkd: {tmp_path} has no results.csv; expected a results folder of "
        "'fedkd bench', such as runs/quick.\n"
    )


def test_a_folder_that_is_not_there_is_refused(capsys, tmp_path):
    err = report(capsys, str(tmp_path / "no"), code=2).err
    assert f"{tmp_path / 'no'} is no folder; expected" in err


def test_a_damaged_file_is_one_line_of_error(capsys, quick):
    path = Path(quick) / "results.csv"
    path.write_text(path.read_text().replace("done", "gone", 1))
    err = report(capsys, quick, code=1).err
    assert err.startswith(f"fedkd: {path}:2: status: found 'gone'")
    assert err.count("\n") == 1


def test_figures_of_several_folders_need_a_place(capsys, quick, tmp_path):
    err = report(capsys, quick, str(tmp_path), "--plots", code=2).err
    assert "Add --out FILE" in err


def test_results_without_their_plugin_are_still_reported(capsys, quick):
    out, err = report(capsys, quick, "--no-plots")
    assert "82.00 ± 2.00" in out
    assert "unknown strategy 'toy-mean'" in err


def test_results_without_their_suite_are_still_reported(capsys, quick, plugin):
    (Path(quick) / "suite.yaml").unlink()
    out, err = report(capsys, quick, "--plugin", plugin, "--no-plots")
    assert "82.00 ± 2.00" in out
    assert err == (
        f"fedkd: remark: {quick} has rows and no suite.yaml, as recorded results do: "
        "there is no protocol to show.\n"
    )


def test_a_reference_is_one_without_a_suite_too(capsys, tmp_path, plugin):
    folder = bench(tmp_path / "a", rows("toy-ceiling", 99.0) + rows("mine", 1.0), "")
    out = report(capsys, folder, "--plugin", plugin, "--no-plots").out
    assert "toy-ceiling †" in out
    assert "mine †" not in out


@pytest.mark.filterwarnings("default")
def test_results_without_a_run_are_one_sentence(capsys, quick):
    path = Path(quick) / "results.csv"
    path.write_text(",".join(COLUMNS) + "\n")
    err = report(capsys, quick, "--no-plots", code=1).err
    assert err.endswith(
        f"fedkd: {path}: found no run, expected a line a run. Run the bench, or go on "
        "with it.\n"
    )
    path.write_text("")
    err = report(capsys, quick, code=1).err
    assert err.startswith(f"fedkd: {path}: the file is empty")
    assert main(["compare", quick, quick]) == 1


def test_percent_of_a_metric_that_are_none_are_told(capsys, tmp_path):
    found = [
        replace(row, metrics={"global_macro_f1": 150.0}) for row in rows("a", 70.0)
    ]
    folder = bench(tmp_path / "a", found, SUITE + "metrics: [macro_f1]\n")
    err = report(capsys, folder, "--no-plots").err
    assert "global_macro_f1 is 150, and percent are from 0 to 100 (1 run)" in err


def test_folders_with_other_metrics_are_joined(tmp_path, capsys):
    plain = rows("toy-mean", 70.0, 72.0)
    more = [
        replace(row, run_id=f"{row.run_id}-more", metrics={"global_loss": 0.5})
        for row in plain
    ]
    first = bench(tmp_path / "a", plain)
    second = bench(tmp_path / "b", more, SUITE + "metrics: [loss]\n")
    assert main(["report", first, second, "--format", "results-csv"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header == ",".join((*COLUMNS, "global_loss"))
    assert [line.rpartition(",")[2] for line in lines] == ["0.5", "0.5"]
    assert main(["report", first, second, "--format", "markdown"]) == 0
    page = capsys.readouterr().out
    assert "n = 2." in page.partition("## Global loss")[2].partition("\n##")[0]
    assert main(["report", first, second, "--format", "json"]) == 0
    (means,) = json.loads(capsys.readouterr().out)["means"]
    assert (means["n"], means["global_loss_mean"]) == (2, 0.5)


def test_json_says_over_how_many_runs_the_mean_of_each_metric_is(tmp_path, capsys):
    given = zip(rows("toy-mean", 70.0, 72.0, 74.0), (1.0, None, None), strict=True)
    found = [replace(row, metrics={"soon": value}) for row, value in given]
    asked = SUITE + "metrics: [{name: rounds_to, label: soon, target: 73}]\n"
    folder = bench(tmp_path / "a", found, asked)
    assert main(["report", folder, "--format", "json"]) == 0
    (means,) = json.loads(capsys.readouterr().out)["means"]
    assert (means["n"], means["soon_n"], means["soon_undefined"]) == (3, 1, 2)
    assert (means["soon_mean"], means["soon_std"]) == (1.0, None)


def test_a_metric_that_nothing_declares_is_in_the_csv_and_in_no_table(tmp_path, capsys):
    found = [replace(row, metrics={"mine": 0.5}) for row in rows("toy-mean", 70.0)]
    folder = bench(tmp_path / "a", found)
    assert main(["report", folder, "--format", "markdown"]) == 0
    out, err = capsys.readouterr()
    assert "nothing says how to show mine; it is in the CSV file" in err
    assert "Mine" not in out


def test_a_metric_of_a_plugin_that_is_not_given_takes_no_other_away(tmp_path, capsys):
    values = {
        "mine": 0.5,
        "soon": 2.0,
        "early": 1.0,
        "validation_global_accuracy": 60.0,
    }
    metrics = "{name: rounds_to, label: %s, target: 9, of: %s}"
    early, soon = metrics % ("early", "mine"), metrics % ("soon", "global_loss")
    asked = f"validation: 0.2\nmetrics: [{early}, {soon}, loss, mine]\n"
    folders = []
    for name in "ab":
        found = [
            replace(row, run_id=f"{name}{row.run_id}", metrics=values, suite=name)
            for row in rows(f"toy-{name}", 70.0)
        ]
        folders.append(bench(tmp_path / name, found, SUITE + asked))
    assert main(["report", *folders, "--format", "json"]) == 0
    out, err = capsys.readouterr()
    shown = {name for one in json.loads(out)["means"] for name in one}
    assert {"soon_mean", "validation_global_accuracy_mean"} <= shown
    assert not {"mine_mean", "early_mean"} & shown
    for folder in folders:
        assert f"{folder}/suite.yaml: metrics.mine: " in err
        assert f"{folder}/suite.yaml: metrics.early: reads 'mine', which" in err
    assert "nothing says how to show mine, early; it is in the CSV file" in err


def test_one_label_for_two_things_is_refused(tmp_path, capsys):
    folders = [
        bench(
            tmp_path / name,
            [replace(row, metrics={"soon": 1}) for row in rows("toy-mean", 70.0)],
            SUITE + f"metrics: [{{name: rounds_to, label: soon, target: {value}}}]\n",
        )
        for name, value in (("a", 70), ("b", 80))
    ]
    assert main(["report", *folders]) == 2
    assert (
        "measure different things as 'soon': rounds_to[target=70.0] and rounds_to["
        in (capsys.readouterr().err)
    )


def test_what_it_took_to_a_target_is_told_of_runs_that_were_not_asked(tmp_path, capsys):
    folder = bench(tmp_path / "a", [*rows("toy-mean", 80.0), *rows("dense", 60.0)])
    options = ("--no-plots", "--target", "70", "--format")
    assert main(["report", folder, *options, "markdown"]) == 0
    page = capsys.readouterr().out
    assert "| dense    |   undefined |" in page.partition("## Rounds to 70")[2]
    costs = page.partition("## Costs of a run")[2].partition("\n## ")[0]
    (line,) = [one for one in costs.splitlines() if one.startswith("| toy-mean")]
    assert [text.strip() for text in line.split("|")[-3:-1]] == ["3.0", "2"]
    assert main(["report", folder, *options, "results-csv"]) == 0
    header, one, other = capsys.readouterr().out.splitlines()
    assert header.endswith(",rounds_to_70,bytes_to_70")
    assert one.endswith(",3,2")
    assert other.endswith(",,")
    assert main(["report", folder, "--target", "101"]) == 2
    assert main(["report", folder, "--target", "nan"]) == 2
    assert "'nan' is no finite number" in capsys.readouterr().err


def figures(capsys, folder, *options, code=0):
    return report(capsys, folder, "--figures", *options, code=code)


def test_figures_for_a_paper_are_drawn_in_place_of_a_table(capsys, quick, plugin):
    out, err = figures(capsys, quick, "--plugin", plugin, "--title", "none")
    path, caption = out.splitlines()
    home = Path(quick) / "plots"
    assert path == str(home / "global-accuracy-rounds-digits-iid-cnn.pdf")
    assert "bar" not in caption
    assert "n = 3; † reference." in caption
    assert Path(path).read_bytes().startswith(b"%PDF")
    assert [one.name for one in home.iterdir()] == [Path(path).name]
    assert "Figures" not in err


def test_a_method_that_was_asked_for_and_is_in_no_figure_is_named(capsys, tmp_path):
    lost = replace(rows("lost", None)[0], status="skipped", reason="x")
    folder = bench(tmp_path / "q", [*rows("toy", 80.0), lost], "")
    out, err = figures(capsys, folder, "--methods", "toy,lost")
    assert "global-accuracy-rounds-digits-iid-cnn.pdf" in out
    assert "fedkd: warning: --methods: lost is in no figure, for no run of it" in err
    assert "no figure" not in figures(capsys, folder).err
    assert "no figure" not in figures(capsys, folder, "--methods", "toy").err


def test_figures_are_of_what_was_asked_for(
    capsys, quick, plugin, tmp_path, monkeypatch
):
    shown = []
    monkeypatch.setattr(
        "fedkd.report.paper.pictures.draw_panels",
        lambda panels, column, path, wanted, title: shown.append(
            ([c.label for some in panels.values() for c in some], path.name, title)
        ),
    )
    options = ("--methods", "toy-mean", "--panel", "bytes", "--width", "page")
    more = ("--title", "Mine", "--figure-format", "svg", "--plugin", plugin)
    figures(capsys, quick, *options, *more, "--out", str(tmp_path / "paper"))
    name = "global-accuracy-bytes-digits-cnn.svg"
    assert shown == [(["toy-mean"], name, "Mine")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--methods", "toy-meen"), "toy-ceiling. Did you mean 'toy-mean'?"),
        (("--metric", "accuracy"), "expected one of global_accuracy, local_accuracy."),
        (("--metric", "local_accuracy"), "found no run of toy-mean, toy-ceiling that"),
        (("--panel", "seconds"), "measured global_accuracy against seconds"),
        (("--format", "json"), "so --format json does nothing"),
        (("--target", "70"), "--target does nothing beside it"),
        (("--no-plots",), "--plots or --no-plots does nothing beside it"),
    ],
)
def test_what_figures_cannot_show_is_refused(capsys, quick, options, message):
    assert message in figures(capsys, quick, *options, code=2).err
    assert not (Path(quick) / "plots").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--methods", "toy-mean"), "--methods: it does nothing without --figures;"),
        (("--width", "page"), "nothing without --figures or --format latex;"),
        (("--no-plots", "--figure-format", "pdf"), "no figure is drawn; add --figures"),
    ],
)
def test_options_that_would_do_nothing_are_refused(capsys, quick, options, message):
    assert message in report(capsys, quick, *options, code=2).err


def test_the_pictures_of_a_bench_are_of_the_kind_that_is_asked_for(
    capsys, quick, plugin
):
    report(capsys, quick, "--plugin", plugin, "--figure-format", "svg")
    names = [path.name for path in (Path(quick) / "plots").iterdir()]
    assert names == ["accuracy-digits-iid-cnn.svg"]


def test_latex_takes_a_title_and_a_width(capsys, quick, plugin):
    options = ("--plugin", plugin, "--format", "latex", "--no-plots")
    out = report(capsys, quick, *options).out
    assert r"\begin{table*}" in out
    assert r"\caption{Global accuracy (\%): quick.}" in out
    out = report(capsys, quick, *options, "--title", "none", "--width", "column").out
    assert r"\begin{table}" in out
    assert r"\caption" not in out
    assert r"toy-ceiling~$\dagger$" in out


def test_csv_is_a_line_a_run_and_metric(capsys, quick, plugin):
    options = ("--plugin", plugin, "--format", "csv", "--no-plots")
    lines = list(csv.DictReader(io.StringIO(report(capsys, quick, *options).out)))
    assert [line["metric"] for line in lines[:2]] == [
        "global_accuracy",
        "local_accuracy",
    ]
    assert (lines[0]["value"], lines[1]["value"], len(lines)) == ("80.0", "", 12)


def test_each_of_a_list_of_references_is_one(tmp_path):
    central = {"name": "central", "training": {"lr": [0.05, 0.1]}}
    suite = {
        "name": "several",
        "rounds": 1,
        "clients": 2,
        "seeds": 0,
        "datasets": ["digits"],
        "partitions": ["iid"],
        "models": ["mlp"],
        "training": {"local_steps": 1, "batch_size": 8, "lr": 0.1},
        "strategies": ["fedavg", central],
    }
    fedkd.bench(suite, out=tmp_path, progress=False)
    report = read_report([ResultsFolder(tmp_path)])
    labels = {row.strategy for row in report.rows}
    assert len(labels) == 3
    assert report.references == labels - {"fedavg"}
