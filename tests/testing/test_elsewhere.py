"""Another interpreter gives the same bits, and says why where it cannot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedkd.algorithms.averaging import Averaging, Choices
from fedkd.algorithms.fedavg import FedAvg
from fedkd.testing import elsewhere
from fedkd.testing.checks import hashes_of_texts_are_irrelevant
from fedkd.testing.runs import NotApplicable, recorded

ROOT = Path(__file__).resolve().parents[2]


def test_another_interpreter_gives_the_same_bits_time_after_time():
    here = recorded(FedAvg).given
    assert elsewhere.prints_elsewhere(FedAvg()) == here
    assert elsewhere.prints_elsewhere(FedAvg()) == here


def test_a_class_within_a_function_cannot_run_there():
    class Inner(FedAvg):
        pass

    reason = elsewhere.prints_elsewhere(Inner())
    assert reason.startswith("Inner cannot be imported by another process; define it")


def test_a_class_that_is_nowhere_cannot_run_there():
    missing = type("Missing", (FedAvg,), {"__module__": FedAvg.__module__})
    reason = elsewhere.prints_elsewhere(missing())
    assert reason.startswith("another process cannot import Missing: ")


def test_a_folder_called_fedkd_where_one_works_hides_nothing(tmp_path):
    (tmp_path / "fedkd").mkdir()
    # As an editable installation is found: after all that is on the path.
    installed = (
        "import sys, importlib.machinery as m\n"
        "class Finder:\n"
        "    def find_spec(name, path=None, target=None):\n"
        f"        return m.PathFinder.find_spec(name, path or [{str(ROOT)!r}])\n"
        "sys.meta_path.append(Finder)\n"
    )
    code = f"{installed}{elsewhere._FIND}; print(fedkd.__file__, sys.path[-1] == '')"
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-S", "-c", code]
    run = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == [str(ROOT / "fedkd" / "__init__.py"), "True"]


class Given(Averaging):
    def __init__(self, config=None, moved=None):
        super().__init__(config)
        self.choices = Choices(moved=moved or (lambda *given: given[0]))

    def train(self, client, sent):
        client.train()


def test_a_lambda_that_another_process_cannot_have_is_named(tmp_path):
    with pytest.raises(NotApplicable) as caught:
        hashes_of_texts_are_irrelevant(Given, tmp_path)
    assert str(caught.value) == (
        "its class makes another strategy from the same config: a lambda or a function "
        "within a function in choices.moved; use a method or a module-level function."
    )
    with pytest.raises(NotApplicable, match=r"config: choices.moved differs\.$"):
        hashes_of_texts_are_irrelevant(lambda: Given(moved=print), tmp_path)
