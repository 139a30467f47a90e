"""Precision: what is computed in it, what stays float32, and where it is refused."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from strategy_settings import SETTINGS, each_strategy

from fedkd import PublicData, Round, testing
from fedkd.algorithms.fedavg import FedAvg
from fedkd.errors import ConfigError
from fedkd.ops.training import TrainingConfig, train
from fedkd.payload import encode, leaves
from fedkd.plugins.registry import load_registry
from fedkd.simulation import turns
from fedkd.simulation.executors import Choice
from fedkd.simulation.federation import Federation
from fedkd.simulation.precision import arithmetic, widened
from fedkd.simulation.simulator import simulate
from fedkd.suite.grid import grid
from fedkd.suite.overrides import Overrides, load_overridden

REGISTRY = load_registry()
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits():
    """Three clients of 40 digits each; 60 test images."""
    data = REGISTRY.dataset("digits", {})[0].load(Path())
    shards = [np.arange(k * 40, k * 40 + 40) for k in range(3)]
    tests = [np.arange(k * 20, k * 20 + 20) for k in range(3)]
    models = [testing.toy_federation().server_model]
    public = PublicData.of_share(data, np.arange(120, 150))
    return Federation(data, shards, tests, models, REGISTRY.model, public=public)


def types_of(tree):
    found = [leaf for _, leaf in leaves(tree, "x")]
    return {leaf.dtype for leaf in found if isinstance(leaf, torch.Tensor)}


@pytest.mark.parametrize("name", each_strategy())
def test_every_strategy_runs_in_bf16_and_what_leaves_a_verb_is_float32(
    name, digits, monkeypatch
):
    sent = set()

    def seal(payload, sender):
        sent.update(types_of(payload))
        return real(payload, sender)

    real = turns.seal
    monkeypatch.setattr(turns, "seal", seal)
    strategy, _ = REGISTRY.strategy(name, SETTINGS.get(name, {}))
    protocol = testing.toy_protocol(2, precision="bf16")
    result = simulate(strategy, digits, protocol, 0)
    assert np.isfinite(result.metrics["global_accuracy"])
    assert torch.bfloat16 not in sent | types_of(result.state)


def test_bf16_is_another_arithmetic_on_the_same_streams():
    results = [
        simulate(
            REGISTRY.strategy("fedavg", {})[0],
            testing.toy_federation(),
            testing.toy_protocol(20, precision=precision),
            0,
        )
        for precision in ("fp32", "bf16")
    ]
    exact, short = (
        torch.cat([v.double().flatten() for v in r.state.weights.values()])
        for r in results
    )
    gap = float((exact - short).norm() / exact.norm())
    assert 1e-6 < gap < 0.02
    accuracies = [r.metrics["global_accuracy"] for r in results]
    assert abs(accuracies[0] - accuracies[1]) < 10


def test_weights_that_a_step_has_changed_are_converted_anew():
    """A context around many steps must equal one around each; caches would go stale."""
    federation = testing.toy_federation()
    settings = TrainingConfig(local_steps=4, batch_size=8, lr=0.1, weight_decay=0)
    results = []
    for each_step in (False, True):
        torch.manual_seed(0)
        model = federation.build("cnn-plain")
        data = federation.clients[0]
        if each_step:
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            for x, y in data.batches(8, steps=4):
                optimizer.zero_grad()
                with torch.autocast("cpu", torch.bfloat16):
                    loss = F.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
        else:
            with arithmetic("bf16", CPU):
                train(model, data, settings)
        results.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)


@dataclass(frozen=True)
class Short:
    """A payload in which a strategy left bfloat16."""

    weights: dict[str, torch.Tensor]
    examples: int


class Careless(FedAvg):
    def local(self, down, client):
        client.memory["kept"] = torch.ones(2, dtype=torch.bfloat16)
        update = super().local(down, client)
        short = {
            n: v.bfloat16() if v.is_floating_point() else v
            for n, v in update.weights.items()
        }
        return Short(short, update.examples)


def test_what_a_strategy_leaves_in_bf16_travels_and_is_kept_as_float32():
    from fedkd.simulation.sides import Sides
    from fedkd.simulation.turns import Turns

    protocol = testing.toy_protocol(1, precision="bf16")
    sides = Sides(testing.toy_federation(), protocol, 0)
    strategy = Careless(FedAvg.Config())
    work = Turns(strategy, sides, "careless")
    state = strategy.init(sides.server())
    turn = Round(0, 1, (0,))
    answer = work.do(0, work.orders(state, turn))
    assert torch.bfloat16 not in types_of(answer.up)
    assert isinstance(answer.up, Short)
    assert answer.record["bytes_up"] >= 4 * sum(
        v.numel() for v in answer.up.weights.values() if v.is_floating_point()
    )
    assert sides.memories.recall(0)["kept"].dtype == torch.float32


def test_a_tree_without_bf16_is_left_as_it_is():
    tree = Short({"a": torch.ones(1)}, 1)
    assert widened(tree, "x") is tree


def test_processes_compute_in_the_precision_of_the_run():
    results = [
        simulate(
            REGISTRY.strategy("fedavg", {})[0],
            testing.toy_federation(),
            testing.toy_protocol(3, precision="bf16"),
            0,
            executor=choice,
        )
        for choice in (Choice("serial"), Choice("processes", 2))
    ]
    assert encode(results[0].state) == encode(results[1].state)
    assert [r.engine for r in results] == ["serial", "processes"]


def test_tf32_is_refused_where_there_are_no_tensor_cores():
    protocol = testing.toy_protocol(1, precision="tf32")
    with pytest.raises(ConfigError, match="tf32 is a mode of a GPU's tensor cores"):
        simulate(
            REGISTRY.strategy("fedavg", {})[0], testing.toy_federation(), protocol, 0
        )


def test_the_flags_of_tf32_are_set_inside_and_put_back_after():
    def flags():
        return (
            torch.backends.cuda.matmul.allow_tf32,
            torch.backends.cudnn.allow_tf32,
        )

    before = flags()
    with arithmetic("tf32", torch.device("cuda")):
        assert flags() == (True, True)
    assert flags() == before
    with arithmetic("fp32", torch.device("cuda")):
        assert flags() == (False, False)
    assert flags() == before
    with arithmetic("fp32", CPU):
        assert flags() == before


def test_a_suite_and_the_command_line_set_it_and_float32_has_the_old_hash():
    def cell(*assignments):
        wishes = Overrides(assignments=assignments)
        suite = load_overridden("smoke", wishes, REGISTRY)
        return grid(suite, REGISTRY)[0]

    plain, written, short = cell(), cell("precision=fp32"), cell("precision=bf16")
    assert "precision" not in plain.config["protocol"]
    assert written.config_hash == plain.config_hash
    assert short.config["protocol"]["precision"] == "bf16"
    assert short.config_hash != plain.config_hash
    with pytest.raises(ConfigError, match="precision: found 'fp16'"):
        cell("precision=fp16")
