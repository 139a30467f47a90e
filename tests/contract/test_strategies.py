"""Every registered strategy keeps every promise of the contract."""

import functools

import pytest
from strategy_settings import SETTINGS, marks_of

from fedkd import testing
from fedkd.plugins.registry import load_registry
from fedkd.strategy import Preset

REGISTRY = load_registry()


NEEDLESS = (
    "central",
    "ensemble",
    "feddistill",
    "feddistill-htfllib",
    "fedkd-wu",
    "fml",
    "local",
)
"""Strategies that every federation suits."""
NOT_APPLICABLE = {
    "order_of_clients_is_irrelevant": ("central",),
    "needs_are_refused_with_a_reason": NEEDLESS,
    "partial_participation_works": ("central",),
}
"""The only checks that do not apply, and to whom; a new one is to be noticed."""


ONCE = {
    "another_seed_ends_elsewhere",
    "order_of_clients_is_irrelevant",
    "weights_left_over_are_irrelevant",
    "hashes_of_texts_are_irrelevant",
}
"""Checks of how the verbs are written, which presets share with their strategy; each takes
a run of its own, and is a thorough test but for a strategy of every kind."""


def promises():
    """Yield the checks of one strategy after the other: those of one share its runs."""
    for name in REGISTRY.entries("strategies"):
        is_preset = isinstance(REGISTRY.resolve("strategies", name), Preset)
        for check in testing.STRATEGY_CHECKS:
            if not (is_preset and check.__name__ in ONCE):
                is_long = is_preset or check.__name__ in ONCE
                marks = marks_of(name) if is_long else []
                yield pytest.param(
                    name, check, id=f"{check.__name__}-{name}", marks=marks
                )


@functools.lru_cache
def factory(name):
    """Return a function that makes a strategy; the same one, so that checks share runs."""
    return lambda: REGISTRY.strategy(name, SETTINGS.get(name, {}))[0]


@pytest.mark.parametrize(("name", "check"), list(promises()))
def test_the_contract_holds(name, check, tmp_path):
    expected = name in NOT_APPLICABLE.get(check.__name__, ())
    try:
        check(factory(name), tmp_path)
    except testing.NotApplicable:
        assert expected, "a check that should apply says that it does not"
        raise
    assert not expected, "a check passed that was not to apply"


def test_a_server_has_no_data_by_its_type():
    from fedkd.simulation.sides import Sides

    sides = Sides(testing.toy_federation(), testing.toy_protocol(), 0)
    assert not hasattr(sides.server(), "data")


def test_a_contract_check_notices_a_strategy_that_uses_the_global_generator():
    from fedkd.algorithms.fedavg import FedAvg

    class Leaky(FedAvg):
        calls = 0

        def local(self, down, client):
            Leaky.calls += 1
            update = super().local(down, client)
            for value in update.weights.values():
                if value.is_floating_point():
                    value.add_(Leaky.calls)
            return update

    with pytest.raises(AssertionError, match="one seed gave two results"):
        testing.same_seed_gives_equal_bits(Leaky, None)


def test_a_contract_check_notices_an_image_in_a_payload(tmp_path):
    from dataclasses import replace

    from fedkd.algorithms.fedavg import FedAvg

    class Thief(FedAvg):
        def local(self, down, client):
            x, _ = next(client.data.images(2))
            return replace(super().local(down, client), besides=x)

    with pytest.raises(AssertionError, match="holds a training image"):
        testing.no_image_leaves_a_client(Thief, tmp_path)
