"""Metrics over the clients: how evenly accuracy is spread, and what training gives."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from fedkd.metrics.base import Metric


class WorstClient(Metric):
    """Accuracy of the worst client on its own test shard, in percent."""

    def of_clients(self, accuracies: Sequence[float]) -> float:
        """Return the smallest accuracy."""
        return min(accuracies)


class WorstDecile(Metric):
    """Mean accuracy of the worst tenth of the clients, in percent.

    Each client counts on its own test shard. The tenth is rounded down, and at least
    one client: of 25 clients it is the worst two.
    """

    def of_clients(self, accuracies: Sequence[float]) -> float:
        """Return the mean of the ``max(1, K // 10)`` smallest accuracies."""
        count = max(1, len(accuracies) // 10)
        return statistics.fmean(sorted(accuracies)[:count])


class ClientSpread(Metric):
    """Standard deviation of the clients' accuracies, in percentage points.

    Each client counts on its own test shard. It is that of the population: the clients
    are all there are, and no sample.
    """

    unit = "percentage points"
    higher_is_better = False

    def of_clients(self, accuracies: Sequence[float]) -> float:
        """Return ``sqrt(mean_k (a_k - mean a)^2)``."""
        return statistics.pstdev(accuracies)


class TrainedAccuracy(Metric):
    """Accuracy of the clients' models as they were trained, weighted by n_k, in percent.

    Each client of the round counts on its own test shard with the model that it has just
    trained, before it is averaged or distilled; n_k is its number of training images. It
    is not defined in a round in which no client trains. Source: the released Mosaic code,
    which calls this the local accuracy; ``local_accuracy`` here is of the models that
    clients predict with, unweighted.
    """

    def of_trained(self, accuracies: Sequence[float], sizes: Sequence[int]) -> float:
        """Return ``sum_k n_k a_k / sum_k n_k``."""
        weighted = sum(n * a for n, a in zip(sizes, accuracies, strict=True))
        return weighted / sum(sizes)
