"""What data-free strategies need is known before a round; what diverges names its rate."""

import pytest
import torch

from fedkd import testing
from fedkd.errors import DivergedError, NotApplicableError
from fedkd.plugins.options import made, resolve
from fedkd.plugins.registry import load_registry
from fedkd.simulation.requirements import fitted
from fedkd.simulation.simulator import simulate

REGISTRY = load_registry()
NAMES = sorted(REGISTRY.entries("strategies"))
PAINTERS = [
    name
    for name in NAMES
    if name.startswith(("coboosting", "dense", "dfrd", "fedftg", "mosaic", "sda-fl"))
    and name != "mosaic-features"  # its generators make features
]

FEW = {"epochs": 2, "generator_steps": 2, "batch_size": 8, "width": 2}
NO_NORM = {"synthesis": {"inversion_weight": 0, **FEW}}


def strategy(name, options=None):
    return made(
        REGISTRY, "strategies", resolve(REGISTRY, "strategies", name, options or {}, "")
    )


def world(side, rounds=2):
    images = testing.toy_images(size=side)
    federation = testing.toy_federation(data=images, models=("mlp",))
    return federation, testing.toy_protocol(rounds)


def test_the_strategies_with_generators_of_images_are_these():
    builders = [name for name in NAMES if strategy(name).requires.builds]
    assert builders == PAINTERS


@pytest.mark.parametrize("name", PAINTERS)
def test_images_below_8x8_are_refused_before_the_first_round(name):
    with pytest.raises(NotApplicableError, match=r"images of 6x6.*sides of 8 or more"):
        fitted(strategy(name), *world(6), 0, name)


@pytest.mark.parametrize("name", PAINTERS)
def test_images_of_8x8_are_taken(name):
    fitted(strategy(name), *world(8), 0, name)


@pytest.mark.parametrize("name", ["ccvr", "fedavg"])
def test_calibration_needs_two_rounds(name):
    one = strategy(name, {} if name == "ccvr" else {"calibrate": {}})
    fitted(one, *world(8), 0, name)
    with pytest.raises(NotApplicableError, match="needs 2 rounds, and the run has 1"):
        fitted(one, *world(8, rounds=1), 0, name)


@pytest.mark.parametrize(
    ("name", "options", "knob"),
    [
        ("dfrd", {"generator": {"lr": 1e30}}, "generator.lr"),
        ("dfrd", {"distil": {"lr": 1e30}}, "distil.lr"),
        ("fedftg", {"generator": {"lr": 1e30}}, "generator.lr"),
        ("fedftg", {"distil": {"lr": 1e30}}, "distil.lr"),
        ("fedgen", {"generator": {"lr": 1e30}}, "generator.lr"),
        ("dense", {"distil": {"lr": 1e30}, **NO_NORM}, "distil.lr"),
        (
            "coboosting",
            {"distil": {"lr": 1e38, "clip_norm": None}, "synthesis": FEW},
            "distil.lr",
        ),
    ],
)
def test_what_diverges_at_the_server_names_its_rate(name, options, knob):
    torch.manual_seed(0)
    federation, protocol = world(8)
    with pytest.raises(DivergedError, match=f"lower .*{knob}"):
        simulate(strategy(name, options), federation, protocol, 0)
