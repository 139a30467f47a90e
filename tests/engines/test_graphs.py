"""The executor that replays steps: their numbers are those of the serial one."""

import contextlib

import pytest
import torch

from fedkd import Round, testing
from fedkd.algorithms.fedavg import FedAvg
from fedkd.engines.graphs import Graphs
from fedkd.plugins.registry import load_registry
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import simulate
from fedkd.simulation.turns import Turns

REGISTRY = load_registry()


def turns_of():
    sides = Sides(testing.toy_federation(), testing.toy_protocol(), 0)
    return Turns(REGISTRY.strategy("fedavg", {})[0], sides, "x")


def test_graphs_gives_the_numbers_of_serial():
    results = [
        simulate(
            REGISTRY.strategy(name, {})[0],
            testing.toy_federation(),
            testing.toy_protocol(3, training=training),
            0,
            executor=REGISTRY.executor(executor),
        )
        for name in ("fedavg", "fedprox")
        for training in [{"local_epochs": 2, "batch_size": 7, "lr": 0.05}]
        for executor in ("serial", "graphs")
    ]
    for plain, replayed in (results[:2], results[2:]):
        assert (plain.engine, replayed.engine) == ("serial", "graphs")
        torch.testing.assert_close(
            dict(plain.state.weights),
            dict(replayed.state.weights),
            rtol=1e-5,
            atol=1e-6,
        )
        assert plain.metrics["bytes_up"] == replayed.metrics["bytes_up"]


def test_graphs_uses_one_step_for_all_and_frees_it():
    turns = turns_of()
    executor = Graphs(turns)
    state = turns.strategy.init(turns.sides.server())
    for index in range(2):
        orders = turns.orders(state, Round(index, 2, (0, 1, 2)))
        assert [k for k, _ in executor.answers(orders)] == [0, 1, 2]
    assert len(executor._replayer._steps) == 1
    executor.close()
    assert not executor._replayer._steps


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_ends_without_captured_steps_even_if_it_fails(monkeypatch, fails):
    class Failing(FedAvg):
        def aggregate(self, *arguments):
            if fails:
                raise KeyboardInterrupt
            return super().aggregate(*arguments)

    real, kept = Graphs.close, []

    def close(self):
        kept.append(len(self._replayer._steps))
        real(self)
        kept.append(len(self._replayer._steps))

    monkeypatch.setattr(Graphs, "close", close)
    world = testing.toy_federation(), testing.toy_protocol(1)
    with pytest.raises(KeyboardInterrupt) if fails else contextlib.nullcontext():
        simulate(Failing(FedAvg.Config()), *world, 0, executor=Graphs)
    assert kept == [1, 0]
