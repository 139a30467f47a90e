"""The set-up behind ``make bench`` and ``make test``: what it says when it cannot go on.

A fake Python stands in for each kind of machine: nothing is installed here.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("sh", "cat", "cksum", "dirname", "grep", "head", "mkdir", "rm", "tr", "sed")

pytestmark = pytest.mark.skipif(
    os.name == "nt" or shutil.which("make") is None, reason="needs make and a shell"
)

FAKE = """#!/bin/sh
case "$*" in
-) cat >/dev/null; echo "{verdict}" ;;
-V) echo "Python 3.12.1" ;;
"-c import sys; print(sys.base_prefix, sys.version)") echo "{base}" ;;
"-m venv --clear .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
"-m pip install"*) echo "pip ran" >>pip-calls; {pip} ;;
esac
"""


class Machine:
    """A copy of what the set-up reads, and a PATH of a few tools."""

    def __init__(self, folder):
        self.checkout = folder / "checkout"
        self.tools = folder / "tools"
        self.tools.mkdir(parents=True)
        (self.checkout / ".ci").mkdir(parents=True)
        for name in (".ci/venv", "pyproject.toml"):
            shutil.copy(ROOT / name, self.checkout / name)
        for name in (*TOOLS, "cp"):
            (self.tools / name).symlink_to(shutil.which(name))

    def add_python(self, verdict="yes 3.12.1", pip="true", name="python3", base="A"):
        path = self.tools / name
        path.write_text(FAKE.format(verdict=verdict, pip=pip, base=base))
        path.chmod(0o755)

    def set_up(self, **environment):
        return subprocess.run(
            ["sh", ".ci/venv"],
            cwd=self.checkout,
            env={"PATH": str(self.tools), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def installations(self):
        calls = self.checkout / "pip-calls"
        return len(calls.read_text().splitlines()) if calls.exists() else 0


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_without_any_python_it_says_where_it_looked(machine):
    done = machine.set_up()
    assert done.returncode == 1
    assert done.stderr.startswith(
        "make: found no Python; looked for python3,python3.13"
    )
    assert "Install Python 3.10 or newer" in done.stderr


def test_an_old_python_is_named_with_what_is_needed(machine):
    machine.add_python("old 3.8.2")
    done = machine.set_up()
    assert done.returncode == 1
    assert "'python3' is Python 3.8.2; fedkd needs Python 3.10 or newer" in done.stderr


def test_a_python_without_venv_is_named_with_the_package_that_is_missing(machine):
    machine.add_python("novenv 3.11.2")
    done = machine.set_up()
    assert done.returncode == 1
    assert "'venv' and 'ensurepip' are missing" in done.stderr
    assert "python3-venv" in done.stderr


def test_a_shim_without_a_python_behind_it_is_passed_over(machine):
    machine.add_python("", name="python3")
    machine.add_python("yes 3.11.7", name="python3.11")
    done = machine.set_up()
    assert done.returncode == 0, done.stderr
    assert "making .venv with python3.11" in done.stderr


def test_a_python_that_was_asked_for_and_is_not_there_is_no_reason_to_take_another(
    machine,
):
    machine.add_python()
    done = machine.set_up(PYTHON="python3.99")
    assert done.returncode == 1
    assert "'python3.99' was not found, or does not run" in done.stderr


@pytest.mark.parametrize(
    ("complaint", "advice"),
    [
        ("Temporary failure in name resolution", "could not be reached"),
        ("OSError: [Errno 28] No space left on device", "The disk is full"),
        ("ERROR: No matching distribution found for torch", "another Python"),
    ],
)
def test_a_failed_installation_says_why_and_is_tried_again(complaint, advice, machine):
    machine.add_python(pip=f"echo '{complaint}' >.venv/install.log; exit 1")
    first = machine.set_up()
    assert first.returncode == 1
    assert "the installation failed" in first.stderr
    assert advice in first.stderr
    machine.set_up()
    assert machine.installations == 2


def test_the_second_call_installs_nothing(machine):
    machine.add_python()
    assert machine.set_up().returncode == 0
    again = machine.set_up()
    assert (again.returncode, again.stderr, machine.installations) == (0, "", 1)


def test_changed_requirements_are_installed(machine):
    machine.add_python()
    machine.set_up()
    with (machine.checkout / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    done = machine.set_up()
    assert machine.installations == 2
    assert "making .venv" not in done.stderr


def test_a_checkout_that_was_moved_gets_a_new_environment(machine):
    machine.add_python()
    machine.set_up()
    machine.checkout = machine.checkout.rename(machine.checkout.with_name("moved"))
    done = machine.set_up()
    assert "making .venv" in done.stderr


def test_another_python_gets_a_new_environment(machine):
    machine.add_python()
    machine.set_up()
    machine.add_python(name="python3.11", base="B")
    assert "making .venv" not in machine.set_up(PYTHON="python3").stderr
    assert "making .venv with python3.11" in machine.set_up(PYTHON="python3.11").stderr


def test_make_alone_lists_its_targets():
    done = subprocess.run(
        ["make", "-C", str(ROOT), "--no-print-directory"],
        capture_output=True,
        text=True,
        check=True,
    )
    for target in ("bench", "test", "check", "docs", "benchmark", "clean"):
        assert f"\n  {target} " in done.stdout
