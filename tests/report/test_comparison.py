"""Two sets of runs of one suite: what changed, and whether seed noise explains it."""

import dataclasses
from pathlib import Path

import pytest

from fedkd.report.changes import changes_markdown, headline
from fedkd.report.grouping import GLOBAL
from fedkd.report.results import Row, read_results
from fedkd.report.stats.comparison import Other, compare

ROOT = Path(__file__).resolve().parents[2]
FIVE_SEEDS = ROOT / "benchmarks" / "results" / "heterogeneity-width-5-seeds"


def rows(label, *accuracies, first=0, dataset="digits", **changes):
    return [
        Row(
            "guard", label, dataset, "iid", None, "cnn", 10, 20, seed, "done",
            global_accuracy=accuracy, run_id=f"{label}-{seed}",
            **{"split_hash": f"split{seed}", **changes},
        )
        for seed, accuracy in enumerate(accuracies, start=first)
    ]  # fmt: skip


def only(before, after, **options):
    (change,) = compare(before, after, columns=[GLOBAL], **options).changes
    return change


def test_a_change_is_paired_by_the_seeds_that_both_sides_have():
    change = only(rows("a", 80.0, 60.0, 70.0, 10.0), rows("a", 78.0, 57.0, 66.0))
    assert change.before == (80.0, 60.0, 70.0)
    assert change.after == (78.0, 57.0, 66.0)
    # d = -3, s = 1, t_2 = 4.3027: -3 -+ 2.484.
    assert (change.is_paired, change.difference, change.loss) == (True, -3.0, 3.0)
    assert round(change.interval.low, 3) == -5.484
    assert round(change.interval.high, 3) == -0.516
    assert change.verdict == "worse"


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        ((80.0, 60.0, 70.0), "equal"),
        ((80.001, 60.0, 70.0), "equal"),
        ((81.0, 62.0, 73.0), "noise"),
        ((82.0, 63.0, 74.0), "better"),
        ((77.0, 50.0, 71.0), "noise"),
        ((70.0,), "unclear"),
    ],
)
def test_what_can_be_said_of_a_change(after, verdict):
    assert only(rows("a", 80.0, 60.0, 70.0), rows("a", *after)).verdict == verdict


def test_other_seeds_and_other_splits_are_compared_by_welchs_interval():
    before = rows("a", 70.0, 71.0, 75.0)
    late = only(before, rows("a", 80.0, 82.0, 84.0, first=3))
    torn = only(before, rows("a", 80.0, 82.0, 84.0, split_hash="other"))
    for change in (late, torn):
        assert not change.is_paired
        assert round(change.interval.low, 3) == 4.524
        assert change.verdict == "better"


def test_a_regression_is_a_loss_beyond_noise_and_beyond_the_threshold():
    before, after = rows("a", 80.0, 60.0, 70.0), rows("a", 78.0, 57.0, 66.0)
    assert compare(before, after, columns=[GLOBAL]).has_failed
    assert compare(before, after, columns=[GLOBAL], threshold=2.9).has_failed
    assert not compare(before, after, columns=[GLOBAL], threshold=3.0).has_failed
    assert not compare(after, before, columns=[GLOBAL]).has_failed
    wide = rows("a", 80.0, 50.0, 68.0)
    assert not compare(before, wide, columns=[GLOBAL]).has_failed


def test_a_loss_of_too_few_paired_seeds_counts_and_one_of_other_seeds_does_not():
    assert compare(rows("a", 80.0), rows("a", 77.0)).has_failed
    assert not compare(rows("a", 80.0), rows("a", 79.5)).has_failed
    assert not compare(rows("a", 80.0), rows("a", 60.0, first=1)).has_failed


def test_a_loss_that_too_few_seeds_cannot_tell_is_named_and_none_is_not_claimed():
    late = rows("a", 20.0, 20.0, first=2, local_accuracy=90.0)
    before = rows("a", 90.0, 90.0, local_accuracy=90.0)
    comparison = compare(before, late)
    assert not comparison.has_failed
    said = "2 values compared: 2 too few seeds to tell. 1 value lost more than 1 percentage"
    page = changes_markdown(comparison, "A", "B")
    assert (
        f"> [!WARNING]\n> {said} point, on too few seeds to tell whether beyond seed "
        "noise: a (global).\n"
    ) in page
    # Beside a cell that has lost, and of another setting.
    before += rows("b", 80.0, dataset="mnist")
    after = [*late, *rows("b", 70.0, dataset="mnist")]
    said = headline(compare(before, after))
    assert ". 1 value lost more than 1 percentage point. 1 value lost more than" in said
    assert said.endswith(": a (digits, iid, global).")
    # What has gained, or lost less, is not named.
    quiet = headline(compare(late, before[:2]))
    assert quiet.endswith("None lost more than 1 percentage point beyond seed noise.")


def test_a_loss_within_noise_is_said_beside_none():
    wide = compare(rows("a", 80.0, 60.0, 70.0), rows("a", 80.0, 50.0, 68.0))
    assert headline(wide).endswith(
        "None lost more than 1 percentage point beyond seed noise. 1 value lost more than "
        "1 percentage point within seed noise."
    )


def test_equal_positions_in_other_files_are_not_paired_and_are_told():
    one, other = ("the part that is here (part 0000000a)", "it (part 0000000b)")
    before = rows("a", 70.0, 71.0, 75.0, notes=one, config_hash="x")
    after = rows("a", 80.0, 82.0, 84.0, notes=other, config_hash="x")
    comparison = compare(before, after, columns=[GLOBAL])
    assert not comparison.changes[0].is_paired
    (others,) = comparison.differing.values()
    assert others == (Other("part of the data", "0000000a", "0000000b"),)
    assert "with other settings (part of the data)" in headline(comparison)
    # What does not say its part, or says the same one, is paired as before.
    for notes in ("", one):
        same = [dataclasses.replace(row, notes=notes) for row in after]
        comparison = compare(before, same, columns=[GLOBAL])
        assert comparison.changes[0].is_paired
        assert not comparison.differing


def test_a_cell_that_lost_its_result_is_a_failure_and_a_new_one_is_none():
    failed = dataclasses.replace(
        rows("b", 0.0)[0], status="failed", global_accuracy=None
    )
    before = [*rows("a", 80.0), *rows("b", 70.0), *rows("c", 60.0)]
    comparison = compare(before, [*rows("a", 80.0), failed, *rows("d", 1.0)])
    assert {key[0]: what for key, what in comparison.lost.items()} == {
        "b": "failed",
        "c": "missing",
    }
    assert [label for label, _ in comparison.new] == ["d"]
    assert comparison.has_failed


def test_cells_are_the_same_though_one_side_has_more_of_an_axis_or_of_suites():
    short = [
        dataclasses.replace(row, rounds=5) for row in rows("a", 80.0) + rows("b", 50.0)
    ]
    less = rows("a", 70.0) + short[1:]
    found = compare(short + rows("a", 70.0), less, columns=[GLOBAL])
    assert [(change.strategy, change.verdict) for change in found.changes] == [
        ("b", "equal"),
        ("a", "equal"),
    ]
    (((label, setting), what),) = found.lost.items()
    assert (label, setting.axes, what) == ("a", (("rounds", "5"),), "missing")
    assert not found.new
    late = [dataclasses.replace(row, suite="late") for row in less]
    for before, after in ((less, less + late), (less + late, less)):
        found = compare(before, after, columns=[GLOBAL])
        assert [change.verdict for change in found.changes] == ["equal", "equal"]


def test_other_options_of_a_cell_are_told():
    before, after = rows("a", 80.0, config_hash="x"), rows("a", 80.0, config_hash="y")
    (others,) = compare(before, after).differing.values()
    assert others == (Other("config_hash", "x", "y"),)
    assert compare(before, before).differing == {}


def test_what_differs_is_named_before_a_change_is_called_one():
    before = rows("a", 80.0, 60.0, config_hash="x") + rows("b", 80.0, config_hash="x")
    after = rows("a", 70.0, 50.0, config_hash="y")
    after = [dataclasses.replace(row, rounds=5) for row in after]
    after += rows("b", 80.0, config_hash="y")
    known = {"x": {"training.lr": 0.1, "mu": 1}, "y": {"training.lr": 0.2, "server": 2}}
    facts = (lambda row: known[row.config_hash],) * 2
    comparison = compare(before, after, facts=facts)
    a, b = comparison.differing.values()
    assert b == (
        Other("training.lr", 0.1, 0.2), Other("mu", 1, None), Other("server", None, 2)
    )  # fmt: skip
    assert a == (Other("rounds", 20, 5), *b)
    page = changes_markdown(comparison, "A", "B")
    said = "- a: rounds 20 before, 5 after; training.lr 0.1 before, 0.2 after; mu 1 before,"
    assert said in page.partition("## Values that changed")[0]
    assert "ran 2 cells with other settings (rounds, training.lr, mu, server)" in page
    # Where only the rows are known, they are held against each other.
    bare = compare(before, after).differing
    assert [others[0].name for others in bare.values()] == ["rounds", "config_hash"]


def test_a_seed_that_lost_its_value_is_no_smaller_mean_in_silence():
    before = rows("a", 80.0, 60.0, 70.0)
    after = [
        *rows("a", 80.0, 60.0),
        dataclasses.replace(before[2], global_accuracy=None),
    ]
    comparison = compare(before, after)
    assert [(key[1], what) for key, what in comparison.lost_seeds.items()] == [
        (2, "undefined")
    ]
    assert comparison.has_failed
    assert "seed 2: undefined; it had a result before" in changes_markdown(
        comparison, "A", "B"
    )
    # One that was not asked for is no loss.
    assert not compare(before, after[:2]).has_failed


def test_local_accuracy_is_compared_where_both_sides_have_it():
    before = rows("a", 80.0, local_accuracy=90.0)
    after = rows("a", 80.0, local_accuracy=85.0)
    comparison = compare(before, after)
    assert [c.column.name for c in comparison.changes] == [
        "global_accuracy",
        "local_accuracy",
    ]
    assert [c.column.name for c in comparison.regressions] == ["local_accuracy"]
    assert len(compare(before, rows("a", 80.0)).changes) == 1


def test_so_many_verdicts_worse_come_by_chance():
    before = rows("a", 80.0, 60.0, 70.0) + rows("b", 80.0, 60.0, 70.0)
    after = rows("a", 81.0, 62.0, 73.0) + rows("b", 80.0, 60.0, 70.0)
    assert compare(before, after).by_chance() == pytest.approx(0.025)


def planted(strategy, fall, noise=(0.4, -0.7, 0.2, 0.6, -0.5)):
    """Return the recorded runs with a strategy that has lost some points in the mean."""
    kept = read_results(FIVE_SEEDS / "results.csv")
    return [
        dataclasses.replace(
            row, global_accuracy=row.global_accuracy - fall + noise[row.seed]
        )
        if row.strategy == strategy
        else row
        for row in kept
    ]


def test_a_planted_regression_of_three_points_is_caught_and_noise_is_not():
    recorded = read_results(FIVE_SEEDS / "results.csv")
    caught = compare(recorded, planted("fjord", 3.0))
    assert [c.strategy for c in caught.regressions] == ["fjord"]
    assert caught.regressions[0].loss == pytest.approx(3.0)
    quiet = compare(recorded, planted("fjord", 0.0))
    assert [c.verdict for c in quiet.changes if c.strategy == "fjord"] == [
        "noise",
        "equal",
    ]
    assert not quiet.has_failed
    assert not compare(recorded, recorded).has_failed


def test_other_seeds_of_the_same_suite_are_no_regression():
    recorded = read_results(FIVE_SEEDS / "results.csv")
    early = [row for row in recorded if row.seed < 2]
    late = [row for row in recorded if row.seed >= 2]
    # The means of two and of three other splits differ by up to ten points.
    assert max(abs(c.loss) for c in compare(early, late).changes) > 9
    assert not compare(early, late).has_failed
    assert not compare(late, early).has_failed


def test_who_has_no_global_model_is_marked_in_the_table():
    own = [{**vars(r), "global_of": "clients"} for r in rows("fedbn", 80.0, 60.0, 70.0)]
    before = [Row(**values) for values in own]
    after = rows("fedbn", 78.0, 57.0, 66.0, global_of="clients")
    page = changes_markdown(compare(before, after), "a", "b")
    assert "| fedbn ‡  | global" in page
    assert "‡ has no global model: its global accuracy is the mean over" in page
