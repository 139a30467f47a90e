"""Another interpreter gives the same bits, and says why where it cannot."""

from fedkd.algorithms.fedavg import FedAvg
from fedkd.testing import elsewhere
from fedkd.testing.runs import recorded


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
