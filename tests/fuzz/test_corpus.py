"""Files that once did harm are refused now, and so are some hundred new ones."""

import random
import tempfile
import time

import pytest
from fuzz_mutations import malformed
from fuzz_targets import CORPUS, TARGETS, made

FILES = sorted(path for path in CORPUS.glob("*/*") if path.is_file())
FEW = {"suite": 12, "image": 12}
"""Malformed files that there is time for, where each takes long; 150 of the others."""


@pytest.fixture(scope="module")
def target():
    with tempfile.TemporaryDirectory() as folder:
        known = {}
        yield lambda name: known.setdefault(name, made(name, folder))


@pytest.mark.parametrize(
    "path", FILES, ids=lambda path: f"{path.parent.name}-{path.name}"
)
def test_what_once_did_harm_is_refused(path, target):
    one = target(path.parent.name)
    list(one.seeds())
    started = time.process_time()
    assert not one(path.read_bytes())
    assert time.process_time() - started < 5


@pytest.mark.parametrize("name", TARGETS)
def test_malformed_files_are_read_or_refused_and_raise_nothing_else(name, target):
    one, rng = target(name), random.Random(f"new {name}")
    seeds = list(one.seeds())
    assert one(seeds[0])
    results = [
        one(malformed(name, rng.choice(seeds), rng)) for _ in range(FEW.get(name, 150))
    ]
    assert results.count(False) > len(results) / 4


def test_the_corpus_is_small():
    assert sum(path.stat().st_size for path in FILES) < 200_000
