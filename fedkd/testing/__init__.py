"""The conformance suite: promises that every strategy keeps, as functions to call.

For authors of plug-ins, in pytest::

    from fedkd import testing

    @pytest.mark.parametrize("check", testing.STRATEGY_CHECKS, ids=lambda c: c.__name__)
    def test_my_strategy_keeps_the_contract(check, tmp_path):
        check(MyStrategy, tmp_path)

Each check builds strategies with the given function, runs them on a toy federation and
raises ``AssertionError`` with the promise that was broken. One that does not apply raises
:class:`NotApplicable`, which pytest shows as a skip with its reason. Without pytest::

    print(testing.report(MyStrategy))
"""

from __future__ import annotations

from fedkd.testing.checks import (
    STRATEGY_CHECKS,
    global_generators_are_left_alone,
    hashes_of_texts_are_irrelevant,
    inputs_are_left_alone,
    needs_are_refused_with_a_reason,
    no_image_leaves_a_client,
    nothing_is_kept_in_self,
    order_of_clients_is_irrelevant,
    partial_participation_works,
    payloads_travel,
    resuming_changes_nothing,
    same_seed_gives_equal_bits,
    training_settings_are_left_alone,
    weights_left_over_are_irrelevant,
    what_is_kept_stays,
    work_is_counted,
)
from fedkd.testing.needs import VIOLATIONS
from fedkd.testing.report import Report, report
from fedkd.testing.runs import NotApplicable
from fedkd.testing.toys import toy_federation, toy_images, toy_protocol
from fedkd.testing.watching import Call, Watcher, watched

__all__ = [
    "STRATEGY_CHECKS",
    "VIOLATIONS",
    "Call",
    "NotApplicable",
    "Report",
    "Watcher",
    "global_generators_are_left_alone",
    "hashes_of_texts_are_irrelevant",
    "inputs_are_left_alone",
    "needs_are_refused_with_a_reason",
    "no_image_leaves_a_client",
    "nothing_is_kept_in_self",
    "order_of_clients_is_irrelevant",
    "partial_participation_works",
    "payloads_travel",
    "report",
    "resuming_changes_nothing",
    "same_seed_gives_equal_bits",
    "toy_federation",
    "toy_images",
    "toy_protocol",
    "training_settings_are_left_alone",
    "watched",
    "weights_left_over_are_irrelevant",
    "what_is_kept_stays",
    "work_is_counted",
]
