"""The executor that trains clients together: their numbers are those of the serial one."""

import gc
import json
import threading
import time
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

from fedkd import testing
from fedkd.algorithms.fedavg import FedAvg
from fedkd.algorithms.fedprox import FedProx
from fedkd.algorithms.local import Local
from fedkd.base import phases
from fedkd.data.images import Augmentation
from fedkd.engines import stacked, turn_thread
from fedkd.engines.surroundings import ProcessSettings, ThreadSettings
from fedkd.errors import DivergedError
from fedkd.party import ModelSpec
from fedkd.payload import take_apart
from fedkd.plugins.registry import load_registry
from fedkd.simulation.executors import Choice
from fedkd.simulation.federation import Federation
from fedkd.simulation.simulator import simulate

TOLERANCE = 1e-5
"""Of weights, relative to the largest of the tensor, or to 0.1."""
NARROW = ModelSpec("resnet18", {"width": 0.125})
MOSAIC = {
    "generator": {"steps": 2, "epochs": None, "batch_size": 8, "width": 2},
    "teacher": {"steps": 3, "samples_per_client": 8},
    "distil": {"steps": 2, "batch_size": 8},
}
IMAGES = replace(testing.toy_images(), augmentation=Augmentation(pad=1, flip=True))


def run(strategy, executor, *, models=("cnn",), rounds=3, **protocol):
    federation = testing.toy_federation(5, models=models, data=IMAGES)
    setting = testing.toy_protocol(rounds, 5, **protocol)
    if executor == "stacked":
        executor = stacked.StackedClients
    return simulate(strategy, federation, setting, 0, executor=executor)


def named(name, **options):
    return load_registry().strategy(name, options)[0]


def counted(result):
    """Return what must be equal to the bit, and what only nearly: losses."""
    lines = json.loads(json.dumps(result.history))
    losses = []
    for line in lines:
        for row in (line, *line["clients"].values()):
            row.pop("seconds")
            losses += [row.pop(key) for key in list(row) if key.endswith("_loss")]
            logged = row.pop("logged")
            if row is not line:
                losses += [v for k, v in logged.items() if k.endswith("_loss")]
    return lines, losses


def assert_close(first, second, tolerance=TOLERANCE, of_losses=1e-4):
    structure, tensors = take_apart(first.state)
    other_structure, others = take_apart(second.state)
    assert structure == other_structure
    for a, b in zip(tensors, others, strict=True):
        far = (a.double() - b.double()).abs().max()
        assert float(far) <= tolerance * float(a.double().abs().max().clamp(min=0.1))
    lines, losses = counted(first)
    other_lines, other_losses = counted(second)
    assert lines == other_lines
    assert losses == pytest.approx(other_losses, rel=of_losses)
    assert list(first.history[0]["clients"][0]) == list(second.history[0]["clients"][0])


class Numbers(list):
    """Of clients that trained together, and whether that was under autocast."""

    def __init__(self):
        super().__init__()
        self.lowered = []


@pytest.fixture
def together(monkeypatch):
    """Return a list that fills with the number of clients of each training together."""
    numbers = Numbers()
    real = stacked.train_together

    def counting(trainings):
        numbers.append(len(trainings))
        numbers.lowered.append(torch.is_autocast_enabled("cpu"))
        return real(trainings)

    monkeypatch.setattr(stacked, "train_together", counting)
    return numbers


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    left = [t.name for t in threading.enumerate() if t.name.startswith("turn of")]
    assert left == []


@pytest.mark.parametrize("model", ["mlp", "cnn", NARROW], ids=str)
def test_weights_agree_with_the_serial_ones(model, together):
    # One step: more of them blow up what rounding has changed in a deep network.
    training = {"local_steps": 2 if model != NARROW else 1, "batch_size": 8, "lr": 0.05}
    rounds = 3 if model != NARROW else 1
    results = [
        run(named("fedavg"), e, models=(model,), rounds=rounds, training=training)
        for e in ("serial", "stacked")
    ]
    # BatchNorm over few images makes more of rounding in each of many layers, and how much
    # differs between processors.
    assert_close(*results, tolerance=TOLERANCE if model != NARROW else 5 * TOLERANCE)
    assert together == [5] * rounds


def test_unequal_clients_passes_and_momentum_agree_too(together):
    training = {"local_epochs": 3, "batch_size": 4, "lr": 0.05, "momentum": 0.9}
    settings = {"training": {**training, "clip_norm": 1.0}, "participation": 4}
    results = [run(named("fedavg"), e, **settings) for e in ("serial", "stacked")]
    assert_close(*results)
    assert together == [4, 4, 4]


@pytest.mark.parametrize(
    ("name", "options", "trains"),
    [
        ("fedbn", {}, 3),
        ("fedprox", {}, 0),
        ("fedrs", {}, 0),
        ("mosaic", MOSAIC, 3),
        ("fedrep", {}, 6),  # heads, then bodies
        ("ditto", {}, 3),  # the global model alone: the own one has a penalty
    ],
)
def test_strategies_run_as_they_are(name, options, trains, together):
    results = [run(named(name, **options), e) for e in ("serial", "stacked")]
    assert_close(*results, tolerance=2e-4 if name == "mosaic" else TOLERANCE)
    assert len(together) == trains, "only what trains plainly is stacked"


def test_only_clients_of_one_architecture_train_together(together):
    results = [
        run(named("local"), e, models=("mlp", "cnn")) for e in ("serial", "stacked")
    ]
    assert_close(*results)
    assert together == [3, 2] * 3


def test_groups_have_a_largest_size(monkeypatch, together):
    monkeypatch.setattr(stacked, "LARGEST", 2)
    results = [run(named("fedavg"), e) for e in ("serial", "stacked")]
    assert_close(*results)
    assert together == [2, 2] * 3, "the fifth trains alone"


class Draws(FedAvg):
    """Sends what the generator gives before and after training."""

    seen: dict

    def local(self, down, client):
        before = torch.rand(3)
        sent = super().local(down, client)
        after = torch.rand(3)
        more = client.train().loss
        state = torch.default_generator.get_state()
        self.seen.setdefault(client.id, []).append((before, after, state))
        assert more > 0
        return sent


def test_each_client_draws_what_it_would_draw_alone(together):
    outer = torch.default_generator.get_state()
    found = []
    for executor in ("serial", "stacked"):
        strategy = Draws(FedAvg.Config())
        strategy.seen = {}
        run(strategy, executor, rounds=2)
        found.append(strategy.seen)
    assert together == [5] * 4
    for k, draws in found[0].items():
        for one, other in zip(draws, found[1][k], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert torch.equal(outer, torch.default_generator.get_state())


class Harmful(FedAvg):
    """Fails, for some clients, after training."""

    harm = staticmethod(lambda client: None)

    def local(self, down, client):
        sent = super().local(down, client)
        self.harm(client)
        return sent


def harmful(harm):
    strategy = Harmful(FedAvg.Config())
    strategy.harm = harm
    return strategy


def test_of_several_exceptions_the_first_client_s_comes_out():
    class Odd(Exception):
        pass

    def harm(client):
        if client.id >= 1:
            raise Odd(f"client {client.id}")

    outer = torch.default_generator.get_state()
    for models in (("cnn",), ("cnn", ModelSpec("cnn", {"norm": "batch"}))):
        # Of the second mix, clients 0, 2 and 4 are in the first group.
        strategy = harmful(harm)
        strategy.requires = replace(strategy.requires, one_architecture=False)
        with pytest.raises(Odd) as caught:
            run(strategy, "stacked", models=models)
        assert str(caught.value) == "client 1"
    assert torch.equal(outer, torch.default_generator.get_state())


def test_an_interrupt_ends_all_threads_and_comes_out():
    def harm(client):
        if client.id == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(harmful(harm), "stacked")


def test_ctrl_c_while_a_turn_works_ends_it(monkeypatch):
    """The main thread waits for client 2, which works on, while 0 and 1 are parked."""
    real = threading.Semaphore.acquire
    main = threading.main_thread()
    waits = []

    def acquire(self, *arguments, **named):
        if threading.current_thread() is main:
            waits.append(self)
            if len(waits) == 3:
                assert busy.wait(10)
                raise KeyboardInterrupt
        return real(self, *arguments, **named)

    ended = []
    busy = threading.Event()

    class Busy(FedAvg):
        def local(self, down, client):
            try:
                while client.id == 2:
                    busy.set()
                return super().local(down, client)
            finally:
                ended.append(client.id)

    outer = torch.default_generator.get_state()
    clock = phases.exchange(None)
    monkeypatch.setattr(threading.Semaphore, "acquire", acquire)
    with pytest.raises(KeyboardInterrupt):
        run(Busy(FedAvg.Config()), "stacked")
    assert sorted(ended) == [0, 1, 2]
    assert torch.equal(outer, torch.default_generator.get_state())
    assert phases.exchange(clock) is clock


def test_divergence_is_of_the_client_that_diverges():
    def scaled(down, client):
        weight = next(iter(client.model.parameters()))
        if client.id == 3:
            weight.data.fill_(float("nan"))

    class Apart(Local):
        def local(self, down, client):
            client.load(client.initial)
            scaled(down, client)
            try:
                client.train()
            except DivergedError as error:
                assert client.id == 3
                raise DivergedError(f"client {client.id}: {error}") from None
            return super().local(down, client)

    with pytest.raises(DivergedError, match=r"^client 3: the training loss became nan"):
        run(Apart(Local.Config()), "stacked")


class Branching(nn.Module):
    def __init__(self, image_shape, num_classes):
        super().__init__()
        self.layer = nn.Linear(image_shape[1] * image_shape[2], num_classes)

    def forward(self, x):
        return self.layer(x.flatten(1) * (2 if bool(x.sum() > 0) else 1))


class Dropping(Branching):
    def forward(self, x):
        return self.layer(nn.functional.dropout(x.flatten(1), 0.5))


@pytest.mark.parametrize("model", [Branching, Dropping])
def test_a_model_that_cannot_be_stacked_trains_alone_and_it_is_said_once(model):
    def world():
        toy = testing.toy_federation(5)
        shards = [client.indices.numpy() for client in toy.clients]
        tests = [shard.numpy() for shard in toy.test_shards]
        return Federation(
            toy.data, shards, tests, [ModelSpec("mine")], lambda name: model
        )

    protocol = testing.toy_protocol(3, 5)
    strategy = named("fedavg")
    serial = simulate(strategy, world(), protocol, 0)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        alone = simulate(
            strategy, world(), protocol, 0, executor=stacked.StackedClients
        )
    texts = [str(w.message) for w in said if "one by one" in str(w.message)]
    assert len(texts) == 1
    assert "mine{}" in texts[0]
    assert_close(serial, alone, tolerance=0)


def test_seconds_and_phases_are_counted_once(monkeypatch):
    together = []
    real = stacked.train_together

    def timed(trainings):
        started = time.perf_counter()
        found = real(trainings)
        together.append(time.perf_counter() - started)
        return found

    monkeypatch.setattr(stacked, "train_together", timed)
    training = {"local_steps": 40, "batch_size": 8, "lr": 0.01}
    choice = Choice(stacked.StackedClients, profile=True)
    found = run(named("fedavg"), choice, models=("mlp",), training=training)
    rows = found.history[-1]["clients"]
    last = found.metrics
    assert all(row["seconds"] > 0 for row in rows.values())
    total = sum(
        row["seconds"] for line in found.history for row in line["clients"].values()
    )
    # Seconds are rounded to four places.
    rounding = 1e-4 * sum(len(line["clients"]) for line in found.history)
    assert sum(together) - rounding <= total <= last["seconds"] + 0.01
    phases = last["phases"]
    turns = phases["local"] + phases["data"] + phases["transport"]
    assert turns >= sum(together) - rounding
    assert phases["data"] > 0
    assert 0.5 * total <= turns <= 1.05 * total + 0.01


class Surrounded(FedAvg):
    """Trains within settings of its own."""

    def local(self, down, client):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if client.id % 2 else "error")
            mine = list(warnings.filters)
            sent = super().local(down, client)
            assert warnings.filters == mine, "another client's settings"
        return sent


def test_settings_of_one_client_do_not_reach_another():
    before = warnings.filters
    run(Surrounded(FedAvg.Config()), "stacked")
    assert warnings.filters is before


class Lowered(FedAvg):
    """Trains in bfloat16, outside and inside its own block."""

    def local(self, down, client):
        with torch.autocast("cpu", torch.bfloat16, client.id < 3, cache_enabled=False):
            return super().local(down, client)


def test_autocast_is_kept_over_a_stop_and_kinds_differ_by_it(together):
    results = [
        run(Lowered(FedAvg.Config()), e, rounds=1, models=("mlp",))
        for e in ("serial", "stacked")
    ]
    assert together == [3, 2]
    assert together.lowered == [True, False]
    assert not torch.is_autocast_enabled("cpu")
    # bfloat16 has 8 bits.
    assert_close(*results, tolerance=1e-2, of_losses=1e-2)


def test_threads_begin_with_the_mode_of_the_main_thread(monkeypatch):
    modes = []

    class Seen(FedAvg):
        def local(self, down, client):
            modes.append(ThreadSettings.now(torch.device("cpu")))
            return super().local(down, client)

    with torch.autocast("cpu", torch.bfloat16):
        here = ThreadSettings.now(torch.device("cpu"))
        run(Seen(FedAvg.Config()), "stacked", rounds=1, models=("mlp",))
    assert here.autocast == (("cpu", torch.bfloat16),)
    assert modes == [here] * 5


def test_ambient_settings_come_back():
    clock = phases.Phases()
    settings = ProcessSettings(torch.device("cpu"))
    torch.rand(3)
    before = phases.exchange(clock)
    settings.restore()
    drawn = torch.rand(3)
    settings.restore()
    assert torch.equal(drawn, torch.rand(3))
    assert phases.exchange(before) is before


def test_turns_that_have_ended_are_kept_by_nobody():
    executors = []
    real = stacked.StackedClients.__init__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            stacked.StackedClients,
            "__init__",
            lambda self, *given: (real(self, *given), executors.append(self))[0],
        )
        run(named("fedavg"), "stacked", rounds=1)
    gc.collect()
    (executor,) = executors
    assert len(executor._threads) == 5
    assert all(s.outcome is None and s.parked is None for s in executor._threads)
    assert turn_thread.TurnThread is type(executor._threads[0])


def test_a_penalty_trains_alone_at_once():
    """FedProx runs each client to its end before the next one starts."""
    order = []

    class Seen(FedProx):
        def local(self, down, client):
            order.append(("starts", client.id))
            sent = super().local(down, client)
            order.append(("ends", client.id))
            return sent

    run(Seen(FedProx.Config()), "stacked", rounds=1)
    assert order == [(what, k) for k in range(5) for what in ("starts", "ends")]
