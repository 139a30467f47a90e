"""What the labels of a suite stand for: what results would call it without them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fedkd.base.runname import with_alpha
from fedkd.errors import FedKDError
from fedkd.plugins.options import Resolved
from fedkd.plugins.registry import Registry
from fedkd.suite.axes import FAULTS, axis_text, unlabelled
from fedkd.suite.entries import Listed
from fedkd.suite.grid import listed, shown_data, split_of
from fedkd.suite.models import models_of
from fedkd.suite.spread import spread_mixes
from fedkd.suite.suite import Suite


def label_lines(suite: Suite, registry: Registry) -> list[str]:
    """Return a sentence for each label of data, partitions, models and faults.

    Those of mixes of models have sentences of their own, and so have strategies.

    Args:
        suite: As it was run.
        registry: Where names are looked up.
    """
    lines = [
        f"Data set {label}: {one.shown()}."
        for label, one in _labelled(suite, registry, "datasets", suite.datasets)
    ]
    lines += [
        f"Partition {label}: {with_alpha(*split_of(one))}."
        for label, one in _labelled(suite, registry, "partitioners", suite.partitions)
    ]
    lines += _of_models(suite, registry)
    for value in suite.axes.get(FAULTS, ()):
        label, meant = axis_text(value, FAULTS), unlabelled(value, FAULTS)
        if (text := axis_text(meant, FAULTS)) != label:
            lines.append(f"Faults {label}: {text}.")
    return lines


def _of_models(suite: Suite, registry: Registry) -> list[str]:
    lines = []
    for mix in spread_mixes(registry, suite.models):
        try:
            models = models_of(registry, mix, suite.clients, suite.where)
        except FedKDError:
            continue  # of a plug-in that is not loaded: results can still be reported
        if mix.label and len(models.every) == 1:
            lines.append(f"Models {mix.label}: {models.clients[0].shown()}.")
    return lines


def meant_datasets(suite: Suite, registry: Registry) -> dict[str, str]:
    """Return what data sets with a label are called without it, by what results say."""
    return {
        shown_data(one, shift, label): shown_data(one, shift, None)
        for label, one in _labelled(suite, registry, "datasets", suite.datasets)
        for shift in suite.shifts
    }


def meant_partitions(
    suite: Suite, registry: Registry
) -> dict[str, tuple[str, float | None]]:
    """Return what partitions with a label are called without it, and their alpha."""
    several = _labelled(suite, registry, "partitioners", suite.partitions)
    return {label: split_of(one) for label, one in several}


def _labelled(
    suite: Suite, registry: Registry, kind: str, entries: Sequence[Listed]
) -> Iterator[tuple[str, Resolved]]:
    """Yield what has a label, with it; of plug-ins that are not loaded, nothing."""
    for entry in entries:
        if entry.label is None:
            continue
        try:
            several = listed(registry, kind, kind, [entry], suite.where)
        except FedKDError:
            continue
        yield from ((label, one) for label, one in several if label)
