"""Dirichlet splits: the published tables, the limits of alpha, exact sampling."""

import contextlib
import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedkd.config import build
from fedkd.errors import ConfigError
from fedkd.partition.dirichlet import (
    BalancedConfig,
    Dirichlet,
    DirichletBalanced,
    DirichletConfig,
    DirichletQuantity,
    DirichletQuantityConfig,
    _weighted_draw,
    log_dirichlet,
    uneven_sizes,
)

CIFAR10 = np.repeat(np.arange(10), 5000)
CIFAR100 = np.repeat(np.arange(100), 500)
MOSAIC_TABLE = [
    [0, 0, 0, 0, 0, 0, 0, 72, 0, 0],
    [0, 0, 689, 0, 0, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 0, 90, 1, 0, 974],
    [4999, 0, 0, 5000, 0, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 0, 0, 0, 782, 0],
    [0, 37, 0, 0, 0, 0, 0, 4927, 0, 478],
    [0, 0, 0, 0, 4999, 49, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 4950, 4910, 0, 0, 0],
    [0, 4963, 4310, 0, 0, 0, 0, 0, 0, 0],
    [1, 0, 1, 0, 1, 1, 0, 0, 4218, 3548],
]
"""README of Mosaic's released code: CIFAR-10, alpha 0.01, 10 clients."""
MOSAIC_SPLITS = json.loads(
    Path(__file__).with_name("mosaic_splits.json").read_text(encoding="utf-8")
)
"""The same setting for Mosaic's seeds 0 to 9: samples by seed, client and class."""


def dirichlet(labels, clients, run=0, **options):
    scheme = Dirichlet(DirichletConfig(**options))
    rng = np.random.default_rng(run)
    return scheme.split(labels, clients, int(labels.max()) + 1, rng)


def legacy(labels, alpha, clients=10, seed=5363, **options):
    return dirichlet(labels, clients, alpha=alpha, rng="legacy", seed=seed, **options)


def balanced(labels, clients, alpha, seed=0):
    scheme = DirichletBalanced(BalancedConfig(alpha=alpha))
    rng = np.random.default_rng(seed)
    return scheme.split(labels, clients, int(labels.max()) + 1, rng)


def published(labels, clients, alpha, seed, shuffles_in_the_loop):
    """The published scheme in its own words; the samples of each client, in order."""
    rng = np.random.RandomState(seed)
    least = 0
    while least < 10:
        held = [[] for _ in range(clients)]
        for label in range(labels.max() + 1):
            members = np.where(labels == label)[0]
            rng.shuffle(members)
            shares = rng.dirichlet(np.repeat(alpha, clients))
            shares = np.array(
                [
                    share * (len(own) < len(labels) / clients)
                    for share, own in zip(shares, held, strict=True)
                ]
            )
            shares = shares / shares.sum()
            cuts = (np.cumsum(shares) * len(members)).astype(int)[:-1]
            pieces = np.split(members, cuts)
            held = [a + b.tolist() for a, b in zip(held, pieces, strict=True)]
        least = min(map(len, held))
        if shuffles_in_the_loop:
            for own in held:
                rng.shuffle(own)
    if not shuffles_in_the_loop:
        for own in held:
            rng.shuffle(own)
    return held


def test_seed_5363_gives_the_published_cifar10_table_cell_for_cell():
    split = legacy(CIFAR10, 0.01)
    assert split.counts.tolist() == MOSAIC_TABLE
    assert split.notes == ()


def test_the_published_table_does_not_depend_on_the_order_of_labels():
    labels = np.tile(np.arange(10), 5000)
    assert legacy(labels, 0.01).counts.tolist() == MOSAIC_TABLE


@pytest.mark.parametrize(
    ("labels", "alpha", "sizes"),
    [
        (CIFAR10, 0.1, [4459, 6914, 5006, 5212, 1635, 7902, 3638, 3562, 6052, 5620]),
        (CIFAR10, 1.0, [5406, 5482, 5087, 5637, 4436, 5214, 4792, 5035, 3768, 5143]),
        (CIFAR100, 0.01, [5211, 5057, 5373, 5484, 3084, 5272, 5045, 5240, 5181, 5053]),
    ],
)
def test_seed_5363_gives_the_published_client_sizes(labels, alpha, sizes):
    assert legacy(labels, alpha).sizes.tolist() == sizes


@pytest.mark.parametrize(
    ("alpha", "ends"), [(0.01, (9, 15)), (0.1, (26, 39)), (1, (78, 87))]
)
def test_seed_5363_gives_the_published_classes_of_a_cifar100_client(alpha, ends):
    classes = (legacy(CIFAR100, alpha).counts >= 10).sum(1)
    assert (classes.min(), classes.max()) == ends


def test_the_seed_that_the_readme_names_gives_another_table():
    assert legacy(CIFAR10, 0.01, seed=657).counts.tolist() != MOSAIC_TABLE


@pytest.mark.parametrize(
    ("clients", "alpha"), [(2, 0.5), (10, 0.1), (20, 0.5), (30, 5), (20, 0.1)]
)
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("form", ["legacy", "legacy-niid-bench"])
def test_published_forms_give_every_client_the_samples_of_published_code_in_its_order(
    clients, alpha, seed, form
):
    labels = np.random.default_rng(seed).integers(0, 7, 3000)
    split = dirichlet(labels, clients, alpha=alpha, rng=form, seed=seed)
    of_code = published(labels, clients, alpha, seed, form == "legacy")
    assert [each.tolist() for each in split.indices] == of_code


@pytest.mark.parametrize("run", range(10))
def test_further_seeds_of_mosaic_give_its_splits(run):
    assert legacy(CIFAR10, 0.01, seed=5363 + run).counts.tolist() == MOSAIC_SPLITS[run]


def test_the_published_forms_part_where_the_first_try_fails():
    def same(run):
        options = {"alpha": 0.01, "seed": 5363 + run}
        mosaic = dirichlet(CIFAR10, 10, rng="legacy", **options)
        return (
            mosaic.hash
            == dirichlet(CIFAR10, 10, rng="legacy-niid-bench", **options).hash
        )

    assert [run for run in range(10) if same(run)] == [0, 2, 9]


def test_a_published_form_is_refused_where_it_would_draw_for_ever():
    with pytest.raises(ConfigError, match=r"no split in 3 tries .* 100 clients 10 sam"):
        legacy(CIFAR10, 0.01, 100, tries=3)


def test_the_published_forms_draw_on_and_the_default_repairs():
    assert DirichletConfig().tries == 20
    assert DirichletConfig(rng="legacy", seed=0).tries == 10_000
    assert DirichletConfig(rng="legacy-niid-bench", seed=0, tries=3).tries == 3


def test_legacy_does_not_touch_the_global_generator():
    before = np.random.get_state()[1].copy()
    legacy(CIFAR10, 0.1)
    assert (np.random.get_state()[1] == before).all()


def test_legacy_without_a_seed_is_refused():
    with pytest.raises(
        ConfigError, match="rng 'legacy' needs a seed; with 'legacy', 5363"
    ):
        build(DirichletConfig, {"rng": "legacy"}, "partitions.dirichlet")


@pytest.mark.parametrize("alpha", [0, -1, 1e7, float("nan"), float("inf")])
def test_an_alpha_that_is_no_concentration_is_refused(alpha):
    with pytest.raises(ConfigError, match=r"partitions\.dirichlet\.alpha"):
        build(DirichletConfig, {"alpha": alpha}, "partitions.dirichlet")


def test_a_client_at_the_cap_gets_no_further_class():
    split = dirichlet(CIFAR10, 10, alpha=0.05)
    for row in split.counts:
        before_last = row[: np.flatnonzero(row)[-1]].sum()
        assert before_last < 5000


def test_a_small_alpha_gives_a_client_few_classes_and_a_large_one_all():
    few = (dirichlet(CIFAR10, 10, alpha=0.001).counts > 0).sum(1).mean()
    even = dirichlet(CIFAR10, 10, alpha=1000).counts
    assert few < 3
    assert even.min() > 350
    assert even.max() < 650


def test_a_repair_after_bounded_tries_is_noted():
    split = dirichlet(CIFAR10, 100, alpha=0.01, tries=1)
    assert split.sizes.min() == 10
    assert split.notes[0].startswith("repaired: client ")
    assert split.sizes.sum() == 50_000


def test_the_best_of_the_tries_is_repaired():
    def moved(tries):
        options = {"alpha": 0.01, "tries": tries, "min_size": 100}
        splits = [dirichlet(CIFAR10, 12, run, **options) for run in range(8)]
        notes = [note for split in splits for note in split.notes]
        return sum(100 - int(note.split("had ")[1].split(",")[0]) for note in notes)

    assert moved(4) < 0.7 * moved(1)


def test_truncated_shares_do_not_end_with_the_last_client():
    # Published code gives client 9 single samples of classes 0, 2, 4 and 5 so.
    counts = [dirichlet(CIFAR10, 10, run, alpha=0.001).counts[-1] for run in range(20)]
    assert sum((row == 1).sum() for row in counts) <= 2


@pytest.mark.parametrize("rng", ["default", "legacy"])
@pytest.mark.parametrize("alpha", [1e-300, 1e-6, 1e6])
def test_extreme_alphas_give_a_split(alpha, rng):
    split = dirichlet(CIFAR10[::50], 10, alpha=alpha, rng=rng, seed=0)
    assert split.sizes.sum() == 1000
    assert split.sizes.min() >= 10


@pytest.mark.parametrize("clients", [1, 500, 1000])
@pytest.mark.parametrize("alpha", [0.001, 1, 1000])
def test_a_thousand_clients_take_no_two_seconds(clients, alpha):
    labels = np.repeat(np.arange(100), 600)
    start = time.process_time()
    dirichlet(labels, clients, alpha=alpha)
    with contextlib.suppress(ConfigError):
        legacy(labels, alpha, clients, tries=20)
    balanced(labels, clients, alpha)
    assert time.process_time() - start < 2


def test_legacy_weights_that_all_underflow_give_the_class_to_an_open_client():
    labels = np.repeat(np.arange(20), 50)
    for seed in range(30):
        assert legacy(labels, 0.001, 3, seed).sizes.sum() == 1000


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 60),
    st.floats(-3, 3),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["default", "legacy"]),
)
def test_every_dirichlet_split_is_a_partition_with_enough_for_everybody(
    clients, exponent, seed, rng
):
    labels = np.random.default_rng(seed).integers(0, 8, 700)
    options = {"alpha": 10**exponent, "seed": seed, "rng": rng}
    if rng == "legacy":
        clients = min(clients, 5)  # of more, no try may give everybody ten samples
    split = dirichlet(labels, clients, **options)
    assert sorted(np.concatenate(split.indices)) == list(range(700))
    assert split.sizes.min() >= 10
    assert split.hash == dirichlet(labels, clients, **options).hash


def test_a_class_without_samples_is_nobodys():
    labels = np.repeat([0, 2], 300)
    assert dirichlet(labels, 5, alpha=0.1).counts[:, 1].tolist() == [0] * 5
    assert balanced(labels, 5, 0.1).counts[:, 1].tolist() == [0] * 5


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.floats(-3, 3), st.integers(0, 2**32 - 1))
def test_every_balanced_split_is_a_partition_into_equal_parts(clients, exponent, seed):
    labels = np.random.default_rng(seed).integers(0, 8, 700)
    split = balanced(labels, clients, 10**exponent, seed)
    assert sorted(np.concatenate(split.indices)) == list(range(700))
    assert split.sizes.max() - split.sizes.min() <= 1


def test_a_small_alpha_gives_balanced_clients_one_class_while_it_lasts():
    largest = [
        balanced(CIFAR10, 100, 0.001, seed).counts[0].max() for seed in range(20)
    ]
    assert largest.count(500) >= 18


def test_a_large_alpha_gives_balanced_clients_even_mixes():
    counts = balanced(CIFAR10, 10, 1e6).counts
    assert counts.min() > 400
    assert counts.max() < 600


def uneven(labels, clients, **options):
    scheme = DirichletQuantity(DirichletQuantityConfig(**options))
    return scheme.split(labels, clients, 4, np.random.default_rng(0))


def test_sizes_and_mixes_are_skewed_apart():
    labels = np.arange(4000) % 4

    def skews(**options):
        found = uneven(labels, 10, **options)
        assert sorted(np.concatenate(found.indices)) == list(range(4000))
        assert found.sizes.min() >= 10
        mixes = found.counts / found.sizes[:, None]
        return found.sizes.std() / 400, mixes.std(1).mean()

    assert skews(size_alpha=1e6, alpha=1e6) == pytest.approx((0, 0), abs=0.06)
    size, mix = skews(size_alpha=0.3, alpha=1e6)
    assert size > 0.8
    assert mix < 0.06
    size, mix = skews(size_alpha=1e6, alpha=0.05)
    assert size < 0.06
    assert mix > 0.25
    size, mix = skews(size_alpha=0.3, alpha=0.05)
    assert size > 0.8
    assert mix > 0.25


def test_the_sizes_are_those_of_the_stream_and_small_clients_are_filled_up():
    labels = np.arange(400) % 4
    logs = log_dirichlet(np.random.default_rng(0), 0.05, 10)
    sizes, notes = uneven_sizes(logs, 400, 12)
    found = uneven(labels, 10, size_alpha=0.05, min_size=12)
    assert found.sizes.tolist() == sizes.tolist()
    assert found.notes == tuple(notes)
    assert notes
    assert sizes.min() == 12


def test_uneven_sizes_are_proportional_to_what_the_logarithms_say():
    sizes, notes = uneven_sizes(np.log([0.5, 0.3, 0.2]) - 900, 100, 10)
    assert sizes.tolist() == [50, 30, 20]
    assert notes == []


def test_weighted_draws_have_the_probabilities_of_drawing_one_by_one():
    # Class 0: two samples of weight 3, class 1: one of weight 1. Two are drawn:
    # P(both of class 0) = 6/7 * 3/4.
    rng = np.random.default_rng(0)
    left, logs = np.array([2, 1]), np.log([3.0, 1.0])
    both = [_weighted_draw(left, logs, 2, rng).tolist() == [2, 0] for _ in range(8000)]
    assert np.mean(both) == pytest.approx(6 / 7 * 3 / 4, abs=0.015)


def test_weighted_draws_take_what_is_left_when_their_class_is_used_up():
    rng = np.random.default_rng(0)
    drawn = _weighted_draw(np.array([3, 5, 0]), np.array([0.0, -1e300, 0.0]), 7, rng)
    assert drawn.tolist() == [3, 4, 0]


def test_dirichlet_logarithms_have_the_moments_of_the_distribution():
    rng = np.random.default_rng(0)
    logs = np.stack([log_dirichlet(rng, 0.5, 4) for _ in range(8000)])
    shares = np.exp(logs) / np.exp(logs).sum(1, keepdims=True)
    # Mean 1/4; variance m (1 - m) / (4 alpha + 1).
    assert shares.mean(0) == pytest.approx([0.25] * 4, abs=0.01)
    assert shares.var(0) == pytest.approx([0.25 * 0.75 / 3] * 4, rel=0.05)
