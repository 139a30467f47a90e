"""Faults of models for vectors: each is named by the check that is there for it."""

import numpy as np
import pytest
import torch
from planted import planted
from torch import nn

from fedkd import Classifier, Config, testing
from fedkd.testing import models as checks


class Right(Classifier):
    """One hidden layer on the values of a vector."""

    takes = ("vectors",)

    def __init__(self, input_shape, num_classes, config):
        super().__init__(input_shape, num_classes, feature_size=16)
        (values,) = input_shape
        self.body = nn.Linear(values, 16)
        self.classifier = nn.Linear(16, num_classes)

    def features(self, x):
        return self.body(x).relu()

    def head(self, features):
        return self.classifier(features)


class Undocumented(Right):
    class Config(Config):
        units: int = 16


class WantsAnImage(Right):
    def __init__(self, input_shape, num_classes, config):
        channels, height, width = input_shape
        super().__init__((channels * height * width,), num_classes, config)


class HasThirteenValues(Right):
    """As of the one table that it was written for."""

    def __init__(self, input_shape, num_classes, config):
        super().__init__((13,), num_classes, config)


class HasThreeClasses(Right):
    def __init__(self, input_shape, num_classes, config):
        super().__init__(input_shape, 3, config)


class FlattensTheBatch(Right):
    def features(self, x):
        return super().features(x.view(-1))


class StandardisesByTheBatch(Right):
    def features(self, x):
        return super().features((x - x.mean(0)) / (x.std(0, correction=0) + 1e-3))


class SqueezesEverything(Right):
    def features(self, x):
        return super().features(x).squeeze()


class ImputesInPlace(Right):
    def features(self, x):
        x[x < 0] = 0
        return super().features(x)


class DropsValuesAlways(Right):
    def features(self, x):
        return super().features(nn.functional.dropout(x, 0.5))


class EndsInSoftmax(Right):
    def head(self, features):
        return super().head(features).softmax(1)


class LearnsAScaleBeside(Right):
    def __init__(self, *given):
        super().__init__(*given)
        self.scale = torch.randn(self.input_shape)

    def features(self, x):
        return super().features(x * self.scale)


class FreezesItsBody(Right):
    def features(self, x):
        with torch.no_grad():
            return super().features(x)


class TakesTheLog(Right):
    def features(self, x):
        return super().features(x.log())


class DividesByTheVariance(Right):
    def features(self, x):
        rows = x.var(0, keepdim=True) if self.training and len(x) < 3 else 1
        return super().features(x / (rows - rows))


class StartsEqual(Right):
    def __init__(self, *given):
        torch.manual_seed(3)
        super().__init__(*given)


class ShufflesByNumPy(Right):
    def features(self, x):
        return super().features(x * float(np.random.permutation(2).max()))


class CountsItsCalls(Right):
    def __init__(self, *given):
        super().__init__(*given)
        self.register_buffer("calls", torch.zeros(()))

    def features(self, x):
        self.calls += 1
        return super().features(x)


class SaysAnotherSize(Right):
    def __init__(self, *given):
        super().__init__(*given)
        self.feature_size = 8


class NamesItsHeadFirst(Right):
    def __init__(self, *given):
        super().__init__(*given)
        self.body = self._modules.pop("body")


class IsGaussian(Right):
    def __init__(self, *given):
        super().__init__(*given)
        self.nonnegative_features = True

    def features(self, x):
        return self.body(x)


FAULTS = [
    (Undocumented, checks.options_are_documented, "option units of Config has no desc"),
    (WantsAnImage, checks.images_of_every_size_become_logits,
     r"the constructor \(vectors \[6\]\), line \d+ .* raised ValueError: not enough"),
    (HasThirteenValues, checks.images_of_every_size_become_logits,
     r"forward \(input \[4, 6\]\), line \d+ .* raised RuntimeError: .*shapes"),
    (HasThreeClasses, checks.images_of_every_size_become_logits,
     r"gave shape \[4, 3\] for vectors \[6\] and 4 classes; expected \[4, 4\]"),
    (FlattensTheBatch, checks.images_of_every_size_become_logits,
     r"forward \(input \[4, 6\]\), line \d+ .* raised RuntimeError"),
    (TakesTheLog, checks.images_of_every_size_become_logits,
     r"forward gave what is not finite for vectors \[6\]"),
    (StandardisesByTheBatch, checks.inputs_are_seen_one_at_a_time,
     "differ by .* when inputs came one by one. Take no statistics of the batch"),
    (SqueezesEverything, checks.inputs_are_seen_one_at_a_time,
     r"gave shape \[16\] when inputs came one by one, and \[4, 4\] together. Look for sq"),
    (ImputesInPlace, checks.inputs_are_left_alone, "forward changed input.0"),
    (DropsValuesAlways, checks.evaluating_changes_nothing,
     "forward in eval mode gave two results for one input. Draw nothing there"),
    (CountsItsCalls, checks.evaluating_changes_nothing,
     "forward in eval mode changed model.calls"),
    (EndsInSoftmax, checks.logits_are_no_probabilities, "Leave out the softmax"),
    (LearnsAScaleBeside, checks.weights_travel,
     "two models with equal state_dict gave different outputs. Register what forward"),
    (FreezesItsBody, checks.every_parameter_gets_a_gradient,
     "no gradient reaches body.weight"),
    (DividesByTheVariance, checks.two_inputs_are_a_batch,
     "the output of a batch of two is not finite"),
    (StartsEqual, checks.a_seed_fixes_the_weights,
     "two models of different seeds have equal weights"),
    (ShufflesByNumPy, checks.global_generators_are_left_alone,
     "forward changed NumPy's global generator"),
    (SaysAnotherSize, checks.features_and_head_make_the_logits,
     r"features gave shape \[4, 16\]; expected \[4, 8\], as feature_size says"),
    (NamesItsHeadFirst, checks.the_head_is_the_last_linear_layer,
     "the last linear layer, body, maps 6 to 16; expected 16 to 4. Make the head last"),
    (IsGaussian, checks.what_it_says_of_itself_is_so,
     "nonnegative_features is True, and a feature is -"),
]  # fmt: skip
"""A faulty model for vectors, the check that is there for it, and what it says."""


pytestmark = pytest.mark.usefixtures("globals_put_back")


TestPlanted = planted(FAULTS, make=lambda faulty: faulty.build)


class TestRight(testing.ClassifierContract):
    make = Right.build
