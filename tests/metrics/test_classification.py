"""Metrics of a model on a test set, by numbers worked out by hand."""

import math

import pytest
import torch

from fedkd.metrics.base import Predictions
from fedkd.metrics.classification import (
    Accuracy,
    BalancedAccuracy,
    CalibrationError,
    ClassAccuracy,
    Loss,
    MacroF1,
)
from fedkd.metrics.metric_set import plain


def said(predicted, labels, classes=4):
    """Return predictions of some classes, each with a logit of 1 against 0."""
    logits = torch.zeros(len(predicted), classes)
    logits[range(len(predicted)), predicted] = 1
    return Predictions.of(logits.split(2), torch.tensor(labels, dtype=torch.long))


# Class 0: 2 of 3 right; class 1: 1 of 2; class 2: never predicted; class 3: no image.
EXAMPLE = said([0, 0, 1, 1, 0, 3], [0, 0, 0, 1, 1, 2])
NOTHING = Predictions.of([torch.zeros(0, 4)], torch.zeros(0, dtype=torch.long))


def test_accuracy_is_the_share_of_right_images():
    assert Accuracy().of_test_set(EXAMPLE) == 50.0


def test_class_accuracy_is_by_class_and_undefined_without_an_image():
    found = plain(ClassAccuracy().of_test_set(EXAMPLE))
    assert found == [pytest.approx(200 / 3), 50.0, 0.0, None]


def test_balanced_accuracy_is_the_mean_recall_of_the_classes_with_images():
    expected = (200 / 3 + 50 + 0) / 3
    assert BalancedAccuracy().of_test_set(EXAMPLE) == pytest.approx(expected)


def test_macro_f1_leaves_out_classes_without_images_and_counts_0_for_the_unpredicted():
    # Class 0: TP 2, FP 1, FN 1: 4/6. Class 1: TP 1, FP 1, FN 1: 2/4. Class 2: 0.
    expected = 100 * (4 / 6 + 2 / 4 + 0) / 3
    assert MacroF1().of_test_set(EXAMPLE) == pytest.approx(expected)


def test_loss_is_the_mean_cross_entropy_in_nats():
    right = math.log(3 + math.e) - 1
    wrong = math.log(3 + math.e)
    assert Loss().of_test_set(EXAMPLE) == pytest.approx((right + wrong) / 2)
    assert not Loss.higher_is_better


def of_confidences(pairs):
    """Return two-class predictions, one for each (confidence, whether it is right)."""
    logits = torch.tensor([[math.log(c / (1 - c)), 0.0] for c, _ in pairs])
    return Predictions.of(
        [logits], torch.tensor([int(not right) for _, right in pairs])
    )


def test_the_calibration_error_weighs_the_gap_of_each_bin_by_its_images():
    # 15 bins: 0.61 and 0.65 share (9/15, 10/15], 0.95 is in the last.
    found = CalibrationError().of_test_set(
        of_confidences([(0.61, True), (0.65, False), (0.95, True), (0.97, True)])
    )
    low, high = abs(1 / 2 - 0.63), abs(1 - 0.96)
    assert found == pytest.approx(100 * (2 * low + 2 * high) / 4, abs=1e-4)


def test_with_one_bin_the_calibration_error_is_confidence_less_accuracy():
    metric = CalibrationError(CalibrationError.Config(bins=1))
    found = metric.of_test_set(of_confidences([(0.6, True), (0.9, False)]))
    assert found == pytest.approx(100 * (0.75 - 0.5), abs=1e-4)


def test_a_confidence_on_the_border_of_two_bins_is_in_the_lower():
    metric = CalibrationError(CalibrationError.Config(bins=2))
    half = Predictions.of([torch.zeros(1, 2), torch.tensor([[9.0, 0.0]])], labels(1, 0))
    # One bin each: (0, 1/2] is off by 1/2, (1/2, 1] by almost nothing.
    sure = 1 / (1 + math.exp(-9))
    assert metric.of_test_set(half) == pytest.approx(50 * (0.5 + 1 - sure), abs=1e-4)


def labels(*classes):
    return torch.tensor(classes)


@pytest.mark.parametrize(
    "metric", [Loss(), MacroF1(), BalancedAccuracy(), CalibrationError()]
)
def test_nothing_is_made_up_of_no_image(metric):
    assert plain(metric.of_test_set(NOTHING)) is None


def test_predictions_of_a_part_are_those_of_its_images():
    rows = torch.tensor([5, 0])
    part = EXAMPLE.part(rows).part(torch.tensor([1, 0]))
    assert part.predicted.tolist() == [0, 3]
    assert part.labels.tolist() == [0, 2]
    assert torch.equal(part.logits, EXAMPLE.logits[[0, 5]])
    assert part.num_classes == 4
