"""The conformance suite: promises that every plug-in keeps, as functions to call.

For authors of plug-ins, in pytest::

    from fedkd import testing

    class TestMyStrategy(testing.StrategyContract):
        make = MyStrategy

There is such a class for each kind: data sets, partitioners, metrics, and classifiers,
generators and discriminators among models. Each check makes things with ``make``, tries
them in a toy world and raises ``AssertionError`` with the promise that was broken. One
that does not apply raises :class:`NotApplicable`, which pytest shows as a skip with its
reason. Without pytest::

    print(testing.report(MyStrategy))
    print(testing.report(MyMetric, testing.METRIC_CHECKS))

``fedkd check NAME`` does the same for what is registered. :func:`guard_accuracy` runs a
recorded suite again, and fails where accuracy was lost.
"""

from __future__ import annotations

from fedkd.testing.checks import (
    STRATEGY_CHECKS,
    another_seed_ends_elsewhere,
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
from fedkd.testing.contracts import (
    ClassifierContract,
    Contract,
    DatasetContract,
    DiscriminatorContract,
    GeneratorContract,
    MetricContract,
    PartitionerContract,
    StrategyContract,
)
from fedkd.testing.datasets import DATASET_CHECKS
from fedkd.testing.guard import guard_accuracy
from fedkd.testing.metrics import METRIC_CHECKS
from fedkd.testing.models import MODEL_CHECKS
from fedkd.testing.needs import VIOLATIONS
from fedkd.testing.partitioners import PARTITIONER_CHECKS
from fedkd.testing.report import Report, report
from fedkd.testing.runs import NotApplicable
from fedkd.testing.toys import toy_federation, toy_images, toy_protocol, toy_vectors
from fedkd.testing.watching import Call, Watcher, watched

__all__ = [
    "DATASET_CHECKS",
    "METRIC_CHECKS",
    "MODEL_CHECKS",
    "PARTITIONER_CHECKS",
    "STRATEGY_CHECKS",
    "VIOLATIONS",
    "Call",
    "ClassifierContract",
    "Contract",
    "DatasetContract",
    "DiscriminatorContract",
    "GeneratorContract",
    "MetricContract",
    "NotApplicable",
    "PartitionerContract",
    "Report",
    "StrategyContract",
    "Watcher",
    "another_seed_ends_elsewhere",
    "global_generators_are_left_alone",
    "guard_accuracy",
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
    "toy_vectors",
    "training_settings_are_left_alone",
    "watched",
    "weights_left_over_are_irrelevant",
    "what_is_kept_stays",
    "work_is_counted",
]
