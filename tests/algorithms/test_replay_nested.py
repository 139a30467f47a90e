"""Whole runs of HeteroFL, FedRolex and FjORD against loops written from the papers."""

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
    images_of,
    initial,
    mean,
    net,
    run,
    size_of,
    state_of,
    train,
)

from fedkd.base.randomness import torch_stream
from fedkd.plugins.registry import load_registry

REGISTRY = load_registry()
WIDTHS = (1.0, 0.5, 0.25)
CHANNELS = {"first": 8, "second": 12}
SIZES = [len(shard) for shard in SHARDS]
ABSENT = {0: [0], 1: [1], 2: []}
STATISTICS = {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
EVERY_WAY = [
    ("heterofl", {}),
    ("heterofl", {"weights": "examples", "scaler": False, "masked": False}),
    ("heterofl", {"rows": "all"}),
    ("fedrolex", {}),
    ("fedrolex", {"variant": "code", "weights": "examples"}),
]


def finished(name, options=None):
    strategy, _ = REGISTRY.strategy(name, options or {})
    return run(strategy, WIDTHS)


def places(width, start):
    """Return the positions of a sub-model's entries: a list for each cut dimension."""
    first, second = (
        [(start + i) % total for i in range(round(width * total))]
        for total in CHANNELS.values()
    )
    flat = [4 * channel + pixel for channel in second for pixel in range(4)]
    of_norm = dict.fromkeys(["norm.weight", "norm.bias"], (first,))
    of_norm |= dict.fromkeys(["norm.running_mean", "norm.running_var"], (first,))
    return {
        "first.weight": (first,),
        **of_norm,
        "norm.num_batches_tracked": (),
        "second.weight": (second, first),
        "second.bias": (second,),
        "head.weight": (range(3), flat),
        "head.bias": (),
    }


def held(whole, where):
    """Return the index of an entry's part."""
    lines = [torch.tensor(list(line)) for line in where]
    return torch.meshgrid(*lines, indexing="ij") if lines else ...


def cut(weights, where):
    return {n: v[held(v, where[n])].clone() for n, v in weights.items()}


def put_together(whole, answers):
    """Return the mean at each coordinate of ``(state, places, share, absent classes)``."""
    result = {}
    for name, before in whole.items():
        total, count = torch.zeros(2, *before.shape, dtype=torch.float64)
        for state, where, share, absent in answers:
            part = torch.zeros(before.shape, dtype=torch.float64)
            part[held(before, where[name])] = share
            if name.startswith("head"):
                part[absent] = 0
            value = torch.zeros(before.shape, dtype=torch.float64)
            value[held(before, where[name])] = state[name].double()
            total += part * value
            count += part
        average = total / count.clamp(min=1e-9)
        if not before.is_floating_point():
            average = (average + 1e-9).long()
        result[name] = torch.where(count > 0, average.to(before.dtype), before)
    return result


def narrow_work(k, options):
    """Return the local loss of a client."""
    absent = ABSENT[k] if options.get("masked", True) else []

    def loss(logits, y):
        mask = torch.ones(3, dtype=torch.float64)
        mask[absent] = 0
        return F.cross_entropy(logits * mask, y)

    return loss


@pytest.mark.parametrize(("name", "options"), EVERY_WAY)
def test_heterofl_and_fedrolex(name, options):
    result, _ = finished(name, options)
    step = 0 if name == "heterofl" else -1 if "variant" in options else 1
    scaled = options.get("scaler", True)
    owners = options.get("rows", "owners") == "owners"
    uniform = options.get("weights", "uniform") == "uniform"
    whole, sent = initial(), 0
    for t, clients in enumerate(clients_of(result)):
        answers, losses = [], []
        for k in clients:
            where = places(WIDTHS[k], step * t)
            model = net(cut(whole, where), WIDTHS[k])
            model.rate = WIDTHS[k] if scaled else 1.0
            losses.append(train(model, k, t, narrow_work(k, options)))
            share = 1 if uniform else SIZES[k]
            absent = ABSENT[k] if owners else []
            answers.append((state_of(model), where, share, absent))
            sent += size_of(state_of(model))
        whole = put_together(whole, answers)
        line = result.history[t]
        assert line["train_loss"] == pytest.approx(sum(losses) / 2, abs=1e-5)
        assert line["global_accuracy"] == pytest.approx(accuracy(net(whole)))
        local = [accuracy(net(whole), shard) for shard in TESTS]
        assert line["local_accuracy_by_client"] == pytest.approx(dict(enumerate(local)))
        assert line["bytes_down"] == sent
        told = sum(3 for row in result.history[: t + 1] for _ in row["clients"])
        assert line["bytes_up"] == sent + (told if owners else 0)
    agree(result.state.weights, whole)


def test_an_entry_of_the_head_that_nobody_owns_keeps_its_value():
    whole = {"head.bias": torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)}
    where = {"head.bias": ()}
    answer = {"head.bias": torch.tensor([5.0, 6.0, 7.0], dtype=torch.float64)}
    after = put_together(whole, [(answer, where, 2, [1])])
    assert after["head.bias"].tolist() == [5, 2, 7]


def dropped(wide, own, known, k, t, distil):
    """Train by ordered dropout; return the mean loss, and statistics by narrower width."""
    narrower = [w for w in sorted(WIDTHS) if w < own]
    prefixes = {w: net({**initial(w), **known.get(w, {})}, w) for w in narrower}
    descent, total = Descent(RATES[t]), 0.0
    parameters = dict(wide.named_parameters())
    for model in (wide, *prefixes.values()):
        model.train()

    def logits_of(drawn, x):
        """Return logits, and how gradients are put in their places."""
        width = [*narrower, own][drawn]
        if width == own:
            return wide(x), parameters, dict.fromkeys(parameters, ...)
        small = prefixes[width]
        where = places(width, 0)
        with torch.no_grad():
            for n, p in small.named_parameters():
                p.copy_(parameters[n][held(p, where[n])])
        own_parameters = dict(small.named_parameters())
        index = {n: held(p, where[n]) for n, p in own_parameters.items()}
        return small(x), own_parameters, index

    with torch_stream(SEED, "client", t, k):
        source = batches(SHARDS[k])
        for _ in range(STEPS):
            x, y = next(source)
            gradients = {n: torch.zeros_like(p) for n, p in parameters.items()}

            def add(value, of, index, into=gradients):
                slopes = torch.autograd.grad(value, list(of.values()))
                for n, slope in zip(of, slopes, strict=True):
                    into[n][index[n]] += slope

            drawn = int(torch.randint(len(narrower) + 1, ()))
            if distil:
                teacher = wide(x)
                value = F.cross_entropy(teacher, y)
                logits, of, index = logits_of(drawn, x)
                soft = -(teacher.detach().softmax(1) * logits.log_softmax(1)).sum(1)
                add(value, parameters, dict.fromkeys(parameters, ...))
                add(soft.mean(), of, index)
            else:
                logits, of, index = logits_of(drawn, x)
                value = F.cross_entropy(logits, y)
                add(value, of, index)
            total += value.item()
            # What a narrow draw does not reach has gradient 0, and decays as the rest.
            descent.step(parameters, gradients)
    return total / STEPS, {w: state_of(model) for w, model in prefixes.items()}


def statistics_of(state):
    return {n: v for n, v in state.items() if n in STATISTICS}


@pytest.mark.parametrize("distil", [False, True])
def test_fjord(distil):
    result, _ = finished("fjord", {"distil": distil})
    whole, known, seen = initial(), {}, 0
    for t, clients in enumerate(clients_of(result)):
        answers, losses, heard = [], [], {}
        for k in clients:
            own, where = WIDTHS[k], places(WIDTHS[k], 0)
            model = net({**cut(whole, where), **known.get(own, {})}, own)
            if own == min(WIDTHS):
                losses.append(train(model, k, t))
                narrower = {}
            else:
                loss, narrower = dropped(model, own, known, k, t, distil)
                losses.append(loss)
            state = state_of(model)
            answers.append((state, where, SIZES[k], []))
            for width, each in {**narrower, own: state}.items():
                heard.setdefault(width, []).append((statistics_of(each), SIZES[k]))
        averaged = {
            w: mean([s for s, _ in pairs], [n for _, n in pairs])
            for w, pairs in heard.items()
        }
        statistics = averaged.pop(1.0, statistics_of(whole))
        whole = {**put_together(whole, answers), **statistics}
        known |= averaged
        line = result.history[t]
        assert line["train_loss"] == pytest.approx(sum(losses) / 2, abs=1e-5)
        assert line["global_accuracy"] == pytest.approx(accuracy(net(whole)))
        # Whoever has a narrower width to teach sends each image through two.
        times = {k: 2 if distil and WIDTHS[k] > min(WIDTHS) else 1 for k in clients}
        seen += sum(n * images_of(k) for k, n in times.items())
        assert line["client_examples"] == seen
    agree(result.state.weights, whole)
    assert result.state.statistics.keys() == known.keys()
    for width, statistics in known.items():
        agree(result.state.statistics[width], statistics)


def test_the_width_of_a_client_is_over_that_of_the_server():
    strategy, _ = REGISTRY.strategy("heterofl", {})
    result, _ = run(strategy, (0.5, 0.25, 0.25), rounds=1)
    assert result.state.nested.rates == (1.0, 0.5)


def test_statistics_of_a_width_stay_while_only_narrower_clients_take_part():
    strategy, _ = REGISTRY.strategy("fjord", {})
    before, _ = run(strategy, WIDTHS, rounds=6, participation=1)
    after, _ = run(strategy, WIDTHS, rounds=7, participation=1)
    assert list(after.history[-1]["clients"]) == [2]  # the narrowest
    assert after.state.statistics.keys() == {0.5, 0.25}
    agree(after.state.statistics[0.5], before.state.statistics[0.5])
