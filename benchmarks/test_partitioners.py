"""Splits of 50,000 images among 100 clients, against sorting their labels ten times."""

from __future__ import annotations

import numpy as np
import pytest

from fedkd.plugins.registry import load_registry

REGISTRY = load_registry()
IMAGES, CLIENTS, CLASSES = 50_000, 100, 10


@pytest.mark.parametrize("name", list(REGISTRY.entries("partitioners")))
def test_a_split_against_sorting(against, tmp_path, name):
    labels = np.random.default_rng(0).integers(0, CLASSES, IMAGES)
    options = {}
    if name == "counts":
        table = np.random.default_rng(1).integers(1, 30, (CLIENTS, CLASSES))
        lines = [",".join(map(str, ("client", *range(CLASSES))))]
        lines += [",".join(map(str, (k, *row))) for k, row in enumerate(table)]
        path = tmp_path / "counts.csv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        options["file"] = str(path)
    partitioner, _ = REGISTRY.partitioner(name, options)
    # Who deals by groups: one for each client, which is what 'natural' wants.
    partitioner.groups = np.arange(IMAGES) % CLIENTS

    def split():
        partitioner.split(labels, CLIENTS, CLASSES, np.random.default_rng(0))

    def sort():
        for _ in range(10):
            labels.argsort(kind="stable")

    against(split, sort)
