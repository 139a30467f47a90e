"""Every registered partitioner keeps the promises of the contract."""

import numpy as np
import pytest

from fedkd import testing
from fedkd.base.files import write_atomic
from fedkd.errors import ConfigError
from fedkd.partition.base import Partitioner
from fedkd.partition.counts import read_table
from fedkd.plugins.registry import load_registry
from fedkd.testing import partitioners

REGISTRY = load_registry()
NAMES = list(REGISTRY.entries("partitioners"))
CLIENTS, CLASSES = 6, 4
LABELS = np.random.default_rng(0).integers(0, CLASSES, 400)
TABLE = "client,0,1,2,3\n" + "".join(f"{k},{k + 1},9,0,7\n" for k in range(CLIENTS))


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def usual(name, tmp_path):
    """The options without which a partitioner cannot be made."""
    table = tmp_path / "table.csv"
    table.write_text(TABLE)
    return {"counts": {"file": str(table)}}.get(name, {})


@pytest.fixture
def split(name, usual):
    """Split the labels; ``split(run, **options)``."""

    def split(run=0, clients=CLIENTS, labels=LABELS, **options):
        scheme, _ = REGISTRY.partitioner(name, {**usual, **options})
        scheme.groups = np.arange(len(labels)) % max(clients, 1)
        return scheme.split(labels, clients, CLASSES, np.random.default_rng(run))

    return split


def test_a_partitioner_is_a_documented_final_class(name):
    cls = REGISTRY.resolve("partitioners", name)
    assert issubclass(cls, Partitioner)
    assert not cls.__subclasses__()
    assert cls.__doc__


@pytest.mark.parametrize(
    "check", testing.PARTITIONER_CHECKS, ids=lambda check: check.__name__
)
def test_the_contract_holds(name, usual, check, tmp_path):
    if name == "counts" and check is partitioners.a_class_may_have_no_image:
        with pytest.raises(testing.NotApplicable, match="the data has 0"):
            check(lambda: REGISTRY.partitioner(name, usual)[0], tmp_path)
        return
    if name == "natural" and check is partitioners.another_stream_gives_another_split:
        with pytest.raises(testing.NotApplicable, match="it draws nothing"):
            check(lambda: REGISTRY.partitioner(name, usual)[0], tmp_path)
        return
    check(lambda: REGISTRY.partitioner(name, usual)[0], tmp_path)


def test_a_seed_fixes_the_split_over_runs(name, split):
    if "seed" not in REGISTRY.resolve("partitioners", name).Config.model_fields:
        pytest.skip(f"{name} has no option seed")
    assert split(3, seed=5).hash == split(4, seed=5).hash
    assert split(3, seed=5).hash != split(3, seed=6).hash


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
    scheme.groups = np.arange(4000) % 30
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
