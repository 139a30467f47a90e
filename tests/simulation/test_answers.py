"""The answers of a round: few in memory, many in a file, and no bit depends on it."""

import errno
import gc
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from fedkd import testing
from fedkd.payload import encode
from fedkd.plugins.registry import load_registry
from fedkd.simulation.executors import Choice
from fedkd.simulation.simulator import simulate
from fedkd.simulation.store import answers
from fedkd.simulation.store.answers import Answers

MIB = 1 << 20
MOSAIC = {
    "generator": {"steps": 2, "epochs": None, "batch_size": 8, "width": 2},
    "teacher": {"steps": 3, "samples_per_client": 8},
    "distil": {"steps": 2, "batch_size": 8},
}
STRATEGIES = [
    ("fedavg", {}, [{}]),
    ("fedbn", {}, [{}]),
    ("heterofl", {}, [{}, {"width": 0.5}]),
    ("mosaic", MOSAIC, [{}]),
]


@dataclass(frozen=True)
class Inner:
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Sent:
    weights: dict[str, torch.Tensor]
    examples: int
    share: float
    words: list[str]
    inner: Inner | None


def sent(k, size=8):
    weights = {"w": torch.full((size,), float(k)), "n": torch.tensor(k)}
    return Sent(weights, k, k / 3, ["a", str(k)], Inner((k, 2 * k)) if k % 2 else None)


def filled(folder, budget, clients):
    found = Answers(folder, budget)
    for k in clients:
        found.add(k, sent(k), 8 * 4 + 8)
    return found


@pytest.mark.parametrize("budget", [0, 100, MIB], ids=["file", "both", "memory"])
def test_answers_come_back_by_client_whatever_the_order(tmp_path, budget):
    ups = filled(tmp_path, budget, [7, 2, 30, 4])
    assert list(ups) == [2, 4, 7, 30]
    assert len(ups) == 4
    assert 4 in ups
    assert 5 not in ups
    with pytest.raises(KeyError):
        ups[5]
    for _ in range(2):  # a strategy may read twice
        assert [type(up) for up in ups.values()] == [Sent] * 4
        assert all(encode(up) == encode(sent(k)) for k, up in ups.items())
    assert isinstance(ups[7].inner, Inner)
    assert list(tmp_path.iterdir()) == [], "the file has no name"


def test_a_change_to_what_was_read_from_the_file_stays_outside(tmp_path):
    ups = filled(tmp_path, 0, [1, 2])
    ups[1].weights["w"].fill_(9)
    assert encode(ups[1]) == encode(sent(1))


def test_the_budget_is_what_stays_in_memory(tmp_path):
    ups = Answers(tmp_path, 3 * MIB)
    for k in range(10):
        ups.add(k, sent(k, MIB // 4), MIB)
    assert [ups[k] is ups[k] for k in range(10)] == [True] * 3 + [False] * 7


def test_answers_in_a_file_outlive_the_round_if_a_state_holds_them(tmp_path):
    states = [filled(tmp_path, 0, [1, 2])]
    gc.collect()
    assert encode(dict(states[0])) == encode({1: sent(1), 2: sent(2)})


def outcome(name, options, models, executor):
    strategy, _ = load_registry().strategy(name, options)
    federation = testing.toy_federation(5)
    specs = [replace(federation.server_model, options=given) for given in models]
    federation.client_models = [specs[k % len(specs)] for k in range(5)]
    result = simulate(
        strategy, federation, testing.toy_protocol(3, 5), 0, executor=executor
    )
    lines = []
    for line in result.history:
        rows = {k: {**row, "seconds": 0} for k, row in line["clients"].items()}
        lines.append({**line, "seconds": 0, "clients": rows})
    return encode(result.state), lines


@pytest.mark.parametrize(("name", "options", "models"), STRATEGIES)
@pytest.mark.parametrize("executor", ["serial", Choice("processes", 2)])
def test_no_bit_depends_on_the_budget(monkeypatch, name, options, models, executor):
    whole = outcome(name, options, models, "serial")
    monkeypatch.setattr(answers, "BUDGET", 0)
    shelves = []
    real = answers.MappedTrees
    monkeypatch.setattr(
        answers, "MappedTrees", lambda folder: shelves.append(1) or real(folder)
    )
    assert outcome(name, options, models, executor) == whole
    assert len(shelves) == 3, "one file a round"


MEMORY = """
import sys
from pathlib import Path
import torch
from fedkd import simulate, testing
from fedkd.simulation.store import answers
from fedkd.algorithms.averaging import Global, Update
from fedkd.algorithms.fedavg import FedAvg

answers.BUDGET = int(sys.argv[1]) << 20

def resident(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if name in line) // 1024

class Wide(FedAvg):
    def init(self, server):
        return Global({"w": torch.zeros(5 << 18)})
    def local(self, down, client):
        return Update({"w": down.weights["w"] + client.id}, len(client.data))
    def predictors(self, state, server):
        assert float(state.weights["w"][0]) > 0
        return {"global": server.load(server.initial)}

def run(clients):
    images = testing.toy_images(per_class=400)
    federation = testing.toy_federation(clients, data=images)
    world = federation, testing.toy_protocol(1, clients)
    simulate(Wide(), *world, 0, folder=Path(sys.argv[2]))

before = resident("VmRSS")
run(80)
print(resident("VmHWM") - before)
"""


@pytest.mark.thorough
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_does_not_grow_with_the_clients_of_a_round(tmp_path):
    """80 answers of 5 MiB, of which 20 MiB may be in memory.

    Pages of the file count too until the system takes them back, so it is not 20.
    """

    def peak(budget):
        command = [sys.executable, "-c", MEMORY, str(budget), str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        (tmp_path / "checkpoint.safetensors").unlink()
        return int(done.stdout)

    few, all_of_them = peak(20), peak(1000)
    assert all_of_them > 350, "the measure sees nothing"
    assert few < all_of_them / 2


def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(tmp_path, monkeypatch):
    def full(_descriptor, _start, _length):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space"):
        Answers(tmp_path, budget=0).add(0, {"w": torch.ones(4)}, 16)
