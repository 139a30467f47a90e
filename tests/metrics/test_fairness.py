"""Metrics over the clients, by numbers worked out by hand."""

import pytest

from fedkd.metrics.fairness import (
    ClientSpread,
    TrainedAccuracy,
    WorstClient,
    WorstDecile,
)


def test_the_worst_client_is_the_one_with_the_smallest_accuracy():
    assert WorstClient().of_clients([70.0, 40.0, 90.0]) == 40.0


@pytest.mark.parametrize(
    ("clients", "expected"),
    [(1, 0.0), (9, 0.0), (19, 0.0), (20, 0.5), (25, 0.5), (30, 1.0)],
)
def test_the_worst_tenth_is_rounded_down_and_holds_one_client_at_least(
    clients, expected
):
    accuracies = [float(k) for k in reversed(range(clients))]
    assert WorstDecile().of_clients(accuracies) == expected


def test_the_spread_is_the_standard_deviation_of_the_population():
    assert ClientSpread().of_clients([40.0, 60.0]) == 10.0
    assert ClientSpread().of_clients([40.0]) == 0.0
    assert not ClientSpread.higher_is_better


def test_trained_models_count_by_their_training_images():
    assert TrainedAccuracy().of_trained([90.0, 50.0], [30, 10]) == 80.0
