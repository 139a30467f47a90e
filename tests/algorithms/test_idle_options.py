"""Options that others leave without effect are refused, each in a sentence."""

import pytest

from fedkd import load_registry
from fedkd.errors import ConfigError

REGISTRY = load_registry()
IDLE = [
    ("fedrs", {"cap": 0.5}, "variant: paper"),
    ("fedrs", {"variant": "official", "growth": 0.1}, "variant: official"),
    ("fedavgm", {"tau": 0.1}, "optimiser: sgd"),
    ("fedavgm", {"beta2": 0.9}, "optimiser: sgd"),
    ("fedadagrad", {"beta2": 0.9}, "optimiser: adagrad"),
    ("apfl", {"adapts": "never", "alpha_decay": 0.02}, "adapts: never"),
    ("coboosting", {"epsilon": 0.0, "epsilon_unit": "normalised"}, "epsilon 0"),
    ("coboosting", {"weight_step": 0, "weight_decay_per_epoch": 0.5}, "weight_step 0"),
]


@pytest.mark.parametrize(("name", "options", "why"), IDLE)
def test_an_option_without_effect_is_refused(name, options, why):
    idle, value = list(options.items())[-1]
    usual = REGISTRY.strategy(name, {})[0].config.model_dump()[idle]
    with pytest.raises(ConfigError) as caught:
        REGISTRY.strategy(name, options)
    said = str(caught.value)
    assert f"{idle}: found {value}, which has no effect, as " in said
    assert why in said
    assert said.endswith(f"; leave it out, or set it to its default, {usual}.")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fedrs", {"variant": "mosaic", "growth": 0.1, "cap": 0.5}),
        ("fedavgm", {"optimiser": "adam", "tau": 0.1, "beta2": 0.9}),
        ("fedadam", {"optimiser": "sgd"}),
        ("fedadagrad", {"tau": 0.1}),
        ("apfl", {"adapts": "step", "alpha_decay": 0.02}),
        ("apfl", {"adapts": "never", "alpha_decay": 0.0}),
        ("coboosting", {"epsilon": 0.0, "weight_step": 0.0}),
        ("coboosting", {"epsilon_unit": "normalised", "weight_decay_per_epoch": 0.5}),
    ],
)
def test_what_has_an_effect_or_is_at_its_default_is_taken(name, options):
    config = REGISTRY.strategy(name, options)[0].config.model_dump()
    assert {option: config[option] for option in options} == options
