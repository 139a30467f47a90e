"""Mosaic's schedule, by literal tables and in runs that lose a round."""

import pytest
import torch

from fedkd import simulate, testing
from fedkd.algorithms.mosaic.config import MosaicConfig
from fedkd.algorithms.mosaic.schedule import RoundPlan, warmup_rounds
from fedkd.algorithms.mosaic.strategy import Mosaic
from fedkd.config import build
from fedkd.errors import ConfigError
from fedkd.plugins.registry import load_registry
from fedkd.simulation.executors.base import Serial
from fedkd.strategy import Round

FEATURES = {"prototypes": "features", "prototype_rounds": 2}
PLAIN = RoundPlan()
SENDS = RoundPlan(generators=True)
LAST = RoundPlan(generators=True, distils=True)
TUNED = RoundPlan(lr=1e-3)


def plans(options, total):
    config = build(MosaicConfig, options, "mosaic")
    made, distilled = [], False
    for i in range(total):
        made.append(RoundPlan.of(config, Round(i, total, (0,)), distilled))
        distilled |= made[-1].distils
    return made


def test_a_round_of_distillation_without_answers_is_made_up_for_in_the_next():
    config = MosaicConfig(warmup=2)
    found = [RoundPlan.of(config, Round(i, 4, (0,)), distilled=i > 2) for i in range(4)]
    assert found == [PLAIN, LAST, LAST, TUNED]


@pytest.mark.parametrize(
    ("options", "rounds"),
    [
        # Three quarters of the rounds, then fine-tuning.
        ({}, [PLAIN, PLAIN, LAST, TUNED]),
        ({"warmup": 0.5}, [PLAIN, LAST, TUNED, TUNED]),
        ({"warmup": 0.01}, [LAST, TUNED, TUNED]),
        ({"warmup": 1.0}, [PLAIN, PLAIN, LAST]),
        # A number of rounds: 1 is not a share.
        ({"warmup": 1}, [LAST, TUNED, TUNED]),
        ({"warmup": 2}, [PLAIN, LAST, TUNED]),
        ({"warmup": 9}, [PLAIN, PLAIN, LAST]),
        # One shot: a run of one round distils in it.
        ({}, [LAST]),
        ({"warmup": 3}, [LAST]),
        # The protocol's rate after distillation.
        ({"finetune_lr": None}, [PLAIN, PLAIN, LAST, PLAIN]),
        # Generators in a client's first round, whichever it is.
        ({"generator": {"start": "first"}}, [SENDS, SENDS, LAST, TUNED]),
        # Feature prototypes in the last two rounds of warm-up.
        (
            {"teacher": FEATURES},
            [
                PLAIN,
                RoundPlan(features=True),
                RoundPlan(generators=True, features=True, distils=True),
                TUNED,
            ],
        ),
        ({"teacher": {**FEATURES, "kind": "diagonal"}}, [PLAIN, PLAIN, LAST, TUNED]),
        # Without distillation it is FedAvg.
        ({"distil": {"steps": 0}}, [PLAIN] * 4),
        (
            {
                "distil": {"steps": 0},
                "generator": {"start": "first"},
                "teacher": FEATURES,
            },
            [PLAIN] * 4,
        ),
    ],
)
def test_each_round_does_what_the_table_says(options, rounds):
    assert plans(options, len(rounds)) == rounds


def test_warmup_is_a_share_or_a_number_of_rounds():
    assert warmup_rounds(0.75, 80) == 60
    assert warmup_rounds(41, 80) == 41
    assert warmup_rounds(90, 80) == 80
    assert warmup_rounds(0.01, 10) == 1
    with pytest.raises(ConfigError, match=r"warmup: found 1\.5; expected a whole"):
        build(MosaicConfig, {"warmup": 1.5}, "x")


def test_the_code_preset_has_341_rounds_before_and_39_after_distillation():
    _, config = load_registry().strategy("mosaic-code", {})
    assert warmup_rounds(config.warmup, 380) == 341
    assert 380 - warmup_rounds(config.warmup, 380) == 39


@pytest.mark.parametrize("name", ["mosaic", "mosaic-features"])
def test_a_share_of_the_rounds_is_at_most_all(name):
    with pytest.raises(
        ConfigError, match=r"warmup: found 20\.0; expected a whole number"
    ):
        load_registry().strategy(name, {"warmup": 20.0})


class NobodyInTheSecond(Serial):
    """The turns of all clients, of whose answers none arrives in the second round."""

    name = "nobody"

    def answers(self, orders):
        yield from (one for one in super().answers(orders) if orders.round.index != 1)


@pytest.mark.parametrize("name", ["mosaic", "mosaic-features"])
def test_who_distils_in_a_round_without_answers_does_so_in_the_next(name, monkeypatch):
    small = {"steps": 2, "batch_size": 4}
    generator = {**small, "width": 2, "latent_size": 4} if name == "mosaic" else small
    options = {"warmup": 2, "finetune_lr": 1e-12, "generator": generator}
    options |= {"distil": {"steps": 1}}
    strategy, _ = load_registry().strategy(name, options)
    world, protocol = testing.toy_federation(), testing.toy_protocol(rounds=4)
    states = []
    aggregate = type(strategy).aggregate
    monkeypatch.setattr(
        type(strategy),
        "aggregate",
        lambda self, *given: states.append(aggregate(self, *given)) or states[-1],
    )
    simulate(strategy, world, protocol, 0, executor=NobodyInTheSecond)
    assert [state.stage is not None for state in states] == [False, True, False]
    before, after = states[1].weights, states[2].weights
    # Fine-tuning at a rate of nothing: it has begun, and only after distillation.
    for key, value in before.items():
        if value.is_floating_point() and "running" not in key:
            torch.testing.assert_close(after[key], value)


def test_without_distillation_nobody_needs_generators_or_features_of_one_size():
    made = [
        Mosaic(build(MosaicConfig, {"teacher": FEATURES, "distil": {"steps": n}}, "m"))
        for n in (0, 1)
    ]
    assert [bool(one.requires.builds) for one in made] == [False, True]
    assert [one.requires.equal_feature_size for one in made] == [False, True]
