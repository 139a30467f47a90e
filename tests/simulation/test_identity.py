"""What a run is, in words."""

import pytest

from fedkd import load_registry, testing
from fedkd.simulation.identity import identity
from fedkd.simulation.sides import Sides

REGISTRY = load_registry()


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("fedavg", "fedkd.algorithms.fedavg.FedAvg"),
        ("mosaic", "fedkd.algorithms.mosaic.Mosaic"),
        ("dense", "fedkd.algorithms.dense.Dense"),
        ("dfrd", "fedkd.algorithms.dfrd.DFRD"),
        ("fedftg", "fedkd.algorithms.fedftg.FedFTG"),
        ("fedgen", "fedkd.algorithms.fedgen.FedGen"),
    ],
)
def test_a_method_of_several_modules_goes_by_its_package(name, title):
    """Which is what checkpoints call it that were written when it was one module."""
    strategy, _ = REGISTRY.strategy(name)
    sides = Sides(testing.toy_federation(), testing.toy_protocol(), 0)
    assert identity(strategy, sides)["strategy"] == title
