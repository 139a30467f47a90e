"""What clients remember: in memory, in a mapped file, and in checkpoints."""

import contextlib
import json
from pathlib import Path

import pytest
import torch

from fedkd import testing
from fedkd.errors import ContractError
from fedkd.payload import encode
from fedkd.plugins.registry import load_registry
from fedkd.simulation.simulator import simulate
from fedkd.simulation.store import memories as module
from fedkd.simulation.store.mapped_trees import MappedTrees
from fedkd.simulation.store.memories import ClientMemories
from fedkd.simulation.store.packing import MappedFile, Packed, unpack

REGISTRY = load_registry()


def memory_of(k, size=10):
    return {"w": {"a": torch.full((size,), float(k))}, "n": k, "f": k / 3, "e": None}


def same(a, b):
    return encode(a) == encode(b)


@pytest.fixture(params=[1 << 30, 100], ids=["near", "on disk"])
def store(request):
    return ClientMemories(request.param)


def test_what_is_kept_comes_back(store):
    for k in range(20):
        store.keep(k, memory_of(k))
    assert all(same(store.recall(k), memory_of(k)) for k in range(20))
    assert store.recall(99) == {}


def test_changes_count_only_when_they_are_kept(store):
    for k in range(20):
        store.keep(k, memory_of(k))
    store.recall(3)["n"] = 7
    assert store.recall(3)["n"] == 3
    store.keep(3, {"n": 7})
    assert store.recall(3) == {"n": 7}
    store.keep(3, memory_of(3, size=1000))  # longer than its place
    store.keep(4, {})
    assert same(store.recall(3), memory_of(3, size=1000))
    assert same(store.recall(5), memory_of(5))
    assert store.recall(4) == {}


def test_large_memories_move_to_a_file_once():
    # Ten numbers of four bytes, and four leaves.
    store = ClientMemories(limit=10 * (40 + 4 * module.LEAF))
    for k in range(10):
        store.keep(k, memory_of(k))
    assert not store.on_disk
    store.keep(10, memory_of(10))
    assert store.on_disk
    assert all(same(store.recall(k), memory_of(k)) for k in range(11))


def test_many_small_leaves_are_no_small_memory():
    store = ClientMemories(limit=100_000)
    for k in range(20):
        store.keep(k, {str(i): torch.zeros(1) for i in range(20)})
    assert store.on_disk, "400 tensors of 4 bytes take far more than 1,600 bytes"


def test_a_client_that_remembers_nothing_takes_no_place(store, tmp_path):
    store.keep(1, {})
    assert store.save(tmp_path, 1) == ({}, "")


def test_what_cannot_be_stored_is_refused_with_its_place(store):
    with pytest.raises(ContractError, match="memory of client 4 holds set at w"):
        store.keep(4, {"w": {1}})


def test_a_saved_store_is_restored_and_older_files_go(tmp_path):
    store = ClientMemories(limit=0)
    for k in range(5):
        store.keep(k, memory_of(k))
    store.save(tmp_path, 1)
    store.keep(2, memory_of(20))
    near, name = store.save(tmp_path, 2)
    assert near == {}
    store.tidy(tmp_path, {name})
    assert [path.name for path in tmp_path.iterdir()] == [name]
    other = ClientMemories(limit=0)
    assert other.restore(tmp_path, near, name)
    assert same(other.recall(2), memory_of(20))
    assert same(other.recall(4), memory_of(4))


@pytest.mark.parametrize("harm", ["cut", "flip", "gone", "head"])
def test_a_damaged_store_is_not_restored(tmp_path, harm):
    store = ClientMemories(limit=0)
    store.keep(0, memory_of(0, size=1000))
    _, name = store.save(tmp_path, 1)
    path = tmp_path / name
    data = bytearray(path.read_bytes())
    if harm == "gone":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(data[:-8])
    else:
        data[-9 if harm == "flip" else 2] ^= 1
        path.write_bytes(data)
    assert not ClientMemories().restore(tmp_path, {}, name)


def test_a_run_resumes_with_memories_on_disk(tmp_path, monkeypatch):
    def run(folder, **options):
        strategy, _ = REGISTRY.strategy("fedbn", {})
        world = (testing.toy_federation(), testing.toy_protocol(5))
        folder.mkdir(exist_ok=True)
        return simulate(
            strategy, *world, 0, folder=folder, checkpoint_every=2, **options
        )

    def stop(metrics):
        if metrics["round"] == 3:
            raise InterruptedError

    near = run(tmp_path / "near")
    monkeypatch.setattr(module.ClientMemories.__init__, "__defaults__", (0,))
    far = run(tmp_path / "far")
    with contextlib.suppress(InterruptedError):
        run(tmp_path / "broken", on_round=stop)
    assert [p.name for p in (tmp_path / "broken").glob("*.memories")] == [
        "checkpoint-2.memories"
    ]
    resumed = run(tmp_path / "broken")
    assert len(resumed.history) == 3
    results = [encode(one.state) for one in (near, far, resumed)]
    assert results[0] == results[1] == results[2]
    accuracy = [one.metrics["local_accuracy"] for one in (near, far, resumed)]
    assert accuracy[0] == accuracy[1] == accuracy[2]
    (tmp_path / "broken" / "checkpoint-5.memories").unlink()
    with pytest.warns(RuntimeWarning, match="goes on from the one before"):
        assert len(run(tmp_path / "broken").history) == 1, "it goes on after round 4"
    for path in (tmp_path / "broken").glob("*.memories"):
        path.unlink()
    with pytest.warns(RuntimeWarning, match="its checkpoint cannot be read"):
        assert len(run(tmp_path / "broken").history) == 5, "lost stores start it anew"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_store_of_many_clients_takes_no_memory(tmp_path):
    def resident():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if "VmRSS" in line) // 1024

    store = ClientMemories(limit=0)
    store.folder = tmp_path
    before = resident()
    for k in range(400):
        store.keep(k, {"w": torch.full((1 << 18,), float(k))})  # 1 MiB each
    assert float(store.recall(17)["w"].sum()) == 17 * (1 << 18)
    assert resident() - before < 60


def test_tensors_come_back_with_their_strides_and_types(tmp_path):
    tree = {
        "last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "turned": torch.rand(3, 4).t(),
        "gaps": torch.rand(4, 6)[:, ::2],
        "spread": torch.ones(1).expand(3),
        "none": torch.empty(0, 3),
        "one": torch.tensor(3),
        "half": torch.rand(3).bfloat16(),
        "flags": torch.tensor([True, False]),
    }
    packed = Packed(tree, "the test")
    with (tmp_path / "x").open("w+b") as file:
        mapped = MappedFile(file.fileno())
        packed.write(mapped.upto(64 + packed.size), 64)
        found = unpack(mapped.upto(0), 64, packed.text)
        mapped.close()
    for name, value in tree.items():
        assert torch.equal(found[name], value), name
        assert found[name].dtype == value.dtype
    for name in ("last", "turned", "none"):
        assert found[name].stride() == tree[name].stride(), name


def test_a_tree_is_written_over_one_as_large(tmp_path):
    trees = MappedTrees(tmp_path)
    for turn in range(50):
        for k in range(4):
            trees[k] = memory_of(turn + k)
    trees.save(tmp_path / "saved")
    assert (tmp_path / "saved").stat().st_size < 4 * 500
    assert list(trees) == [0, 1, 2, 3]
    assert len(trees) == 4
    assert json.dumps(trees[2]["n"]) == "51"
    trees.close()
