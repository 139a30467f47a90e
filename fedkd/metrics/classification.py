"""Metrics of a model on a test set."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from fedkd.config import Config
from fedkd.metrics.base import Metric, Predictions


class Accuracy(Metric):
    """Share of the test images that are classified rightly, in percent."""

    def of_test_set(self, predictions: Predictions) -> float | None:
        """Return 100 x right / N; None of no image."""
        right = predictions.predicted == predictions.labels
        return 100.0 * float(right.sum()) / len(right) if len(right) else None


class Loss(Metric):
    """Mean cross-entropy of the test images, in nats."""

    unit = "nats"
    higher_is_better = False
    decimals = 3

    def of_test_set(self, predictions: Predictions) -> float | None:
        """Return ``-mean_n log softmax(logits_n)[y_n]``; None of no image."""
        labels = predictions.labels
        if not len(labels):
            return None
        return float(F.cross_entropy(predictions.logits.double(), labels))


class ClassAccuracy(Metric):
    """Share of the test images of each class that are classified rightly, in percent."""

    shown = False

    def of_test_set(self, predictions: Predictions) -> Tensor:
        """Return the recall of each class ``[C]``; nan of a class without an image."""
        return _recalls(predictions)


class BalancedAccuracy(Metric):
    """Accuracy by class, in percent, averaged over the classes of the test images."""

    def of_test_set(self, predictions: Predictions) -> float:
        """Return the mean recall of the classes that have images; nan of no image."""
        return float(_recalls(predictions).nanmean())


class MacroF1(Metric):
    """F1 score by class, in percent, averaged over the classes of the test images."""

    def of_test_set(self, predictions: Predictions) -> float:
        """Return the mean of ``2 TP / (2 TP + FP + FN)`` over classes that have images.

        A class that is never predicted has an F1 of 0; of no image it is nan.
        """
        right, said, true = _counts(predictions)
        f1 = 200 * right / (said + true)  # said is TP + FP, true is TP + FN
        return float(f1[true > 0].mean())


class CalibrationConfig(Config):
    """Options of :class:`CalibrationError`."""

    bins: int = Field(15, ge=1)
    """Bins of equal width; 15 in the paper."""


class CalibrationError(Metric):
    """Expected calibration error, in percent: how far confidence is from accuracy.

    Guo et al., "On Calibration of Modern Neural Networks", 2017, arXiv:1706.04599,
    Eq. (3).
    """

    Config = CalibrationConfig
    higher_is_better = False

    def of_test_set(self, predictions: Predictions) -> float | None:
        """Return ``sum_m |B_m| / N x |acc(B_m) - conf(B_m)|``; None of no image.

        Bin m of M has the images whose largest probability is in ``((m-1)/M, m/M]``.
        """
        number = len(predictions.labels)
        if not number:
            return None
        bins = self.config.bins
        confidence = predictions.logits.double().softmax(1).amax(1)
        right = (predictions.predicted == predictions.labels).double()
        bin_of = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
        gaps = torch.zeros(bins, dtype=torch.double)
        gaps.index_add_(0, bin_of, right - confidence)
        return 100 * float(gaps.abs().sum()) / number


def _counts(predictions: Predictions) -> tuple[Tensor, Tensor, Tensor]:
    """Return by class, float64 ``[C]``: hits, predictions and images."""
    predicted, labels = predictions.predicted, predictions.labels
    hits = labels[predicted == labels]
    right, said, true = (
        torch.bincount(classes, minlength=predictions.num_classes).double()
        for classes in (hits, predicted, labels)
    )
    return right, said, true


def _recalls(predictions: Predictions) -> Tensor:
    """Return the recall of each class in percent ``[C]``; nan where it has no image."""
    right, _, true = _counts(predictions)
    return 100 * right / true
