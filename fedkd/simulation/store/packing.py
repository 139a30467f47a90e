"""Trees in flat memory that processes share or that is mapped from a file.

A tree is written as its tensors, one after another, and a text that says what belongs
where. Tensors come back with the strides that they had: sums over them then run in the
same order, and give the same bits, whether they travelled or not.
"""

from __future__ import annotations

import json
import math
import mmap
import os
from typing import Any

import torch
from torch import Tensor

from fedkd.base.bounds import parse_json
from fedkd.payload import dense, put_together, require_layout, take_apart

_ALIGNMENT = 64
_STEP = 1 << 20
"""Files grow by whole steps of so many bytes at least."""

_DTYPES: dict[str, torch.dtype] = {
    name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)
}
"""By name: nothing else of torch may be named."""

_Piece = tuple[str, list[int], list[int], int]
"""Type, shape, strides and offset of a tensor."""


class Packed:
    """A tree that is ready to be written."""

    def __init__(self, tree: object, sender: str) -> None:
        """Take a tree apart.

        Args:
            tree: As in :mod:`fedkd.payload`.
            sender: Whose it is, for messages.

        Raises:
            ContractError: If a leaf has a type that cannot travel.
        """
        structure, tensors = take_apart(tree, sender)
        self._tensors = [dense(tensor.detach()) for tensor in tensors]
        self._pieces: list[_Piece] = []
        end = 0
        for tensor in self._tensors:
            kind = str(tensor.dtype).removeprefix("torch.")
            piece = (kind, list(tensor.shape), list(tensor.stride()), end)
            self._pieces.append(piece)
            end = aligned(end + tensor.numel() * tensor.element_size())
        self.size = end
        """Bytes, a multiple of the alignment."""
        self.text = json.dumps([structure, self._pieces])
        """What :func:`unpack` needs to know; equal for trees that differ in tensors."""

    def write(self, memory: Any, start: int) -> None:
        """Write the tensors into a writable buffer, from byte ``start`` on."""
        for tensor, piece in zip(self._tensors, self._pieces, strict=True):
            if tensor.numel():
                _view(memory, start, piece).copy_(tensor)


def unpack(memory: Any, start: int, text: str) -> Any:
    """Return the tree that was written at byte ``start``; its tensors are copies.

    Raises:
        ContractError: If the text names an unknown dataclass.
    """
    structure, pieces = json.loads(text)
    return put_together(structure, [_copied(memory, start, piece) for piece in pieces])


def require_pieces(text: str, room: int) -> None:
    """Refuse a text that asks for more than the ``room`` bytes that a tree has.

    Raises:
        ValueError: If it does, or is none that :class:`Packed` has.
    """
    structure, pieces = parse_json(text)
    if not isinstance(structure, str):
        raise ValueError("found no structure of a tree")
    for kind, shape, strides, offset in pieces:
        require_layout(shape, strides)
        size = math.prod(shape) * _DTYPES[kind].itemsize
        if type(offset) is not int or not 0 <= offset <= room - size:
            raise ValueError(f"found {size} bytes at {offset} in a room of {room}")


def aligned(number: int, to: int = _ALIGNMENT) -> int:
    """Return the first multiple of ``to`` that is not below ``number``."""
    return -(-number // to) * to


def _copied(memory: Any, start: int, piece: _Piece) -> Tensor:
    kind, shape, strides, _ = piece
    if math.prod(shape) == 0:
        return torch.empty_strided(shape, strides, dtype=_DTYPES[kind])
    return _view(memory, start, piece).clone()


def _view(memory: Any, start: int, piece: _Piece) -> Tensor:
    kind, shape, strides, offset = piece
    flat = torch.frombuffer(
        memory,
        dtype=_DTYPES[kind],
        count=math.prod(shape),
        offset=start + offset,
    )
    return flat.as_strided(shape, strides)


class MappedFile:
    """A file mapped into memory, as a whole; it grows when more of it is asked for."""

    def __init__(self, descriptor: int) -> None:
        """Args: ``descriptor`` of an open file, which stays the caller's to close."""
        self._descriptor = descriptor
        self._memory: mmap.mmap | None = None

    def upto(self, end: int) -> mmap.mmap:
        """Return the file's memory, at least ``end`` bytes of it.

        Another process may have made the file longer meanwhile. Views of the memory
        must be gone before the next call.
        """
        if self._memory is not None and len(self._memory) >= end:
            return self._memory
        size = os.fstat(self._descriptor).st_size
        if size < max(end, 1):
            size = aligned(max(end, size + size // 2, 1), _STEP)
            os.truncate(self._descriptor, size)
        self.close()
        self._memory = mmap.mmap(self._descriptor, size)
        return self._memory

    def for_writing(self, start: int, end: int) -> mmap.mmap:
        """Return the file's memory, with room on the disk from ``start`` to ``end``.

        Writing where there is none would end the process, and not raise anything.

        Raises:
            OSError: If the disk is full.
        """
        memory = self.upto(end)
        if hasattr(os, "posix_fallocate") and end > start:
            os.posix_fallocate(self._descriptor, start, end - start)
        return memory

    def forget(self, start: int, end: int) -> None:
        """Let the system take the pages of a range out of this process's memory.

        What was written there stays in the file.
        """
        page = mmap.PAGESIZE
        if self._memory is None or not hasattr(mmap, "MADV_DONTNEED"):
            return
        first, last = start // page * page, min(aligned(end, page), len(self._memory))
        if last > first:
            self._memory.madvise(mmap.MADV_DONTNEED, first, last - first)

    def close(self) -> None:
        """Give the mapping back."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None
