"""The promises of metrics are tested by faults: each is named."""

import numpy as np
import pytest
import torch
from planted import planted

from fedkd import Config, Metric, testing
from fedkd.testing import metrics as checks


class Right(Metric):
    """Share of the test images that are classified rightly, in percent."""

    def of_test_set(self, predictions):
        hits = (predictions.predicted == predictions.labels).float()
        return 100 * hits.mean() if len(hits) else None


class OfClients(Metric):
    """Mean of the clients' accuracies."""

    def of_clients(self, accuracies):
        return sum(accuracies) / len(accuracies)


class OfRounds(Metric):
    """Rounds so far."""

    def of_rounds(self, lines, columns):
        return len(lines)


class OfTrained(Metric):
    """Accuracy of trained models, weighted by their images."""

    def of_trained(self, accuracies, sizes):
        return np.average(accuracies, weights=sizes)


class Undocumented(Right):
    """Share that is right."""

    class Config(Config):
        bins: int = 15


class InTwoPlaces(Right):
    """Share that is right."""

    def of_clients(self, accuracies):
        return accuracies[0]


class InNoPlace(Metric):
    """Nothing."""


class SaysNothing(Metric):
    def of_clients(self, accuracies):
        return accuracies[0]


class OfTheLastClient(Metric):
    """Accuracy of the last client."""

    def of_clients(self, accuracies):
        return accuracies[-1]


class Unitless(Right):
    """Share that is right."""

    unit = ""


class NegativeDecimals(Right):
    """Share that is right."""

    decimals = -1


class GivesText(Right):
    """Share that is right."""

    def of_test_set(self, predictions):
        return f"{super().of_test_set(predictions)} %"


class OneForEachImage(Right):
    """Share that is right."""

    def of_test_set(self, predictions):
        return predictions.predicted == predictions.labels


class OneForEachClient(OfClients):
    """The clients' accuracies."""

    def of_clients(self, accuracies):
        return accuracies


class SortsTheAccuracies(OfClients):
    """The lowest accuracy."""

    def of_clients(self, accuracies):
        accuracies.sort()
        return accuracies[0]


class SoftmaxInPlace(Right):
    """Largest probability."""

    def of_test_set(self, predictions):
        return predictions.logits.sub_(predictions.logits.logsumexp(1, True)).mean()


class DropsLines(OfRounds):
    """Rounds so far."""

    def of_rounds(self, lines, columns):
        lines.pop()
        return len(lines)


class SamplesImages(Right):
    """Share of ten images that are right."""

    def of_test_set(self, predictions):
        hits = (predictions.predicted == predictions.labels).float()
        return hits[torch.randint(60, (10,))].mean() if len(hits) else None


class GrowsABest(Right):
    """Highest share so far."""

    best = 0

    def of_test_set(self, predictions):
        self.best += 1
        return 5.0


class SeedsTorch(Right):
    """Share that is right."""

    def of_test_set(self, predictions):
        torch.manual_seed(0)
        return super().of_test_set(predictions)


class ShufflesByNumPy(OfClients):
    """Mean of the clients' accuracies."""

    def of_clients(self, accuracies):
        return float(np.random.permutation(accuracies).max())


class OfTheFirst(Right):
    """Share of the first ten images that are right."""

    def of_test_set(self, predictions):
        hits = (predictions.predicted == predictions.labels).float()
        return hits[:10].mean() if len(hits) else None


class OfTheFirstClient(OfClients):
    """Accuracy of the first client."""

    def of_clients(self, accuracies):
        return accuracies[0]


class WeighsTheWrongOnes(OfTrained):
    """Accuracy of trained models, weighted by the images of others."""

    def of_trained(self, accuracies, sizes):
        return np.average(sorted(accuracies), weights=sizes)


class DividesByNothing(Right):
    """Share that is right."""

    def of_test_set(self, predictions):
        return sum((predictions.predicted == predictions.labels).tolist()) / len(
            predictions.labels
        )


class NeedsTwoClients(OfClients):
    """Second lowest accuracy."""

    def of_clients(self, accuracies):
        return sorted(accuracies)[1]


class ReadsWhatIsMissing(OfRounds):
    """Gain of accuracy in all rounds."""

    def reads(self):
        return ("global_accuracy",)

    def of_rounds(self, lines, columns):
        return lines[-1]["global_accuracy"] - lines[0]["global_accuracy"]


class InfiniteOfAbsent(Right):
    """Images for each image of the rarest class."""

    higher_is_better = False

    def of_test_set(self, predictions):
        counts = torch.bincount(predictions.labels, minlength=3).float()
        return len(predictions.labels) / counts.min() if len(predictions.labels) else 0


class CountsErrors(Right):
    """Share of the test images that are classified wrongly, in percent."""

    def of_test_set(self, predictions):
        share = super().of_test_set(predictions)
        return None if share is None else 100 - share


class NamesItsOwnColumn(Right):
    """Share that is right."""

    def columns(self, label):
        (first, *_) = super().columns(label)
        return (self._column("global_mine", first.scope),)


class ReadsAStrangeColumn(OfRounds):
    """Rounds so far."""

    def reads(self):
        return ("global_acuracy",)


FAULTS = [
    (Undocumented, checks.options_are_documented,
     "option bins of Config has no description"),
    (InTwoPlaces, checks.it_measures_in_one_place,
     "InTwoPlaces implements of_test_set, of_clients; implement exactly one"),
    (InNoPlace, checks.it_measures_in_one_place, "InNoPlace implements nothing"),
    (SaysNothing, checks.it_says_what_it_measures,
     "SaysNothing has the docstring '', which stands under its tables"),
    (Unitless, checks.it_says_what_it_measures, "Unitless.unit is ''; expected a text"),
    (NegativeDecimals, checks.it_says_what_it_measures,
     "NegativeDecimals.decimals is -1; expected a whole number from 0 on"),
    (GivesText, checks.it_gives_numbers,
     "of_test_set returned '.* %'; expected a number, one for each class, or None"),
    (OneForEachImage, checks.it_gives_numbers,
     "of_test_set returned 60 numbers; expected one, or 3, one for each class"),
    (OneForEachClient, checks.it_gives_numbers,
     "of_clients returned 5 numbers; expected one[.]"),
    (SortsTheAccuracies, checks.what_is_measured_is_left_alone,
     r"of_clients changed accuracies.0. Other metrics are given the same: work on a copy"),
    (SoftmaxInPlace, checks.what_is_measured_is_left_alone,
     "of_test_set changed logits. Other metrics"),
    (DropsLines, checks.what_is_measured_is_left_alone, "of_rounds changed lines.2"),
    (SamplesImages, checks.one_question_has_one_answer,
     "of_test_set gave .* and then .*, of (the same|another) object. Draw nothing at ra"),
    (GrowsABest, checks.nothing_is_kept_in_self,
     "of_test_set changed self.best. A resumed run starts without it"),
    (SeedsTorch, checks.global_generators_are_left_alone,
     "of_test_set changed torch's seed"),
    (ShufflesByNumPy, checks.global_generators_are_left_alone,
     "of_clients changed NumPy's global generator"),
    (OfTheFirst, checks.order_is_irrelevant,
     "of_test_set gave .* when the test images came in reverse"),
    (OfTheFirstClient, checks.order_is_irrelevant,
     "of_clients gave 80.0, and 0.0 when the clients came in reverse. Do not rely"),
    # The last of them has no accuracy at all, which is a number too.
    (OfTheLastClient, checks.order_is_irrelevant,
     "of_clients gave 0.0, and 80.0 when the clients came in reverse. Do not rely"),
    (WeighsTheWrongOnes, checks.order_is_irrelevant, "of_trained gave .* in reverse"),
    (DividesByNothing, checks.nothing_to_measure_is_no_error,
     r"of_test_set \(no image\), line \d+ .* raised ZeroDivisionError: .* Return None"),
    (NeedsTwoClients, checks.nothing_to_measure_is_no_error,
     r"of_clients \(1 client\), line \d+ .* raised IndexError: .* Return None"),
    (ReadsWhatIsMissing, checks.nothing_to_measure_is_no_error,
     r"of_rounds \(round 1, not measured\), line \d+ .* raised TypeError"),
    (InfiniteOfAbsent, checks.what_is_not_defined_is_none,
     r"of_test_set \(no image of class 2\) returned inf. Return None"),
    (CountsErrors, checks.its_direction_is_right,
     "CountsErrors.higher_is_better is True, and of_test_set gives 0 where all is right "
     "and 100 where all is wrong. Set it to False"),
    (NamesItsOwnColumn, checks.a_run_measures_it,
     "global_mine is empty in every round of a run. Leave columns"),
    (ReadsAStrangeColumn, checks.a_run_measures_it,
     "metrics.it: reads 'global_acuracy', which this run does not measure. Did you mean"),
]  # fmt: skip
"""A faulty metric, the check that is there for it, and what it must say."""


pytestmark = pytest.mark.usefixtures("globals_put_back")


TestPlanted = planted(FAULTS, testing.METRIC_CHECKS)


class TestRight(testing.MetricContract):
    make = Right


class TestOfTrained(testing.MetricContract):
    make = OfTrained
