"""What models share."""

import math

import pytest
import torch
from torch import nn

from fedkd.errors import ConfigError
from fedkd.models.base import (
    ImageModel,
    Model,
    ModelConfig,
    Norm,
    Share,
    Size,
    Sizes,
    normalisation,
    scaled,
)

SHAPE = (1, 2, 2)


class ToyConfig(ModelConfig):
    width: Share = 1.0
    sizes: Sizes = (1, 2)
    size: Size = 3
    norm: Norm = "batch"


class Toy(ImageModel):
    Config = ToyConfig

    def __init__(self, image_shape, num_classes, config):
        super().__init__(image_shape, num_classes, 4, config.width)
        self.classifier = nn.Linear(4, num_classes)

    def features(self, x):
        return x.flatten(1)

    def head(self, features_BD):
        return self.classifier(features_BD)


def test_a_model_is_its_head_on_its_features():
    model, x = Toy.build(SHAPE, 3), torch.randn(5, 1, 2, 2)
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


@pytest.mark.parametrize(
    ("width", "reason"),
    [
        (0, "Expected more than 0"),
        (-0.5, "Expected more than 0"),
        (1.01, "Expected 1 or less"),
        (math.nan, "Expected a finite number"),
        ("1", "Expected a number"),
        (True, "Expected a number"),
        (None, "Expected a number"),
    ],
)
def test_a_width_outside_its_range_is_refused(width, reason):
    with pytest.raises(ConfigError, match=rf"^Toy\.width: found .*\. {reason}\.$"):
        Toy.build(SHAPE, 3, width=width)


def test_a_width_of_one_may_be_written_as_a_whole_number():
    assert Toy.build(SHAPE, 3, width=1).width == 1.0


@pytest.mark.parametrize("size", [0, -1, 2.0, "2", True])
def test_a_size_is_a_positive_whole_number(size):
    with pytest.raises(ConfigError, match=r"^Toy\.size: found .*Expected "):
        Toy.build(SHAPE, 3, size=size)
    with pytest.raises(ConfigError, match=r"^Toy\.sizes\.1: found .*Expected "):
        Toy.build(SHAPE, 3, sizes=[1, size])


def test_sizes_may_be_a_list_or_a_tuple():
    assert ToyConfig(sizes=[5, 6]) == ToyConfig(sizes=(5, 6))


def test_a_misspelt_option_gets_a_suggestion():
    with pytest.raises(ConfigError, match=r"^Toy\.widht: unknown key\. .*'width'\?"):
        Toy.build(SHAPE, 3, widht=1)


def test_a_model_that_says_nothing_of_options_has_none():
    with pytest.raises(ConfigError, match=r"width: unknown key\. Known keys: none\."):
        Model.build(SHAPE, 3, width=1)


@pytest.mark.parametrize("classes", [0, -1, 2.0, True])
def test_a_number_of_classes_that_is_none_is_refused(classes):
    with pytest.raises(ConfigError, match=r"num_classes: found .*whole number"):
        Toy.build(SHAPE, classes)


@pytest.mark.parametrize("side", [0, -1, 2.0, True])
def test_a_shape_of_images_that_is_none_is_refused(side):
    with pytest.raises(ConfigError, match=r"input_shape\[1\]: found .*whole number"):
        Toy.build((1, side, 2), 3)


def test_normalisations_have_no_state_group_state_or_batch_state():
    assert not normalisation("none", 12).state_dict()
    assert normalisation("group", 12).num_groups == 4
    assert normalisation("group", 7).num_groups == 1
    assert isinstance(normalisation("batch", 12), nn.BatchNorm2d)


def test_an_unknown_normalisation_gets_a_suggestion():
    with pytest.raises(ConfigError, match=r"found 'grop'.*'batch', 'group'.*'group'\?"):
        Toy.build(SHAPE, 3, norm="grop")
