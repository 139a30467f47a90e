"""FedKD of Wu et al.: losses and factors by hand, replayed whole, FedAvg in the limit."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from replaying import (
    RATES,
    SEED,
    SHARDS,
    STEPS,
    TESTS,
    Descent,
    accuracy,
    agree,
    batches,
    clients_of,
    initial,
    mean,
    net,
    run,
    size_of,
    state_of,
)

from fedkd import testing
from fedkd.algorithms.mixed.lowrank import Factors, factorised, rank, restored
from fedkd.base.randomness import torch_stream
from fedkd.errors import DivergedError
from fedkd.payload import leaves
from fedkd.plugins.cards import card
from fedkd.plugins.registry import load_registry
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import Run, simulate

REGISTRY = load_registry()
WIDTHS = (1.0, 0.5)
"""The mentee is as wide as the mentors of clients 0 and 2."""
CPU = torch.device("cpu")


def strategy(options=None):
    return REGISTRY.strategy("fedkd-wu", options or {})[0]


# Compression


def test_how_many_singular_values_by_hand():
    """Energies 9, 4, 1 of 14: shares 0.643, 0.929 and 1."""
    s = torch.tensor([3.0, 2.0, 1.0])
    assert [rank(s, e) for e in (0.0, 0.64, 0.65, 0.92, 0.93, 1.0)] == [
        1,
        1,
        2,
        2,
        3,
        3,
    ]


def test_a_flat_spectrum_keeps_all_and_nothing_keeps_one():
    assert rank(torch.ones(4), 0.95) == 4
    assert rank(torch.zeros(3), 0.95) == 1
    assert rank(torch.tensor([5.0, 0.0, 0.0]), 1.0) == 1


def low_rank(p, q, k):
    generator = torch.Generator().manual_seed(3)
    left = torch.randn(p, k, generator=generator, dtype=torch.float64)
    return left @ torch.randn(k, q, generator=generator, dtype=torch.float64)


def test_what_is_of_few_values_comes_back_exactly():
    """A convolution [6, 5, 2, 2] is a matrix of 6 rows and 20 columns: 2 (6 + 20 + 1)."""
    tensor = low_rank(6, 20, 2).reshape(6, 5, 2, 2)
    factors = factorised(tensor, 1 - 1e-12, CPU)
    assert isinstance(factors, Factors)
    assert sum(x.numel() for x in (factors.u, factors.s, factors.v)) == 54
    whole = restored({"w": factors})["w"]
    torch.testing.assert_close(whole, tensor, rtol=0, atol=1e-12)


@pytest.mark.parametrize("energy", [0.5, 0.9, 0.95])
def test_the_error_is_at_most_the_energy_that_is_left_out(energy):
    tensor = low_rank(40, 40, 40)
    factors = factorised(tensor, energy, CPU)
    assert isinstance(factors, Factors)
    error = (restored({"w": factors})["w"] - tensor).square().sum()
    assert 0 < error <= (1 - energy) * tensor.square().sum()


def test_what_factors_would_not_make_smaller_is_sent_as_it_is():
    """5 values of [6, 20] take 5 (6 + 20 + 1) = 135 numbers, the matrix 120."""
    for tensor in (
        torch.eye(4),
        torch.ones(7),
        torch.ones(9, 9).long(),
        low_rank(6, 20, 5),
    ):
        assert factorised(tensor, 1.0, CPU) is tensor


def test_an_update_that_is_not_finite_is_refused():
    with pytest.raises(DivergedError, match="shared network"):
        factorised(torch.full((9, 9), math.nan), 0.95, CPU)


# The whole


def squeezed(change, energy):
    """Return a difference of weights as it is after the wire, and its bytes."""
    result, size = {}, 0
    for name, value in change.items():
        result[name] = value
        numbers = value.numel()
        if value.dim() >= 2:
            matrix = value.numpy().reshape(len(value), -1)
            u, s, v = np.linalg.svd(matrix, full_matrices=False)
            k = 1
            while (s[:k] ** 2).sum() < energy * (s**2).sum():
                k += 1
            if k * (sum(matrix.shape) + 1) < numbers:
                numbers = k * (sum(matrix.shape) + 1)
                near = u[:, :k] @ np.diag(s[:k]) @ v[:k]
                result[name] = torch.from_numpy(near).reshape(value.shape)
        size += 8 * numbers
    return result, size


class Replay:
    """Algorithm 1, with the losses of each network written out."""

    def __init__(self):
        self.mentors = [net(initial(WIDTHS[k % 2]), WIDTHS[k % 2]) for k in range(3)]
        self.bridges = [None] * 3
        self.mentee, self.update, self.last = initial(), None, ()
        self.down = self.up = 0

    def client(self, k, t, energy):
        """Return how a client changes the mentee, as the server gets it."""
        mentor, mentee = self.mentors[k], net(self.mentee)
        with torch_stream(SEED, "client", t, k):
            bridge = torch.nn.Linear(48, mentor.feature_size, bias=False).double()
            self.bridges[k] = self.bridges[k] or bridge
            self.learn(mentor.train(), mentee.train(), self.bridges[k], k, t)
        change = {n: v - self.mentee[n] for n, v in state_of(mentee).items()}
        change, size = squeezed(change, energy)
        self.up += size
        return change

    def learn(self, mentor, mentee, bridge, k, t):
        descents = [Descent(RATES[t]) for _ in range(3)]
        source, self.losses[k] = batches(SHARDS[k]), 0.0
        for _ in range(STEPS):
            x, y = next(source)
            h_t, h_s = mentor.features(x), mentee.features(x)
            f_t, f_s = mentor.head(h_t), mentee.head(h_s)
            task_t, task_s = F.cross_entropy(f_t, y), F.cross_entropy(f_s, y)
            both = task_t.item() + task_s.item()
            p_t, p_s = f_t.softmax(1), f_s.softmax(1)
            hidden = ((h_s @ bridge.weight.T - h_t) ** 2).mean()
            q = p_s.detach()
            l_t = task_t + 0.5 * (q * (q / p_t).log()).sum() / len(y) / both
            l_t = l_t + 2.0 * hidden / both
            q = p_t.detach()
            l_s = task_s + 0.5 * (q * (q / p_s).log()).sum() / len(y) / both
            l_s = l_s + 2.0 * hidden / both
            self.losses[k] += l_t.item() / STEPS
            given = []
            for network, loss in ((mentor, l_t), (mentee, l_s), (bridge, l_s)):
                named = dict(network.named_parameters())
                parts = torch.autograd.grad(
                    loss, list(named.values()), retain_graph=True
                )
                given.append((named, dict(zip(named, parts, strict=True))))
            for descent, (named, gradients) in zip(descents, given, strict=True):
                descent.step(named, gradients)

    def round(self, t, clients):
        self.losses = {}
        energy = (0.6, 0.75, 0.9)[t]
        for k in clients:
            self.down += self.update if k in self.last else size_of(self.mentee)
        changes = [self.client(k, t, energy) for k in clients]
        change, self.update = squeezed(mean(changes, [1] * len(clients)), energy)
        self.mentee = {n: v + change[n] for n, v in self.mentee.items()}
        self.last = clients


def test_fedkd_is_algorithm_1():
    options = {"distil": 0.5, "hidden": 2.0, "energy_start": 0.6, "energy_end": 0.9}
    result, sides = run(strategy(options), widths=WIDTHS)
    replay, caught_up = Replay(), 0
    for t, clients in enumerate(clients_of(result)):
        caught_up += len(set(clients) & set(replay.last))
        replay.round(t, clients)
        line = result.history[t]
        loss = sum(replay.losses.values()) / 2
        assert line["train_loss"] == pytest.approx(loss, abs=1e-5)
        assert (line["bytes_down"], line["bytes_up"]) == (replay.down, replay.up)
        assert line["global_accuracy"] == pytest.approx(accuracy(net(replay.mentee)))
        for k, model in enumerate(replay.mentors):
            expected = accuracy(model, TESTS[k])
            assert line["local_accuracy_by_client"][k] == pytest.approx(expected)
    assert 0 < caught_up < 4, "nobody was sent an update, or nobody the whole mentee"
    assert replay.up < 6 * size_of(initial()), "nothing was compressed"
    agree(result.state.weights, replay.mentee)
    for k, model in enumerate(replay.mentors):
        memory = sides.memories.recall(k)
        agree(memory["weights"], state_of(model))
        agree(memory["bridge"], state_of(replay.bridges[k]))


LOSSLESS = {"energy_start": 1.0, "energy_end": 1.0, "distil": 0.0, "hidden": 0.0}


def test_without_distillation_and_loss_mentors_are_local_and_mentees_fedavg():
    ours, sides = run(strategy({**LOSSLESS, "weights": "examples"}))
    alone, others = run(REGISTRY.strategy("local", {})[0])
    fedavg, _ = run(REGISTRY.strategy("fedavg", {})[0])
    agree(ours.state.weights, fedavg.state.weights)
    for k in range(3):
        mine = sides.memories.recall(k)["weights"]
        theirs = others.memories.recall(k)["weights"]
        assert all(torch.equal(mine[n], theirs[n]) for n in theirs)
    for mine, line in zip(ours.history, alone.history, strict=True):
        assert mine["local_accuracy"] == line["local_accuracy"]


def test_client_and_server_hold_the_same_bits_after_an_update():
    """Else what a client starts from drifts away from the mentee that is measured."""
    world, starts = testing.toy_federation(3, ["cnn", "mlp"]), []

    class Watched(type(strategy())):
        def aggregate(self, state, ups, server, round):
            starts.append(state.weights)
            return super().aggregate(state, ups, server, round)

    sides = Sides(world, testing.toy_protocol(3), 0)
    result = Run(Watched(), sides, "it").execute(None, 0, lambda _: None)
    parts = [leaf for _, leaf in leaves(result.state.update, "it")]
    assert len(parts) > len(result.state.update), "no entry was sent by factors"
    for k in range(3):
        kept = sides.memories.recall(k)["mentee"]
        assert all(torch.equal(kept[n], starts[-1][n]) for n in kept)


@pytest.mark.parametrize("seed", [2, 3])
def test_after_lost_and_late_answers_clients_hold_what_the_server_holds(seed):
    """Seed 2 has a round without answers, and 3 a late one in a round that is not its."""
    sent = {}

    class Watched(type(strategy())):
        def broadcast(self, state, client_id, round):
            lesson = super().broadcast(state, client_id, round)
            sent[round.index, client_id] = lesson.weights is None, state
            return lesson

    protocol = testing.toy_protocol(
        4, 3, participation=2, faults={"drop": 0.3, "late": 0.3}
    )
    sides = Sides(testing.toy_federation(3, ["mlp"]), protocol, seed)
    for round in Run(Watched(), sides, "it").rounds(None, 0, lambda _: None):
        for k in round.clients:
            kept, (_, state) = sides.memories.recall(k)["mentee"], sent[round.index, k]
            assert all(torch.equal(kept[n], state.weights[n]) for n in kept)
    assert {bare for bare, _ in sent.values()} == {True, False}


def test_bytes_are_those_of_what_is_sent():
    world = testing.toy_federation(3, ["cnn", "mlp"])
    told = simulate(strategy(), world, testing.toy_protocol(2), 0)
    first, second = told.history
    whole = size_of_all(told.state.weights)
    assert first["bytes_down"] == 3 * whole
    assert first["bytes_up"] < 3 * whole
    assert second["bytes_down"] - first["bytes_down"] < 3 * whole


def size_of_all(weights):
    return sum(v.numel() * v.element_size() for v in weights.values())


def test_its_card_knows_what_crosses_though_a_base_class_leaves_that_open():
    sends = card(REGISTRY.entries("strategies")["fedkd-wu"])["sends"]
    assert (sends["down"]["type"], sends["up"]["type"]) == ("Lesson", "Gradient")
