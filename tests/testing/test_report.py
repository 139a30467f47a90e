"""All checks at once: what was kept, what was broken, what does not apply."""

import random

import pytest

from fedkd import Metric, testing
from fedkd.algorithms.central import Central


class CentralThatSeeds(Central):
    def local(self, down, client):
        random.seed(0)
        return super().local(down, client)


@pytest.mark.usefixtures("globals_put_back")
def test_a_report_counts_and_explains():
    report = testing.report(CentralThatSeeds)
    assert list(report.broken) == ["global_generators_are_left_alone"]
    assert set(report.not_applicable) == {
        "order_of_clients_is_irrelevant",
        "needs_are_refused_with_a_reason",
        "partial_participation_works",
    }
    assert len(report.kept) == len(testing.STRATEGY_CHECKS) - 4
    first, *_, last = str(report).splitlines()
    assert first.startswith(
        "BROKEN global_generators_are_left_alone: a global setting was changed: "
        "local (client 0, round 1) changed Python's global generator."
    )
    assert last == "12 promises kept, 1 broken, 3 that do not apply"


class RaisesAtOnce(Central):
    def init(self, server):
        raise KeyError("x")


def test_what_stops_every_run_is_said_once():
    report = testing.report(RaisesAtOnce)
    assert len(report.broken) > 8
    (sentence,) = {why for why in report.findings if "KeyError" in why}
    assert ".init, line " in sentence
    assert str(report).count("KeyError") == 1


def test_other_things_are_held_against_their_own_checks():
    report = testing.report(Nothing, testing.METRIC_CHECKS)
    assert list(report.findings) == [
        "Nothing implements nothing; implement exactly one of of_test_set, of_clients, "
        "of_trained, of_rounds."
    ]


class Nothing(Metric):
    """Nothing."""
