"""Statistics on rows: intervals, pairs, standings, ranks; numbers worked out by hand."""

import dataclasses
import math

import pytest

from fedkd.metrics.classification import Loss
from fedkd.metrics.targets import RoundsTo, TargetConfig
from fedkd.report.grouping import GLOBAL, LOCAL, is_of_global
from fedkd.report.notes import verdicts
from fedkd.report.ranking import ranks_part
from fedkd.report.results import Row
from fedkd.report.stats.intervals import (
    Interval,
    bootstrap_interval,
    mean_interval,
    seeds_needed,
    welch_interval,
)
from fedkd.report.stats.pairs import against
from fedkd.report.stats.ranks import Ranking, rank
from fedkd.report.stats.standings import standing
from fedkd.report.summary import baseline_of, summarise


def rows(label, *accuracies, dataset="digits", first=0, **changes):
    shared = {"status": "done", "global_of": "model", **changes}
    return [
        Row(
            "quick", label, dataset, "iid", None, "cnn", 10, 20, seed,
            global_accuracy=accuracy, run_id=f"{label}-{dataset}-{seed}",
            **{"split_hash": f"{dataset}{seed}", **shared},
        )
        for seed, accuracy in enumerate(accuracies, start=first)
    ]  # fmt: skip


def ends(interval):
    return (round(interval.low, 3), round(interval.high, 3))


# --- intervals ------------------------------------------------------------------------


def test_students_interval_of_three_differences():
    # d = 2, s = 1, t_2 = 4.3027: half of it is 4.3027 / sqrt(3) = 2.484.
    assert ends(mean_interval([1.0, 2.0, 3.0])) == (-0.484, 4.484)
    assert not mean_interval([1.0, 2.0, 3.0]).leaves_zero
    assert mean_interval([2.0, 3.0, 4.0]).leaves_zero
    assert mean_interval([-2.0, -3.0, -4.0]).leaves_zero


def test_students_interval_at_another_level():
    # t_2 at 90 % is 2.9200; 2.92 / sqrt(3) = 1.686.
    assert ends(mean_interval([1.0, 2.0, 3.0], level=0.9)) == (0.314, 3.686)


def test_an_interval_takes_three_differences():
    assert mean_interval([5.0, 5.1]) is None


def test_equal_differences_are_an_interval_from_six_on():
    assert mean_interval([0.28] * 5) is None
    assert ends(mean_interval([0.28] * 6)) == (0.28, 0.28)
    # Accuracies are written with four decimals: these are equal, too.
    assert mean_interval([0.2777, 0.2778, 0.2778]) is None
    assert mean_interval([0.2777, 0.2778, 0.2778], decimals=4) is not None
    # One image of 4000: differences of 0.025, which round to 0.02 and to 0.03.
    assert mean_interval([50.025 - 50.0, 50.025 - 50.0, 50.075 - 50.05]) is None


def test_whole_numbers_that_differ_are_not_equal_though_their_spread_is_below_a_half():
    # s = sqrt(0.2) = 0.447, t_4 = 2.7764: 2.7764 * 0.447 / sqrt(5) = 0.555.
    found = [-4.0, -4.0, -4.0, -4.0, -5.0]
    assert ends(mean_interval(found, decimals=0)) == (-4.755, -3.645)
    assert seeds_needed(found, decimals=0) == 3
    assert seeds_needed([-4.0] * 5, decimals=0) == 6


def test_an_interval_that_ends_at_zero_does_not_leave_it():
    assert not Interval(0.0, 1.0).leaves_zero
    assert not Interval(-1.0, 0.0).leaves_zero


def test_welchs_interval():
    # Means 82 and 72, variances 4 and 7: 4/3 + 7/3 = 11/3, whose root is 1.9149; degrees
    # of freedom (11/3)^2 / ((4/3)^2/2 + (7/3)^2/2) = 3.7231, and t is 2.8596 there.
    interval = welch_interval([80.0, 82.0, 84.0], [70.0, 71.0, 75.0])
    assert ends(interval) == (4.524, 15.476)
    assert welch_interval([80.0, 82.0], [70.0, 71.0, 75.0]) is None
    assert welch_interval([80.0] * 3, [70.0] * 3) is None
    # Of equal runs on one side, that of the other: variance 1, 2 degrees of freedom, and
    # t is 4.3027 there. No number is warned of.
    assert ends(welch_interval([80.0] * 3, [70.0, 71.0, 72.0])) == (6.516, 11.484)


def test_a_bootstrap_interval_is_of_means_of_five_drawn_with_replacement():
    # Of the 5^5 = 3125 draws, 56 have a sum of 8 or less and 126 one of 9 or less, so
    # the 2.5 % point is 9 / 5, and by symmetry the other one 21 / 5.
    interval = bootstrap_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert ends(interval) == (1.8, 4.2)
    assert bootstrap_interval([1.0, 2.0, 3.0, 4.0]) is None
    assert ends(bootstrap_interval([7.0] * 5)) == (7.0, 7.0)
    found = [83.61, 92.2, 97.1, 88.8, 90.4]
    assert bootstrap_interval(found) == bootstrap_interval(found[::-1])


def test_seeds_that_would_separate_two_strategies():
    # d = 2, s = 1: n = 3 gives 2.484, n = 4 gives 3.1824 / 2 = 1.591 < 2.
    assert seeds_needed([1.0, 2.0, 3.0]) == 4
    assert seeds_needed([2.0, 3.0, 4.0]) == 3
    assert seeds_needed([-1.0, 1.0]) is None
    assert seeds_needed([1.0]) is None
    assert seeds_needed([0.28, 0.28]) == 6
    # d = 0.01, s = 1: (1.96 / 0.01)^2 = 38,000 seeds.
    assert seeds_needed([-0.99, 0.01, 1.01]) is None


# --- pairs ----------------------------------------------------------------------------


def test_a_pair_has_mean_deviation_and_interval_of_its_common_seeds():
    found = [*rows("fedavg", 80.0, 60.0, 70.0, 50.0), *rows("b", 81.0, 62.0, 73.0)]
    (pair,) = against(found, "fedavg").values()
    assert pair.differences == {0: 1.0, 1: 2.0, 2: 3.0}
    assert (pair.first, pair.second, pair.n) == ("b", "fedavg", 3)
    assert (pair.mean, pair.std) == (2.0, 1.0)
    assert ends(pair.interval) == (-0.484, 4.484)
    assert (pair.side, pair.seeds_needed) == (0, 4)


def test_pairs_of_local_accuracy_are_of_local_accuracy():
    found = rows("fedavg", 80.0, local_accuracy=90.0)
    found += rows("b", 81.0, local_accuracy=95.0)
    (pair,) = against(found, "fedavg", LOCAL).values()
    assert pair.differences == {0: 5.0}


def test_a_setting_whose_runs_saw_different_splits_has_no_pairs():
    found = [*rows("fedavg", 80.0, 60.0), *rows("fedavg", 70.0, dataset="mnist")]
    found += [*rows("b", 81.0, split_hash="x"), *rows("b", 62.0, first=1)]
    found += rows("b", 72.0, dataset="mnist")
    ((key, pair),) = against(found, "fedavg").items()
    assert key[1].dataset == "mnist"
    assert pair.differences == {0: 2.0}


# --- standings ------------------------------------------------------------------------


def marks(found, references=(), **options):
    table = summarise(found, references, **options)
    return {s: table.entries[s, table.settings[0]].mark for s in table.strategies}


def test_the_best_is_bold_only_where_the_interval_against_the_runner_up_leaves_zero():
    # a - b: 2, 3, 4, [0.5, 5.5]; b - c: 10, 11, 12.
    found = [*rows("c", 70.0, 60.0, 50.0), *rows("b", 80.0, 71.0, 62.0)]
    apart = [*found, *rows("a", 82.0, 74.0, 66.0)]
    assert marks(apart) == {"c": "", "b": "second", "a": "best"}
    # a - b: 1, 2, 3, [-0.5, 4.5].
    near = [*found, *rows("a", 81.0, 73.0, 65.0)]
    assert marks(near) == {"c": "", "b": "", "a": "leading"}


def test_the_second_is_underlined_only_where_it_is_separated_from_the_third():
    found = [*rows("c", 79.0, 69.0, 60.0), *rows("b", 80.0, 71.0, 63.0)]
    found += rows("a", 90.0, 82.0, 74.0)
    assert marks(found) == {"c": "", "b": "", "a": "best"}


def test_the_best_is_bold_only_where_it_is_separated_from_all_that_come_after():
    # a - b: 2, 3, 4, as above; a - c: 2, -16, 27, though c has the least mean.
    found = [*rows("a", 82.0, 74.0, 66.0), *rows("b", 80.0, 71.0, 62.0)]
    found += rows("c", 80.0, 90.0, 39.0)
    assert marks(found) == {"a": "leading", "b": "", "c": ""}
    table = summarise(found)
    (place,) = table.standings.values()
    assert (place.ranked, place.pair.second) == (("a", "b", "c"), "c")
    assert verdicts(table)[1].startswith("a above c: +4.33 ± 21.59 [")
    # Nor where it has too few seeds in common with one of them.
    few = [*found[:6], *rows("d", 1.0, 2.0)]
    assert marks(few) == {"a": "leading", "b": "", "d": ""}
    # So of the second.
    top = [*rows("top", 182.0, 174.0, 179.0), *found]
    assert marks(top) == {"top": "best", "a": "", "b": "", "c": ""}


def test_who_looks_equal_to_the_best_is_not_separated_from_it():
    # a - b is 0.002 six times, which counts as an interval.
    accuracies = [50.0, 60.0, 70.0, 55.0, 65.0, 75.0]
    found = [*rows("b", *accuracies), *rows("a", *(one + 0.002 for one in accuracies))]
    found += rows("c", *(one - 9.0 - one / 100 for one in accuracies))
    assert marks(found) == {"a": "leading", "b": "leading", "c": ""}
    assert verdicts(summarise(found))[1].startswith("a and b: +0.00 ± 0.00 [+0.00, +0")
    # Here it is above on the seeds in common, and their means look equal by other ones.
    late = [*rows("b", 50.0, 60.0, 70.0), *rows("a", 51.0, 61.1, 71.0, 56.901)]
    late += rows("c", 1.0, 2.0, 3.0)
    assert marks(late) == {"a": "leading", "b": "leading", "c": ""}
    said = "a above b: +1.03 ± 0.06 [+0.89, +1.18], but their means look equal here."
    assert verdicts(summarise(late))[1] == said


def test_who_is_worse_on_too_few_common_seeds_is_told_so():
    found = [*rows("a", 50.0, 51.0, 90.0, 91.0), *rows("b", 52.0, 53.2)]
    more = [dataclasses.replace(row, dataset="mnist") for row in found]
    for several in (found, [*found, *more]):
        said = " ".join(verdicts(summarise(several)))
        told = (
            "a above b: -2.10 ± 0.14, so a is worse on the 2 common seeds and leads by "
            "other ones."
        )
        assert said.count(told) == len(several) / len(found)


def test_who_is_worse_on_the_common_seeds_is_not_separated_by_them():
    # a - b on seeds 0 to 2: -2, -2.2, -1.9, all of [-2.41, -1.65] below 0.
    found = [
        *rows("a", 50.0, 51.0, 50.5, 90.0, 91.0, 92.0),
        *rows("b", 52.0, 53.2, 52.4),
    ]
    assert marks(found) == {"a": "leading", "b": ""}
    table = summarise(found)
    (place,) = table.standings.values()
    assert (place.pair.side, place.is_worse_in_pair) == (-1, True)
    assert verdicts(table)[1] == (
        "a above b: -2.03 ± 0.15 [-2.41, -1.65], so a is worse on the 3 common seeds and "
        "leads by other ones."
    )
    # So of the second and the third, and where lower is better.
    top = rows("top", *[99.0, 99.5, 99.2] * 2)
    assert marks([*found, *top]) == {"a": "", "b": "", "top": "best"}
    (column, _) = Loss().columns("loss")
    losses = [
        dataclasses.replace(row, metrics={"global_loss": -row.global_accuracy})
        for row in found
    ]
    assert marks(losses, column=column) == {"a": "leading", "b": ""}
    (place,) = summarise(losses, column=column).standings.values()
    assert (place.pair.side, place.is_worse_in_pair) == (1, True)


def test_a_leader_that_looks_equal_on_the_common_seeds_is_told_so():
    found = [
        *rows("a", 50.0, 60.0, 70.0),
        *rows("b", 49.99, 60.005, 69.993),
        *rows("c", 1.0, 2.0, 3.0),
    ]
    assert verdicts(summarise(found))[1] == (
        "a and b: +0.00 ± 0.01 [-0.02, +0.02], a difference of 0 at these decimals."
    )


def test_the_runner_up_is_told_with_the_seeds_that_would_separate_it():
    found = [*rows("b", 80.0, 71.0, 62.0), *rows("a", 81.0, 73.0, 65.0)]
    table = summarise([*found, *rows("top", 99.0, 99.0, 99.0)], {"top"})
    (place,) = table.standings.values()
    assert place.ranked == ("a", "b")
    assert (place.pair.first, place.pair.second) == ("a", "b")
    assert place.pair.seeds_needed == 4


def test_who_has_no_global_model_does_not_compete_in_global_accuracy():
    found = [*rows("b", 80.0, 71.0, 62.0), *rows("a", 70.0, 60.0, 50.0)]
    found += rows("own", 90.0, 82.0, 73.0, global_of="clients", local_accuracy=9.0)
    assert marks(found) == {"b": "best", "a": "", "own": ""}
    assert summarise(found).without_global == {"own"}
    (setting,) = summarise(found).settings
    assert summarise(found).entries["own", setting].is_of_clients
    assert not summarise(found, column=LOCAL).entries["own", setting].is_of_clients
    # It has none in whatever setting its runs are not done in.
    skipped = rows("own", None, dataset="mnist", status="skipped", global_of="")
    assert summarise([*found, *skipped]).without_global == {"own"}
    # Results of an earlier version do not say, and nobody is put out for that.
    old = [dataclasses.replace(row, global_of="") for row in found]
    assert marks(old)["own"] == "best"


def test_who_has_no_global_model_in_one_setting_is_signed_and_out_there_only():
    found = [*rows("b", 80.0, 71.0, 62.0), *rows("a", 70.0, 60.0, 50.0)]
    found += rows("b", 80.0, 71.0, 62.0, dataset="mnist", global_of="clients")
    found += rows("a", 70.0, 60.0, 50.0, dataset="mnist")
    table = summarise(found)
    digits, mnist = table.settings
    assert table.without_global == set()
    signed = {key for key, entry in table.entries.items() if entry.is_signed}
    assert signed == {("b", mnist)}
    assert table.entries["b", digits].mark == "best"
    assert table.standings[mnist].ranked == ("a",)
    # Whoever has a global model everywhere is the better baseline.
    assert baseline_of(table) == "a"
    more = summarise(found, column=LOCAL)
    assert {key for key, entry in more.entries.items() if entry.is_signed} == signed


def test_who_has_no_global_model_competes_in_local_accuracy():
    found = []
    for label, of, values in (("own", "clients", (9, 8, 9)), ("a", "model", (5, 4, 4))):
        for seed, value in enumerate(values):
            found += rows(
                label, 1.0, first=seed, local_accuracy=float(value), global_of=of
            )
    assert marks(found, column=LOCAL) == {"own": "best", "a": ""}


def test_who_lacks_a_local_accuracy_that_others_have_does_not_compete_in_it():
    found = [
        row
        for label, values in (("a", (60.0, 61.0, 62.0)), ("b", (50.0, 51.0, 52.0)))
        for seed, value in enumerate(values)
        for row in rows(label, 1.0, first=seed, local_accuracy=value)
    ]
    assert marks(found, column=LOCAL)["a"] == "leading"
    found[0] = dataclasses.replace(found[0], local_accuracy=None)
    table = summarise(found, column=LOCAL)
    entry = table.entries["a", table.settings[0]]
    assert (entry.counts, entry.n, entry.mark) == ({"undefined": 1, "done": 2}, 2, "")
    none = [dataclasses.replace(row, local_accuracy=None) for row in found]
    table = summarise(none, column=LOCAL)
    assert {str(entry.counts) for entry in table.entries.values()} == {"{'done': 3}"}


def test_a_target_of_global_accuracy_is_of_the_global_model():
    (soon,) = RoundsTo(TargetConfig(target=80)).columns("soon")
    (local,) = RoundsTo(TargetConfig(target=80, of="local_accuracy")).columns("local")
    assert is_of_global(soon)
    assert not is_of_global(local)


def test_nothing_is_separated_where_runs_of_one_seed_saw_different_splits():
    found = [*rows("b", 80.0, 71.0, 62.0), *rows("a", 70.0, 60.0, 50.0, split_hash="x")]
    assert marks(found) == {"b": "leading", "a": ""}
    (place,) = summarise(found).standings.values()
    assert place.pair is None


def test_a_lone_competitor_has_a_standing_without_marks():
    (column, _) = Loss().columns("loss")
    place = standing({"a": rows("a", 1.0, metrics={"global_loss": 0.5})}, column)
    assert (place.ranked, dict(place.marks), place.pair) == (("a",), {}, None)


# --- ranks ----------------------------------------------------------------------------


def ranked_blocks(number=10):
    """Return results in which a is above b, and b above c, in every block."""
    seeds = range(number)
    return [
        *rows("a", *(90.0 + seed for seed in seeds)),
        *rows("c", *(50.0 + seed for seed in seeds)),
        *rows("b", *(70.0 + seed for seed in seeds)),
    ]


def test_mean_ranks_with_friedmans_test_and_nemenyis_critical_difference():
    ranking = rank(ranked_blocks())
    assert ranking.mean_ranks == {"a": 1.0, "b": 2.0, "c": 3.0}
    # 12 N / (k (k + 1)) (1 + 4 + 9 - k (k + 1)^2 / 4) = 10 (14 - 12) = 20, and the tail
    # of chi-square with two degrees of freedom is exp(-x / 2).
    assert ranking.chi_square == pytest.approx(20.0)
    assert ranking.p_value == pytest.approx(math.exp(-10))
    # q = 2.343 of Demšar's table 5 for three: 2.343 sqrt(12 / 60) = 1.048.
    assert ranking.critical_difference == pytest.approx(1.048, abs=5e-4)
    assert ranking.groups == (("a", "b"), ("b", "c"))
    assert (ranking.blocks, ranking.settings, ranking.left_out) == (10, 1, ())


def test_ties_share_the_mean_of_their_ranks():
    found = ranked_blocks()
    found[20] = dataclasses.replace(found[20], global_accuracy=90.001)
    assert rank(found).mean_ranks == {"a": 1.05, "b": 1.95, "c": 3.0}


def test_lower_is_first_where_lower_is_better():
    (column, _) = Loss().columns("loss")
    found = [
        dataclasses.replace(row, metrics={"global_loss": row.global_accuracy})
        for row in ranked_blocks()
    ]
    assert list(rank(found, column=column).mean_ranks) == ["c", "b", "a"]


def test_references_and_who_has_no_global_model_are_not_ranked():
    found = [*ranked_blocks(), *rows("central", *[99.0] * 10)]
    found += rows("fedbn", *[80.0] * 10, global_of="clients")
    assert list(rank(found, {"central"}).mean_ranks) == ["a", "b", "c"]


def test_who_has_no_global_model_is_not_ranked_where_its_runs_are_not_done_either():
    found = [*ranked_blocks(4), *rows("fedbn", *[80.0] * 4, global_of="clients")]
    for label in "abc":
        found += rows(label, *[60.0] * 4, dataset="mnist")
    skipped = {"dataset": "mnist", "status": "skipped", "global_of": ""}
    found += rows("fedbn", *[None] * 4, **skipped)
    found += rows("never", *[None] * 4, **skipped)
    assert rank(found).endswith("here: 3 competitors in 8 blocks.")
    found = [*ranked_blocks(), *rows("fedbn", 80.0, global_of="clients")]
    assert rank([*found, *rows("fedbn", None, **skipped)]).left_out == ()


def test_who_has_no_global_model_in_one_setting_is_ranked_in_the_others():
    found = ranked_blocks(12)
    for label in "abc":
        own = rows(label, *[60.0] * 12, dataset="mnist", global_of="clients")
        found += own
    ranking = rank(found)
    assert ranking.mean_ranks == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert (ranking.blocks, ranking.settings) == (12, 1)


def test_too_few_blocks_or_strategies_are_one_sentence():
    assert rank(ranked_blocks(9)) == (
        "Mean ranks and their tests need 3 competitors with results in 10 blocks "
        "(setting x seed); here: 3 competitors in 9 blocks."
    )
    two = [row for row in ranked_blocks() if row.strategy != "c"]
    assert rank(two).endswith("here: 2 competitors in 10 blocks.")


def test_who_was_skipped_in_most_blocks_is_left_out():
    ranking = rank([*ranked_blocks(), *rows("d", 99.0, 99.0)])
    assert list(ranking.mean_ranks) == ["a", "b", "c"]
    assert ranking.left_out == ("d",)


def test_who_has_all_blocks_that_are_ranked_is_not_left_out():
    found = [
        row
        for start, label in enumerate("abc", start=1)
        for first in (0, 10 * start)
        for row in rows(label, *(50.0 + start for _ in range(10)), first=first)
    ]
    found += rows("d", *[99.0] * 12)
    found += [*rows("e", *[98.0] * 5), *rows("e", *[98.0] * 11, first=41)]
    ranking = rank(found)
    assert (set(ranking.mean_ranks), ranking.blocks) == (set("abcd"), 10)
    assert ranking.left_out == ("e",)


def test_settings_without_a_block_that_is_ranked_are_counted():
    other = [
        dataclasses.replace(row, dataset="other", run_id=f"{row.run_id}-other")
        for label in "ab"
        for row in rows(label, 60.0)
    ]
    for found, said in (([], "1 setting"), (other, "1 of 2 settings")):
        (part,) = ranks_part([*ranked_blocks(), *found], (), GLOBAL)
        assert f"over 10 blocks (setting x seed, of {said}) in" in part.notes[0]


def test_no_difference_is_one_sentence_and_no_warning():
    found = [row for label in "abc" for row in rows(label, *[50.0] * 10)]
    assert rank(found) == (
        "Mean ranks say nothing: no result differs between the strategies."
    )
    # Nor does one that differs below the decimals of tables.
    near = [
        row
        for place, label in enumerate("abc")
        for row in rows(label, *[50.0 + place / 1000] * 12)
    ]
    assert rank(near) == rank(found)


def test_a_block_whose_runs_saw_different_splits_is_not_ranked():
    found = ranked_blocks(12)
    found[3] = dataclasses.replace(found[3], split_hash="other")
    assert rank(found).blocks == 11
    torn = [dataclasses.replace(row, split_hash=row.run_id) for row in found]
    assert rank(torn).endswith("here: 3 competitors in 0 blocks.")


def test_what_friedmans_test_does_not_find_separates_nobody():
    ranks = {"a": 1.0, "b": 2.0, "c": 3.0}
    apart = Ranking(ranks, 10, 1, (), 20.0, 0.001, critical_difference=0.5)
    assert apart.groups == ()
    vague = dataclasses.replace(apart, p_value=0.2)
    assert vague.groups == (("a", "b", "c"),)
    found = [
        *rows("a", *[3.0, 1.0, 2.0] * 4),
        *rows("b", *[1.0, 2.0, 3.0] * 4),
        *rows("c", *[2.0, 3.0, 1.0] * 4),
    ]
    ranking = rank(found)
    assert ranking.p_value == pytest.approx(1.0)
    assert len(ranking.groups) == 1
