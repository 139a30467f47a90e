"""The option ``average``: beside any strategy, in whole runs, in hashes, or refused."""

import math
import pickle
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from replaying import SHARDS, agree, federation, initial, net, run, state_of, train
from strategy_settings import SETTINGS

from fedkd import simulate, testing
from fedkd.averaged import plain_class
from fedkd.errors import ConfigError, NotApplicableError
from fedkd.plugins.options import resolve
from fedkd.plugins.registry import load_registry
from fedkd.robust.coordinates import Median
from fedkd.robust.rule import Mean
from fedkd.robust.table import rule_of
from fedkd.strategy import Preset, Round

REGISTRY = load_registry()


def strategy(name, **options):
    return REGISTRY.strategy(name, options)[0]


def strategy_classes():
    """Return each class that is registered, once, and calibrated FedAvg."""
    seen = {"fedavg": REGISTRY.resolve("strategies", "fedavg")}
    for name in REGISTRY.entries("strategies"):
        target = REGISTRY.resolve("strategies", name)
        kind = target.strategy if isinstance(target, Preset) else target
        if kind not in seen.values() or name == "ccvr":
            seen[name] = kind
    return seen


KINDS = strategy_classes()


def toy(one, rounds=2, clients=3, **changes):
    world = testing.toy_federation(clients), testing.toy_protocol(rounds, clients)
    return simulate(one, *world, seed=3, **changes)


class Seen(Median):
    """A median that says how often it was asked."""

    calls: ClassVar[list] = []

    def combine(self, states, weights, before):
        self.calls.append("whole")
        return super().combine(states, weights, before)

    def combine_parts(self, whole, parts):
        self.calls.append("parts")
        return super().combine_parts(whole, parts)


@pytest.mark.parametrize("name", KINDS)
def test_every_strategy_averages_by_the_rule_or_says_why_not(name):
    kind = KINDS[name]
    if "average" in kind.Config.model_fields:
        assert name == "feddistill", "its own option of that name means something else"
        return
    if kind.no_average:
        expected = f"Expected mean: {kind.__name__} takes no other.*{kind.no_average}"
        with pytest.raises(ConfigError, match=f"average: found 'median'.*{expected}"):
            strategy(name, average="median")
        assert strategy(name, average="mean").rule.name == "mean"
        return
    one = strategy(name, **SETTINGS.get(name, {}), average="median")
    inner = one.method if name == "ccvr" else one
    inner.rule = Seen()
    Seen.calls.clear()
    result = toy(one)
    assert len(Seen.calls) >= (1 if name == "ccvr" else 2)
    assert math.isfinite(result.metrics["train_loss"] or 0)


def test_the_refused_are_those_that_are_known_to_be():
    taking = {name for name, kind in KINDS.items() if not kind.no_average}
    assert {"fedavg", "fedbn", "scaffold", "fjord", "fml", "fedkd-wu"} <= taking
    assert {
        "local",
        "central",
        "ensemble",
        "fedexp",
        "mosaic",
        "fedproto",
    } & taking == set()


def test_a_whole_run_with_the_median_replayed():
    result, _ = run(strategy("fedavg", average="median"), participation=1.0)
    weights = initial()
    for t in range(3):
        states = []
        for k in range(3):
            model = net(weights)
            train(model, k, t)
            states.append(state_of(model))
        middle = {n: np.median([s[n].numpy() for s in states], axis=0) for n in weights}
        weights = {
            n: torch.as_tensor(v).to(weights[n].dtype) for n, v in middle.items()
        }
    agree(result.state.weights, weights)


def test_a_whole_run_with_clipped_moves_replayed():
    options = {"name": "norm_clip", "norm": 0.2}
    result, _ = run(strategy("fedavg", average=options), participation=1.0)
    sizes = np.array([len(shard) for shard in SHARDS]) / sum(map(len, SHARDS))
    weights, cut = initial(), 0
    for t in range(3):
        total = dict.fromkeys(weights, 0.0)
        counts = []
        for k in range(3):
            model = net(weights)
            train(model, k, t)
            moves = {n: v - weights[n] for n, v in state_of(model).items()}
            counts.append(weights["norm.num_batches_tracked"] + 4)
            real = [v for v in moves.values() if v.is_floating_point()]
            norm = math.sqrt(sum(float((v**2).sum()) for v in real))
            cut += norm > 0.2
            for n, v in moves.items():
                total[n] = total[n] + sizes[k] * v * min(1, 0.2 / norm)
        weights = {n: weights[n] + total[n] for n in weights}
        weights["norm.num_batches_tracked"] = counts[0]
    assert cut >= 3
    agree(result.state.weights, weights)


@pytest.mark.parametrize(
    "name", ["scaffold", "feddyn", "fednova", "fedavg", "heterofl"]
)
def test_the_mean_by_name_is_the_strategy_bit_for_bit(name):
    plain, named = toy(strategy(name)), toy(strategy(name, average="mean"))
    assert testing.prints.fingerprint(plain.state) == testing.prints.fingerprint(
        named.state
    )


def test_a_bound_that_nobody_reaches_is_fedavg_bit_for_bit():
    wide = {"name": "norm_clip", "norm": 1e9}
    plain, clipped = toy(strategy("fedavg")), toy(strategy("fedavg", average=wide))
    for n, value in plain.state.weights.items():
        assert torch.equal(clipped.state.weights[n], value)


def test_scaffolds_variates_and_fednovas_steps_go_through_the_rule():
    """With K equal changes the median is each of them, and K times it their sum."""
    from fedkd.algorithms.averaging import summed
    from fedkd.algorithms.drift.fednova import FedNova

    parts = [{"a": torch.tensor(v)} for v in (1.0, 2.0, 900.0)]
    zero = {"a": torch.tensor(0.0)}
    assert summed(Mean(), parts, zero)["a"] == 903
    assert summed(Median(), parts, zero)["a"] == 6
    nova = FedNova()
    nova.rule = Median()
    from fedkd.algorithms.averaging import Global, Update

    before = Global({"w": torch.tensor([4.0])})
    sent = [(3.0, 1.0), (0.0, 2.0), (-96.0, 4.0)]  # y_k and ||a_k||: d_k is 1, 2 and 25
    ups = {
        k: Update({"w": torch.tensor([y])}, 1, besides=a)
        for k, (y, a) in enumerate(sent)
    }
    server = type("S", (), {"model": torch.nn.ParameterDict({"w": torch.zeros(1)})})()
    moved = nova._moved(before, before.weights, ups, server, None)
    # tau_eff is 7 / 3; 4 - 7 / 3 x (1, 2, 25) has the median of the second.
    assert moved.weights["w"].item() == pytest.approx(4 - 14 / 3)


def test_feddyns_pull_is_of_moves_that_are_clipped_as_moves_are():
    from fedkd.algorithms.averaging import Global, Update
    from fedkd.algorithms.drift.feddyn import FedDyn
    from fedkd.algorithms.drift.variates import Answered, Variates

    now = Round(0, 2, (0, 1, 2, 3))
    none = {"w": torch.zeros(1)}
    state = Global(none, besides=Variates(none))
    ups = {
        k: Update({"w": torch.tensor([move])}, 1, besides=Answered(None, 0))
        for k, move in enumerate((8.0, 0.5, 0.5, 0.5))
    }
    model = torch.nn.ParameterDict({"w": torch.zeros(1)})
    server = type("S", (), {"model": model, "clients": range(4)})()

    def pull(written):
        dyn = FedDyn()
        dyn.rule = rule_of(written)
        return dyn._moved(state, none, ups, server, now).besides.mean["w"].item()

    assert pull("mean") == 9.5 / 4
    assert pull({"name": "norm_clip", "norm": 1.0}) == (1 + 3 * 0.5) / 4
    assert pull("median") == 0.5


def test_one_that_sends_many_times_its_move_hurts_the_mean_alone():
    many = 30

    def apart(average):
        def attacked(one):
            local = one.local

            def sent(down, client):
                up = local(down, client)
                if client.id:
                    return up
                far = {
                    n: w + many * (v - w) if v.is_floating_point() else v
                    for (n, v), w in zip(
                        up.weights.items(), down.weights.values(), strict=True
                    )
                }
                return replace(up, weights=far)

            one.local = sent
            return one

        clean = toy(strategy("fedavg"), rounds=1, clients=7).state.weights
        bad = attacked(strategy("fedavg", average=average))
        hit = toy(bad, rounds=1, clients=7).state.weights
        return max(float((hit[n] - clean[n]).abs().max()) for n in clean)

    assert apart("mean") > 0.5
    for name in ("median", "trimmed_mean", "krum", "multi_krum", "geometric_median"):
        assert apart(name) < 0.1, name
    assert apart("bulyan") < 0.1
    assert apart("norm_clip") < 0.1


def test_the_mean_has_the_hash_that_cells_had_and_another_average_has_its_own():
    def plain(**options):
        return resolve(REGISTRY, "strategies", "fedprox", options, "here").plain()

    assert plain(average="mean") == plain(average={"name": "mean"}) == plain()
    assert plain(average="median")["options"]["average"] == "median"
    written = plain(average={"name": "trimmed_mean"})["options"]["average"]
    assert written == {"name": "trimmed_mean", "share": 0.2}
    again = resolve(REGISTRY, "strategies", "fedprox", {"average": written}, "here")
    assert again.plain() == plain(average="trimmed_mean")


def test_too_few_clients_for_the_attackers_are_a_reason_not_to_run():
    few = strategy("fedavg", average={"name": "krum", "attackers": 2})
    with pytest.raises(NotApplicableError, match=r"needs 7 clients in a round.*are 3"):
        toy(few)


def test_distances_need_one_architecture_and_coordinates_do_not():
    widths = (1.0, 0.5, 0.5)
    median = strategy("fedavg", aggregate="static", average="median")
    result, _ = run(median, widths, participation=1.0)
    assert math.isfinite(result.metrics["train_loss"])
    krum = strategy("fedavg", aggregate="static", average="geometric_median")
    with pytest.raises(NotApplicableError, match="needs one architecture"):
        run(krum, widths, participation=1.0)
    assert len(federation(widths).specs) == 2


def test_an_averaged_strategy_travels_to_another_process_and_is_calibrated():
    one = strategy("fedavg", average="median", calibrate={"steps": 3})
    other = pickle.loads(pickle.dumps(one))
    assert (other.method.rule.name, other.config.calibrate.steps) == ("median", 3)
    assert plain_class(type(other.method)) is KINDS["fedavg"]
    bare = pickle.loads(pickle.dumps(strategy("fedbn", average={"name": "krum"})))
    assert (bare.rule.name, bare.rule.attackers) == ("krum", 1)


def test_a_list_of_averages_is_an_axis_of_a_suite(tmp_path):
    from fedkd.suite.grid import grid
    from fedkd.suite.suite import load_suite

    path = tmp_path / "x.yaml"
    path.write_text(
        "datasets: [digits]\npartitions: [iid]\nmodels: [cnn]\nclients: 7\nrounds: 2\n"
        "training: {local_steps: 1}\nseeds: [0]\n"
        "strategies:\n  - name: fedavg\n"
        "    average: [mean, median, {name: krum, attackers: 2}]\n"
        "  - {name: fedavg, label: plain}\n"
    )
    cells = grid(load_suite(str(path)), REGISTRY)
    labels = [cell.run.strategy for cell in cells]
    assert labels[:2] == ["fedavg-average-mean", "fedavg-average-median"]
    assert "krum" in labels[2]
    assert cells[0].config_hash == cells[3].config_hash != cells[1].config_hash
