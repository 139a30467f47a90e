"""Every registered data set keeps the promises of the contract."""

import functools
import os
import re
from pathlib import Path
from typing import get_args

import numpy as np
import published
import pytest
import torch

from fedkd import testing
from fedkd.data.dataset import Dataset, DatasetConfig, FileDataset
from fedkd.data.images import ImageSet
from fedkd.errors import DataError
from fedkd.plugins.cards import card
from fedkd.plugins.registry import load_registry

REGISTRY = load_registry()
NAMES = list(REGISTRY.entries("datasets"))
ROOT = Path(os.environ.get("FEDKD_DATA", "/nowhere"))


def write_own(root):
    """Write a data set of one's own; returns the options that name it."""
    y = np.arange(12) % 3
    x = np.stack([published.picture(*pair) for pair in zip(y, range(24), strict=False)])
    path = root / "own.npz"
    np.savez(path, x_train=x, y_train=y, x_test=255 - x, y_test=y)
    return {"path": str(path)}


def write_vectors(root):
    """Write vectors of one's own; returns the options that name them."""
    rng, y = np.random.default_rng(0), np.arange(12) % 3
    path = root / "own.npz"
    x = rng.normal(5, 2, (2, 12, 4))
    np.savez(path, x_train=x[0], y_train=y, x_test=x[1], y_test=y)
    return {"path": str(path)}


def part_written_by(write):
    """Return a function that writes part of a set, and returns the option to read it."""

    def written(root):
        write(root)
        return {"partial": True}

    return written


def write_domains(root):
    """Write the domains of ``digits-five`` that have a writer; returns what names them."""
    published.write_svhn(root)
    return {"domains": ["digits", "svhn"], "partial": True}


WRITERS = {
    "digits-five": write_domains,
    "svhn": part_written_by(published.write_svhn),
    "food101": part_written_by(published.write_food101),
    "tiny-imagenet": part_written_by(published.write_tiny_imagenet),
    "folder": write_own,
    "vectors": write_vectors,
}
"""How a small copy is written of the sets that are not at hand, or not whole."""
FILED = [
    name
    for name in NAMES
    if issubclass(REGISTRY.resolve("datasets", name), FileDataset)
]
PUBLISHED = [n for n in FILED if not REGISTRY.resolve("datasets", n).argument]
READ = [
    pytest.param(
        name,
        marks=[pytest.mark.data] if name in FILED and name not in WRITERS else [],
    )
    for name in NAMES
]


@pytest.fixture(scope="module", params=READ)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def home(name, tmp_path_factory):
    """The folder with the files of a data set, and the options to read them."""
    if name not in WRITERS:
        return ROOT, {}
    folder = tmp_path_factory.mktemp(name)
    return folder, WRITERS[name](folder)


@pytest.fixture(scope="module")
def root(home):
    return home[0]


@pytest.fixture(scope="module")
def reader(name, home):
    """The reader of a data set whose files are there; skips without them."""
    root, options = home
    found, _ = REGISTRY.dataset(name, options)
    if name in FILED:
        try:
            found.fingerprint(root)
        except DataError as error:
            pytest.skip(f"FEDKD_DATA ({root}) does not hold it: {error}")
    return found


@pytest.fixture(scope="module")
def data(reader, root):
    return reader.load(root)


@pytest.mark.parametrize("registered", NAMES)
def test_a_data_set_is_a_documented_final_class(registered):
    cls = REGISTRY.resolve("datasets", registered)
    assert issubclass(cls, Dataset)
    assert not cls.__subclasses__()
    assert cls.__doc__
    assert all(field.description for field in cls.Config.model_fields.values())


@pytest.mark.parametrize("registered", NAMES)
def test_every_set_can_be_used_in_part(registered):
    config = REGISTRY.resolve("datasets", registered).Config
    assert issubclass(config, DatasetConfig)


@pytest.mark.parametrize("registered", PUBLISHED)
def test_a_card_says_resolution_normalisation_and_augmentation_and_whose_they_are(
    registered,
):
    text = card(REGISTRY.entries("datasets")[registered])["description"]
    assert re.search(r"\b(\d+)x\1\b", text)
    assert re.search(r"[Nn]ormalised by (ImageNet's )?\.\d+", text)
    assert re.search(r"flipped at random|(No|without) augmentation", text)
    assert "Mosaic's released code (commit a7f8b5b)" in text


@pytest.mark.parametrize(
    ("registered", "choices"),
    [
        ("mnist", {"resolution": [28, 32], "channels": [1, 3]}),
        ("fashion-mnist", {"resolution": [28, 32], "channels": [1, 3]}),
        ("tiny-imagenet", {"resolution": [32, 64]}),
        ("food101", {"resolution": [32, 64]}),
    ],
)
def test_the_form_of_images_can_be_chosen(registered, choices):
    config = REGISTRY.resolve("datasets", registered).Config
    fields = {key: config.model_fields[key] for key in choices}
    found = {key: list(get_args(field.annotation)) for key, field in fields.items()}
    assert found == choices
    assert [field.default for field in fields.values()] == [
        values[0] for values in choices.values()
    ]


@pytest.mark.parametrize("registered", PUBLISHED)
@pytest.mark.parametrize("verb", ["load", "open", "fingerprint", "check"])
def test_missing_files_are_an_error_that_says_what_to_do(registered, verb, tmp_path):
    reader = REGISTRY.dataset(registered)[0]
    with pytest.raises(DataError) as caught:
        getattr(reader, verb)(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{registered}: ")
    assert f"fedkd data prepare {registered} --data-root {tmp_path}" in message
    assert str(tmp_path) in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("registered", FILED)
def test_a_set_of_files_has_its_registered_name(registered):
    assert REGISTRY.resolve("datasets", registered).name == registered


AT_HAND = [n for n in NAMES if n not in FILED or n in ("svhn", "folder")]
"""Sets that are small, or of which a small copy is written; the others are alike."""


@pytest.mark.parametrize("check", testing.DATASET_CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("registered", AT_HAND)
def test_the_contract_holds(registered, check, written):
    root, make = written(registered)
    check(make, root)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return a function: the folder with a set's files, and what makes its reader."""

    @functools.cache
    def written(name):
        root = tmp_path_factory.mktemp(name)
        options = WRITERS[name](root) if name in WRITERS else {}
        return root, lambda: REGISTRY.dataset(name, options)[0]

    return written


def test_images_are_bytes_vectors_are_floats_and_labels_are_classes(data):
    kind = torch.uint8 if isinstance(data, ImageSet) else torch.float32
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert x.dtype == kind
        assert x.shape == (len(y), *data.shape)
        assert x.is_contiguous()
        assert y.dtype == torch.int64
        assert set(y.tolist()) == set(range(data.num_classes))


def test_a_data_set_has_its_registered_name_and_distinct_classes(name, data):
    assert data.name == name
    assert len(set(data.classes)) == data.num_classes


def test_normalised_training_inputs_are_near_zero_mean_and_unit_deviation(data):
    assert len(data.mean) == len(data.std) == data.shape[0]
    x = data.normalise(data.x_train[:2000])
    # Some constants are customary rather than exact: see each data set.
    assert float(x.mean().abs()) < 0.6
    assert 0.3 < float(x.std()) < 1.3


def test_no_training_input_is_a_test_input_at_the_same_place(data):
    number = min(len(data.x_train), len(data.x_test))
    assert not torch.equal(data.x_train[:number], data.x_test[:number])


def test_reading_twice_gives_equal_bits(reader, root, data):
    again = reader.load(root)
    assert torch.equal(again.x_train, data.x_train)
    assert torch.equal(again.y_test, data.y_test)


def test_pieces_are_those_of_the_whole(name, reader, root, data):
    if name not in FILED:
        pytest.skip("not read in pieces")
    source = reader.open(root)
    for half, x, y in (
        (source.train, data.x_train, data.y_train),
        (source.test, data.x_test, data.y_test),
    ):
        assert half.shape == data.shape
        assert torch.equal(half.labels, y)
        last = len(y)
        assert torch.equal(half.read(last - 3, last), x[last - 3 :])
        assert torch.equal(half.read(5, 8), x[5:8])
        assert half.read(2, 4).is_contiguous()


def test_the_fingerprint_is_short_and_stays(name, reader, root):
    if name not in FILED:
        pytest.skip("has no files")
    found = reader.fingerprint(root)
    assert found == reader.fingerprint(root)
    assert 8 <= len(found) <= 64


def test_a_sound_set_passes_its_check(reader, root):
    reader.check(root)


def test_the_declared_sizes_are_those_of_the_published_files(name, reader, root):
    if name in WRITERS:
        pytest.skip("the files are not the published ones")
    for file, size in reader.files.items():
        assert (root / file).stat().st_size == size
