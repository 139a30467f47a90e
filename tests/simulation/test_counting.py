"""What is counted is so, whatever a strategy logs, trains to be measured, or remembers."""

import sys
from dataclasses import replace

import pytest
import torch

from fedkd import testing
from fedkd.algorithms.averaging import Global
from fedkd.algorithms.fedavg import FedAvg
from fedkd.errors import ContractError
from fedkd.simulation.executors import Choice
from fedkd.simulation.simulator import simulate

COUNTED = ("bytes_up", "bytes_down", "client_examples", "server_examples", "round")


def run(strategy, rounds=2, executor="serial", **options):
    protocol = testing.toy_protocol(rounds, **options)
    return simulate(strategy, testing.toy_federation(), protocol, 0, executor=executor)


class Forging(FedAvg):
    """Logs under every name that means something else."""

    def local(self, down, client):
        for name in (*COUNTED, "examples", "seconds", "phases", "trained_accuracy"):
            client.log(name, 1e9)
        return super().local(down, client)

    def aggregate(self, state, ups, server, round):
        for name in (*COUNTED, "train_loss", "global_accuracy", "seconds"):
            server.log(name, -1)
        return super().aggregate(state, ups, server, round)


@pytest.mark.parametrize("executor", ["serial", Choice("processes", 2)])
def test_no_name_that_is_logged_overwrites_what_is_counted(executor):
    honest, forged = run(FedAvg()), run(Forging(), executor=executor)
    for one, other in zip(honest.history, forged.history, strict=True):
        for key in (*COUNTED, "train_loss", "global_accuracy"):
            assert other[key] == one[key], key
        assert 0 < other["seconds"] < 1e6
        for k, row in one["clients"].items():
            for key in ("bytes_up", "bytes_down", "examples"):
                assert other["clients"][k][key] == row[key], key
            assert 0 <= other["clients"][k]["seconds"] < 1e6
            assert other["clients"][k]["logged"]["bytes_up"] == 1e9
        assert other["logged"]["examples"] == 1e9
        assert other["logged"]["bytes_up"] == -1


class Missing(FedAvg):
    def local(self, down, client):
        client.log("some", float(client.id) if client.id else float("nan"))
        client.log("none", float("nan"))
        return super().local(down, client)


def test_what_is_not_finite_is_left_out_of_means():
    logged = run(Missing(), 1).metrics["logged"]
    assert logged["some"] == 1.5
    assert logged["none"] is None


class Tuning(FedAvg):
    """Trains on before it is measured."""

    def personal(self, state, client):
        model = client.load(state.weights)
        client.train()
        return model


def test_what_a_client_trains_to_be_measured_is_counted_in_all_and_by_itself():
    plain, tuned = run(FedAvg()), run(Tuning())
    steps = 2 * 8 * 3  # of two steps of 8 images at three clients, each round
    assert [line["personal_examples"] for line in plain.history] == [0, 0]
    assert [line["personal_examples"] for line in tuned.history] == [steps, 2 * steps]
    for one, other in zip(plain.history, tuned.history, strict=True):
        own = other["personal_examples"]
        assert other["client_examples"] == one["client_examples"] + own
        assert other["global_accuracy"] == one["global_accuracy"]
    assert tuned.metrics["local_accuracy"] != plain.metrics["local_accuracy"]


def test_what_trains_to_be_measured_has_the_learning_rate_of_the_round():
    rates = []

    class Asking(Tuning):
        def personal(self, state, client):
            rates.append(client.training.lr)
            return super().personal(state, client)

    training = {
        "local_steps": 2,
        "batch_size": 8,
        "lr": 0.1,
        "lr_from_round": {1: 0.01},
    }
    protocol = testing.toy_protocol(2, training=training)
    simulate(Asking(), testing.toy_federation(), protocol, 0)
    assert rates == [0.1] * 3 + [0.01] * 3


def test_what_was_trained_to_be_measured_is_counted_on_by_a_resumed_run(tmp_path):
    def half(metrics):
        if metrics["round"] == 1:
            raise InterruptedError

    world = testing.toy_federation(), testing.toy_protocol(2), 0
    given = {"folder": tmp_path, "checkpoint_every": 1}
    with pytest.raises(InterruptedError):
        simulate(Tuning(), *world, **given, on_round=half)
    resumed = simulate(Tuning(), *world, **given)
    assert resumed.metrics["personal_examples"] == 96


class Remembers(FedAvg):
    """Writes down what it has seen when it is measured."""

    deed = "new"

    def local(self, down, client):
        client.memory["deep"] = {"kept": torch.zeros(2), "number": 1}
        return super().local(down, client)

    def personal(self, state, client):
        deep = client.memory.get("deep", {})
        if self.deed == "new":
            client.memory["seen"] = 1
        elif self.deed == "in place":
            deep["kept"].add_(1)
        elif self.deed == "another":
            deep["kept"] = torch.zeros(2)
        elif self.deed == "number":
            deep["number"] += 1
        elif self.deed == "gone":
            del client.memory["deep"]
        return client.load(state.weights)


@pytest.mark.parametrize(
    ("how", "entry"),
    [
        ("new", "seen"),
        ("in place", "deep.kept"),
        ("another", "deep.kept"),
        ("number", "deep.number"),
        ("gone", "deep.kept"),
    ],
)
def test_personal_may_not_remember(how, entry):
    strategy = Remembers()
    strategy.deed = how
    words = rf"personal \(client 0, round 1\) changed {entry} of client.memory"
    with pytest.raises(ContractError, match=words):
        run(strategy)


def test_personal_may_read_what_is_remembered():
    strategy = Remembers()
    strategy.deed = "reads"
    assert run(strategy).metrics["personal_examples"] == 0


class Exits(FedAvg):
    verb = "local"

    def local(self, down, client):
        if self.verb == "local" and client.id == 1:
            sys.exit(3)
        return super().local(down, client)

    def init(self, server):
        if self.verb == "init":
            sys.exit()
        return super().init(server)

    def broadcast(self, state, client_id, round):
        if self.verb == "broadcast":
            sys.exit("bye")
        return super().broadcast(state, client_id, round)

    def aggregate(self, state, ups, server, round):
        if self.verb == "aggregate":
            sys.exit(0)
        return super().aggregate(state, ups, server, round)

    def predictors(self, state, server):
        if self.verb == "predictors":
            sys.exit(0)
        return super().predictors(state, server)

    def personal(self, state, client):
        if self.verb == "personal":
            sys.exit(0)
        return super().personal(state, client)

    def milestone(self, state, round):
        if self.verb == "milestone":
            sys.exit(0)
        return super().milestone(state, round)

    def gallery(self, state, server):
        if self.verb == "gallery":
            sys.exit(0)
        return super().gallery(state, server)


@pytest.mark.parametrize(
    ("verb", "where"),
    [
        ("init", "init"),
        ("broadcast", r"broadcast \(client 0, round 1\)"),
        ("local", r"local \(client 1, round 1\)"),
        ("aggregate", r"aggregate \(round 1\)"),
        ("predictors", r"predictors \(round 1\)"),
        ("personal", r"personal \(client 0, round 1\)"),
        ("milestone", r"milestone \(round 1\)"),
        ("gallery", "gallery"),
    ],
)
def test_a_verb_that_asks_to_exit_is_an_error_that_says_so(verb, where, tmp_path):
    strategy = Exits()
    strategy.verb = verb
    world = (
        testing.toy_federation(),
        testing.toy_protocol(2, evaluation={"every": 2}),
        0,
    )
    if verb in ("predictors", "personal"):
        world = testing.toy_federation(), testing.toy_protocol(2), 0
    words = rf"exits.{where}, line \d+ of test_counting.py called sys.exit\("
    with pytest.raises(ContractError, match=words):
        simulate(strategy, *world, folder=tmp_path)


def test_a_client_that_asks_to_exit_in_another_process_is_an_error_too():
    with pytest.raises(
        ContractError, match=r"local \(client 1, round 1\).* sys.exit\(3\)"
    ):
        run(Exits(), executor=Choice("processes", 2))


class Fails(FedAvg):
    def local(self, down, client):
        if client.id == 2:
            raise ZeroDivisionError("on purpose")
        return super().local(down, client)


@pytest.mark.parametrize("executor", ["serial", Choice("processes", 2)])
def test_whatever_a_verb_raises_is_told_verb_client_round_and_line(executor):
    with pytest.raises(ZeroDivisionError, match="on purpose") as caught:
        run(Fails(), executor=executor)
    assert str(caught.value) == "on purpose"
    (note,) = caught.value.__notes__
    line = Fails.local.__code__.co_firstlineno + 2
    assert note == (
        f"in fails.local (client 2, round 1), line {line} of test_counting.py"
    )


class LoadsAnother(FedAvg):
    def local(self, down, client):
        name = next(iter(down.weights))
        wrong = {**down.weights, name: torch.zeros(7)}
        return super().local(Global(wrong), client)


def test_a_shape_that_does_not_fit_is_named():
    with pytest.raises(ContractError, match=r"of shape \[7\]; the model .* expects \["):
        run(LoadsAnother())


def test_replacing_the_payload_is_no_fault_of_the_record():
    class Honest(FedAvg):
        def broadcast(self, state, client_id, round):
            return replace(super().broadcast(state, client_id, round))

    assert run(Honest(), 1).metrics["bytes_down"] > 0
