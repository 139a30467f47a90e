"""How long the command takes to say something, against importing torch alone."""

from __future__ import annotations

import subprocess
import sys

import pytest


def quiet(*arguments):
    """Return a function that runs Python with arguments, in a process of its own."""
    command = [sys.executable, *arguments]
    return lambda: subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize(
    "arguments", [["--version"], ["list"]], ids=["version", "list"]
)
def test_the_command_against_importing_torch(against, arguments):
    own = quiet("-m", "fedkd", *arguments)
    against(own, quiet("-c", "import torch"), rounds=3)


@pytest.mark.parametrize("jobs", [1, 4])
def test_a_bench_of_four_small_cells_against_importing_torch(against, tmp_path, jobs):
    """Torch is imported once here, and once more for all of several workers."""
    words = ["bench", "smoke", "--strategies", "fedavg", "--seeds", "0-3", "--fresh"]
    words += ["--plain", "--no-plots", "--jobs", str(jobs), "--out", str(tmp_path)]
    against(quiet("-m", "fedkd", *words), quiet("-c", "import torch"), rounds=3)
