"""The promises of models are tested by faults: each is named."""

import math

import numpy as np
import pytest
import torch
from planted import planted
from torch import nn

from fedkd import Config, ImageModel, testing
from fedkd.testing import models as checks


class Right(ImageModel):
    """One hidden layer on pixels."""

    def __init__(self, image_shape, num_classes, config):
        super().__init__(image_shape, num_classes, feature_size=16)
        self.body = nn.Linear(math.prod(image_shape), 16)
        self.classifier = nn.Linear(16, num_classes)

    def features(self, x):
        return torch.relu(self.body(x.flatten(1)))

    def head(self, features):
        return self.classifier(features)


class Undocumented(Right):
    class Config(Config):
        hidden: int = 16


class SeedsItself(Right):
    def __init__(self, *given):
        torch.manual_seed(0)
        super().__init__(*given)


class DrawsByNumPy(Right):
    def __init__(self, *given):
        super().__init__(*given)
        self.body.bias.data[0] = np.random.rand()


class DropsByNumPy(Right):
    def features(self, x):
        return super().features(x) * float(np.random.rand() > 0)


class TakesNoGradientsAnyMore(Right):
    def __init__(self, *given):
        super().__init__(*given)
        torch.set_num_threads(torch.get_num_threads() + 1)


class HasALayerToSpare(Right):
    def __init__(self, *given):
        super().__init__(*given)
        self.spare = nn.Linear(3, 3)
        self.classifier = self._modules.pop("classifier")


class DetachesFeatures(Right):
    def features(self, x):
        return super().features(x).detach() + 0 * super().features(x)


class DividesByTheSpread(Right):
    def features(self, x):
        spread = x.std(0, keepdim=True) if self.training else 1
        return super().features((x - x.mean(0, keepdim=True)) / (spread - spread))


class DropsAlways(Right):
    def features(self, x):
        return nn.functional.dropout(super().features(x), 0.5, training=True)


class CountsItsCalls(Right):
    def __init__(self, *given):
        super().__init__(*given)
        self.register_buffer("calls", torch.zeros(()))

    def features(self, x):
        self.calls += 1
        return super().features(x)


class CentresTheBatch(Right):
    def features(self, x):
        return super().features(x - x.mean(0, keepdim=True))


class WritesIntoItsInput(Right):
    def features(self, x):
        return super().features(x.mul_(0.5))


class HidesAScale(Right):
    def __init__(self, *given):
        super().__init__(*given)
        self.scale = [torch.rand(())]

    def head(self, features):
        return super().head(features) * self.scale[0]


class KeepsItsLayersElsewhere(Right):
    layers = {}  # noqa: RUF012 - the fault

    def __init__(self, *given):
        super().__init__(*given)
        self.number = len(self.layers)
        self.layers[self.number] = (self.body, self.classifier)

    def features(self, x):
        return torch.relu(self.layers[self.number][0](x.flatten(1)))

    def head(self, features):
        return self.layers[self.number][1](features)


class IsMadeFor8x8(Right):
    def __init__(self, image_shape, num_classes, config):
        super().__init__((1, 8, 8), num_classes, config)


class HasTenClasses(Right):
    def __init__(self, image_shape, num_classes, config):
        super().__init__(image_shape, 10, config)


class EndsInSoftmax(Right):
    def head(self, features):
        return super().head(features).softmax(1)


class EndsInLogSoftmax(Right):
    def head(self, features):
        return super().head(features).log_softmax(1)


class SaysAnotherSize(Right):
    def __init__(self, *given):
        super().__init__(*given)
        self.feature_size = 32


class HasItsOwnForward(Right):
    def forward(self, x):
        return 2 * self.head(self.features(x))


class EndsInAnExtraLayer(Right):
    def __init__(self, *given):
        super().__init__(*given)
        self.extra = nn.Linear(16, 16)

    def features(self, x):
        return self.extra(super().features(x))


class SaysItIsNotNegative(Right):
    def __init__(self, *given):
        super().__init__(*given)
        self.nonnegative_features = True

    def features(self, x):
        return self.body(x.flatten(1))


class GivesATuple(Right):
    def head(self, features):
        return super().head(features), features


class CannotCount(Right):
    def features(self, x):
        return self.body(x)


class RightGenerator(nn.Module):
    """One layer from noise to pixels."""

    latent_size = 5

    def __init__(self, image_shape, num_classes):
        super().__init__()
        self.shape = image_shape
        self.layer = nn.Linear(5, math.prod(image_shape))

    def forward(self, z):
        return self.layer(z).tanh().unflatten(1, self.shape)


class MakesFlatImages(RightGenerator):
    def forward(self, z):
        return self.layer(z)


class RightDiscriminator(nn.Module):
    """One layer from pixels to a logit."""

    def __init__(self, image_shape, num_classes):
        super().__init__()
        self.layer = nn.Linear(math.prod(image_shape), 1)

    def forward(self, x):
        return self.layer(x.flatten(1)).squeeze(1)


class KeepsAnAxis(RightDiscriminator):
    def forward(self, x):
        return self.layer(x.flatten(1))


FAULTS = [
    (Undocumented, checks.options_are_documented,
     "option hidden of Config has no description"),
    (SeedsItself, checks.a_seed_fixes_the_weights,
     "two models of different seeds have equal weights. .* seed nothing"),
    (DrawsByNumPy, checks.a_seed_fixes_the_weights,
     "two models of one seed differ in body.bias. Draw initial weights from torch's"),
    (DropsByNumPy, checks.global_generators_are_left_alone,
     "forward changed NumPy's global generator. Draw from torch's default generator"),
    (TakesNoGradientsAnyMore, checks.global_generators_are_left_alone,
     "the constructor changed the number of torch's threads"),
    (HasALayerToSpare, checks.every_parameter_gets_a_gradient,
     "no gradient reaches spare.weight. Use it in forward, or make it a buffer"),
    (DetachesFeatures, checks.every_parameter_gets_a_gradient,
     r"the gradient of body.weight is 0 everywhere. Look for detach\(\)"),
    (DividesByTheSpread, checks.two_inputs_are_a_batch,
     "the output of a batch of two is not finite"),
    (DropsAlways, checks.evaluating_changes_nothing,
     "forward in eval mode gave two results for one input. Draw nothing there"),
    (CountsItsCalls, checks.evaluating_changes_nothing,
     "forward in eval mode changed model.calls. In eval mode a model must stay"),
    (CentresTheBatch, checks.inputs_are_seen_one_at_a_time,
     "outputs that differ by .* when inputs came one by one. Take no statistics"),
    (WritesIntoItsInput, checks.inputs_are_left_alone,
     "forward changed input.0. Strategies use it again"),
    (HidesAScale, checks.weights_travel,
     "two models with equal state_dict gave different outputs. Register what forward"),
    (KeepsItsLayersElsewhere, checks.a_copy_is_the_same_model,
     "a deep copy with other weights gave the same output. Keep layers in the module"),
    (IsMadeFor8x8, checks.images_of_every_size_become_logits,
     r"forward \(input \[4, 1, 28, 28\]\), line \d+ .* raised RuntimeError: .*shapes"),
    (HasTenClasses, checks.images_of_every_size_become_logits,
     r"gave shape \[4, 10\] for images \[1, 8, 8\] and 4 classes; expected \[4, 4\]"),
    (GivesATuple, checks.images_of_every_size_become_logits,
     r"forward \(input \[4, 1, 8, 8\]\) gave a tuple, expected a tensor"),
    (CannotCount, checks.images_of_every_size_become_logits,
     r"forward \(input \[4, 1, 8, 8\]\), line \d+ .* raised RuntimeError"),
    (EndsInSoftmax, checks.logits_are_no_probabilities,
     "forward gave probabilities, which sum to 1. Leave out the softmax"),
    (EndsInLogSoftmax, checks.logits_are_no_probabilities,
     "forward gave logarithms of probabilities. Leave out log_softmax"),
    (SaysAnotherSize, checks.features_and_head_make_the_logits,
     r"features gave shape \[4, 16\]; expected \[4, 32\], as feature_size says"),
    (HasItsOwnForward, checks.features_and_head_make_the_logits,
     r"head\(features\(x\)\) is not the output. Leave forward to fedkd.ImageModel"),
    (EndsInAnExtraLayer, checks.the_head_is_the_last_linear_layer,
     "the last linear layer, extra, maps 16 to 16; expected 16 to 4. Make the head last"),
    (HasTenClasses, checks.what_it_says_of_itself_is_so,
     r"input_shape and num_classes are \(\(1, 8, 8\), 10\); expected"),
    (SaysItIsNotNegative, checks.what_it_says_of_itself_is_so,
     "nonnegative_features is True, and a feature is -.* Set it to False"),
    (MakesFlatImages, checks.noise_becomes_images,
     r"forward gave shape \[4, 64\] for images \[1, 8, 8\].*expected \[4, 1, 8, 8\]"),
    (KeepsAnAxis, checks.images_become_one_logit_each,
     r"forward gave shape \[4, 1\] .*; expected \[4\]"),
]  # fmt: skip
"""A faulty model, the check that is there for it, and what it must say."""


def made(kind):
    """Return what makes a model, as ``fedkd check`` has it."""
    return getattr(kind, "build", kind)


pytestmark = pytest.mark.usefixtures("globals_put_back")


TestPlanted = planted(
    FAULTS, [one for some in testing.MODEL_CHECKS.values() for one in some], make=made
)


class TestRight(testing.ClassifierContract):
    make = Right.build


class TestGenerator(testing.GeneratorContract):
    make = RightGenerator


class TestDiscriminator(testing.DiscriminatorContract):
    make = RightDiscriminator
