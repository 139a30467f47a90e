"""Bytes on the wire, against the published sizes: ResNet-18, 10 classes, 3x32x32."""

import torch

from fedkd.algorithms.averaging import Global
from fedkd.algorithms.averaging import Update as ModelUpdate
from fedkd.algorithms.mixed.fedgh import Head
from fedkd.algorithms.mixed.own_models import ByClass
from fedkd.algorithms.mosaic.features import Update as FeatureUpdate
from fedkd.algorithms.mosaic.strategy import Update
from fedkd.models.dcgan import Generator
from fedkd.models.resnet import ResNet18
from fedkd.ops.heads import read_head
from fedkd.payload import seal
from fedkd.plugins.registry import load_registry
from fedkd.strategy import read_weights

SHAPE = (3, 32, 32)
MODEL = 44_734_408
"""11,173,962 parameters of 4 bytes and 38,560 bytes of BatchNorm's buffers."""
GENERATOR = 14_303_008
COUNTS = 80
"""n_kc: ten int64."""


def weights():
    return read_weights(ResNet18.build(SHAPE, 10))


def test_fedavg_sends_the_model_down_and_up():
    assert seal(Global(weights()), "down") == MODEL
    assert seal(ModelUpdate(weights(), 5000), "up") == MODEL  # n_k is no tensor


def test_mosaic_sends_its_generator_once():
    generator = read_weights(Generator.build(SHAPE, 10, latent_size=100, width=64))
    counts_C = torch.zeros(10, dtype=torch.int64)
    without = seal(Update(weights(), counts_C, None, {}), "up")
    with_it = seal(Update(weights(), counts_C, generator, {}), "up")
    assert without == MODEL + COUNTS
    assert with_it - without == GENERATOR


def test_mosaic_in_feature_space_sends_a_head_and_a_generator_of_features():
    build = load_registry().model("feature-generator")
    sizes = {"feature_size": 512, "latent_size": 32, "hidden": 128}
    generator = read_weights(build(SHAPE, 10, **sizes, nonnegative=True))
    head = read_head(ResNet18.build(SHAPE, 10))
    sent = FeatureUpdate(head, torch.zeros(10, dtype=torch.int64), generator)
    assert seal(sent, "up") == 288_264 + 20_520 + COUNTS


def test_half_of_the_channels_is_a_quarter_of_the_bytes():
    half = read_weights(ResNet18.build(SHAPE, 10, width=0.5))
    parameters = sum(
        p.numel() for p in ResNet18.build(SHAPE, 10, width=0.5).parameters()
    )
    assert parameters == 2_797_610
    assert seal(Global(half), "down") == 11_209_800  # 11.2 MB


def test_vectors_of_ten_classes_and_a_head_are_kilobytes():
    outputs = {c: torch.zeros(10) for c in range(10)}
    features = {c: torch.zeros(512) for c in range(10)}
    assert seal(ByClass(outputs), "up") == 400
    assert seal(ByClass(features), "up") == 20_480
    assert seal(ByClass(features, torch.zeros(10, dtype=torch.int32)), "up") == 20_520
    assert seal(Head(read_head(ResNet18.build(SHAPE, 10))), "down") == 20_520
