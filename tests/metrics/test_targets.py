"""What it takes to reach a target: from lines of metrics.jsonl."""

import pytest

from fedkd.metrics.classification import ClassAccuracy, Loss
from fedkd.metrics.metric_set import MetricSet
from fedkd.metrics.targets import AccuracyAfter, BytesTo, RoundsTo

LINES = [
    {"round": 1, "global_accuracy": 50.0, "global_loss": 2.0, "bytes_up": 3},
    {"round": 2, "global_accuracy": None, "global_loss": None, "bytes_up": 6},
    {"round": 3, "global_accuracy": 80.0, "global_loss": 1.0, "bytes_up": 9},
    {"round": 4, "global_accuracy": 70.0, "global_loss": 1.5, "bytes_up": 12},
]
LINES = [{**line, "bytes_down": 2 * line["bytes_up"]} for line in LINES]
COLUMNS = MetricSet({"loss": Loss()}).columns


def of(metric, **options):
    return metric(metric.Config(**options)).of_rounds(LINES, COLUMNS)


@pytest.mark.parametrize(
    ("target", "rounds", "sent"), [(50, 1, 9), (50.1, 3, 27), (80, 3, 27)]
)
def test_the_first_round_that_is_as_good_as_the_target_counts(target, rounds, sent):
    assert of(RoundsTo, target=target) == rounds
    assert of(BytesTo, target=target) == sent


def test_a_target_that_is_not_reached_has_no_value():
    assert of(RoundsTo, target=80.1) is None
    assert of(BytesTo, target=80.1) is None


def test_what_is_better_when_lower_has_to_fall_to_the_target():
    assert of(RoundsTo, target=1.9, of="global_loss") == 3
    assert of(RoundsTo, target=0.9, of="global_loss") is None


def test_of_a_metric_by_class_the_mean_is_watched():
    columns = MetricSet({"class_accuracy": ClassAccuracy()}).columns
    lines = [
        {"round": 1, "global_class_accuracy": [10.0, None, 40.0]},
        {"round": 2, "global_class_accuracy": [20.0, None, 40.0]},
    ]
    metric = RoundsTo(RoundsTo.Config(target=30, of="global_class_accuracy"))
    assert metric.of_rounds(lines, columns) == 2
    assert metric.of_rounds(lines[:1], columns) is None


@pytest.mark.parametrize(
    ("rounds", "accuracy"), [(1, 50.0), (2, None), (3, 80.0), (9, None)]
)
def test_accuracy_after_some_rounds_is_that_of_the_round_and_no_other(rounds, accuracy):
    assert of(AccuracyAfter, rounds=rounds) == accuracy
    short = AccuracyAfter(AccuracyAfter.Config(rounds=rounds)).of_rounds([], COLUMNS)
    assert short is None


def test_accuracy_after_some_rounds_may_be_the_clients():
    lines = [{"round": 1, "global_accuracy": 1.0, "local_accuracy": 2.0}]
    metric = AccuracyAfter(AccuracyAfter.Config(rounds=1, of="local_accuracy"))
    assert metric.of_rounds(lines, COLUMNS) == 2.0


def test_accuracy_after_no_round_is_refused():
    with pytest.raises(ValueError, match="rounds"):
        AccuracyAfter.Config(rounds=0)
