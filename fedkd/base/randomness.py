"""Named random streams: every draw belongs to a purpose, never to a position in time.

A stream is named by plain values, ``stream_seed(seed, "client", round, client)``. Two
calls with the same name draw the same numbers, whatever ran before, in whatever order
and in whichever process. That is why resuming a run needs no stored generator state.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import numpy as np
import torch


def stream_seed(*name: int | str) -> int:
    """Return the 63-bit seed of the stream called ``name``; equal names, equal seeds."""
    digest = hashlib.sha256(repr(name).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def numpy_stream(*name: int | str) -> np.random.Generator:
    """Return a fresh NumPy generator for the stream called ``name``."""
    return np.random.default_rng(stream_seed(*name))


@contextlib.contextmanager
def torch_stream(
    *name: int | str, device: torch.device | None = None
) -> Iterator[None]:
    """Draw torch's default random numbers from the stream ``name`` inside the block.

    The state of the default generators of the CPU, and of ``device`` when it is a CUDA
    device, is put back afterwards.
    """
    if device is not None and device.type == "cuda":
        with torch.random.fork_rng(devices=[device]):
            torch.manual_seed(stream_seed(*name))
            yield
        return
    # torch.manual_seed also visits every accelerator; on a build with CUDA that writes
    # down a stack trace for each call, for ever, as long as CUDA is not initialised.
    generator = torch.default_generator
    before = generator.get_state()
    generator.manual_seed(stream_seed(*name))
    try:
        yield
    finally:
        generator.set_state(before)
