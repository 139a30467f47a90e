"""Memory that is given back stays with the process, unless the user said otherwise."""

import subprocess
import sys

import pytest

from fedkd.simulation import allocator


@pytest.fixture
def fresh(monkeypatch):
    """The module as if nothing had been said yet, and what malloc is told."""
    told = []

    def told_to(*arguments):
        told.append(arguments)
        return 1

    allocator.keep_freed_memory.cache_clear()
    monkeypatch.setattr(allocator, "_function", lambda name: told_to)
    for name in [n for n in allocator.os.environ if n.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    yield told
    allocator.keep_freed_memory.cache_clear()


def test_both_thresholds_are_raised_once(fresh):
    assert allocator.keep_freed_memory()
    assert allocator.keep_freed_memory()
    assert fresh == [(-1, 1 << 30), (-3, 1 << 30)]


def test_an_older_library_gets_the_limit_that_it_takes(fresh, monkeypatch):
    def mallopt(name, value):
        fresh.append((name, value))
        return int(value <= 32 << 20)

    monkeypatch.setattr(allocator, "_function", lambda name: mallopt)
    assert allocator.keep_freed_memory()
    assert fresh[-2:] == [(-3, 1 << 30), (-3, 32 << 20)]


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX"])
def test_a_users_own_settings_are_left_alone(fresh, monkeypatch, name):
    monkeypatch.setenv(name, "131072")
    assert not allocator.keep_freed_memory()
    allocator.give_back_memory()
    assert fresh == []


def test_other_systems_and_libraries_are_left_alone(fresh, monkeypatch):
    monkeypatch.setattr(allocator, "_function", lambda name: None)
    assert not allocator.keep_freed_memory()
    allocator.give_back_memory()


def test_there_is_no_such_function_elsewhere(monkeypatch):
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    assert allocator._function("mallopt") is None


def test_memory_is_given_back_when_asked(fresh):
    allocator.give_back_memory()
    assert fresh[-1] == (0,), "malloc_trim"


SCRIPT = """
import sys
from pathlib import Path
import torch
from fedkd.simulation.allocator import give_back_memory, keep_freed_memory

def resident():
    text = Path("/proc/self/status").read_text()
    return next(int(x.split()[1]) for x in text.splitlines() if "VmRSS" in x) // 1024

if sys.argv[1] == "keep":
    keep_freed_memory()
before = resident()
torch.ones(25 << 20)  # 100 MiB, freed at once
kept = resident() - before
give_back_memory()
print(kept, resident() - before)
"""


@pytest.mark.thorough
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's own")
def test_freed_memory_stays_until_it_is_given_back(monkeypatch):
    if allocator._function("mallopt") is None:
        pytest.skip("this C library has no mallopt")
    for name in [n for n in allocator.os.environ if n.startswith("MALLOC_")]:
        monkeypatch.delenv(name)

    def found(mode):
        command = [sys.executable, "-c", SCRIPT, mode]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return tuple(map(int, done.stdout.split()))

    kept, after = found("keep")
    assert kept > 90
    assert after < 20
    assert found("leave")[0] < 20
