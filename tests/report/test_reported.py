"""Numbers of papers beside ours: what is shown, why they are not comparable."""

import json
from dataclasses import fields, replace

import pytest

from fedkd.base import yamlfile
from fedkd.base.runname import RunName
from fedkd.cli import main
from fedkd.errors import ConfigError
from fedkd.plugins.registry import load_registry
from fedkd.report.reported import Meant, beside, meant_by, reported_section
from fedkd.report.results import Row, write_results
from fedkd.suite.entries import ListedStrategy
from fedkd.suite.grid import grid
from fedkd.suite.reported import load_reported, reported_names
from fedkd.suite.suite import load_suite

NAMED = [one.name for one in fields(RunName)]
MINE = """
title: "Mine: a paper"
source: Venue 2024, Table 3
seen: Read in the paper.
clients: 20
rounds: 1
models: [ResNet-18]
measured: best round
differs: [Batches of 10.]
ours: {Mine: [mine, mine-paper], FedAvg: [fedavg]}
numbers:
  - {dataset: mnist, partition: dirichlet, alphas: [0.1, 0.5],
     accuracy: {Mine: [70, 90.25], FedAvg: [60, 80]}}
  - {dataset: mnist, partition: iid, accuracy: {Mine: [99.0]}}
"""


def rows(label, *accuracies, **changes):
    values = {
        "suite": "s", "dataset": "mnist[per_class=50]", "partition": "dirichlet",
        "alpha": 0.5, "models": "cnn", "clients": 10, "rounds": 1, "status": "done",
    } | changes  # fmt: skip
    return [
        Row(
            strategy=label,
            seed=seed,
            global_accuracy=accuracy,
            run_id=f"{label}-{seed}",
            **values,
        )
        for seed, accuracy in enumerate(accuracies)
    ]


@pytest.fixture
def paper(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    return str(path)


def test_a_number_stands_beside_the_runs_of_its_method_data_and_skew(paper):
    every = [*rows("own", 84.0, 86.0), *rows("fedprox", 1.0)]
    every += rows("fedavg", 70.0, alpha=0.3)
    (one,) = beside(every, [load_reported(paper)], Meant({("s", "own"): "mine-paper"}))
    assert (one.strategy, one.method, one.reported) == ("own", "Mine", 90.25)
    assert one.ours == (84.0, 86.0)
    assert one.difference == -5.25
    assert one.why_not == (
        "20 clients, here 10",
        "models: ResNet-18; here cnn",
        "here mnist[per_class=50]",
        "measured: best round",
    )


def test_a_split_without_a_degree_of_skew_has_its_number(paper):
    every = rows("mine", 50.0, partition="iid", alpha=None, dataset="mnist")
    (one,) = beside(every, [load_reported(paper)], Meant())
    assert one.reported == 99.0


def test_a_label_is_found_by_what_the_suite_says_it_is(tmp_path, paper):
    path = tmp_path / "s.yaml"
    path.write_text(
        "{rounds: 1, clients: 10, seeds: [0], models: [cnn], shifts: [none, {features: ["
        "rotation]}], datasets: [{name: mnist, per_class: 50, test_fraction: 0.5, label: "
        "figures}], partitions: [{name: dirichlet, alpha: 0.5, label: strong}], "
        "training: {local_steps: 1}, strategies: [{name: fedavg, label: mean}]}"
    )
    suite = load_suite(str(path))
    cells = grid(suite, load_registry())
    every = [
        replace(rows("mean", 70.0)[0], run_id=cell.run_id, **of)
        for cell in cells
        for of in [{name: getattr(cell.run, name) for name in NAMED}]
    ]
    assert {row.partition for row in every} == {"strong"}
    meant = meant_by([suite], load_registry())
    one, other = beside(every, [load_reported(paper)], meant)
    assert (one.method, one.reported, one.setting.alpha) == ("FedAvg", 80.0, None)
    shown = "mnist[per_class=50,test_fraction=0.5]"
    assert f"here {shown}" in one.why_not
    assert [why for why in other.why_not if why.startswith(f"here {shown} with ")]
    assert beside(every, [load_reported(paper)], Meant()) == []


def test_one_shot_numbers_stand_beside_one_shot_runs_only(paper, tmp_path):
    assert (
        beside(rows("fedavg", 70.0, rounds=30), [load_reported(paper)], Meant()) == []
    )
    several = tmp_path / "several.yaml"
    several.write_text(MINE.replace("rounds: 1\n", "rounds: 100\n"))
    assert beside(rows("fedavg", 70.0), [load_reported(str(several))], Meant()) == []
    (one,) = beside(
        rows("fedavg", 70.0, rounds=30), [load_reported(str(several))], Meant()
    )
    assert "100 rounds, here 30" in one.why_not


def test_options_that_a_suite_gives_a_method_are_reasons(paper):
    given = ListedStrategy(name="fedavg", label="more", options={"calibrate": {}})
    suite = load_suite("quick").model_copy(update={"name": "s", "strategies": (given,)})
    (one,) = beside(
        rows("more", 70.0),
        [load_reported(paper)],
        meant_by([suite], load_registry()),
    )
    assert (one.method, one.reported) == ("FedAvg", 80.0)
    assert "here calibrate {}" in one.why_not


def test_the_page_has_ours_reported_and_why_not_comparable(paper):
    section = reported_section(
        rows("fedavg", 70.0, 72.0), [load_reported(paper)], Meant()
    )
    (line,) = [one for one in section.splitlines() if one.startswith("| fedavg")]
    assert [text.strip() for text in line.strip("|").split("|")] == [
        "fedavg",
        "mnist[per_class=50], dirichlet 0.5",
        "global",
        "FedAvg, Mine",
        "71.00 ± 1.41",
        "80.00",
        "20 clients, here 10; models: ResNet-18; here cnn; here mnist[per_class=50]; "
        "measured: best round",
    ]
    assert "no difference is a result." in section
    assert section.endswith(
        "- Mine: a paper (Venue 2024, Table 3). Read in the paper. Batches of 10."
    )


def test_every_format_has_them_or_refuses_them(paper, tmp_path, capsys):
    write_results(rows("fedavg", 70.0, models="ResNet-18"), tmp_path / "results.csv")
    words = ["report", str(tmp_path), "--reported", paper, "--no-plots"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "80.00" in shown
    # Equal models are no difference.
    assert "models: ResNet-18; here" not in " ".join(shown.split())
    assert main([*words, "--format", "json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["reported"]
    assert (one["ours"], one["reported"], one["paper"]) == (
        [70.0],
        80.0,
        "Mine: a paper",
    )
    assert main([*words, "--format", "latex"]) == 2
    assert "are in the formats table, markdown, html, json" in capsys.readouterr().err


def test_numbers_of_nothing_that_was_run_are_a_sentence(paper):
    section = reported_section(rows("fedprox", 70.0), [load_reported(paper)], Meant())
    none = (
        "None of the papers' numbers are of these strategies and data, one-shot or not"
    )
    assert f"{none}, by the names here; a label may stand for others." in section
    known = Meant(suites=frozenset("s"))
    section = reported_section(rows("fedprox", 70.0), [load_reported(paper)], known)
    assert f"{none}.\n" in section
    assert reported_section(rows("fedprox", 70.0), [], Meant()) == ""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[70, 90.25]", "[70]", r"accuracy.Mine has 1 numbers, expected 2"),
        ("[70, 90.25]", "[70, 190.25]", r"accuracy.Mine has 190.25, expected percent"),
        ("differs:", "differ:", r"differ: unknown|unknown key .differ"),
        ("clients: 20", "clients: many", r"clients: found 'many'|Expected a whole"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, old, new, message):
    path = tmp_path / "mine.yaml"
    path.write_text(MINE.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        load_reported(str(path))


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"unknown name 'dens'. Did you mean 'dense'"):
        load_reported("dens")


@pytest.mark.parametrize("name", reported_names())
def test_a_packaged_file_is_of_registered_things(name):
    registry = load_registry(quiet=True)
    source = load_reported(name)
    strategies = {one for names in source.ours.values() for one in names}
    assert strategies <= set(registry.entries("strategies"))
    for table in source.numbers:
        assert table.dataset in registry.entries("datasets")
        assert table.partition in registry.entries("partitioners")
        methods = set(table.accuracy)
        assert methods & set(source.ours), "nothing of ours is in it"
        for numbers in table.accuracy.values():
            assert all(0 < number < 100 for number in numbers)


def test_numbers_are_as_the_papers_print_them():
    dense = load_reported("dense").numbers[1]
    assert (dense.dataset, dense.alphas) == ("fashion-mnist", (0.1, 0.3, 0.5))
    assert dense.accuracy["DENSE"] == (50.29, 83.96, 85.94)
    lpa = {table.dataset: table for table in load_reported("fedlpa").numbers}
    assert lpa["cifar10"].by_alpha("DENSE") == {
        0.01: 12.3,
        0.05: 17.87,
        0.1: 19.93,
        0.3: 25.57,
    }
    assert load_reported("pfllib").metric == "local_accuracy"
    for name, wanted in (("fedsd2c", 14.35), ("fedsd2c-convnet", 9.81)):
        (sd2c,) = load_reported(name).numbers
        assert sd2c.by_alpha("Co-Boosting")[0.3] == wanted


def test_a_suite_names_papers_and_its_hash_does_not_change(tmp_path):
    quick = load_suite("quick")
    more = quick.model_copy(update={"reported": ("dense",)})
    assert "reported" not in quick.plain()
    assert more.plain()["reported"] == ["dense"]


def test_a_report_shows_a_paper_that_is_named(tmp_path, paper, capsys):
    (tmp_path / "r").mkdir()
    write_results(rows("fedavg", 70.0), tmp_path / "r" / "results.csv")
    options = ("--format", "markdown", "--no-plots", "--reported", paper)
    assert main(["report", str(tmp_path / "r"), *options]) == 0
    assert "## Reported elsewhere" in capsys.readouterr().out
    suite = load_suite("quick").model_copy(update={"reported": (paper, "gone.yaml")})
    (tmp_path / "r" / "suite.yaml").write_text(yamlfile.dump(suite.plain()))
    assert main(["report", str(tmp_path / "r"), *options[:3]]) == 0
    out, err = capsys.readouterr()
    assert "Mine: a paper" in out
    assert "fedkd: remark: reported: unknown name 'gone.yaml'" in err
    assert main(["report", str(tmp_path / "r"), "--reported", "no"]) == 2
    assert "reported: unknown name 'no'" in capsys.readouterr().err
