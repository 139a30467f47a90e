"""Every registered partitioner keeps the promises of the contract."""

import numpy as np
import pytest

from fedkd.base.files import write_atomic
from fedkd.errors import ConfigError
from fedkd.partition.base import Partitioner
from fedkd.partition.counts import read_table
from fedkd.plugins.registry import load_registry

REGISTRY = load_registry()
NAMES = list(REGISTRY.entries("partitioners"))
CLIENTS, CLASSES = 6, 4
LABELS = np.random.default_rng(0).integers(0, CLASSES, 400)
TABLE = "client,0,1,2,3\n" + "".join(f"{k},{k + 1},9,0,7\n" for k in range(CLIENTS))


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def split(name, tmp_path):
    """Split the labels; ``split(run, **options)``."""
    table = tmp_path / "table.csv"
    table.write_text(TABLE)
    usual = {"counts": {"file": str(table)}}.get(name, {})

    def split(run=0, clients=CLIENTS, labels=LABELS, **options):
        scheme, _ = REGISTRY.partitioner(name, {**usual, **options})
        return scheme.split(labels, clients, CLASSES, np.random.default_rng(run))

    return split


def test_a_partitioner_is_a_documented_final_class(name):
    cls = REGISTRY.resolve("partitioners", name)
    assert issubclass(cls, Partitioner)
    assert not cls.__subclasses__()
    assert cls.__doc__
    assert all(field.description for field in cls.Config.model_fields.values())


def test_no_sample_is_at_two_clients(split):
    every = np.concatenate(split().indices)
    assert len(set(every)) == len(every)


def test_every_sample_is_at_a_client_or_a_note_says_why_not(split):
    found = split()
    missing = len(LABELS) - sum(map(len, found.indices))
    assert bool(missing) == any(note.startswith("left out: ") for note in found.notes)


def test_every_client_has_samples(split):
    found = split()
    assert len(found.indices) == CLIENTS
    assert all(len(each) for each in found.indices)


def test_positions_are_int64_in_one_dimension(split):
    assert {(each.dtype, each.ndim) for each in split().indices} == {
        (np.dtype("i8"), 1)
    }


def test_the_table_counts_the_lists(split):
    found = split()
    for row, each in zip(found.counts, found.indices, strict=True):
        assert row.tolist() == np.bincount(LABELS[each], minlength=CLASSES).tolist()


def test_the_same_stream_gives_the_same_split(split):
    assert split(3).hash == split(3).hash


def test_another_stream_gives_another_split(split):
    assert split(3).hash != split(4).hash


def test_a_seed_fixes_the_split_over_runs(name, split):
    if "seed" not in REGISTRY.resolve("partitioners", name).Config.model_fields:
        pytest.skip(f"{name} has no option seed")
    assert split(3, seed=5).hash == split(4, seed=5).hash
    assert split(3, seed=5).hash != split(3, seed=6).hash


def test_labels_are_left_alone(split):
    labels = LABELS.copy()
    split(labels=labels)
    assert np.array_equal(labels, LABELS)


def test_numpys_global_generator_is_left_alone(split):
    before = np.random.get_state()[1].copy()
    split()
    assert np.array_equal(np.random.get_state()[1], before)


def test_no_client_is_refused(split):
    with pytest.raises(ConfigError, match="found 0 clients, expected at least 1"):
        split(clients=0)


def test_more_clients_than_samples_are_refused(split):
    with pytest.raises(ConfigError, match="Lower the number of clients"):
        split(clients=401)


def test_an_unknown_option_is_refused(split):
    with pytest.raises(ConfigError, match="unknown key"):
        split(alhpa=1)


NAMES_OF_CLASSES = {
    "plain": ["cat", "dog", "emu", "fox"],
    "numbers": ["0", "1", "2", "3"],
    "other-numbers": ["2", "0", "10", "3"],
    "commas": ["a, b", ",", "c", "client"],
    "quotes": ['"', 'the "best"', "'", "c"],
    "lines": ["a\nb", "c\r\nd", "e\rf", "\n"],
    "spaces": ["", " ", " 3", "\t4 "],
    "letters": ["Æble", "包子", "a\u2028b", "٣"],
}


@pytest.mark.parametrize("names", NAMES_OF_CLASSES.values(), ids=NAMES_OF_CLASSES)
def test_its_table_is_read_back_by_counts(split, names, tmp_path):
    first = split()
    again = read_back(first.to_csv(names), LABELS, tmp_path)
    assert again.counts.tolist() == first.counts.tolist()


def test_its_table_of_200_classes_is_read_back_by_counts(name, tmp_path):
    if name == "counts":
        pytest.skip("counts reads the tables of the others")
    labels = np.random.default_rng(1).permutation(np.arange(4000) % 200)
    scheme, _ = REGISTRY.partitioner(name, {})
    first = scheme.split(labels, 30, 200, np.random.default_rng(0))
    text = first.to_csv([f"n{number:08}" for number in range(200)])
    again = read_back(text, labels, tmp_path)
    assert again.counts.tolist() == first.counts.tolist()


def read_back(text, labels, folder):
    path = folder / "written.csv"
    write_atomic(path, text)
    scheme, _ = REGISTRY.partitioner("counts", {"file": str(path)})
    classes = int(labels.max()) + 1
    clients = len(read_table(path, classes))
    return scheme.split(labels, clients, classes, np.random.default_rng(9))
