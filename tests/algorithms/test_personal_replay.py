"""Whole runs of methods with personal models against loops written from the papers."""

import pytest
import torch
import torch.nn.functional as F
from replaying import (
    RATES,
    ROUNDS,
    SEED,
    SHARDS,
    SIZE,
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

from fedkd import load_registry
from fedkd.base.randomness import torch_stream

REGISTRY = load_registry()
SIZES = [len(shard) for shard in SHARDS]
FIRST = {
    "first.weight",
    "norm.weight",
    "norm.bias",
    "norm.running_mean",
    "norm.running_var",
    "norm.num_batches_tracked",
}
SECOND = {"second.weight", "second.bias"}
HEAD = {"head.weight", "head.bias"}


def finished(name, options=None):
    """Run a strategy; return its result and each client's own model at its end."""
    strategy, _ = REGISTRY.strategy(name, options or {})
    result, sides = run(strategy)
    how, own = sides.protocol.training, []
    with torch_stream(SEED, "measure", ROUNDS - 1):
        for k in range(3):
            model = strategy.personal(result.state, sides.client(k, how))
            own.append(state_of(model))
    return result, own


def descend(model, k, t, *, steps=STEPS, frozen=(), pull=None):
    """Take steps on new passes over a client's images; draws go on from before."""
    descent, source = Descent(RATES[t]), batches(SHARDS[k])
    parameters = {n: p for n, p in model.named_parameters() if n not in frozen}
    model.train()
    for _ in range(steps):
        x, y = next(source)
        loss = F.cross_entropy(model(x), y)
        loss = loss if pull is None else loss + pull(model)
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        descent.step(parameters, dict(zip(parameters, gradients, strict=True)))


def measured(result, models):
    """Hold what the last round says against clients' models of the replay."""
    nets = [net(weights) for weights in models]
    everywhere = [accuracy(model) for model in nets]
    local = [accuracy(m, shard) for m, shard in zip(nets, TESTS, strict=True)]
    by_client = result.metrics["local_accuracy_by_client"]
    assert by_client == pytest.approx(dict(enumerate(local)))
    return sum(everywhere) / 3


def in_parts(result, kept, work, shares=SIZES):
    """Average all but ``kept``; return what is shared, and each client's own model."""
    start = initial()
    shared = {n: v for n, v in start.items() if n not in kept}
    own = [{n: v for n, v in start.items() if n in kept} for _ in range(3)]
    for t, clients in enumerate(clients_of(result)):
        states = []
        for k in clients:
            model = net({**shared, **own[k]})
            with torch_stream(SEED, "client", t, k):
                work(model, k, t)
            state = state_of(model)
            own[k] = {n: state.pop(n) for n in kept}
            states.append(state)
        shared = mean(states, [shares[k] for k in clients])
    return shared, [{**shared, **mine} for mine in own]


def check_parts(result, own, kept, work, shares=SIZES):
    shared, models = in_parts(result, kept, work, shares)
    agree(result.state.weights, shared)
    for ours, theirs in zip(own, models, strict=True):
        agree(ours, theirs)
    assert result.metrics["global_accuracy"] == pytest.approx(measured(result, models))
    assert result.metrics["bytes_up"] == 2 * ROUNDS * size_of(shared)
    assert result.metrics["bytes_down"] == 2 * ROUNDS * size_of(shared)


@pytest.mark.parametrize(("layers", "kept"), [(1, HEAD), (2, HEAD | SECOND)])
def test_fedper_keeps_the_upper_layers(layers, kept):
    result, own = finished("fedper", {"layers": layers})
    check_parts(result, own, kept, descend)


@pytest.mark.parametrize("weights", ["examples", "uniform"])
@pytest.mark.parametrize(("layers", "kept"), [(1, FIRST | SECOND), (2, FIRST)])
def test_lgfedavg_keeps_the_lower_layers(layers, kept, weights):
    options = {"layers": layers, "weights": weights}
    result, own = finished("lgfedavg", options)
    shares = SIZES if weights == "examples" else [1, 1, 1]
    check_parts(result, own, kept, descend, shares)


@pytest.mark.parametrize("times", [1, 3])
def test_fedrep_trains_the_head_and_then_the_body(times):
    def work(model, k, t):
        descend(model, k, t, steps=times * STEPS, frozen=FIRST | SECOND)
        descend(model, k, t, frozen=HEAD)

    result, own = finished("fedrep", {"head_work": times})
    check_parts(result, own, HEAD, work, [1, 1, 1])


def test_ditto_is_algorithm_1():
    result, own = finished("ditto", {"lam": 0.7})
    shared, models = initial(), [initial() for _ in range(3)]
    for t, clients in enumerate(clients_of(result)):
        states = []
        for k in clients:
            received = net(shared)

            def pull(model, received=received):
                pairs = zip(model.parameters(), received.parameters(), strict=True)
                return 0.7 / 2 * sum((v - w.detach()).pow(2).sum() for v, w in pairs)

            mine, of_all = net(models[k]), net(shared)
            for model, extra in ((mine, pull), (of_all, None)):
                with torch_stream(SEED, "client", t, k):
                    descend(model, k, t, pull=extra)
            models[k] = state_of(mine)
            states.append(state_of(of_all))
        shared = mean(states, [SIZES[k] for k in clients])
    agree(result.state.weights, shared)
    for ours, theirs in zip(own, models, strict=True):
        agree(ours, theirs)
    measured(result, models)
    assert result.metrics["global_accuracy"] == pytest.approx(accuracy(net(shared)))
    assert result.metrics["bytes_up"] == 2 * ROUNDS * size_of(shared)
    assert result.metrics["bytes_down"] == 2 * ROUNDS * size_of(shared)


class ApflReplay:
    """Algorithm 1: w_k and v_k step together; alpha goes down <v - w, grad f(mixture)>."""

    def __init__(self, adapts, decay=0.0):
        self.adapts, self.decay = adapts, decay
        self.shared = initial()
        self.own = [initial() for _ in range(3)]
        self.alpha = [0.4] * 3

    def mixed(self, v, w, k):
        return {n: self.alpha[k] * v[n] + (1 - self.alpha[k]) * w[n] for n in w}

    def client(self, k, t):
        nets = net(self.shared), net(self.own[k]), net(self.own[k])
        with torch_stream(SEED, "client", t, k):
            return self.trained(*nets, k, t)

    def trained(self, of_all, mine, mixture, k, t):
        w, v, m = (dict(x.named_parameters()) for x in (of_all, mine, mixture))
        down_w, down_v = Descent(RATES[t]), Descent(RATES[t])
        source = batches(SHARDS[k])
        of_all.train()
        mixture.train()
        for step in range(STEPS):
            x, y = next(source)
            with torch.no_grad():
                for n, value in self.mixed(v, w, k).items():
                    m[n].copy_(value)
            loss = F.cross_entropy(of_all(x), y)
            of_w = torch.autograd.grad(loss, list(w.values()))
            loss = F.cross_entropy(mixture(x), y)
            of_m = dict(
                zip(m, torch.autograd.grad(loss, list(m.values())), strict=True)
            )
            slope = sum(((v[n] - w[n]) * of_m[n]).sum().item() for n in m)
            down_w.step(w, dict(zip(w, of_w, strict=True)))
            down_v.step(v, {n: self.alpha[k] * g for n, g in of_m.items()})
            if self.adapts == "step" or (self.adapts == "round" and step == 0):
                moved = self.alpha[k] - RATES[t] * (slope + self.decay * self.alpha[k])
                self.alpha[k] = min(1.0, max(0.0, moved))
        # The own statistics are those of the mixture.
        own = {n: b.clone() for n, b in mixture.named_buffers()}
        self.own[k] = state_of(mine) | own
        return state_of(of_all)

    def go(self, rounds):
        for t, clients in enumerate(rounds):
            states = [self.client(k, t) for k in clients]
            self.shared = mean(states, [SIZES[k] for k in clients])
        parameters = dict(net(self.shared).named_parameters())
        return [own | self.mixed(own, parameters, k) for k, own in enumerate(self.own)]


@pytest.mark.parametrize(
    ("adapts", "decay"),
    [("never", 0.0), ("round", 0.0), ("step", 0.0), ("round", 0.02)],
)
def test_apfl_is_algorithm_1(adapts, decay):
    options = {"alpha": 0.4, "adapts": adapts, "alpha_decay": decay}
    result, own = finished("apfl", options)
    replay = ApflReplay(adapts, decay)
    models = replay.go(clients_of(result))
    agree(result.state.weights, replay.shared)
    for ours, theirs in zip(own, models, strict=True):
        agree(ours, {n: v.detach() for n, v in theirs.items()})
    measured(result, models)
    moves = {abs(alpha - 0.4) > 1e-3 for alpha in replay.alpha}
    assert moves == {adapts != "never"}
    assert result.metrics["bytes_up"] == 2 * ROUNDS * size_of(replay.shared)
    assert result.metrics["bytes_down"] == 2 * ROUNDS * size_of(replay.shared)


class FedAlaReplay:
    """Algorithm 1: W by its gradient (global - own) * grad, then local training."""

    passes = 3
    """Of the first training of W."""

    def __init__(self, upper):
        self.upper = sorted(upper)
        self.shared = initial()
        self.own, self.taken = [None] * 3, [None] * 3

    def aggregated(self, model, k):
        """Change the global model to what the client starts from; return W."""
        if self.own[k] is None:
            return None
        parameters, own = dict(model.named_parameters()), self.own[k]
        received = {n: parameters[n].detach().clone() for n in self.upper}
        statistics = {n: b.clone() for n, b in model.named_buffers()}
        number = len(SHARDS[k])
        chosen = sorted(torch.randperm(number)[: int(0.6 * number)].tolist())
        positions = [SHARDS[k][i] for i in chosen]
        taken = self.taken[k] or {n: torch.ones_like(own[n]) for n in self.upper}
        model.train()
        for _ in range(1 if self.taken[k] else self.passes):
            source = batches(positions)
            for _ in range(-(-len(positions) // SIZE)):
                self.put(parameters, received, own, taken)
                x, y = next(source)
                loss = F.cross_entropy(model(x), y)
                slopes = torch.autograd.grad(loss, [parameters[n] for n in self.upper])
                for n, slope in zip(self.upper, slopes, strict=True):
                    moved = taken[n] - 0.9 * slope * (received[n] - own[n])
                    taken = taken | {n: moved.clamp(0, 1)}
        self.put(parameters, received, own, taken)
        model.load_state_dict(statistics, strict=False)
        return taken

    @torch.no_grad()
    def put(self, parameters, received, own, taken):
        for n in self.upper:
            parameters[n].copy_(own[n] + (received[n] - own[n]) * taken[n])

    def client(self, model, k, t):
        with torch_stream(SEED, "client", t, k):
            self.taken[k] = self.aggregated(model, k)
            descend(model, k, t)
        state = state_of(model)
        self.own[k] = {n: state[n] for n in self.upper}
        return state

    def go(self, rounds):
        """Return what clients predict with after the last round."""
        for t, clients in enumerate(rounds):
            states = [self.client(net(self.shared), k, t) for k in clients]
            self.shared = mean(states, [SIZES[k] for k in clients])
        models = [net(self.shared) for _ in range(3)]
        with torch_stream(SEED, "measure", len(rounds) - 1):
            for k, model in enumerate(models):
                self.aggregated(model, k)
        return [state_of(model) for model in models]


@pytest.mark.parametrize(("layers", "upper"), [(1, HEAD), (2, HEAD | SECOND)])
def test_fedala_is_algorithm_1(layers, upper):
    options = {
        "layers": layers,
        "share": 0.6,
        "eta": 0.9,
        "start_window": 2,
        "start_spread": 0.0,
        "start_passes": 3,
    }
    result, own = finished("fedala", options)
    replay = FedAlaReplay(upper)
    models = replay.go(clients_of(result))
    agree(result.state.weights, replay.shared)
    for ours, theirs in zip(own, models, strict=True):
        agree(ours, theirs)
    measured(result, models)
    entries = torch.cat([w.flatten() for w in replay.taken[0].values()])
    assert entries.min() < 0.9, "nothing is learnt here"
    assert result.metrics["bytes_up"] == 2 * ROUNDS * size_of(replay.shared)
    assert result.metrics["bytes_down"] == 2 * ROUNDS * size_of(replay.shared)
