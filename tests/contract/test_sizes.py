"""Every strategy runs on images of odd sizes, those that make images on several."""

import dataclasses

import pytest
from strategy_settings import SETTINGS, marks_of

from fedkd import simulate, testing
from fedkd.plugins.registry import load_registry

REGISTRY = load_registry()


def images_of(height, breadth, channels):
    whole = testing.toy_images(size=max(height, breadth), channels=channels)
    return dataclasses.replace(
        whole,
        x_train=whole.x_train[:, :, :height, :breadth].contiguous(),
        x_test=whole.x_test[:, :, :height, :breadth].contiguous(),
    )


ODD = [(17, 17, 1)]
MORE = [(16, 21, 3), (30, 30, 1)]
"""Sizes that make a difference to generators and discriminators alone."""


def worlds():
    """Yield each strategy with the sizes on which it is tried; presets with one of them."""
    seen = set()
    for name in REGISTRY.entries("strategies"):
        strategy, _ = REGISTRY.strategy(name, SETTINGS.get(name, {}))
        is_first = type(strategy) not in seen
        seen.add(type(strategy))
        for sides in ODD + (MORE if strategy.requires.builds and is_first else []):
            yield pytest.param(name, sides, marks=marks_of(name))


@pytest.mark.parametrize(("name", "sides"), list(worlds()))
def test_it_runs(name, sides):
    strategy, _ = REGISTRY.strategy(name, SETTINGS.get(name, {}))
    clients = 3
    federation = testing.toy_federation(clients, data=images_of(*sides))
    result = simulate(strategy, federation, testing.toy_protocol(3, clients), 0)
    assert len(result.history) == 3
