"""FedAvg's relatives for skewed data: by hand, replayed whole, and FedAvg in the limit.

A replay is a loop of this file's own, written from the paper, on the batches of the run's
streams: plain gradients by autograd, steps written out, averages by sum.
"""

import math

import pytest
import torch
from torch.nn import functional

from fedkd import ModelSpec, load_registry, simulate, testing
from fedkd.algorithms.averaging import Update
from fedkd.algorithms.drift.fedexp import FedExPConfig, step_size
from fedkd.algorithms.drift.fedlc import calibrated_loss, margins
from fedkd.algorithms.drift.fednova import work
from fedkd.algorithms.drift.fedopt import FedOptConfig, stepped
from fedkd.base.randomness import torch_stream
from fedkd.data.images import ClientData
from fedkd.ops.training import TrainingConfig
from fedkd.simulation.faults.config import FaultConfig

SEED, ROUNDS = 5, 3
REGISTRY = load_registry()


def world(**training):
    settings = {"local_steps": 3, "batch_size": 8, "lr": 0.05} | training
    protocol = testing.toy_protocol(ROUNDS).model_copy(
        update={"training": TrainingConfig(**settings)}
    )
    return testing.toy_federation(3), protocol


def run(name, options=None, **training):
    strategy, _ = REGISTRY.strategy(name, options or {})
    return simulate(strategy, *world(**training), SEED).state


class Replay:
    """FedAvg, written out; a method changes what its paper changes."""

    clients = 3

    def __init__(self, uniform=False, **training):
        self.federation, protocol = world(**training)
        self.how = protocol.training
        self.model = self.federation.build_spec(ModelSpec("cnn"), SEED)
        self.names = [n for n, _ in self.model.named_parameters()]
        self.w = self.read()
        sizes = [len(c) for c in self.federation.clients]
        self.n = [1.0] * 3 if uniform else [float(size) for size in sizes]

    def read(self):
        return {n: v.detach().clone() for n, v in self.model.state_dict().items()}

    def zeros(self):
        return {n: torch.zeros_like(self.w[n]) for n in self.names}

    def loss(self, k, logits, y):
        return functional.cross_entropy(logits, y)

    def change(self, k, gradient, n, p):
        return gradient

    def client(self, k, start, index):
        """Return the weights after local SGD, the steps, and the gradients' sum."""
        self.model.load_state_dict(start)
        self.model.train()
        velocity, seen, steps = self.zeros(), self.zeros(), 0
        with torch_stream(SEED, "client", index, k):
            if self.how.local_steps:
                amount = {"steps": self.how.local_steps}
            else:
                amount = {"epochs": self.how.local_epochs}
            batches = list(self.federation.clients[k].batches(8, **amount))
        for x, y in batches:
            parameters = dict(self.model.named_parameters())
            loss = self.loss(k, self.model(x), y)
            gradients = torch.autograd.grad(loss, list(parameters.values()))
            with torch.no_grad():
                for (n, p), g in zip(parameters.items(), gradients, strict=True):
                    seen[n] += g
                    changed = self.change(k, g, n, p)
                    changed = changed + self.how.weight_decay * p
                    velocity[n] = self.how.momentum * velocity[n] + changed
                    p.sub_(self.how.lr * velocity[n])
            steps += 1
        return self.read(), steps, seen

    def mean(self, models):
        total = sum(self.n)
        mean = {}
        for n, value in self.w.items():
            if value.is_floating_point():
                parts = [w * m[n] for w, m in zip(self.n, models, strict=True)]
                mean[n] = sum(parts) / total
            else:
                mean[n] = value
        return mean

    def go(self):
        for index in range(ROUNDS):
            self.round(index)
        return self.offered()

    def offered(self):
        return self.w

    def round(self, index):
        self.w = self.mean([self.client(k, self.w, index)[0] for k in range(3)])


def agree(ours, theirs, atol=1e-6):
    for n, value in theirs.items():
        if value.is_floating_point():
            torch.testing.assert_close(ours[n], value, atol=atol, rtol=1e-5, msg=n)


def test_the_replay_is_fedavg():
    agree(run("fedavg", momentum=0.9).weights, Replay(momentum=0.9).go())


# SCAFFOLD


class ScaffoldReplay(Replay):
    """Algorithm 1, option II, in the paper's own words."""

    def __init__(self, server_lr=1.0):
        super().__init__(uniform=True, weight_decay=0.0)
        self.c, self.own = self.zeros(), [self.zeros() for _ in range(3)]
        self.server_lr = server_lr

    def change(self, k, gradient, n, p):
        return gradient - self.own[k][n] + self.c[n]

    def renewed(self, k, model, steps, seen):
        way = steps * self.how.lr
        return {
            n: self.own[k][n] - self.c[n] + (self.w[n] - model[n]) / way
            for n in self.names
        }

    def round(self, index):
        done = [self.client(k, self.w, index) for k in range(3)]
        after = [self.renewed(k, *one) for k, one in enumerate(done)]
        mean = self.mean([model for model, _, _ in done])
        for n in self.names:
            moves = [after[k][n] - self.own[k][n] for k in range(3)]
            mean[n] = self.w[n] + self.server_lr * (mean[n] - self.w[n])
            self.c[n] = self.c[n] + sum(moves) / 3
        self.w, self.own = mean, after


@pytest.mark.parametrize("server_lr", [1.0, 0.5])
def test_scaffold_is_algorithm_1(server_lr):
    state = run("scaffold", {"server_lr": server_lr}, weight_decay=0.0)
    replay = ScaffoldReplay(server_lr)
    agree(state.weights, replay.go())
    agree(state.besides.mean, replay.c, atol=1e-5)


class ScaffoldOption1(ScaffoldReplay):
    def renewed(self, k, model, steps, seen):
        """The gradient of all images of the client at the model it received."""
        self.model.load_state_dict(self.w)
        self.model.train()
        data = self.federation.clients[k]
        total, number = self.zeros(), 0
        # The pass over all images comes before training, from the same stream.
        for x, y in self.passes[k]:
            loss = functional.cross_entropy(self.model(x), y)
            parameters = dict(self.model.named_parameters())
            gradients = torch.autograd.grad(loss, list(parameters.values()))
            for n, g in zip(parameters, gradients, strict=True):
                total[n] += len(y) * g
            number += len(y)
        assert number == len(data)
        return {n: g / number for n, g in total.items()}

    def client(self, k, start, index):
        with torch_stream(SEED, "client", index, k):
            data = self.federation.clients[k]
            self.passes[k] = list(data.batches(8, epochs=1))
            batches = list(data.batches(8, steps=3))
        self.model.load_state_dict(start)
        self.model.train()
        for x, y in batches:
            parameters = dict(self.model.named_parameters())
            loss = functional.cross_entropy(self.model(x), y)
            gradients = torch.autograd.grad(loss, list(parameters.values()))
            with torch.no_grad():
                for (n, p), g in zip(parameters.items(), gradients, strict=True):
                    p.sub_(self.how.lr * self.change(k, g, n, p))
        return self.read(), 3, None

    passes = [None] * 3


def test_scaffold_option_1_takes_the_gradient_of_all_images():
    agree(
        run("scaffold", {"option": "I"}, weight_decay=0.0).weights,
        ScaffoldOption1().go(),
    )


def test_scaffold_option_1_makes_its_batches_as_training_does(monkeypatch):
    asked, draws = [], ClientData.draws

    def told(self, size, **how):
        asked.append(how)
        return draws(self, size, **how)

    monkeypatch.setattr(ClientData, "draws", told)
    run("scaffold", {"option": "I"}, drop_last="never", augment=False)
    assert sum(how["epochs"] == 1 for how in asked) == 3 * ROUNDS
    assert all((how["drop_last"], how["augment"]) == ("never", False) for how in asked)


def test_scaffolds_variates_sum_to_the_servers():
    """sum_k c_k / N = c under full participation: the invariant of Algorithm 1."""
    state = run("scaffold", weight_decay=0.0)
    replay = ScaffoldReplay()
    replay.go()
    own = {n: sum(c[n] for c in replay.own) / 3 for n in replay.names}
    agree(state.besides.mean, own, atol=1e-5)


def test_scaffold_sends_as_much_again_as_fedavg_for_its_parameters():
    def sent(name):
        told = {}
        strategy, _ = REGISTRY.strategy(name, {})
        simulate(strategy, *world(), SEED, on_round=told.update)
        return told

    ours, theirs = sent("scaffold"), sent("fedavg")
    model = testing.toy_federation(3).build_spec(ModelSpec("cnn"), SEED)
    extra = 3 * ROUNDS * sum(4 * p.numel() for p in model.parameters())
    assert ours["bytes_up"] == theirs["bytes_up"] + extra
    assert ours["bytes_down"] == theirs["bytes_down"] + extra


# FedNova


def test_the_work_of_momentum_by_hand():
    """Three steps at 0.9: gradients go 1 + .9 + .81, 1 + .9 and 1: 5.61."""
    assert work(3, 0.9) == pytest.approx(5.61, abs=1e-12)
    assert work(7, 0.0) == 7


class FedNovaReplay(Replay):
    """Eqs. 6 and 7, with a_k summed step by step."""

    def round(self, index):
        done = [self.client(k, self.w, index) for k in range(3)]
        norms = []
        for _, steps, _ in done:
            reach = 0.0
            norm = 0.0
            for _ in range(steps):  # the weight of each gradient in the sum of buffers
                reach = reach * self.how.momentum + 1
                norm += reach
            norms.append(norm)
        p = [n / sum(self.n) for n in self.n]
        effective = sum(a * b for a, b in zip(p, norms, strict=True))
        mean = self.mean([model for model, _, _ in done])
        for n in self.names:
            d = [(self.w[n] - done[k][0][n]) / norms[k] for k in range(3)]
            mean[n] = self.w[n] - effective * sum(p[k] * d[k] for k in range(3))
        self.w = mean


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_fednova_is_equations_6_and_7(momentum):
    given = {"local_steps": None, "local_epochs": 2, "momentum": momentum}
    data = testing.toy_images(per_class=40)
    shards = [torch.arange(8).numpy(), torch.arange(8, 48).numpy()]
    shards.append(torch.arange(48, 60).numpy())
    from fedkd.simulation.federation import Federation

    def uneven():
        registry = load_registry()
        return Federation(data, shards, shards, [ModelSpec("cnn")], registry.model)

    replay = FedNovaReplay(**given)
    replay.federation = uneven()
    replay.n = [8.0, 40.0, 12.0]
    strategy, _ = REGISTRY.strategy("fednova", {})
    state = simulate(strategy, uneven(), world(**given)[1], SEED).state
    agree(state.weights, replay.go())
    plain, _ = REGISTRY.strategy("fedavg", {})
    fedavg = simulate(plain, uneven(), world(**given)[1], SEED).state.weights
    apart = max(float((state.weights[n] - fedavg[n]).abs().max()) for n in replay.names)
    assert apart > 1e-3


def test_fednova_is_fedavg_where_all_clients_do_equal_work():
    agree(run("fednova").weights, run("fedavg").weights)


# FedOpt


def test_a_step_of_adam_and_of_yogi_by_hand():
    """Delta = [.5, -2], eta = .1, beta_2 = .99, tau = 1e-3, v_0 = 0 (Yogi: 1e-6)."""
    move, zero = torch.tensor([0.5, -2.0], dtype=torch.float64), torch.zeros(2).double()
    how = FedOptConfig(optimiser="adam", server_lr=0.1)
    step, m, v = stepped(move, zero, zero, how)
    torch.testing.assert_close(m, torch.tensor([0.05, -0.2]).double())
    torch.testing.assert_close(v, torch.tensor([0.0025, 0.04]).double())
    expected = torch.tensor([0.09803921568627452, -0.09950248756218907]).double()
    torch.testing.assert_close(step, expected)
    how = FedOptConfig(optimiser="yogi", server_lr=0.1)
    step, _, v = stepped(move, zero, zero + 1e-6, how)
    torch.testing.assert_close(v, torch.tensor([0.002501, 0.040001]).double())
    expected = torch.tensor([0.0980199980004, -0.09950124999219]).double()
    torch.testing.assert_close(step, expected)
    how = FedOptConfig(optimiser="adagrad", server_lr=0.1, beta1=0.0)
    step, _, v = stepped(move, zero, zero + 1e-6, how)
    assert v.tolist() == pytest.approx([0.250001, 4.000001])
    assert step[0].item() == pytest.approx(0.1 * 0.5 / (math.sqrt(0.250001) + 1e-3))


class FedOptReplay(Replay):
    """Algorithm 2."""

    def __init__(self, rule, start, eta, beta1, **training):
        super().__init__(**training)
        self.rule, self.eta, self.beta1 = rule, eta, beta1
        self.m = self.zeros()
        self.v = {n: z + start for n, z in self.zeros().items()}

    def round(self, index):
        mean = self.mean([self.client(k, self.w, index)[0] for k in range(3)])
        for n in self.names:
            d = mean[n] - self.w[n]
            self.m[n] = self.beta1 * self.m[n] + (1 - self.beta1) * d
            self.v[n] = self.rule(self.v[n], d * d)
            step = self.eta * self.m[n] / (self.v[n].sqrt() + 1e-3)
            mean[n] = self.w[n] + step
        self.w = mean


RULES = {
    "fedadam": (lambda v, s: 0.99 * v + 0.01 * s, 0.9),
    "fedyogi": (lambda v, s: v - 0.01 * s * torch.sign(v - s), 0.9),
    "fedadagrad": (lambda v, s: v + s, 0.0),
}


@pytest.mark.parametrize("name", RULES)
def test_fedopt_is_algorithm_2(name):
    rule, beta1 = RULES[name]
    agree(run(name).weights, FedOptReplay(rule, 1e-6, 0.01, beta1).go())


def test_fedavgm_keeps_a_share_of_the_last_move():
    class FedAvgMReplay(Replay):
        velocity = None

        def round(self, index):
            mean = self.mean([self.client(k, self.w, index)[0] for k in range(3)])
            last = self.velocity or self.zeros()
            self.velocity = {n: 0.9 * last[n] + mean[n] - self.w[n] for n in self.names}
            self.w = mean | {n: self.w[n] + v for n, v in self.velocity.items()}

    agree(run("fedavgm").weights, FedAvgMReplay().go())


def test_a_servers_sgd_at_rate_1_without_momentum_is_fedavg():
    options = {"optimiser": "sgd", "server_lr": 1.0, "beta1": 0.0}
    agree(run("fedavgm", options).weights, run("fedavg").weights)


# FedDyn


class FedDynReplay(Replay):
    """Algorithm 1 with the gradients g_k of the paper, not in units of weights."""

    def __init__(self, alpha, **training):
        super().__init__(uniform=True, **training)
        self.alpha = alpha
        self.g = [self.zeros() for _ in range(3)]
        self.h = self.zeros()
        self.cloud = self.w

    def change(self, k, gradient, n, p):
        pull = self.alpha * (p - self.cloud[n])
        return gradient - self.g[k][n] + pull

    def round(self, index):
        models = [self.client(k, self.cloud, index)[0] for k in range(3)]
        for n in self.names:
            moves = [model[n] - self.cloud[n] for model in models]
            for k in range(3):
                self.g[k][n] = self.g[k][n] - self.alpha * moves[k]
            self.h[n] = self.h[n] - self.alpha * sum(moves) / 3
        self.w = self.mean(models)
        shifted = {n: self.w[n] - self.h[n] / self.alpha for n in self.names}
        self.cloud = self.w | shifted


def test_feddyn_is_algorithm_1():
    state, replay = run("feddyn", {"alpha": 0.1}), FedDynReplay(0.1)
    agree(state.weights, replay.go())
    agree(state.besides.mean, {n: -h / 0.1 for n, h in replay.h.items()})


def test_feddyn_reaches_the_joint_optimum_of_two_parabolas():
    """f_k = a_k (w - b_k)^2 / 2 with a = (1, 3), b = (0, 4): 3, where FedAvg gives 2.

    The local optimum of f_k(w) + alpha (w - anchor)^2 / 2 is exact here.
    """
    a, b, alpha = (1.0, 3.0), (0.0, 4.0), 1.0
    h, sent = [0.0, 0.0], 0.0
    for _ in range(200):
        solved = []
        for k in range(2):
            anchor = sent - h[k]
            solved.append((a[k] * b[k] + alpha * anchor) / (a[k] + alpha))
            h[k] += solved[k] - sent
        sent = sum(solved) / 2 + sum(h) / 2
    assert sum(solved) / 2 == pytest.approx(3.0, abs=1e-9)


def test_feddyn_without_alpha_is_uniform_fedavg_bit_for_bit():
    ours = run("feddyn", {"alpha": 0}).weights
    theirs = run("fedavg", {"weights": "uniform"}).weights
    assert all(torch.equal(ours[n], value) for n, value in theirs.items())


# FedExP


class FedExPReplay(Replay):
    """Algorithm 1; what is offered is the mean of the last two models."""

    def __init__(self, uniform, **training):
        super().__init__(uniform=uniform, **training)
        self.steps = []

    def round(self, index):
        models = [self.client(k, self.w, index)[0] for k in range(3)]
        flat = [
            torch.cat([(m[n] - self.w[n]).flatten() for n in self.names])
            for m in models
        ]
        p = [n / sum(self.n) for n in self.n]
        joint = sum(share * d for share, d in zip(p, flat, strict=True))
        own = sum(share * float(d @ d) for share, d in zip(p, flat, strict=True))
        eta = max(1.0, own / (2 * (float(joint @ joint) + 1e-3)))
        self.steps.append(eta)
        mean = self.mean(models)
        self.before = self.w
        self.w = mean | {n: self.w[n] + eta * (mean[n] - self.w[n]) for n in self.names}

    def offered(self):
        return self.w | {n: (self.before[n] + self.w[n]) / 2 for n in self.names}


def test_a_step_of_fedexp_by_hand():
    """D = 3 of one image, -1 of three: their mean is 0 by images, and 1 by clients.

    At eps 1/2: (9 + 3 * 1) / (2 * 4 * (0 + 1/2)) = 3, and 10 / (2 * 2 * (1 + 1/2)).
    """
    before = {"w": torch.tensor([1.0])}
    moved = {4: Update({"w": torch.tensor([4.0])}, 1)}
    moved[7] = Update({"w": torch.tensor([0.0])}, 3)
    for weights, mean, eta in (("examples", 1.0, 3.0), ("uniform", 2.0, 5 / 3)):
        how = FedExPConfig(weights=weights, epsilon=0.5)
        joint = {"w": torch.tensor([mean])}
        assert step_size(before, joint, moved, ["w"], how) == pytest.approx(eta)


def test_after_one_round_fedexp_offers_what_was_trained():
    strategy, _ = REGISTRY.strategy("fedexp", {})
    federation, protocol = world()
    once = protocol.model_copy(update={"rounds": 1})
    state = simulate(strategy, federation, once, SEED).state
    assert all(torch.equal(state.weights[n], w) for n, w in state.besides.items())


def test_fedexp_offers_no_mean_with_the_untrained_model(tmp_path):
    """Nobody can be sampled in the first round, after which the run is cut off."""
    trace = tmp_path / "trace.csv"
    trace.write_text("client,first,last\n0,2,9\n1,2,9\n2,2,9\n")
    changes = {"faults": FaultConfig(availability=str(trace)), "rounds": 2}
    federation, protocol = world()
    protocol = protocol.model_copy(update=changes)

    def cut_off(line):
        raise KeyboardInterrupt

    def go(on_round=None):
        strategy, _ = REGISTRY.strategy("fedexp", {})
        given = {"folder": tmp_path / "run", "checkpoint_every": 1}
        return simulate(
            strategy, federation, protocol, SEED, on_round=on_round, **given
        )

    with pytest.raises(KeyboardInterrupt):
        go(cut_off)
    result = go()
    assert [len(line["clients"]) for line in result.history] == [3]
    state = result.state
    assert all(torch.equal(state.weights[n], w) for n, w in state.besides.items())


@pytest.mark.parametrize("weights", ["uniform", "examples"])
def test_fedexp_is_algorithm_1(weights):
    state = run("fedexp", {"weights": weights}, lr=0.2)
    replay = FedExPReplay(weights == "uniform", lr=0.2)
    agree(state.weights, replay.go(), atol=1e-5)
    agree(state.besides, replay.w, atol=1e-5)
    assert max(replay.steps) > 1.02, "nothing is extrapolated here"


# FedLC


def test_margins_by_hand():
    """n = 16 and 1: 16^(-1/4) = 1/2; nothing of a class: left out."""
    assert margins(torch.tensor([16, 1, 0]), 2.0).tolist() == [1.0, 2.0, math.inf]


def test_the_calibrated_loss_by_hand():
    """z = (2 - 1, 1 - 0.5): -ln(e^1 / e^.5) = -1/2; over all: ln(1 + e^(-1/2))."""
    logits, y = torch.tensor([[2.0, 1.0, 9.0]]), torch.tensor([0])
    taken = torch.tensor([1.0, 0.5, math.inf])
    assert calibrated_loss(logits, y, taken, others=True).item() == pytest.approx(-0.5)
    whole = calibrated_loss(logits, y, taken, others=False).item()
    assert whole == pytest.approx(math.log(1 + math.exp(-0.5)))


def test_a_class_that_the_client_lacks_gets_no_gradient():
    logits = torch.randn(4, 3, requires_grad=True)
    taken = margins(torch.tensor([5, 7, 0]), 1.0)
    calibrated_loss(logits, torch.tensor([0, 1, 1, 0]), taken, others=True).backward()
    assert logits.grad[:, 2].abs().max() == 0
    assert logits.grad[:, :2].abs().min() > 0


def test_a_client_of_one_class_has_nothing_to_compare():
    logits = torch.randn(4, 3, requires_grad=True)
    taken = margins(torch.tensor([0, 9, 0]), 1.0)
    loss = calibrated_loss(logits, torch.tensor([1, 1, 1, 1]), taken, others=True)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("denominator", ["others", "all"])
def test_fedlc_trains_with_the_calibrated_loss(denominator):
    class FedLCReplay(Replay):
        def loss(self, k, logits, y):
            counts = torch.bincount(self.federation.clients[k].labels, minlength=3)
            z = logits - 0.5 * counts.float() ** -0.25
            exps = z.exp()
            rows = torch.arange(len(y))
            below = exps.sum(1)
            if denominator == "others":
                below = below - exps[rows, y]
            return -(exps[rows, y] / below).log().mean()

    # The loss of others has no lower bound: at a usual rate steps grow, and roundings.
    state = run("fedlc", {"denominator": denominator}, lr=0.005)
    agree(state.weights, FedLCReplay(lr=0.005).go(), atol=1e-5)
