"""What holds of whatever is given: configs, splits, payloads, averages, widths, suites.

Examples are few, and the same each time; ``HYPOTHESIS_PROFILE=long pytest
tests/test_properties.py`` draws two thousand new ones of each.
"""

import contextlib
import dataclasses
import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from fedkd.base import yamlfile
from fedkd.config import Config, build
from fedkd.errors import ConfigError, ContractError
from fedkd.ops.averaging import normalised, weighted_average
from fedkd.ops.axes import Axes, Axis
from fedkd.ops.submodels import Part, extract, index_map, partial_average
from fedkd.ops.training import TrainingConfig
from fedkd.partition.dirichlet import Dirichlet, DirichletBalanced, DirichletQuantity
from fedkd.partition.schemes import IID, Classes, Quantity, Shards
from fedkd.payload import decode, encode, seal
from fedkd.plugins.registry import load_registry
from fedkd.robust.table import RULES, rule_of
from fedkd.simulation.protocol import Protocol
from fedkd.suite.grid import grid
from fedkd.suite.suite import build_suite, read_suite, suite_names

SEEDS = st.integers(0, 2**32 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ODD = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
    *(
        st.lists(st.integers(), max_size=3),
        st.dictionaries(TEXTS, st.integers(), max_size=2),
    ),
)


class Options(Config):
    """Options of a test."""

    rate: float = 0.1
    rounds: int = 3
    named: str = "x"
    pair: tuple[int, ...] = (1, 2)
    switch: bool = False
    bound: float | None = None


class TestConfigs:
    @given(st.dictionaries(st.sampled_from(sorted(Options.model_fields)), ODD))
    def test_options_are_taken_as_they_stand_or_refused_in_one_sentence(self, options):
        try:
            made = build(Options, options, "test")
        except ConfigError as error:
            made, text = None, str(error)
        if made is None:
            assert text.startswith("test")
            assert "\n" not in text
            return
        for key, value in options.items():
            taken = getattr(made, key)
            # A number is the number that was given, of the kind that was asked for.
            assert taken == (tuple(value) if isinstance(value, list) else value)
            assert isinstance(taken, bool) == isinstance(value, bool)
        assert build(Options, made.model_dump(), "again") == made

    @given(TEXTS.filter(lambda name: name not in Options.model_fields), ODD)
    def test_no_other_key_is_taken(self, name, value):
        with pytest.raises(ConfigError, match="unknown key"):
            build(Options, {name: value}, "test")

    @given(
        st.fixed_dictionaries(
            {},
            optional={
                "local_epochs": st.integers(1, 9),
                "lr": st.floats(1e-6, 10),
                "momentum": st.floats(0, 0.99),
                "batch_size": st.integers(1, 512),
                "weight_decay": st.floats(0, 1),
            },
        )
    )
    def test_what_a_config_says_of_itself_makes_it_again(self, options):
        options = {"local_epochs": 1, **options}
        made = build(TrainingConfig, options, "training")
        assert build(TrainingConfig, made.model_dump(), "again") == made
        text = yamlfile.dump(made.model_dump(mode="json"))
        assert build(TrainingConfig, yamlfile.parse(text, "text"), "text") == made


PARTITIONERS = {
    "iid": (IID, lambda draw: {}),
    "shards": (Shards, lambda draw: {"per_client": draw(st.integers(1, 4))}),
    "quantity": (Quantity, lambda draw: {"alpha": draw(st.floats(0.05, 50))}),
    "classes": (
        Classes,
        lambda draw: {"per_client": draw(st.integers(1, 8)), "min_size": 1},
    ),
    "dirichlet": (Dirichlet, lambda draw: {"alpha": draw(st.floats(0.05, 50))}),
    "balanced": (DirichletBalanced, lambda draw: {"alpha": draw(st.floats(0.05, 50))}),
    "uneven": (DirichletQuantity, lambda draw: {"alpha": draw(st.floats(0.05, 50))}),
}


class TestPartitioners:
    @pytest.mark.parametrize("name", PARTITIONERS)
    @given(st.data(), st.integers(1, 12), SEEDS)
    def test_every_index_once_sizes_as_told_and_the_same_again(
        self, name, data, clients, seed
    ):
        kind, options = PARTITIONERS[name]
        config = kind.Config(**options(data.draw))
        labels = np.random.default_rng(seed).integers(0, 8, 400)
        labels[:8] = range(8)

        def split(seed):
            rng = np.random.default_rng(seed)
            return kind(config).split(labels, clients, 8, rng)

        found = split(seed)
        every = np.concatenate(found.indices)
        assert len(found.indices) == clients
        assert len(set(every.tolist())) == len(every)
        assert every.min() >= 0 and every.max() < len(labels)  # noqa: PT018
        if name != "classes":  # which leaves out what nobody is to have
            assert len(every) == len(labels)
        assert found.sizes.tolist() == [len(one) for one in found.indices]
        assert found.sizes.min() >= getattr(config, "min_size", 1)
        assert found.counts.sum() == len(every)
        again = split(seed)
        assert [list(one) for one in again.indices] == [list(o) for o in found.indices]


KINDS = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool),
)


@dataclasses.dataclass(frozen=True)
class Parcel:
    content: object
    number: int = 0


@st.composite
def tensors(draw):
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    rng = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    made = torch.randn(shape, generator=rng).mul(50).to(draw(st.sampled_from(KINDS)))
    return made.permute(draw(st.permutations(range(len(shape)))))


LEAVES = st.one_of(
    *(tensors(), st.none(), st.booleans(), st.integers(), st.floats(), TEXTS)
)
TREES = st.recursive(
    LEAVES,
    lambda inside: st.one_of(
        st.lists(inside, max_size=3),
        st.lists(inside, max_size=3).map(tuple),
        st.dictionaries(st.one_of(TEXTS, st.integers()), inside, max_size=3),
        st.builds(Parcel, inside, st.integers()),
    ),
    max_leaves=8,
)


def same(a, b):
    """Say whether two trees are equal, kinds and strides and all, bit for bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        alike = (a.dtype, a.shape) == (b.dtype, b.shape)
        strides = not a.numel() or a.contiguous().stride() == b.contiguous().stride()
        return alike and strides and encode([a]) == encode([b])
    if dataclasses.is_dataclass(a):
        return same(vars(a), vars(b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (math.isnan(a) and math.isnan(b))


def sizes_in(tree):
    if isinstance(tree, torch.Tensor):
        return tree.numel() * tree.element_size()
    if dataclasses.is_dataclass(tree):
        return sizes_in(tree.content)
    inside = tree.values() if isinstance(tree, dict) else tree
    return sum(map(sizes_in, inside)) if isinstance(tree, dict | list | tuple) else 0


class TestPayloads:
    @given(TREES)
    def test_what_is_sent_arrives(self, tree):
        assert same(decode(encode(tree)), tree)

    @given(TREES)
    def test_its_size_is_that_of_its_elements(self, tree):
        assert seal(Parcel(tree), "test") == sizes_in(tree)

    @given(TREES, st.data())
    def test_whatever_bit_is_wrong_it_is_refused(self, tree, data):
        sound = bytearray(encode(Parcel(tree)))
        place = data.draw(st.integers(0, len(sound) - 1))
        sound[place] ^= 1 << data.draw(st.integers(0, 7))
        with pytest.raises(ContractError):
            decode(bytes(sound))

    @given(TREES, st.data())
    def test_whatever_is_cut_off_or_added_is_refused(self, tree, data):
        sound = encode(Parcel(tree))
        cut = data.draw(st.integers(0, len(sound) - 1))
        for wrong in (sound[:cut], sound + b"\0", sound[:cut] + b"\0" + sound[cut:]):
            with pytest.raises(ContractError):
                decode(wrong)


@st.composite
def states(draw, least=1):
    number = draw(st.integers(least, 9))
    rng = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    made = [
        {
            "w": torch.randn(3, 4, generator=rng),
            "b": torch.randn(4, generator=rng),
            "n": torch.randint(0, 100, (), generator=rng),
        }
        for _ in range(number)
    ]
    weights = draw(
        st.lists(st.floats(0.01, 100), min_size=number, max_size=number).map(list)
    )
    return made, weights


def near(a, b, within=1e-5):
    return all(torch.allclose(a[n].double(), b[n].double(), 0, within) for n in a)


def floats(state):
    return {name: value for name, value in state.items() if name != "n"}


class TestAverages:
    @given(states(), st.randoms(use_true_random=False))
    def test_the_order_of_clients_does_not_matter(self, given_, random):
        every, weights = given_
        order = random.sample(range(len(every)), len(every))
        other = weighted_average([every[i] for i in order], [weights[i] for i in order])
        assert near(floats(weighted_average(every, weights)), floats(other))

    @given(states(), st.floats(1e-3, 1e3))
    def test_only_ratios_of_weights_matter(self, given_, factor):
        every, weights = given_
        other = weighted_average(every, [w * factor for w in weights])
        assert near(floats(weighted_average(every, weights)), floats(other))
        assert math.isclose(float(normalised(weights).sum()), 1)

    @given(states(), st.floats(-9, 9))
    def test_it_follows_what_is_added_and_lies_between_its_parts(self, given_, shift):
        every, weights = given_
        mean = weighted_average(every, weights)
        moved = [{n: v + shift for n, v in floats(one).items()} for one in every]
        there = weighted_average(moved, weights)
        assert near(there, {n: v + shift for n, v in floats(mean).items()}, 1e-4)
        stacked = torch.stack([one["w"] for one in every])
        assert (mean["w"] >= stacked.amin(0) - 1e-5).all()
        assert (mean["w"] <= stacked.amax(0) + 1e-5).all()

    @pytest.mark.parametrize("name", RULES)
    @given(states(least=7), st.randoms(use_true_random=False))
    def test_every_rule_returns_what_all_agree_on_and_minds_no_order(
        self, name, given_, random
    ):
        every, weights = given_
        rule, zero = (
            rule_of(name),
            {n: torch.zeros_like(v) for n, v in every[0].items()},
        )
        agreed = rule.combine([every[0]] * len(every), weights, every[0])
        assert near(agreed, every[0])
        if name == "bulyan":
            return  # of the last few, two are each other's nearest: the first counts
        order = random.sample(range(len(every)), len(every))
        one = rule.combine(every, weights, zero)
        other = rule.combine(
            [every[i] for i in order], [weights[i] for i in order], zero
        )
        assert near(floats(one), floats(other), 1e-4)

    @pytest.mark.parametrize(
        "name", ["median", "trimmed_mean", "krum", "multi_krum", "bulyan"]
    )
    @given(states(least=7), st.floats(-1e6, 1e6))
    def test_one_client_cannot_take_a_rule_beyond_the_others(self, name, given_, far):
        every, weights = given_
        honest = torch.stack([one["w"] for one in every[1:]])
        assume(abs(far) > 100)
        attack = {**every[0], "w": every[0]["w"] + far, "b": every[0]["b"] - far}
        made = rule_of(name).combine([attack, *every[1:]], weights, every[1])
        assert (made["w"] >= honest.amin(0) - 1e-5).all()
        assert (made["w"] <= honest.amax(0) + 1e-5).all()


@st.composite
def widths(draw):
    total, kept = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    assume(kept <= total)
    axes = Axes((total,), {"w": (Axis(0), None), "v": (None, Axis(0, 2))}, {}, -1, {})
    return axes, total, kept


SCHEMES = st.sampled_from(["static", "rolling", "rolling-back", "random"])


class TestWidths:
    @given(widths(), SCHEMES, st.integers(0, 500), st.integers(0, 9))
    def test_channels_are_there_and_each_is_held_once(
        self, given_, scheme, round, seed
    ):
        axes, total, kept = given_
        where = index_map(axes, (kept,), scheme, round, (seed,))
        (channels,) = where.channels
        if kept == total:
            assert channels is None
            return
        held = channels.tolist()
        assert len(set(held)) == len(held) == kept
        assert set(held) <= set(range(total))
        block = where.positions("v")[1].tolist()
        assert block == [2 * c + i for c in held for i in range(2)]

    @given(widths(), st.sampled_from(["rolling", "rolling-back"]), st.integers(0, 500))
    def test_a_window_that_rolls_covers_all_equally(self, given_, scheme, first):
        axes, total, kept = given_
        assume(kept < total)
        held = [
            c
            for round in range(first, first + total)
            for c in index_map(axes, (kept,), scheme, round).channels[0].tolist()
        ]
        assert np.bincount(held, minlength=total).tolist() == [kept] * total

    @given(widths(), SCHEMES, st.integers(0, 50))
    def test_what_is_cut_out_and_averaged_back_changes_nothing(
        self, given_, scheme, round
    ):
        axes, total, kept = given_
        whole = {"w": torch.randn(total, 3), "v": torch.randn(2, 2 * total)}
        where = index_map(axes, (kept,), scheme, round)
        part = Part(extract(whole, where), where, 2.0)
        back = partial_average(whole, [part])
        assert all(torch.equal(back[name], value) for name, value in whole.items())


@functools.lru_cache(maxsize=1)
def registry():
    return load_registry()


KEYS = {
    "rounds": st.integers(1, 500),
    "clients": st.integers(1, 50),
    "seeds": st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True),
    "description": TEXTS,
    "participation": st.floats(0.1, 1),
}


class TestSuites:
    @given(
        st.sampled_from(["quick", "fmnist"]),
        st.fixed_dictionaries({}, optional=KEYS),
    )
    def test_a_suite_says_what_makes_it_again(self, name, changes):
        values, where = read_suite(name)
        suite = build_suite({**values, **changes}, where)
        text = yamlfile.dump(suite.plain())
        back, there = read_suite(yamlfile.parse(text, "text"))
        again = build_suite(back, there)
        assert again.plain() == suite.plain()
        hashes = [c.config_hash for c in grid(suite, registry())]
        assert [c.config_hash for c in grid(again, registry())] == hashes

    @given(st.sampled_from(suite_names()), TEXTS, ODD)
    def test_no_key_is_taken_that_is_none(self, name, key, value):
        assume(key not in type(build_suite(*read_suite(name))).model_fields)
        values, where = read_suite(name)
        with pytest.raises(ConfigError, match="unknown key"):
            build_suite({**values, key: value}, where)

    @given(st.sampled_from(sorted(Protocol.model_fields)), ODD)
    def test_no_value_of_a_key_raises_anything_but_ours(self, key, value):
        values, where = read_suite("quick")
        with contextlib.suppress(ConfigError):
            grid(build_suite({**values, key: value}, where), registry())
