"""Robust averages: each rule with numbers worked out by hand, and what it withstands."""

import pytest
import torch
from torch import tensor

from fedkd.errors import ConfigError
from fedkd.ops.averaging import weighted_average
from fedkd.ops.axes import Axes, Axis
from fedkd.ops.submodels import IndexMap, Part
from fedkd.robust.coordinates import medians, trimmed_means
from fedkd.robust.distances import (
    bulyan_choice,
    krum_scores,
    mean_near_median,
    squared_distances,
)
from fedkd.robust.moves import weiszfeld_weights
from fedkd.robust.table import RULES, rule_of

INF, NAN = float("inf"), float("nan")


def states(*values):
    """States of one floating entry, and of a counter that is 1, 2, 3, ..."""
    return [
        {"w": torch.tensor(value, dtype=torch.float64), "seen": torch.tensor(k)}
        for k, value in enumerate(values, start=1)
    ]


def joint(written, *values, weights=None, before=0.0):
    start = {"w": torch.tensor(before, dtype=torch.float64), "seen": torch.tensor(0)}
    every = states(*values)
    return rule_of(written).combine(every, weights or [1.0] * len(every), start)


def test_the_median_is_the_middle_or_the_mean_of_both_middles():
    assert medians(tensor([9.0, 1.0, 2.0])) == 2
    assert medians(tensor([9.0, 1.0, 2.0, 4.0])) == 3
    assert medians(tensor([[1.0, 8.0], [5.0, 7.0], [3.0, 0.0]])).tolist() == [3, 7]
    assert medians(tensor([NAN, 1.0, INF, 2.0, 4.0])) == 4


def test_the_trimmed_mean_leaves_out_a_share_at_each_end_rounded_down():
    values = tensor([100.0, 1.0, 3.0, 2.0, 0.0])
    assert trimmed_means(values, 0.2, None) == 2  # (1 + 2 + 3) / 3
    assert trimmed_means(values, 0.39, None) == 2
    assert trimmed_means(values, 0.4, None) == 2
    assert trimmed_means(tensor([NAN, 6.0, 3.0, 0.0]), 0.25, None) == 4.5
    ten = torch.arange(10.0) ** 2
    assert trimmed_means(ten, 0.3, None) == (9 + 16 + 25 + 36) / 4  # 10 x 0.3 is 3


def test_coordinates_that_few_hold_have_their_own_median_and_trimmed_mean():
    values = tensor([[1.0, 5.0], [7.0, 9.0], [4.0, 2.0], [0.0, 30.0]])
    held = tensor([[1, 1], [1, 0], [1, 1], [0, 1]]).bool()
    assert medians(values, held).tolist() == [4, 5]  # of 1, 4, 7 and of 2, 5, 30
    assert trimmed_means(values, 0.34, held).tolist() == [4, 5]
    two = tensor([[1, 0], [1, 0], [0, 0], [0, 1]]).bool()
    assert medians(values, two).tolist() == [4, 30]
    assert trimmed_means(values, 0.34, two).tolist() == [4, 30]  # 0.68 of one: none


def distances(*values):
    return squared_distances(states(*values), states(0.0)[0])


def test_krum_takes_the_smallest_sum_of_squared_distances_to_n_minus_f_minus_2():
    scores = krum_scores(distances(0.0, 1.0, 2.0, 4.0, 100.0), attackers=1)
    assert scores.tolist() == [1 + 4, 1 + 1, 1 + 4, 4 + 9, 96**2 + 98**2]
    assert joint("krum", 0.0, 1.0, 2.0, 4.0, 100.0)["w"] == 1
    assert joint("multi_krum", 0.0, 1.0, 2.0, 4.0, 100.0)["w"] == 0.5  # 1 and 0
    kept = {"name": "multi_krum", "keep": 3}
    assert joint(kept, 0.0, 1.0, 2.0, 4.0, 100.0)["w"] == 1  # 1, 0 and 2


def test_distances_run_over_all_floating_entries_and_over_no_counters():
    one = {"a": tensor([1.0, 2.0]), "b": tensor([[2.0]]), "n": tensor(4)}
    two = {"a": tensor([1.0, 0.0]), "b": tensor([[5.0]]), "n": tensor(900)}
    odd = {"a": tensor([NAN, 0.0]), "b": tensor([[5.0]]), "n": tensor(1)}
    apart = squared_distances([one, two, odd], one)
    assert apart.tolist() == [[0, 13, INF], [13, 0, INF], [INF, INF, 0]]


def test_bulyan_chooses_by_krum_again_and_again_and_means_what_is_near_the_median():
    apart = distances(0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 100.0)
    # 2 first (1 + 1 + 4 + 4), then 3 (9), 1 of 1 and 4 (10 each), 4 of those at 1, then 0.
    assert bulyan_choice(apart, attackers=1) == [0, 1, 2, 3, 4]
    assert mean_near_median(tensor([8.0, 0.0, 1.0, 4.0, 2.0]), 3) == 1  # 2, 1 and 0
    assert joint("bulyan", 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 100.0)["w"] == 2
    # Of 1, 1, 1, 1 and 9, which Krum chooses, three are near the median.
    assert joint("bulyan", 1.0, 1.0, 1.0, 1.0, 9.0, 9.0, 100.0)["w"] == 1


def test_a_pass_of_weiszfeld_weighs_by_weight_over_distance():
    assert weiszfeld_weights([2.0, 0.0, INF], [1.0, 3.0, 5.0], 0.5) == [0.5, 6, 0]
    once = {"name": "geometric_median", "iterations": 1}
    # 1, 1/2 and 1/9 from 0: (1 + 1 + 1) / (29 / 18); with weights 1, 1, 2 the last is 2/9.
    assert joint(once, 1.0, 2.0, 9.0)["w"].item() == pytest.approx(54 / 29)
    weighted = joint(once, 1.0, 2.0, 9.0, weights=[1, 1, 2])["w"]
    assert weighted.item() == pytest.approx(72 / 31)
    corners = [[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]]
    long = {"name": "geometric_median", "iterations": 60}
    fermat = joint(long, *corners, before=[9.0, 9.0])["w"].tolist()
    assert fermat == pytest.approx([0.5, 3**0.5 / 6])


def test_one_that_sends_back_its_start_does_not_hold_the_geometric_median_there():
    once = {"name": "geometric_median", "iterations": 1}
    # Distances 1, 2 and 0, of which the last counts as 0.1: (1 + 1) / (1 + 1/2 + 10).
    assert joint(once, 1.0, 2.0, 0.0)["w"].item() == pytest.approx(4 / 23)
    # 0.05 counts as 0.1 too; 0.1 is near enough by itself.
    assert joint(once, 1.0, 2.0, 0.05)["w"].item() == pytest.approx(2.5 / 11.5)
    assert joint(once, 1.0, 2.0, 0.1)["w"].item() == pytest.approx(3 / 11.5)
    assert joint(once, 1.0, INF, NAN)["w"].item() == 1
    # The middle one of three on a line is their geometric median.
    assert joint("geometric_median", 1.0, 1.1, 0.0)["w"].item() > 0.98
    torch.manual_seed(0)
    apart = torch.randn(9, 1000).tolist()  # nearly at right angles to each other
    many = {"name": "geometric_median", "iterations": 60}
    start = [0.0] * 1000
    few = joint("geometric_median", *apart, start, before=start)["w"]
    long = joint(many, *apart, start, before=start)["w"]
    assert (few - long).norm() < 0.01 * long.norm()


def test_moves_longer_than_the_bound_are_shortened_to_it():
    clip = {"name": "norm_clip", "norm": 1.0}
    found = joint(clip, [4.0, 5.0], [1.0, 2.0], weights=[1, 3], before=[1.0, 1.0])
    # (3, 4) of norm 5 becomes (0.6, 0.8); (0, 1) stays: (0.15, 0.2 + 0.75).
    assert found["w"].tolist() == pytest.approx([1.15, 1.95])
    same = joint("norm_clip", [4.0, 5.0], [1.0, 2.0], weights=[1, 3], before=[1.0, 1.0])
    assert (
        same["w"].tolist() == found["w"].tolist()
    )  # of 5 and 1 the lower is the bound
    lost = joint(clip, [INF, 0.0], [1.0, 2.0], before=[1.0, 1.0])
    assert lost["w"].tolist() == [1, 1.5]


def test_a_bound_that_is_not_reached_gives_the_bits_of_the_mean():
    torch.manual_seed(0)
    values = [{"w": torch.randn(5)} for _ in range(4)]
    wide = rule_of({"name": "norm_clip", "norm": 1e9})
    found = wide.combine(values, [1, 2, 3, 4], {"w": torch.zeros(5)})
    assert torch.equal(found["w"], weighted_average(values, [1, 2, 3, 4])["w"])
    every = rule_of({"name": "multi_krum", "keep": 4})
    order = [0, 1, 2, 3]
    found = every.combine(values, [1, 2, 3, 4], {"w": torch.zeros(5)})
    mean = weighted_average([values[k] for k in order], [1] * 4)
    torch.testing.assert_close(found["w"], mean["w"])


@pytest.mark.parametrize("name", [n for n in RULES if n != "mean"])
def test_a_counter_is_the_median_of_the_counters_cut_to_a_whole_number(name):
    found = joint(name, *[float(v) for v in (1, 2, 3, 4, 5, 6, 7, 8)])
    assert found["seen"].dtype == torch.int64
    assert found["seen"] == 4  # of 1 to 8: 4.5


@pytest.mark.parametrize("worst", [1e9, -1e9, INF, NAN])
@pytest.mark.parametrize("name", [n for n in RULES if n not in ("mean", "norm_clip")])
def test_below_its_breakdown_point_an_average_stays_among_the_honest(name, worst):
    honest = [0.9, 1.0, 1.1, 1.2, 1.3, 1.4]
    found = joint(name, *honest[:3], worst, *honest[3:])["w"].item()
    assert 0.9 <= found <= 1.4


def test_at_its_breakdown_point_it_breaks():
    assert joint("median", 1.0, 1.1, 1e9, 1e9)["w"] > 1e8
    assert joint({"name": "trimmed_mean", "share": 0.2}, 1, 1, 1, 1e9, 1e9)["w"] > 1e8
    assert joint("krum", 1.0, 1.5, 1e9, 1e9, 1e9)["w"] > 1e8  # three that agree
    with pytest.raises(ValueError, match="not in all"):
        rule_of("median").combine([{"a": tensor(1.0)}, {"b": tensor(1.0)}], [1, 1], {})


def test_multi_krum_keeps_no_more_than_do_not_attack():
    """The mean of five of which one attacks is the attacker's, whatever a score says."""
    all_five = {"name": "multi_krum", "attackers": 1, "keep": 5}
    for worst in (1e9, INF, NAN):
        found = joint(all_five, 0.0, 1.0, worst, 2.0, 4.0)["w"]
        assert found == 7 / 4  # of 0, 1, 2 and 4
    rule = rule_of({"name": "multi_krum", "attackers": 2, "keep": 6})
    assert rule.least == 8
    # Of seven answers six are asked for, and five do not attack.
    assert rule.taken(7, rule.believed(7)) == 5
    assert rule.taken(8, rule.believed(8)) == 6


def test_the_least_number_of_clients_is_the_papers():
    def least(name, **options):
        return rule_of({"name": name, **options}).least

    assert [least("krum", attackers=f) for f in (1, 2)] == [5, 7]
    assert least("multi_krum", attackers=2) == 7
    assert [least("bulyan", attackers=f) for f in (1, 2)] == [7, 11]
    assert [least("trimmed_mean", share=s) for s in (0.1, 0.2, 0.3, 0.45)] == [
        10,
        5,
        4,
        3,
    ]
    assert least("median") == least("geometric_median") == 3
    assert least("mean") == least("norm_clip") == 1


@pytest.mark.parametrize("name", RULES)
def test_fewer_answers_than_that_are_still_averaged(name):
    for few in ([2.0], [2.0, 4.0], [2.0, 4.0, 4.0]):
        assert 0 <= joint(name, *few)["w"].item() <= 4


AXES = Axes((4,), {"w": (Axis(0),)}, {}, -1, {})


def part(values, *channels):
    where = IndexMap(AXES, (torch.tensor(channels) if channels else None,))
    return Part({"w": tensor(values)}, where, 1.0)


def test_sub_models_are_averaged_over_those_who_hold_a_coordinate():
    whole = {"w": tensor([7.0, 7.0, 7.0, 7.0])}
    parts = [part([1.0, 2.0], 0, 1), part([3.0, 4.0, 6.0], 0, 1, 2), part([8.0], 0)]
    median = rule_of("median").combine_parts(whole, parts)["w"]
    assert median.tolist() == [3, 3, 6, 7]
    trimmed = rule_of({"name": "trimmed_mean", "share": 0.34})
    assert trimmed.combine_parts(whole, parts)["w"].tolist() == [3, 3, 6, 7]
    clip = rule_of({"name": "norm_clip", "norm": 2.0}).combine_parts(whole, parts[2:])
    assert clip["w"].tolist() == [8, 7, 7, 7]
    clip = rule_of({"name": "norm_clip", "norm": 2.0}).combine_parts(whole, parts[:1])
    assert clip["w"].tolist() == pytest.approx(
        [7 - 12 / 61**0.5, 7 - 10 / 61**0.5, 7, 7]
    )


@pytest.mark.parametrize("name", ["median", "trimmed_mean", "norm_clip"])
def test_a_counter_of_sub_models_is_the_median_of_those_who_have_it(name):
    axes = Axes((4,), {"w": (Axis(0),), "seen": ()}, {}, -1, {})
    where = IndexMap(axes, (torch.tensor([0]),))
    sent = [{"w": tensor([1.0]), "seen": tensor(seen)} for seen in (3, 4, 10**15)]
    parts = [Part(weights, where, 1.0) for weights in (*sent, {"w": tensor([1.0])})]
    whole = {"w": torch.zeros(4), "seen": tensor(2)}
    assert rule_of(name).combine_parts(whole, parts)["seen"] == 4


@pytest.mark.parametrize("name", ["krum", "multi_krum", "geometric_median", "bulyan"])
def test_rules_of_distances_refuse_parts_and_take_whole_models(name):
    whole = {"w": tensor([7.0, 7.0, 7.0, 7.0])}
    with pytest.raises(ConfigError, match=f"{name}: found clients that hold.*a part"):
        rule_of(name).combine_parts(whole, [part([1.0, 2.0], 0, 1)])
    same = rule_of(name).combine_parts(whole, [part([1.0, 2.0, 3.0, 4.0])])
    assert same["w"].tolist() == pytest.approx([1, 2, 3, 4])


def test_an_option_that_is_wrong_is_named():
    with pytest.raises(ValueError, match="Did you mean 'median'"):
        rule_of("medain")
    with pytest.raises(
        ValueError, match=r"trimmed_mean.share: found 0.7.*less than 0.5"
    ):
        rule_of({"name": "trimmed_mean", "share": 0.7})
    with pytest.raises(ValueError, match=r"krum.attackres: unknown key"):
        rule_of({"name": "krum", "attackres": 1})
    with pytest.raises(ValueError, match="Expected the name of an average"):
        rule_of(3)
