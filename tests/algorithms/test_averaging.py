"""Averaging as the base of methods that nobody here wrote: FedAvgM, SCAFFOLD, others.

The first two are written as a plug-in would write them, complete.
"""

import pickle
from dataclasses import dataclass, replace
from types import MappingProxyType, SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from fedkd import Config, Requires, Weights, testing
from fedkd.algorithms.averaging import Averaging, Choices, Global, Update, average
from fedkd.algorithms.fedavg import FedAvg
from fedkd.errors import ContractError, told
from fedkd.ops.training import TrainingConfig
from fedkd.simulation.simulator import simulate


class FedAvgMConfig(Config):
    beta: float = 0.9
    """beta, the momentum of the server."""


class FedAvgM(Averaging):
    """v <- beta v + (w - mean); w <- w - v (Hsu, Qi, Brown, arXiv:1909.06335)."""

    Config = FedAvgMConfig
    requires = Requires(one_architecture=True, buffers=("average",))

    def __init__(self, config=None):
        super().__init__(config)
        self.choices = Choices(first=at_rest, moved=self.with_momentum)

    def train(self, client, sent):
        client.train()

    def with_momentum(self, state, mean, ups, server, round):
        beta = self.config.beta
        velocity = {
            n: beta * v + (state.weights[n] - mean[n]) for n, v in state.besides.items()
        }
        moved = {n: state.weights[n] - v for n, v in velocity.items()}
        return Global({**mean, **moved}, besides=velocity)


def at_rest(server):
    return Global(server.initial, besides=zeros(server.model))


def zeros(model):
    return {n: torch.zeros(p.shape) for n, p in model.named_parameters()}


@dataclass(frozen=True)
class Variate:
    """c, and what a control variate has changed by at a client."""

    c: Weights


class Scaffold(Averaging):
    """SCAFFOLD, option II (Karimireddy et al., arXiv:1910.06378, Algorithm 1)."""

    requires = Requires(one_architecture=True)

    def __init__(self, config=None):
        super().__init__(config)
        self.choices = Choices(first=without_drift, sent=variate, moved=with_variates)

    def train(self, client, sent):
        model, device = client.model, client.device
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        c = {n: value.to(device) for n, value in sent.c.items()}
        kept = client.memory.get("c", zeros(model))
        own = {n: value.to(device) for n, value in kept.items()}

        def corrected(model):
            for n, p in model.named_parameters():
                p.grad += c[n] - own[n]  # g - c_k + c

        report = client.train(gradient=corrected)
        way = report.steps * client.training.lr
        after = {
            n: (own[n] - c[n] + (before[n] - p.detach()) / way).cpu()
            for n, p in model.named_parameters()
        }
        client.memory["c"] = after
        return Variate({n: after[n] - own[n].cpu() for n in after})


def without_drift(server):
    return Global(server.initial, besides=Variate(zeros(server.model)))


def variate(state, client_id, round):
    return state.besides


def with_variates(state, mean, ups, server, round):
    changes = [up.besides.c for up in ups.values()]
    c = {
        n: value + sum(change[n] for change in changes) / len(server.clients)
        for n, value in state.besides.c.items()
    }
    return Global(mean, besides=Variate(c))


@pytest.mark.parametrize("method", [FedAvgM, Scaffold])
@pytest.mark.parametrize(
    "check", testing.STRATEGY_CHECKS, ids=[c.__name__ for c in testing.STRATEGY_CHECKS]
)
def test_a_method_of_another_author_keeps_the_contract(method, check, tmp_path):
    check(method, tmp_path)


def run(strategy, rounds=1, **training):
    settings = TrainingConfig(
        **{"local_steps": 2, "batch_size": 8, "lr": 0.1} | training
    )
    protocol = testing.toy_protocol(rounds).model_copy(update={"training": settings})
    federation = testing.toy_federation(models=["mlp"])
    return simulate(strategy, federation, protocol, seed=0).state, federation


def test_fedavgm_in_numbers():
    state = Global({"w": torch.tensor([1.0])}, besides={"w": torch.tensor([0.5])})
    mean = {"w": torch.tensor([0.8])}
    after = FedAvgM().with_momentum(state, mean, {}, None, None)
    torch.testing.assert_close(after.besides["w"], torch.tensor([0.65]))  # 0.45 + 0.2
    torch.testing.assert_close(after.weights["w"], torch.tensor([0.35]))


def test_fedavgm_starts_as_fedavg_and_goes_on_with_momentum():
    ours, _ = run(FedAvgM())
    theirs, _ = run(FedAvg())
    for name, value in theirs.weights.items():
        torch.testing.assert_close(ours.weights[name], value)
    ours, _ = run(FedAvgM(), rounds=2)
    theirs, _ = run(FedAvg(), rounds=2)
    apart = [(ours.weights[n] - w).abs().max() for n, w in theirs.weights.items()]
    assert max(apart) > 1e-3


def test_scaffold_starts_as_fedavg_bit_for_bit_and_then_corrects():
    ours, theirs = run(Scaffold())[0], run(FedAvg())[0]
    assert all(torch.equal(ours.weights[n], w) for n, w in theirs.weights.items())
    ours, theirs = run(Scaffold(), 2)[0], run(FedAvg(), 2)[0]
    assert any(not torch.equal(ours.weights[n], w) for n, w in theirs.weights.items())


def test_scaffolds_variate_after_one_full_step_is_the_mean_gradient():
    options = {"local_steps": 1, "batch_size": 999, "weight_decay": 0}
    state, federation = run(Scaffold(), **options)
    model = federation.build_spec(federation.server_model, 0)
    for client in federation.clients:
        x = federation.data.normalise(federation.data.x_train[client.indices])
        loss = F.cross_entropy(model(x), federation.data.y_train[client.indices])
        (loss / len(federation.clients)).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(state.besides.c[name], p.grad, atol=1e-5, rtol=1e-4)


class Plain(Averaging):
    """Trains; what it chooses is given."""

    def __init__(self, **choices):
        super().__init__()
        self.choices = Choices(**choices)

    def train(self, client, sent):
        client.log("sent", sent or 0)
        return 10 * client.id


def ups():
    return {
        0: Update({"w": torch.tensor([1.0])}, 1),
        1: Update({"w": torch.tensor([5.0])}, 3),
    }


def test_the_average_weighs_by_images_unless_told():
    state = Global({"w": torch.tensor([0.0]), "kept": torch.tensor([7.0])})
    after = Plain().aggregate(state, ups(), None, None)
    assert after.weights["w"].item() == 4.0  # (1 + 15) / 4
    assert after.weights["kept"].item() == 7.0
    by_number = Plain(shares=lambda ups: {k: 1 + k for k in ups})
    after = by_number.aggregate(state, ups(), None, None)
    assert after.weights["w"].item() == pytest.approx(11 / 3)  # (1 + 10) / 3
    assert average(ups(), {0: 1, 1: 1})["w"].item() == 3.0


def test_everybody_gets_the_very_state_where_nothing_else_is_sent():
    state = Global({"w": torch.tensor([0.0])})
    assert Plain().broadcast(state, 0, None) is state
    besides = Plain(sent=lambda state, client_id, round: client_id)
    sent = [besides.broadcast(state, k, None) for k in (0, 1)]
    assert [down.besides for down in sent] == [0, 1]
    assert all(down.weights is state.weights for down in sent)


def test_what_the_server_keeps_is_not_sent_unless_it_says_so():
    state = Global({"w": torch.tensor([0.0])}, besides={"v": torch.tensor([1.0])})
    assert Plain().broadcast(state, 0, None).besides is None
    shared = Plain(sent=lambda state, client_id, round: state.besides)
    assert shared.broadcast(state, 0, None) is state


def test_what_is_sent_reaches_training_and_its_answer_the_server():
    heard = []

    def moved(state, mean, ups, server, round):
        heard.append({k: up.besides for k, up in ups.items()})
        return replace(state, weights=mean)

    strategy = Plain(sent=lambda state, k, round: round.index + 5, moved=moved)
    federation = testing.toy_federation(models=["mlp"])
    result = simulate(strategy, federation, testing.toy_protocol(2), seed=0)
    assert heard == [{0: 0, 1: 10, 2: 20}] * 2
    assert [line["logged"]["sent"] for line in result.history] == [5.0, 6.0]


def test_entries_that_stay_are_not_sent_and_last():
    def stays(party):
        return frozenset({next(iter(dict(party.model.named_parameters())))})

    strategy = Plain(stays=stays)
    state, federation = run(strategy, rounds=2)
    model = federation.build_spec(federation.server_model, 0)
    (name,) = stays(SimpleNamespace(model=model))
    # What nobody sends keeps the value that it started with.
    assert torch.equal(state.weights[name], dict(model.named_parameters())[name])


@pytest.mark.parametrize("method", [FedAvg, FedAvgM, Scaffold])
def test_a_method_travels_to_other_processes(method):
    again = pickle.loads(pickle.dumps(method()))
    assert again.config == method().config


class Chosen(Averaging):
    """Has the choices that a test gives it."""

    given = MappingProxyType({})

    def __init__(self, config=None):
        super().__init__(config)
        self.choices = Choices(**self.given)

    def train(self, client, sent):
        client.train()


def bare(*given):
    return {"w": 1}


@pytest.mark.parametrize(
    ("name", "verb", "wanted"),
    [
        ("first", "init", "Global(weights, besides=...)"),
        ("moved", "aggregate (round 1)", "Global(weights, besides=...)"),
        ("own", "personal (client 0, round 1)", "a model or None"),
        ("stays", "local (client 0, round 1)", "a frozenset of names of entries"),
    ],
)
def test_a_function_that_returns_something_else_is_named(name, verb, wanted):
    method = type("Mine", (Chosen,), {"given": {name: bare}})
    with pytest.raises(ContractError) as caught:
        simulate(method(), testing.toy_federation(), testing.toy_protocol(1), 0)
    line = bare.__code__.co_firstlineno
    assert told(caught.value) == (
        f"mine.{verb}: {name} returned dict, expected {wanted} "
        f"(line {line} of test_averaging.py)."
    )


def test_a_function_that_cannot_be_called_is_refused_when_it_is_given():
    def with_momentum(state, mean):
        return state

    with pytest.raises(ContractError) as caught:
        Choices(moved=with_momentum)
    assert str(caught.value) == (
        "with_momentum(state, mean) cannot be called as moved(state, mean, ups, server, "
        "round): too many positional arguments (line "
        f"{with_momentum.__code__.co_firstlineno} of test_averaging.py)."
    )
    with pytest.raises(
        ContractError, match=r"^own is of type dict, expected a function"
    ):
        Choices(own={})


def test_training_that_cannot_be_called_is_refused_before_anything_runs():
    class Mine(Chosen):
        def train(self, client):
            client.train()

    with pytest.raises(ContractError) as caught:
        simulate(Mine(), testing.toy_federation(), testing.toy_protocol(1), 0)
    assert str(caught.value) == (
        "mine: Mine.train(client) cannot be called with (client, sent): too many "
        "positional arguments. Write it as train(self, client, sent) (line "
        f"{Mine.train.__code__.co_firstlineno} of test_averaging.py)."
    )
