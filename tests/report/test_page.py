"""What table.md says beside its means: intervals, ranks, costs of a target, warnings."""

import json
from dataclasses import replace

from fedkd.metrics.targets import (
    AccuracyAfter,
    AfterConfig,
    BytesTo,
    RoundsTo,
    TargetConfig,
)
from fedkd.report.notes import bounds
from fedkd.report.paper.latex import tables_latex
from fedkd.report.plain import plain_report
from fedkd.report.results import Row
from fedkd.report.stages import stage_table
from fedkd.report.stats.intervals import Interval
from fedkd.report.table import table_markdown


def rows(label, *accuracies, **changes):
    shared = {"global_of": "model", "local_accuracy": None, **changes}
    return [
        Row(
            "quick", label, "digits", "iid", None, "cnn", 10, 20, seed, "done",
            global_accuracy=accuracy, run_id=f"{label}-{seed}",
            **{"split_hash": f"split{seed}", **shared},
        )
        for seed, accuracy in enumerate(accuracies)
    ]  # fmt: skip


def part(page, title):
    return page.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_a_cell_has_its_bootstrap_interval_from_five_runs_on():
    found = rows("a", 1.0, 2.0, 3.0, 4.0, 5.0)
    section = part(table_markdown(found, title="t"), "Global accuracy")
    assert "| a        | 3.00 ± 1.58 [1.80, 4.20] |" in section
    assert "95 % bootstrap interval of the mean, which is too narrow for few" in section
    four = part(table_markdown(found[:4], title="t"), "Global accuracy")
    assert "| a        | 2.50 ± 1.29 |" in four
    assert "square brackets" not in four


def test_differences_have_the_interval_of_their_mean_for_both_accuracies():
    found = rows("fedavg", 80.0, 60.0, 70.0, local_accuracy=50.0)
    found += rows("b", 81.0, 62.0, 73.0, local_accuracy=49.0)
    page = table_markdown(found, title="t")
    section = part(page, "Differences from fedavg")
    assert "| b        | +2.00 ± 1.00 [-0.48, +4.48] |" in section
    assert "(Student's t)" in section
    local = part(page, "Differences of local accuracy from fedavg")
    assert "| b        | -1.00 ± 0.00 |" in local
    assert "Percentage points of local accuracy above fedavg" in local


def test_a_setting_without_the_baseline_has_another_and_a_section_of_its_own():
    found = rows("heterofl", 30.0, 31.0, 32.0) + rows("dense", 40.0, 42.0, 44.0)
    there = rows("dense", 50.0, 50.0, 50.0) + rows("mosaic", 60.0, 61.0, 62.0)
    found += [replace(row, models="mix", run_id=f"mix-{row.run_id}") for row in there]
    page = table_markdown(found, title="t")
    first = part(page, "Differences from heterofl")
    assert "| dense    | +11.00 ± 1.00 [+8.52, +13.48] |" in first
    assert "models cnn" in first
    assert "mix" not in first
    assert "mosaic" not in first
    second = part(page, "Differences from dense")
    assert "| mosaic   | +11.00 ± 1.00 [+8.52, +13.48] |" in second
    assert "Percentage points of global accuracy above dense" in second
    assert "models mix" in second
    assert "models cnn" not in second
    above = plain_report(found, (), ())["differences"]
    assert [(d["strategy"], d["models"], d["above"]) for d in above] == [
        ("dense", "cnn", "heterofl"),
        ("mosaic", "mix", "dense"),
    ]


def test_references_come_last_where_benches_are_joined():
    found = rows("a", 1.0) + rows("central", 9.0) + rows("b", 2.0)
    table = part(
        table_markdown(found, title="t", references={"central"}), "Global accuracy"
    )
    names = [line.split()[1] for line in table.splitlines() if line.startswith("| ")]
    assert names[2:] == ["a", "b", "central"]


def test_an_end_of_an_interval_that_rounds_to_zero_keeps_its_sign():
    assert bounds(Interval(-3.7, -0.0048), 2) == "[-3.70, -0.00]"
    assert bounds(Interval(0.0048, 3.7), 2) == "[+0.00, +3.70]"
    assert bounds(Interval(-0.0, 1234.0), 0) == "[+0, +1,234]"
    # d = 2, s = 0.807: half of it is 4.3027 * 0.807 / sqrt(3) = 2.0047.
    found = rows("fedavg", 80.0, 60.0, 70.0) + rows("b", 82.0, 62.807, 71.193)
    page = table_markdown(found, title="t")
    for section in ("Global accuracy", "Differences from fedavg"):
        assert "+2.00 ± 0.81 [-0.00, +4.00]" in part(page, section)
    assert r"+2.00 $\pm$ 0.81 [-0.00, +4.00]" in tables_latex(found, title="t")


def test_the_footnote_says_how_many_seeds_would_separate_the_best():
    found = rows("fedavg", 80.0, 60.0, 70.0) + rows("b", 81.0, 62.0, 73.0)
    section = part(table_markdown(found, title="t"), "Global accuracy")
    assert (
        "≈ has the best mean, but at least one other is not separated from it. b above "
        "fedavg: +2.00 ± 1.00 [-0.48, +4.48], about 4 seeds would separate them if mean "
        "and spread stay."
    ) in section


def test_equal_differences_are_too_few_below_six():
    found = rows("fedavg", 80.0, 60.0, 70.0) + rows("b", 81.0, 61.0, 71.0)
    section = part(table_markdown(found, title="t"), "Global accuracy")
    assert (
        "3 common seeds with equal differences; an interval takes 6 or more." in section
    )


def test_equal_rows_are_not_above_each_other_however_few_their_seeds():
    for values in ([80.0], [80.0, 60.0], [80.0, 60.0, 70.0]):
        found = [*rows("a", *values), *rows("b", *values), *rows("c", *[1.0] * 3)]
        section = part(table_markdown(found, title="t"), "Global accuracy")
        assert " above " not in section
        assert "common seed" not in section
        assert "a and b: +0.00" in section
        assert ", a difference of 0 at these decimals." in section


def test_no_equal_rows_are_among_those_that_lack_seeds():
    found = rows("a", 80.0) + rows("b", 80.0) + rows("c", 1.0)
    for name in ("x", "y"):
        more = [*rows("a", 80.0), *rows("b", 70.0), *rows("c", 1.0)]
        found += [replace(one, dataset=name) for one in more]
    section = part(table_markdown(found, title="t"), "Global accuracy")
    assert "digits: a and b: +0.00, a difference of 0 at these" in section
    assert "fewer than 3 seeds in common on x; y, and an interval" in section


def test_differences_that_round_to_nothing_do_not_say_that_means_look_equal():
    (sent,) = BytesTo(TargetConfig(target=80)).columns("bytes_to_80")
    values = {"a": (1, 1, 2), "b": (2, 2, 1), "c": (9, 9, 9)}
    found = [
        replace(one, metrics={"bytes_to_80": value})
        for label, several in values.items()
        for one, value in zip(rows(label, 1.0, 2.0, 3.0), several, strict=True)
    ]
    section = part(table_markdown(found, title="t", columns=[sent]), sent.title)
    assert "| a        |     1 ± 1 ≈ |" in section
    assert "| b        |       2 ± 1 |" in section
    assert "a and b: +0 ± 1 [-3, +3], a difference of 0 at these decimals." in section


def test_results_that_do_not_say_who_has_no_global_model_are_told():
    old = rows("fedavg", 80.0, global_of="", local_accuracy=50.0)
    page = table_markdown(old, title="t")
    assert page.count("Results of an earlier version do not say who has no global") == 1
    new = rows("fedavg", 80.0)
    assert "earlier version" not in table_markdown(new, title="t")
    # One seed that says it speaks for the strategy.
    both = [replace(new[0], seed=1), *old]
    assert "earlier version" not in table_markdown(both, title="t")


def test_different_splits_are_told_on_top_and_nothing_is_paired():
    found = rows("fedavg", 80.0, 60.0, 70.0)
    found += rows("b", 90.0, 70.0, 80.0, split_hash="other")
    page = table_markdown(found, title="t")
    assert page.splitlines()[2].startswith(
        "WARNING: runs of one seed saw different data splits: digits, iid, seed 0; "
    )
    assert "## Differences" not in page
    assert "Runs of one seed saw different splits, so nothing is paired." in page
    assert "saw the same data split" not in page


def test_who_has_no_global_model_is_marked_in_every_table():
    found = rows("fedavg", 80.0, 60.0, 70.0, local_accuracy=50.0, seconds=1.0)
    own = rows("fedbn", 81.0, 62.0, 73.0, local_accuracy=55.0, seconds=1.0)
    own = [Row(**{**vars(row), "global_of": "clients"}) for row in own]
    lines = [{"round": 20, "measured": {"teacher": 1.0}}]
    stages = stage_table([(row, lines) for row in [*found, *own]])
    page = table_markdown([*found, *own], title="t", stages=stages)
    tables = [one for one in page.split("\n## ")[1:] if "| fedbn" in one]
    assert [one.splitlines()[0] for one in tables] == [
        "Global accuracy",
        "Local accuracy",
        "Costs of a run",
        "Differences from fedavg",
        "Differences of local accuracy from fedavg",
        "What each stage did",
    ]
    for one in tables:
        assert "| fedbn ‡" in one
        assert "‡ has no global model" in one
    assert "**" not in tables[0]


def test_who_has_no_global_model_in_one_setting_is_marked_there_and_not_elsewhere():
    found = []
    for label in ("fedavg", "fedprox"):
        for buffers, of in (("average", "model"), ("local", "clients")):
            found += rows(
                label, 80.0, 60.0, 70.0, local_accuracy=50.0, seconds=1.0,
                axes=(("buffers", buffers),), global_of=of,
            )  # fmt: skip
    (to,) = RoundsTo(TargetConfig(target=80)).columns("to")
    found = [Row(**{**vars(one), "metrics": {"to": 7}}) for one in found]
    page = table_markdown(found, title="t", columns=[to])
    cells = {}
    for title in ("Global accuracy", "Local accuracy", "Differences from fedavg"):
        line = next(x for x in part(page, title).splitlines() if "| fedprox" in x)
        cells[title] = [text.strip() for text in line.split("|")[1:-1]]
        assert "‡ in some settings only has no global model there" in part(page, title)
    assert [["‡" in text for text in line] for line in cells.values()] == [
        [False, False, True]
    ] * 3
    costs = part(page, "Costs of a run").splitlines()
    names = [line.split("|")[2].strip() for line in costs if "buffers" in line]
    assert names == ["fedavg", "fedprox", "fedavg ‡", "fedprox ‡"]
    assert all(line.count("‡") < 2 for line in costs if line.startswith("|"))
    assert "‡ has no global model" not in page


def test_what_it_took_to_reach_a_target_stands_among_the_costs():
    (rounds,) = RoundsTo(TargetConfig(target=80)).columns("rounds_to_80")
    (sent,) = BytesTo(TargetConfig(target=80)).columns("bytes_to_80")
    found = rows("a", 80.0, 82.0, metrics={"rounds_to_80": 7, "bytes_to_80": 1500})
    found += rows("b", 70.0, 71.0, metrics={"rounds_to_80": None, "bytes_to_80": None})
    section = part(
        table_markdown(found, title="t", columns=[rounds, sent]), "Costs of a run"
    )
    header, _, one, other = [x for x in section.splitlines() if x.startswith("|")]
    assert [f" {x.strip()} " for x in header.split("|")[-3:-1]] == [
        " rounds_to_80 ",
        " bytes_to_80 ",
    ]
    assert [text.strip() for text in one.split("|")[-3:-1]] == [
        "7.0 ± 0.0",
        "1,500 ± 0",
    ]
    assert other.split("|")[-3].strip() == "2 undefined"


def test_rounds_to_a_target_have_the_decimal_that_a_mean_of_them_takes():
    (rounds,) = RoundsTo(TargetConfig(target=80)).columns("to")
    found = [
        replace(one, metrics={"to": value}, global_of=of)
        for label, of, several in (
            ("a", "model", (1, 2, 2)),
            ("b", "clients", (2, 2, 2)),
        )
        for one, value in zip(rows(label, 1.0, 2.0, 3.0), several, strict=True)
    ]
    section = part(table_markdown(found, title="t", columns=[rounds]), rounds.title)
    assert "| a        |   1.7 ± 0.6 |" in section
    assert "| b ‡      |   2.0 ± 0.0 |" in section
    assert (
        "‡ has no global model: its value here is that of the mean over the" in section
    )


def test_an_accuracy_over_the_rounds_is_no_cost():
    (column,) = AccuracyAfter(AfterConfig(rounds=1)).columns("accuracy_after_1")
    found = rows("a", 80.0, metrics={"accuracy_after_1": 40.0})
    page = table_markdown(found, title="t", columns=[column])
    assert "40.00" in part(page, column.title)
    # It is of its round, and not of the last one.
    assert "last round" not in part(page, column.title)
    assert "Higher is better." in part(page, column.title)
    assert column.name not in part(page, "Costs of a run")


def blocks():
    means = {"a": 90.0, "b": 80.0, "c": 70.0}
    return [row for label, mean in means.items() for row in rows(label, *[mean] * 10)]


def test_mean_ranks_have_a_section_from_ten_blocks_on():
    section = part(table_markdown(blocks(), title="t"), "Mean ranks")
    assert "| a        |      1.00 | b" in section
    assert "| b        |      2.00 | a, c" in section
    assert "over 10 blocks (setting x seed, of 1 setting)" in section
    assert "chi-square 20.00 with 2 degrees of freedom, p = 4.5e-05." in section
    assert "Nemenyi's critical difference, 1.05 at level 0.05" in section
    assert "Blocks of one setting differ in the seed only" in section
    few = [row for row in blocks() if row.seed < 9]
    assert (
        part(table_markdown(few, title="t"), "Mean ranks")
        .strip()
        .endswith("here: 3 competitors in 9 blocks.")
    )


def test_a_report_as_plain_values_has_intervals_marks_and_ranks():
    found = json.loads(json.dumps(plain_report(blocks(), {"c"}, ())))
    mark = {one["strategy"]: one["mark"] for one in found["means"]}
    assert mark == {"a": "best", "b": "", "c": ""}
    assert found["means"][0]["global_accuracy_interval"]["low"] == 90.0
    assert found["means"][0]["global_model"]
    (b, c) = found["differences"]
    assert (b["strategy"], b["above"], b["mean"]) == ("b", "a", -10.0)
    assert (b["interval"]["high"], b["seeds_needed"]) == (-10.0, 6)
    assert c["by_seed"]["3"] == -20.0
    assert "here: 2 competitors in 10 blocks" in found["ranks"]
    every = plain_report(blocks(), (), ())["ranks"]
    assert every["mean_ranks"] == {"a": 1.0, "b": 2.0, "c": 3.0}
