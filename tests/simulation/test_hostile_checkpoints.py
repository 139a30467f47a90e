"""Checkpoints whose checksums fit, and whose content does not."""

import pytest
import torch

from fedkd.payload import encode
from fedkd.simulation.faults.late import Late
from fedkd.simulation.store.checkpoint import Checkpoint, read
from fedkd.simulation.store.packing import Packed, require_pieces
from fedkd.simulation.totals import Totals


def stored(tmp_path, **fields):
    path = tmp_path / "checkpoint.safetensors"
    made = Checkpoint(3, {"w": torch.ones(2)})
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    path.write_bytes(encode(made))
    return read(path)


def test_one_that_is_sound_is_read(tmp_path):
    late = (Late(0, 1, 2, {"w": torch.zeros(1)}),)
    back = stored(tmp_path, late=late, store="checkpoint-3.memories", memories={1: {}})
    assert (back.rounds_done, back.store) == (3, "checkpoint-3.memories")
    assert back.late[0].due == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"rounds_done": "3"}, {"rounds_done": -1}, {"rounds_done": True},
        {"memories": {"x": {}}}, {"memories": [1]}, {"totals": {}},
        {"totals": Totals(bytes_up="many")}, {"totals": Totals(phases={"local": "1"})},
        {"identity": {"a": 1}}, {"lines": 7}, {"late": (1,)}, {"store_checksum": -5},
        {"late": (Late("x", 0, 1, None),)}, {"store": "../../etc/passwd"},
        {"store": "/etc/passwd"}, {"store": "checkpoint-3.memories/../x"},
    ],
)  # fmt: skip
def test_one_with_a_field_of_another_kind_cannot_be_read(tmp_path, fields):
    assert stored(tmp_path, **fields) is None


def test_a_file_of_another_tree_is_no_checkpoint(tmp_path):
    (tmp_path / "x").write_bytes(encode({"rounds_done": 3}))
    assert read(tmp_path / "x") is None


@pytest.mark.parametrize(
    "piece",
    [
        ["float32", [2, 3], [3, 1], 8], ["float32", [2, 3], [3, 1], -4],
        ["float32", [2**40], [0], 0], ["load", [1], [1], 0], ["float32", [9], [1], 0],
        ["float32", [0, 2], [1], 0], ["float32", "", "", 0], ["float64", [4], [1], 0],
    ],
)  # fmt: skip
def test_a_piece_beyond_its_room_is_refused(piece):
    packed = Packed({"w": torch.ones(2, 3)}, "test")
    require_pieces(packed.text, packed.size)
    with pytest.raises((ValueError, KeyError)):
        require_pieces(f'["{{}}", [{str(piece).replace(chr(39), chr(34))}]]', 24)
