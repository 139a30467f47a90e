"""The metrics of a run together: their columns, and what does not fit."""

import math

import numpy as np
import pytest
import torch

from fedkd.errors import ConfigError, ContractError
from fedkd.metrics.base import Metric, Predictions
from fedkd.metrics.classification import Accuracy, ClassAccuracy, Loss
from fedkd.metrics.fairness import WorstClient
from fedkd.metrics.metric_set import TAKEN, MetricSet, mean, plain
from fedkd.metrics.targets import RoundsTo
from fedkd.report.results import COLUMNS


class Nothing(Metric):
    """It measures nothing."""


class Both(Metric):
    """It measures in two places."""

    def of_test_set(self, predictions):
        return 1.0

    def of_clients(self, accuracies):
        return 1.0


def test_accuracy_is_measured_always_and_first():
    assert list(MetricSet().columns) == ["global_accuracy", "local_accuracy"]
    asked = MetricSet({"loss": Loss(), "accuracy": Accuracy()})
    assert list(asked.metrics) == ["accuracy", "loss"]


def test_columns_are_named_after_the_label_and_declared_by_the_metric():
    asked = MetricSet(
        {"loss": Loss(), "worst": WorstClient(), "by_class": ClassAccuracy()}
    )
    assert list(asked.columns)[2:] == [
        "global_loss",
        "local_loss",
        "worst",
        "global_by_class",
        "local_by_class",
    ]
    loss = asked.columns["local_loss"]
    assert loss.title == "Local loss"
    assert loss.about == "Mean cross-entropy of the test images, in nats."
    assert (loss.unit, loss.decimals, loss.higher_is_better) == ("nats", 3, False)
    assert (loss.shown, loss.by_round) == (True, True)
    assert not asked.columns["global_by_class"].shown


def test_what_is_reached_has_no_curve():
    metric = RoundsTo(RoundsTo.Config(target=80))
    assert not MetricSet({"rounds_to": metric}).columns["rounds_to"].by_round


@pytest.mark.parametrize("label", ["Macro", "macro-f1", "_f1", "f1_", ""])
def test_a_label_that_cannot_name_a_column_is_refused(label):
    with pytest.raises(ConfigError, match="not lower-case words joined by underscores"):
        MetricSet({label: Loss()})


@pytest.mark.parametrize("label", ["rounds", "seed", "bytes_up", "measured"])
def test_a_name_that_means_something_else_is_refused(label):
    with pytest.raises(ConfigError, match=f"the name '{label}' is taken"):
        MetricSet({label: WorstClient()})


def test_another_metric_cannot_go_by_the_name_of_accuracy():
    with pytest.raises(ConfigError, match="accuracy: is always measured"):
        MetricSet({"accuracy": Loss()})


def test_two_metrics_that_would_share_a_column_are_refused():
    with pytest.raises(ConfigError, match="the name 'global_loss' is taken"):
        MetricSet({"loss": Loss(), "global_loss": WorstClient()})


def test_every_other_column_of_the_results_is_taken():
    own = {"global_accuracy", "local_accuracy"}
    assert {c for c in COLUMNS if c not in own} <= TAKEN


def test_what_is_watched_must_be_measured_and_measured_by_round():
    metric = RoundsTo(RoundsTo.Config(target=1, of="global_los"))
    with pytest.raises(ConfigError, match="Did you mean 'global_loss'"):
        MetricSet({"loss": Loss(), "rounds_to": metric})
    again = RoundsTo(RoundsTo.Config(target=1, of="first"))
    first = RoundsTo(RoundsTo.Config(target=1))
    with pytest.raises(ConfigError, match="reads 'first', which this run does not"):
        MetricSet({"first": first, "second": again})


@pytest.mark.parametrize("target", [-1, 100.5, 8000])
def test_a_target_in_percent_is_from_0_to_100(target):
    metric = RoundsTo(RoundsTo.Config(target=target))
    with pytest.raises(
        ConfigError, match=f"target: found {target}, expected a value from 0 to"
    ):
        MetricSet({"rounds_to": metric})
    loss = RoundsTo(RoundsTo.Config(target=target, of="global_loss"))
    assert MetricSet({"loss": Loss(), "rounds_to": loss}).metrics


@pytest.mark.parametrize(
    ("metric", "what"), [(Nothing, "nothing"), (Both, "of_test_set, of_clients")]
)
def test_a_metric_measures_in_exactly_one_place(metric, what):
    with pytest.raises(ContractError, match=f"{metric.__name__} implements {what}; "):
        MetricSet({"mine": metric()})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1),
        (0.5, 0.5),
        (math.nan, None),
        (math.inf, None),
        (torch.tensor(2.0), 2.0),
        (torch.tensor([1.0, math.nan]), [1.0, None]),
        ([torch.tensor(1.0), None], [1.0, None]),
        ((1, 2), [1, 2]),
        (np.array(2.0), 2.0),
        (np.array([1.0, math.nan]), [1.0, None]),
        ([np.float32(0.5), np.int64(2)], [0.5, 2.0]),
        (None, None),
    ],
)
def test_values_become_what_json_has(value, expected):
    assert plain(value) == expected


@pytest.mark.parametrize(
    ("value", "found"),
    [("good", "'good'"), ("3", "'3'"), (["3"], "'3'"), ({"a": 1}, r"\{'a': 1\}"),
     ([[1.0]], r"\[1.0\]"), (object(), "<object")],
)  # fmt: skip
def test_what_is_no_number_is_the_fault_of_the_metric(value, found):
    with pytest.raises(ContractError, match=f"metric 'mine' returned {found}"):
        plain(value, "mine")


class Several(Metric):
    """Three numbers."""

    def of_test_set(self, predictions):
        return [1.0, 2.0, 3.0]


class SeveralOfClients(Metric):
    """A number for each client."""

    def of_clients(self, accuracies):
        return accuracies


def test_several_numbers_are_one_for_each_class():
    mine, labels = MetricSet({"mine": Several()}), torch.tensor([0, 1])
    of_three = Predictions.of([torch.zeros(2, 3)], labels)
    assert mine.of_test_set(of_three)["mine"] == [1.0, 2.0, 3.0]
    with pytest.raises(ContractError, match=r"'mine' returned 3 numbers; .* 4 classes"):
        mine.of_test_set(Predictions.of([torch.zeros(2, 4)], labels))


def test_what_reduces_gives_one_number():
    mine = MetricSet({"mine": SeveralOfClients()})
    with pytest.raises(ContractError, match=r"\[50.0, 60.0\]; expected one number, or"):
        mine.of_clients([50.0, 60.0])


def test_a_mean_leaves_out_what_is_not_defined():
    assert mean([1.0, None, 4.0]) == 2.5
    assert mean([None, None]) is None
    assert mean([[1.0, None, None], None, [3.0, 5.0, None]]) == [2.0, 5.0, None]


def test_logits_are_put_together_if_a_metric_reads_them_and_once(monkeypatch):
    joined = []
    cat = torch.cat

    def counted(tensors, *rest):
        joined.extend(t.dim() for t in tensors)
        return cat(tensors, *rest)

    monkeypatch.setattr(torch, "cat", counted)
    said = Predictions.of(
        [torch.eye(3), torch.eye(3)], torch.tensor([0, 1, 2, 0, 0, 0])
    )
    halves = [said.part(torch.tensor([0, 1, 2])), said.part(torch.tensor([3, 4, 5]))]
    MetricSet().of_test_set(said)
    assert [MetricSet().of_test_set(half)["accuracy"] for half in halves] == [
        100.0,
        pytest.approx(100 / 3),
    ]
    assert joined == [1, 1], "classes only"
    for each in (said, *halves):
        MetricSet({"loss": Loss()}).of_test_set(each)
    assert joined == [1, 1, 2, 2]
