"""Weights on their way: averaged, sealed, packed; against copying as many bytes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from fedkd.ops.averaging import weighted_average
from fedkd.payload import Weights, seal
from fedkd.plugins.registry import load_registry
from fedkd.simulation.store.packing import Packed, unpack
from fedkd.weights import read_weights

STATES = 10


@dataclass(frozen=True)
class Sent:
    weights: Weights
    examples: int


@pytest.fixture(scope="module")
def states():
    """The states of ten ResNet-18, each in memory of its own."""
    model = load_registry().model("resnet18")((3, 32, 32), 10)
    return [read_weights(model) for _ in range(STATES)]


def copies_of(states):
    """Return a function that reads all states and writes them down once."""
    places = [{k: torch.empty_like(v) for k, v in state.items()} for state in states]

    def copy():
        for state, place in zip(states, places, strict=True):
            for name, value in state.items():
                place[name].copy_(value)

    return copy


def test_averaging_against_copying(against, states):
    shares = list(range(1, STATES + 1))
    against(lambda: weighted_average(iter(states), shares), copies_of(states))


def test_sealing_against_copying(against, states):
    sent = Sent(states[0], 7)
    against(lambda: seal(sent, "the benchmark"), copies_of(states[:1]), rounds=31)


def test_packing_against_copying(against, states):
    """Into shared memory and out of it: two copies."""
    memory = bytearray(Packed(Sent(states[0], 7), "the benchmark").size)

    def there_and_back():
        packed = Packed(Sent(states[0], 7), "the benchmark")
        packed.write(memory, 0)
        unpack(memory, 0, packed.text)

    copy = copies_of(states[:1])

    def twice():
        copy()
        copy()

    against(there_and_back, twice, rounds=15)
