"""What benchmarks share: a reference that takes turns, and a slowdown to try them on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
PLANTED = 0.03
"""Seconds that ``--plant`` adds to every step of local training."""


def pytest_addoption(parser):
    parser.addoption(
        "--plant",
        action="store_true",
        help=f"slow every step of fedkd's SGD by {PLANTED} s: what compares must see it",
    )


def pytest_configure(config):
    if not config.getoption("--plant"):
        return
    from fedkd.ops.sgd import FastSgd

    real = FastSgd.step

    def slow(self: FastSgd) -> None:
        time.sleep(PLANTED)
        real(self)

    FastSgd.step = slow  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def against(benchmark) -> Callable[..., None]:
    """Return ``measure(own, reference)``, which lets both take turns.

    It stores ``extra_info["ratio"]``: the reference's shortest time over one's own. What
    else the machine does makes times longer and never shorter.
    """

    def measure(
        own: Callable[[], Any], reference: Callable[[], Any], rounds: int = 9
    ) -> None:
        times: list[float] = []

        def turn() -> None:
            started = time.perf_counter()
            reference()
            times.append(time.perf_counter() - started)

        reference()
        own()
        benchmark.pedantic(own, setup=turn, rounds=rounds)
        if benchmark.stats is not None:
            benchmark.extra_info["ratio"] = min(times) / benchmark.stats.stats.min

    return measure
