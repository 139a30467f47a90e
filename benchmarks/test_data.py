"""What batches and opening cost, on generated images as many as CIFAR-10's.

The reference of batches is training the small CNN on as many. Opening has none: it is to
be quick, not quicker than something.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from fedkd.data.dataset import FileDataset, Source, in_memory
from fedkd.data.images import Augmentation, ClientData, ImageSet
from fedkd.data.prepared import store as prepared

sys.path.insert(0, str(Path(__file__).resolve().parent))
from measure_data import MOST_SHARE, contestants

TRAIN, TEST = 50_000, 10_000
SHAPE = (3, 32, 32)
MOST_SECONDS = 0.2
"""Most that opening a prepared set may take."""


class Generated(FileDataset):
    """Noise in the form of CIFAR-10."""

    name = "generated"

    def open(self, root: Path) -> Source:
        del root
        halves = (
            in_memory(
                torch.randint(0, 256, (n, *SHAPE), dtype=torch.uint8),
                torch.arange(n) % 10,
            )
            for n in (TRAIN, TEST)
        )
        names = tuple("0123456789")
        return Source(*halves, names, (0.5,) * 3, (0.25,) * 3, Augmentation(4, True))

    def fingerprint(self, root: Path) -> str:
        del root
        return "noise"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data root where the set is prepared."""
    folder = tmp_path_factory.mktemp("data")
    prepared.prepare(Generated(), folder)
    return folder


def test_batches_cost_little_beside_training(benchmark, against, root):
    images: ImageSet = prepared.images(Generated(), root)
    client = ClientData(images, torch.arange(TRAIN))
    make, train = contestants(client, images.shape, images.num_classes)
    against(make, train, rounds=5)
    if benchmark.stats is not None:
        assert 1 / benchmark.extra_info["ratio"] <= MOST_SHARE


def test_opening_a_prepared_set(benchmark, root):
    benchmark.pedantic(lambda: prepared.images(Generated(), root), rounds=10)
    if benchmark.stats is not None:
        assert benchmark.stats.stats.median < MOST_SECONDS
