"""What a run has stored is one state: what does not fit starts the run anew."""

import errno
import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch

from fedkd import ContractError, simulate, testing
from fedkd.algorithms.averaging import Global
from fedkd.algorithms.drift.scaffold import Scaffold
from fedkd.algorithms.fedavg import FedAvg
from fedkd.payload import decode, encode
from fedkd.plugins.registry import load_registry
from fedkd.simulation.store import checkpoint
from fedkd.simulation.store.memories import ClientMemories

WORLD = (testing.toy_federation(), testing.toy_protocol(4))


class Normed(FedAvg):
    """Moves by an amount that depends on a sum over the state, to the last bit."""

    def aggregate(self, state, ups, server, round):
        new = super().aggregate(state, ups, server, round).weights
        norm = sum((new[n] - w).abs().sum() for n, w in state.weights.items())
        server.log("norm", float(norm))
        return Global({n: w / (1 + 1e-3 * norm) for n, w in new.items()})


class Remembering(FedAvg):
    def local(self, down, client):
        update = super().local(down, client)
        client.memory["last"] = dict(update.weights)
        return update


class Stop(Exception):
    pass


def run(folder, strategy=Normed, stop=None, **options):
    def stopping(metrics):
        if metrics["round"] == stop:
            raise Stop

    options = {"checkpoint_every": 2, "on_round": stopping, **options}
    return simulate(strategy(), *WORLD, 0, folder=folder, **options)


def without_times(text):
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        line.pop("seconds")
        for row in line["clients"].values():
            row.pop("seconds")
    return lines


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_killed_and_resumed_is_the_same_bits_for_sums_over_channels_last(
    tmp_path, executor
):
    whole = run(tmp_path / "whole")
    layouts = {tuple(w.stride()) for w in whole.state.weights.values()}
    assert any(
        len(stride) == 4 and stride[1] == 1 and stride[3] > 1 for stride in layouts
    ), "the state is not channels-last: the test shows nothing"
    with pytest.raises(Stop):
        run(tmp_path / "cut", stop=3)
    resumed = run(tmp_path / "cut", executor=executor)
    assert len(resumed.history) == 2
    assert encode(resumed.state) == encode(whole.state)
    assert resumed.metrics["logged"]["norm"] == whole.metrics["logged"]["norm"]


@pytest.mark.parametrize("strategy", [Normed, Scaffold])
@pytest.mark.parametrize("name", ["processes", "stacked"])
def test_killed_and_resumed_by_the_executor_that_began_is_the_same_bits(
    tmp_path, name, strategy
):
    given = {"executor": load_registry().executor(name)}
    whole = run(tmp_path / "whole", strategy, **given)
    with pytest.raises(Stop):
        run(tmp_path / "cut", strategy, stop=3, **given)
    resumed = run(tmp_path / "cut", strategy, **given)
    assert (len(resumed.history), resumed.engine) == (2, name)
    assert encode(resumed.state) == encode(whole.state)
    texts = [(tmp_path / f / "metrics.jsonl").read_text() for f in ("cut", "whole")]
    assert without_times(texts[0]) == without_times(texts[1])


def test_a_tree_keeps_its_strides_and_gives_the_same_sums():
    tensor = torch.randn(16, 8, 3, 3).to(memory_format=torch.channels_last)
    tree = {"a": tensor, "b": tensor[:, :1], "c": torch.randn(3, 5).t(), "d": tensor[0]}
    back = decode(encode(tree))
    assert back["a"].stride() == (72, 1, 24, 8)
    assert back["c"].stride() == (1, 5)
    for name, value in tree.items():
        assert torch.equal(back[name], value)
    assert back["a"].sum() == tensor.sum()


def test_every_changed_byte_of_a_tree_is_seen():
    data = encode({"a": torch.arange(6.0).reshape(2, 3), "b": "text", "c": 0.5})
    for place in range(len(data)):
        for bit in (0x01, 0x20, 0x80):
            changed = bytearray(data)
            changed[place] ^= bit
            with pytest.raises(ContractError, match="not a tree written by fedkd"):
                decode(bytes(changed))


def cut_at(share):
    def change(path, _):
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return change


def flip(path, _):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x04
    path.write_bytes(data)


def delete(path, _):
    path.unlink()


def swap(path, other):
    shutil.copy(other, path)


def without_a_line(path, _):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:1] + lines[2:]))


CHANGES = {
    "empty": cut_at(0), "cut early": cut_at(0.1), "cut": cut_at(0.5),
    "cut late": cut_at(0.999), "flipped": flip, "deleted": delete, "swapped": swap,
}  # fmt: skip


@pytest.fixture(scope="module")
def cut_runs(tmp_path_factory):
    """Two runs that were cut off in round 3, with memories in a file, and a whole one."""
    home = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClientMemories.__init__, "__defaults__", (0,))
        whole = run(home / "whole", Remembering)
        for name, seed in (("cut", 0), ("other", 1)):
            with pytest.raises(Stop):
                simulate(
                    Remembering(), *WORLD, seed, folder=home / name,
                    checkpoint_every=2, on_round=_stop_at_3,
                )  # fmt: skip
        yield home, whole


def _stop_at_3(metrics):
    if metrics["round"] == 3:
        raise Stop


FILES = ("checkpoint.safetensors", "metrics.jsonl", "checkpoint-2.memories")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", [*CHANGES, "without a line"])
def test_a_damaged_folder_gives_the_same_result_or_says_whose_it_is(
    tmp_path, cut_runs, name, change
):
    if change == "without a line" and name != "metrics.jsonl":
        pytest.skip("has no lines")
    if change == "swapped" and name == "checkpoint.safetensors":
        pytest.skip("another run's, which is refused: see test_simulator.py")
    home, whole = cut_runs
    folder = tmp_path / "run"
    shutil.copytree(home / "cut", folder)
    act = CHANGES.get(change, without_a_line)
    act(folder / name, home / "other" / name)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        again = run(folder, Remembering)
    assert encode(again.state) == encode(whole.state)
    text = (folder / "metrics.jsonl").read_text()
    assert without_times(text) == without_times(
        (home / "whole" / "metrics.jsonl").read_text()
    )
    if len(again.history) < 4:
        # What was changed was behind the checkpoint and is written anew.
        assert (name, change) in {("metrics.jsonl", "cut late")}
    elif (name, change) != ("checkpoint.safetensors", "deleted"):
        assert again.anew.endswith("starts from round 1")
        assert any(again.anew in str(w.message) for w in said)


@pytest.fixture(scope="module")
def twice_kept(tmp_path_factory, cut_runs):
    """A run with checkpoints of rounds 2 and 3, each with memories in a file."""
    home = tmp_path_factory.mktemp("twice")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClientMemories.__init__, "__defaults__", (0,))
        with pytest.raises(Stop):
            run(home, Remembering, stop=3, checkpoint_every=1)
    return home


def last_line(path, _):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:-9] + b"\n")


LAST = {"checkpoint.safetensors": flip, "checkpoint-3.memories": delete,
        "metrics.jsonl": last_line}  # fmt: skip


@pytest.mark.parametrize("executor", ["serial", "processes"])
@pytest.mark.parametrize("name", LAST)
def test_a_damaged_last_checkpoint_is_said_and_the_one_before_is_taken(
    tmp_path, cut_runs, twice_kept, name, executor
):
    folder = tmp_path / "run"
    shutil.copytree(twice_kept, folder)
    LAST[name](folder / name, None)
    with pytest.warns(RuntimeWarning, match="goes on from the one before") as said:
        again = run(folder, Remembering, executor=executor, checkpoint_every=3)
    assert len(again.history) == 2, "it went on after round 2"
    place = folder / name
    assert [str(w.message) for w in said] == [f"{again.anew}: {place}"]
    _, whole = cut_runs
    assert encode(again.state) == encode(whole.state)
    # What was pushed out is not the damaged one.
    assert [checkpoint.read(p).rounds_done for p in kept(folder)] == [3, 4]


def kept(folder):
    return sorted(folder.glob("checkpoint*.safetensors"))


def test_two_damaged_checkpoints_start_the_run_anew_and_say_so(
    tmp_path, cut_runs, twice_kept
):
    folder = tmp_path / "run"
    shutil.copytree(twice_kept, folder)
    for path in kept(folder):
        flip(path, None)
    with pytest.warns(RuntimeWarning, match="its checkpoint cannot be read; starts"):
        again = run(folder, Remembering)
    assert (len(again.history), again.anew) == (4, checkpoint.UNREADABLE)
    assert encode(again.state) == encode(cut_runs[1].state)


def test_an_end_between_two_names_loses_no_checkpoint(tmp_path, twice_kept):
    folder = tmp_path / "run"
    shutil.copytree(twice_kept, folder)
    before, last = kept(folder)
    last.replace(before)
    again = run(folder, Remembering)
    assert (len(again.history), again.anew) == (1, "")


def test_a_full_disk_leaves_both_checkpoints(tmp_path, twice_kept, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(twice_kept, folder)
    texts = [path.read_bytes() for path in kept(folder)]

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fedkd.base.files.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(folder, checkpoint.Checkpoint(4, None), "it")
    assert [path.read_bytes() for path in kept(folder)] == texts
    assert not list(folder.glob(".*"))


def test_the_folder_is_left_whole_by_a_finished_run(tmp_path):
    run(tmp_path, checkpoint_every=1)
    assert sorted(p.name for p in Path(tmp_path).glob("checkpoint*")) == [
        "checkpoint-before.safetensors",
        "checkpoint.safetensors",
    ]
