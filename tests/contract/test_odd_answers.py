"""Every strategy goes on with the answers that there are, or diverges with a reason.

One run of each meets every fault but a trace at once: answers that never arrive, of which
one, two or three are left; one that is spoilt where nobody is there to outvote it; and one
whose values are spoilt. The packaged suite ``faults`` has every strategy with every fault
alone.
"""

import functools
import itertools
import math
from dataclasses import replace

import pytest
from strategy_settings import SETTINGS, each_strategy, marks_of

from fedkd import ModelSpec, simulate, testing
from fedkd.data.images import ClientData
from fedkd.errors import DivergedError
from fedkd.plugins.registry import load_registry
from fedkd.simulation.executors.base import Serial
from fedkd.simulation.faults.config import COUNTED, CorruptConfig
from fedkd.simulation.faults.corruption import corrupted
from fedkd.strategy import Preset

REGISTRY = load_registry()
SHARE = 0.3
FAULTS = {
    "drop": SHARE,
    "straggle": {"share": SHARE, "work": 0.5},
    "late": SHARE,
    "duplicate": SHARE,
    "label_flip": SHARE,
    "backdoor": {"share": SHARE, "size": 2},
}
SEED = 2548
"""Client 1 is the one whose answers are spoilt. Of those who are not silent nobody is
dropped or late in rounds 1 and 2; in round 3 clients 1 and 2 are, and client 2's answer
arrives in round 4, when its newer one is dropped."""
SILENT = ((0, 1), (0,), (), ())
"""Who says nothing at all, by round."""
FORMS = ("shape", "missing", "extra", "dtype")
VALUES = ("scale", "nan", "sign", "inf", "noise")


class Dropping(Serial):
    """The turns of all clients, of which some say nothing; in round 3, one is spoilt."""

    name = "dropping"
    kind = "nan"

    def answers(self, orders):
        index = orders.round.index
        for k, answer in super().answers(orders):
            hit = (index, k) == (2, 0)
            if k not in SILENT[index]:
                yield k, spoilt(k, answer, orders, self.kind) if hit else answer


def spoilt(k, answer, orders, kind):
    how = CorruptConfig(share=1.0, kind=kind)
    return replace(answer, up=corrupted(answer.up, orders.broadcast(k)[0], how, 0))


@functools.cache
def names():
    """Return a name for each class that is registered, and that of calibrated FedAvg."""
    seen = {}
    for name in REGISTRY.entries("strategies"):
        target = REGISTRY.resolve("strategies", name)
        kind = target.strategy if isinstance(target, Preset) else target
        seen.setdefault(kind, name)
    return [*seen.values(), "fedavg"]


MET = list(zip(names(), itertools.cycle(FORMS), itertools.cycle(VALUES)))


def uneven():
    """Return a federation whose client 0 has images of one class, and the others of two."""
    world = testing.toy_federation()
    whole = world.clients[0]
    labels = world.data.y_train[whole.indices]
    world.clients[0] = ClientData(world.data, whole.indices[labels == 1])
    return world


def strategy_of(name):
    return REGISTRY.strategy(name, SETTINGS.get(name, {}))[0]


def mixes(name):
    """Say whether the clients of a strategy may have models of two widths."""
    needs = strategy_of(name).requires
    same = needs.one_architecture or needs.equal_feature_size or needs.shared_layers
    return not (same or strategy_of(name).pools_clients)


def spoils(name, form, k):
    """Return client k in a set, or nobody where its answer has nothing to spoil."""
    entries = form in ("missing", "extra")
    by_class = ("feddistill", "fedgh", "fedproto", "fedtgp")  # any may be missing
    nothing = name == "local" or (name == "fedmd" and entries)
    nothing |= name == "central" or (name in by_class and form == "missing")
    return set() if nothing else {k}


def rejected(line):
    return {k for k, row in line["clients"].items() if "rejected" in row}


@pytest.mark.parametrize(
    ("name", "form", "value"),
    [pytest.param(*one, id="-".join(one), marks=marks_of(one[0])) for one in MET],
)
def test_a_run_in_which_everything_goes_wrong_comes_to_an_end(name, form, value):
    strategy = strategy_of(name)
    corrupt = {"share": SHARE, "kind": form}
    protocol = testing.toy_protocol(4, 3, faults={**FAULTS, "corrupt": corrupt})
    executor = type("Dropping", (Dropping,), {"kind": value})
    lines, reason = [], ""
    try:
        simulate(
            strategy,
            uneven(),
            protocol,
            seed=SEED,
            executor=executor,
            on_round=lines.append,
        )
    except DivergedError as error:
        reason = str(error)
    # Pooled, there is one client, and it is silent.
    sizes = [0, 0, 1, 1] if strategy.pools_clients else [1, 2, 3, 3]
    assert len(lines) > 1, "nothing is spoilt in value before round 3"
    assert [len(line["clients"]) for line in lines] == sizes[: len(lines)]
    # Honest answers are let in, also one of which there is no other; of two, the odd one
    # is not.
    assert set().union(*map(rejected, lines)) <= {1}
    assert rejected(lines[1]) == spoils(name, form, 1)
    assert math.isfinite(lines[1]["global_accuracy"] or 0.0)
    if reason:
        assert "not finite" in reason or "became" in reason
        return
    asked = set() if strategy.pools_clients else set(COUNTED)
    counted = {key for key in lines[-1] if key.startswith("faults_")}
    assert counted == asked - {"faults_availability"}
    assert strategy.pools_clients or lines[-1]["faults_corrupt"] > 0


class Mute(Serial):
    """The turns of all clients, of which nobody says anything in the first round."""

    name = "mute"

    def answers(self, orders):
        every = super().answers(orders)
        return every if orders.round.index else ()


@pytest.mark.parametrize("name", each_strategy(names()))
def test_a_first_round_without_answers_passes_and_is_measured(name):
    strategy = strategy_of(name)
    world = testing.toy_federation(2), testing.toy_protocol(2, 2)
    first, second = simulate(strategy, *world, seed=1, executor=Mute).history
    assert (first["bytes_up"], first["clients"]) == (0, {})
    assert set(second["clients"]) == ({0} if strategy.pools_clients else {0, 1})
    assert not rejected(second)
    for line in (first, second):
        assert 0 <= line["global_accuracy"] <= 100
        assert 0 <= line["local_accuracy"] <= 100


@pytest.mark.parametrize("name", ["ccvr", "mosaic-features"])
def test_late_answers_to_another_question_are_left_out_though_they_are_alike(name):
    """All of round 2 of 3, which are models, arrive in the last, which asks for others."""
    world = testing.toy_federation(), testing.toy_protocol(3, faults={"late": 1.0})
    _, second, third = simulate(strategy_of(name), *world, seed=1).history
    assert third["faults"]["arrived"] == [0, 1, 2]
    assert ("rejected" in second, third["rejected"]) == (False, 3)
    assert third["global_accuracy"] == second["global_accuracy"]


class Spoilt(Serial):
    """The turns of all clients; the answer of client 0 is spoilt."""

    name = "spoilt"
    kind = "shape"

    def answers(self, orders):
        for k, answer in super().answers(orders):
            yield k, answer if k else spoilt(k, answer, orders, self.kind)


APART = [ModelSpec("cnn", {"width": width}) for width in (1.0, 0.5)]


@pytest.mark.filterwarnings("ignore:the server leaves out answers")
@pytest.mark.parametrize(("name", "form"), [(n, f) for n, f, _ in MET if mixes(n)])
def test_with_a_model_for_each_client_the_spoilt_answer_is_left_out(name, form):
    executor = type("Spoilt", (Spoilt,), {"kind": form})
    world = testing.toy_federation(2, APART), testing.toy_protocol(1, 2)
    (line,) = simulate(strategy_of(name), *world, seed=1, executor=executor).history
    assert rejected(line) == spoils(name, form, 0)
