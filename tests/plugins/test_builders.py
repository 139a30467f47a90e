"""What may be registered as a model, how it is called, and how the rest is refused."""

import pytest
from pydantic import Field
from torch import nn

import fedkd
from fedkd.errors import ConfigError, ContractError
from fedkd.plugins.builders import build_model, check_builder, config_of
from fedkd.plugins.options import resolve
from fedkd.plugins.registry import load_registry

SHAPE = (1, 8, 8)


class NetConfig(fedkd.Config):
    units: int = Field(3, ge=1)
    """Units."""


class Net(nn.Module):
    Config = NetConfig

    def __init__(self, image_shape, num_classes, config):
        super().__init__()
        self.layer = nn.Linear(image_shape[1], config.units * num_classes)


class Old(nn.Module):
    def __init__(self, image_shape, num_classes, *, width=1.0):
        super().__init__()


class Forgetful(Net):
    def __init__(self, image_shape, num_classes):
        super().__init__(image_shape, num_classes, NetConfig())


def plain(image_shape, num_classes):
    return nn.Linear(image_shape[1], num_classes)


def old(image_shape, num_classes, width=1.0):
    return nn.Linear(image_shape[1], num_classes)


def gathering(image_shape, num_classes, **options):
    return nn.Linear(image_shape[1], num_classes)


def test_a_class_is_given_its_config():
    check_builder(Net, "net")
    assert build_model(Net, "models.net", SHAPE, 2).layer.out_features == 6
    assert build_model(Net, "models.net", SHAPE, 2, units=5).layer.out_features == 10


def test_a_function_without_options_is_given_shape_and_classes():
    check_builder(plain, "plain")
    assert build_model(plain, "models.plain", SHAPE, 2).out_features == 2
    assert not config_of(plain).model_fields
    with pytest.raises(ConfigError) as caught:
        build_model(plain, "models.plain", SHAPE, 2, width=0.5)
    assert str(caught.value) == ("models.plain.width: unknown key. Known keys: none.")


def test_a_wrong_option_is_named_with_its_path():
    with pytest.raises(ConfigError, match=r"^models\.net\.units: found 0\. Expected"):
        build_model(Net, "models.net", SHAPE, 2, units=0)


@pytest.mark.parametrize(
    ("builder", "takes", "expected"),
    [
        (Old, "image_shape, num_classes, width", "image_shape, num_classes"),
        (old, "image_shape, num_classes, width", "image_shape, num_classes"),
        (gathering, "image_shape, num_classes, options", "image_shape, num_classes"),
        (Forgetful, "image_shape, num_classes", "image_shape, num_classes, config"),
    ],
)
def test_options_in_a_signature_are_refused_by_saying_where_they_go(
    builder, takes, expected
):
    with pytest.raises(ContractError) as caught:
        check_builder(builder, "model 'mine' of mine.py: mine:target")
    assert str(caught.value) == (
        f"model 'mine' of mine.py: mine:target takes ({takes}), expected ({expected}). "
        "Options of a model are the fields of its Config: write a class with Config = "
        "MyConfig, a subclass of fedkd.Config, and the arguments (image_shape, "
        "num_classes, config). What has no Config has no options, and takes "
        "(image_shape, num_classes)."
    )


def test_what_cannot_be_called_is_refused():
    with pytest.raises(ContractError, match=r"^x is of type int; expected a callable"):
        check_builder(3, "x")


def test_a_registered_function_works_like_any_model(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "import fedkd\nfrom torch import nn\n@fedkd.hookimpl\n"
        "def fedkd_register_models(register):\n"
        "    register('mine', ':mine')\n"
        "def mine(image_shape, num_classes):\n"
        "    return nn.Linear(image_shape[1], num_classes)\n"
    )
    registry = load_registry([path])
    assert registry.model("mine")(SHAPE, 4).out_features == 4
    resolved = resolve(registry, "models", "mine", {}, "models.mine")
    assert (resolved.options, resolved.changed) == ({}, {})
    with pytest.raises(ConfigError, match=r"models\.mine\.widht: unknown key"):
        resolve(registry, "models", "mine", {"widht": 1}, "models.mine")


@pytest.mark.parametrize(
    ("name", "written", "full", "changed"),
    [
        ("cnn", {"width": 1}, {"width": 1, "hidden": 64}, {}),
        ("cnn", {"width": 0.5}, {"width": 0.5, "norm": "batch"}, {"width": 0.5}),
        (
            "cnn",
            {"norm": "none", "channels": (8, 16)},
            {"channels": [8, 16], "norm": "none", "features": None},
            {"norm": "none", "channels": [8, 16]},
        ),
        ("cnn", {"channels": [16, 32, 64]}, {"channels": [16, 32, 64]}, {}),
        ("vit", {"patch": None}, {"patch": None, "heads": 3}, {}),
    ],
)
def test_options_stay_as_they_were_written(name, written, full, changed):
    """Hashes of runs and streams of initial weights are made of these texts."""
    resolved = resolve(load_registry(), "models", name, written, "here")
    assert repr({key: resolved.options[key] for key in full}) == repr(full)
    assert repr(resolved.changed) == repr(changed)


def test_a_generator_is_no_classifier():
    with pytest.raises(ConfigError, match=r"^here: is a generator, expected a classif"):
        resolve(load_registry(), "models", "dcgan-generator", {}, "here")
