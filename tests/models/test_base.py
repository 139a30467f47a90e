"""What all classifiers share."""

import math

import pytest
import torch
from torch import nn

from fedkd.errors import ConfigError
from fedkd.models.base import ImageModel, normalisation, scaled


class Toy(ImageModel):
    def __init__(self, image_shape=(1, 2, 2), num_classes=3, width=1.0):
        super().__init__(image_shape, num_classes, 4, width)
        self.classifier = nn.Linear(4, 3)

    def features(self, x):
        return x.flatten(1)

    def head(self, features_BD):
        return self.classifier(features_BD)


def test_a_model_is_its_head_on_its_features():
    model, x = Toy(), torch.randn(5, 1, 2, 2)
    assert torch.equal(model(x), model.head(model.features(x)))


def test_a_model_without_features_or_head_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        ImageModel((1, 2, 2), 3, 4)


@pytest.mark.parametrize(
    ("size", "width", "expected"),
    [
        (64, 1.0, 64),
        (64, 0.5, 32),
        (64, 0.0625, 4),
        (10, 0.25, 3),
        (64, 0.001, 1),
        (100, 0.07, 7),  # 7.000000000000001 in floats
        (64, 1, 64),
    ],
)
def test_widths_are_rounded_up(size, width, expected):
    assert scaled(size, width) == expected


@pytest.mark.parametrize("width", [0, -0.5, 1.01, math.nan, "1", True, None])
def test_a_width_outside_its_range_is_refused(width):
    with pytest.raises(
        ConfigError, match=r"width: found .*expected a number in \(0, 1\]"
    ):
        Toy(width=width)
    with pytest.raises(ConfigError, match="width: found"):
        scaled(8, width)


@pytest.mark.parametrize("classes", [0, -1, 2.0, True])
def test_a_number_of_classes_that_is_none_is_refused(classes):
    with pytest.raises(ConfigError, match=r"num_classes: found .*whole number"):
        Toy(num_classes=classes)


def test_normalisations_have_no_state_group_state_or_batch_state():
    assert not normalisation("none", 12).state_dict()
    assert normalisation("group", 12).num_groups == 4
    assert normalisation("group", 7).num_groups == 1
    assert isinstance(normalisation("batch", 12), nn.BatchNorm2d)


def test_an_unknown_normalisation_gets_a_suggestion():
    with pytest.raises(ConfigError, match=r"found 'grop'.*batch, group, none.*'group'"):
        normalisation("grop", 8)
