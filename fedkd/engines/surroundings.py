"""What code finds around it: settings of the process, and of the thread it runs in.

Turns that overlap must not see each other's. What belongs to the process is exchanged
when one thread hands over to another; what belongs to a thread is taken along.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from fedkd.base.phases import exchange
from fedkd.ops.tf32 import set_tf32_flags, tf32_flags


class ProcessSettings:
    """Settings of the process as they were: generators, arithmetic, warnings, clock."""

    def __init__(self, device: torch.device) -> None:
        """Take them down; the default generators are those of the CPU and ``device``."""
        self._device = device
        self._cpu = torch.default_generator.get_state()
        self.clock = exchange(None)
        """The clock of :mod:`fedkd.base.phases` that was running."""
        exchange(self.clock)
        self._filters = warnings.filters
        if device.type == "cuda":
            self._cuda = torch.cuda.get_rng_state(device)
            self._tf32 = tf32_flags()

    def restore(self) -> None:
        """Put them back."""
        torch.default_generator.set_state(self._cpu)
        exchange(self.clock)
        if warnings.filters is not self._filters:
            warnings.filters = self._filters
            with warnings.catch_warnings():
                """Which has the module forget what it had decided."""
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(self._cuda, self._device)
            set_tf32_flags(self._tf32)


@dataclass(frozen=True)
class ThreadSettings:
    """Settings that torch keeps for each thread; equal if they are the same."""

    autocast: tuple[tuple[str, torch.dtype], ...]
    """Types of devices with autocast, and what to."""
    grad: bool
    stream: torch.cuda.Stream | None
    """The stream on the GPU, which says which GPU too."""

    @staticmethod
    def now(device: torch.device) -> ThreadSettings:
        """Return those of this thread."""
        kinds = {"cpu", device.type}
        autocast = tuple(
            (kind, torch.get_autocast_dtype(kind))
            for kind in sorted(kinds)
            if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        )
        stream = torch.cuda.current_stream() if device.type == "cuda" else None
        return ThreadSettings(autocast, torch.is_grad_enabled(), stream)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Have them in this thread inside the block."""
        with contextlib.ExitStack() as stack:
            for kind, dtype in self.autocast:
                # Converted weights are not kept: steps change them.
                stack.enter_context(torch.autocast(kind, dtype, cache_enabled=False))
            stack.enter_context(torch.set_grad_enabled(self.grad))
            if self.stream is not None:
                stack.enter_context(torch.cuda.stream(self.stream))
            yield
