"""All checks at once: what was kept, what was broken, what does not apply."""

import random

from fedkd import testing
from fedkd.algorithms.central import Central


class CentralThatSeeds(Central):
    def local(self, down, client):
        random.seed(0)
        return super().local(down, client)


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
    assert last == "11 promises kept, 1 broken, 3 that do not apply"
