"""Every registered model keeps every promise that strategies rely on."""

import functools
import json

import pytest
import torch

from fedkd import testing
from fedkd.errors import ConfigError, NotApplicableError
from fedkd.models.base import Classifier
from fedkd.plugins.fields import options_of
from fedkd.plugins.registry import load_registry

REGISTRY = load_registry()
ENTRIES = REGISTRY.entries("models")
KINDS = {name: entry.kind for name, entry in ENTRIES.items() if entry.kind != "mix"}
CLASSIFIERS = [name for name, kind in KINDS.items() if kind in ("", "classifier")]
GENERATORS = [name for name, kind in KINDS.items() if kind == "generator"]
DISCRIMINATORS = [name for name, kind in KINDS.items() if kind == "discriminator"]
TOLD_LABELS = ("conditional-generator", "feature-generator")
WITHOUT_WIDTHS = ("linear", "shufflenet")
NESTED = [name for name in CLASSIFIERS if name not in WITHOUT_WIDTHS]
SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64)]
SMALL = (1, 8, 8)
VECTOR = (6,)


def takes(name):
    return REGISTRY.resolve("models", name).takes


def shape_of(name):
    """Return the shape of an input that a model is for."""
    return SMALL if "images" in takes(name) else VECTOR


def build(name, shape=None, classes=4, seed=0, **options):
    torch.manual_seed(seed)
    shape = shape or shape_of(name)
    return REGISTRY.model(name)(shape, classes, **options)


def images(shape=SMALL, number=4):
    return torch.randn(number, *shape, generator=torch.Generator().manual_seed(0))


def inputs(name, model, number=4):
    """Return what a model of any kind is called with."""
    random = torch.Generator().manual_seed(0)
    if KINDS[name] in TOLD_LABELS:
        labels = torch.arange(number) % 4
        return torch.randn(number, model.latent_size, generator=random), labels
    if name in GENERATORS:
        return (torch.randn(number, model.latent_size, generator=random),)
    return (images(number=number),)


def embedded(narrow, wide):
    """Return zeros of the shapes of ``wide`` with ``narrow`` as their leading blocks."""
    filled = {}
    for entry, value in wide.items():
        filled[entry] = torch.zeros_like(value)
        block = tuple(slice(size) for size in narrow[entry].shape)
        filled[entry][block] = narrow[entry]
    return filled


def equal(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_the_built_in_models_are_registered_under_their_kinds():
    small = {"mlp", "cnn", "cnn-plain", "lenet4"}
    assert small | {"resnet18", "resnet34", "resnet50"} <= set(CLASSIFIERS)
    assert {"vgg11", "mobilenet", "shufflenet", "vit"} <= set(CLASSIFIERS)
    assert "dcgan-generator" in GENERATORS
    assert "dcgan-discriminator" in DISCRIMINATORS


@pytest.mark.parametrize(
    ("name", "check"),
    [
        pytest.param(name, check, id=f"{name}-{check.__name__}")
        for name, kind in KINDS.items()
        for check in testing.MODEL_CHECKS[kind]
    ],
)
def test_the_contract_holds(name, check, tmp_path):
    """At a quarter of the width where there are widths: it takes a tenth of the time."""
    narrow = {"width": 0.25} if name in NESTED else {}
    check(functools.partial(REGISTRY.model(name), **narrow), tmp_path)


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_images_of_every_size_become_features_and_logits(name, shape):
    model = build(name, shape).eval()
    assert isinstance(model, Classifier)
    assert (model.input_shape, model.num_classes) == (shape, 4)
    x = images(shape, 2)
    with torch.no_grad():
        features = model.features(x)
        assert features.shape == (2, model.feature_size)
        assert model.head(features).shape == (2, 4)
        assert torch.equal(model(x), model.head(features))


@pytest.mark.parametrize("name", [n for n in CLASSIFIERS if "vectors" in takes(n)])
def test_vectors_become_features_and_logits(name):
    model = build(name, VECTOR).eval()
    x = images(VECTOR, 2)
    assert model.input_shape == VECTOR
    assert model.features(x).shape == (2, model.feature_size)
    assert torch.equal(model(x), model.head(model.features(x)))


@pytest.mark.parametrize("name", KINDS)
def test_a_model_is_refused_for_inputs_that_it_does_not_take(name):
    for kind, shape in (("images", SMALL), ("vectors", VECTOR)):
        if kind not in takes(name):
            other = "vectors of 6 values" if kind == "vectors" else "images of 8x8"
            with pytest.raises(NotApplicableError, match=f"and the data are {other}"):
                build(name, shape)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_forward_is_the_one_of_the_base_class(name):
    assert type(build(name)).forward is Classifier.forward


@pytest.mark.parametrize("name", NESTED)
def test_a_narrow_model_fits_into_the_full_one(name):
    full, narrow = build(name), build(name, width=0.3)
    assert narrow.width == 0.3
    assert narrow.state_dict().keys() == full.state_dict().keys()
    for entry, value in narrow.state_dict().items():
        wide = full.state_dict()[entry]
        assert value.ndim == wide.ndim, entry
        pairs = zip(value.shape, wide.shape, strict=True)
        assert all(a <= b for a, b in pairs), entry
    assert narrow(images()).shape == (4, 4)


@pytest.mark.parametrize("name", NESTED)
@pytest.mark.parametrize("width", [0.02, 0.3, 0.5])
def test_a_narrow_model_is_the_full_one_without_the_other_channels(name, width):
    full, narrow = build(name).eval(), build(name, width=width)
    narrow(images(number=8))  # statistics of BatchNorm that are not 0 and 1
    full.load_state_dict(embedded(narrow.state_dict(), full.state_dict()))
    with torch.no_grad():
        expected = narrow.eval()(images())
        torch.testing.assert_close(full(images()), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", WITHOUT_WIDTHS)
def test_a_family_whose_widths_do_not_nest_refuses_them(name):
    with pytest.raises(ConfigError, match=r"width: found 0\.5\. Expected 1: .* nested"):
        build(name, width=0.5)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_features_of_a_common_size_come_from_a_layer_before_the_head(name):
    plain, model = build(name).state_dict(), build(name, features=7)
    assert model.feature_size == 7
    features = model.features(images())
    assert features.shape == (4, 7)
    assert torch.equal(features, model.projection(model.trunk(images())))
    assert torch.equal(model.head(features), model.classifier(features))
    added = model.state_dict().keys() - plain.keys()
    assert added == {"projection.weight", "projection.bias"}
    kept = {n: v for n, v in plain.items() if not n.startswith("classifier")}
    assert equal(kept, build(name, features=7).state_dict())


@pytest.mark.parametrize("name", NESTED)
def test_features_of_a_common_size_are_so_at_every_width(name):
    full, narrow = build(name, features=7), build(name, features=7, width=0.3)
    assert narrow.feature_size == 7
    assert narrow.classifier.weight.shape == full.classifier.weight.shape
    assert len(narrow.projection.weight) == len(full.projection.weight)


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("features", [0, -1, 1.5, "7", True])
def test_a_size_of_features_that_is_none_is_refused(name, features):
    with pytest.raises(
        ConfigError, match=r"features: found .*Expected (1 or more|a whole number)"
    ):
        build(name, features=features)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_width_one_is_the_full_model(name):
    assert equal(build(name).state_dict(), build(name, width=1.0).state_dict())


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("width", [0, -1, 1.5, "half"])
def test_a_width_that_cannot_be_used_is_refused(name, width):
    with pytest.raises(
        ConfigError, match=r"width: found .*Expected (more than 0|1 or less|a number)"
    ):
        build(name, width=width)


@pytest.mark.parametrize("name", KINDS)
def test_options_are_documented_fields_with_plain_defaults(name):
    options = options_of(REGISTRY.resolve("models", name).Config)
    assert options
    for option in options:
        assert not option["required"]
        assert option["description"]
        json.dumps(option["default"], allow_nan=False)


@pytest.mark.parametrize("name", KINDS)
def test_a_model_is_built_alike_by_its_class_and_by_its_name(name):
    torch.manual_seed(0)
    by_class = REGISTRY.resolve("models", name).build(shape_of(name), 4)
    assert equal(by_class.state_dict(), build(name).state_dict())


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_generators_map_noise_to_images_between_minus_one_and_one(name, shape):
    model = build(name, shape, latent_size=5, width=2)
    made = model(torch.randn(3, 5))
    assert made.shape == (3, *shape)
    assert made.abs().max() <= 1
    assert model.latent_size == 5


@pytest.mark.parametrize("name", DISCRIMINATORS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_discriminators_map_images_to_one_logit_each(name, shape):
    assert build(name, shape, width=2)(images(shape, 3)).shape == (3,)
