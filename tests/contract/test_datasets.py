"""Every registered data set keeps the promises of the contract."""

import os
from pathlib import Path

import pytest
import torch

from fedkd.dataset import Dataset
from fedkd.errors import DataError
from fedkd.registry import load_registry

REGISTRY = load_registry()
NAMES = list(REGISTRY.entries("datasets"))
ROOT = os.environ.get("FEDKD_DATA")


def files_of(name):
    return REGISTRY.resolve("datasets", name).files


READ = [
    pytest.param(name, marks=[pytest.mark.data] if files_of(name) else [])
    for name in NAMES
]


@pytest.fixture(scope="module", params=READ)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def root(name):
    """The folder with the files of a data set; skips without them."""
    folder = Path(ROOT or "/nowhere")
    missing = [file for file in files_of(name) if not (folder / file).is_file()]
    if missing:
        pytest.skip(f"{missing[0]} of {name} is not in FEDKD_DATA ({ROOT})")
    return folder


@pytest.fixture(scope="module")
def data(name, root):
    return REGISTRY.dataset(name)[0].load(root)


@pytest.mark.parametrize("registered", NAMES)
def test_a_data_set_is_a_documented_final_class(registered):
    cls = REGISTRY.resolve("datasets", registered)
    assert issubclass(cls, Dataset)
    assert not cls.__subclasses__()
    assert cls.__doc__
    assert all(field.description for field in cls.Config.model_fields.values())


@pytest.mark.parametrize("registered", [n for n in NAMES if files_of(n)])
def test_missing_files_are_an_error_that_says_what_to_do(registered, tmp_path):
    with pytest.raises(DataError) as caught:
        REGISTRY.dataset(registered)[0].load(tmp_path)
    message = str(caught.value)
    assert f"fedkd data prepare {registered}" in message
    assert str(tmp_path) in message
    assert next(iter(files_of(registered))) in message
    assert not list(tmp_path.iterdir())


def test_images_are_bytes_and_labels_are_classes(data):
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert x.dtype == torch.uint8
        assert x.shape == (len(y), *data.shape)
        assert x.is_contiguous()
        assert y.dtype == torch.int64
        assert set(y.tolist()) == set(range(data.num_classes))


def test_a_data_set_has_its_registered_name_and_distinct_classes(name, data):
    assert data.name == name
    assert len(set(data.classes)) == data.num_classes


def test_normalised_training_images_are_near_zero_mean_and_unit_deviation(data):
    assert len(data.mean) == len(data.std) == data.shape[0]
    x = data.normalise(data.x_train[:2000])
    # Some constants are customary rather than exact: see each data set.
    assert float(x.mean().abs()) < 0.6
    assert 0.8 < float(x.std()) < 1.3


def test_no_training_image_is_a_test_image_at_the_same_place(data):
    number = min(len(data.x_train), len(data.x_test))
    assert not torch.equal(data.x_train[:number], data.x_test[:number])


def test_reading_twice_gives_equal_bits(name, root, data):
    again = REGISTRY.dataset(name)[0].load(root)
    assert torch.equal(again.x_train, data.x_train)
    assert torch.equal(again.y_test, data.y_test)


def test_the_declared_sizes_are_those_of_the_files(name, root):
    for file, size in files_of(name).items():
        assert (root / file).stat().st_size == size
