"""Mosaic's schedule, by literal tables."""

import pytest

from fedkd.algorithms.mosaic.config import MosaicConfig
from fedkd.algorithms.mosaic.schedule import RoundPlan, warmup_rounds
from fedkd.config import build
from fedkd.errors import ConfigError
from fedkd.plugins.registry import load_registry
from fedkd.strategy import Round

FEATURES = {"prototypes": "features", "prototype_rounds": 2}
PLAIN = RoundPlan()
SENDS = RoundPlan(generators=True)
LAST = RoundPlan(generators=True, distils=True)
TUNED = RoundPlan(lr=1e-3)


def plans(options, total):
    config = build(MosaicConfig, options, "mosaic")
    return [RoundPlan.of(config, Round(i, total, (0,))) for i in range(total)]


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
