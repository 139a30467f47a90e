"""A suite: the grid of an experiment as a YAML file, read strictly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PrivateAttr

from fedkd.base import yamlfile
from fedkd.config import build
from fedkd.data.shift import NO_SHIFT, ShiftConfig
from fedkd.errors import ConfigError, listing, suggestion
from fedkd.simulation.protocol import Protocol
from fedkd.suite.entries import (
    SAFE_NAME,
    Listed,
    ListedStrategy,
    MetricEntry,
    Mix,
    normalise,
)
from fedkd.suite.public import PublicEntry

ENTRY_LISTS = ("datasets", "partitions", "models", "metrics")
"""The keys of a suite that list registered things."""

UNNAMED = "python"
"""What a suite is called that is given as a mapping without a name."""

_SEED = r"(0|[1-9]\d{0,8})"
"""A seed in text: 010 is none, which may be 8 or 10."""


def parse_seeds(value: object) -> object:
    """Return the seeds that ``0-4``, ``"0,3"``, ``2`` or a list of numbers means.

    Raises:
        ValueError: If it means none, or one twice.
    """
    seeds = value
    if isinstance(value, bool):
        raise ValueError("expected whole numbers, such as [0, 1, 2] or 0-2")
    if isinstance(value, int):
        seeds = [value]
    if isinstance(value, str):
        seeds = [seed for part in value.split(",") for seed in _seed_range(part)]
    if isinstance(seeds, list | tuple) and len(set(map(str, seeds))) < len(seeds):
        raise ValueError("a seed comes twice; remove one of them")
    return seeds


def _seed_range(part: str) -> list[int]:
    match = re.fullmatch(rf"\s*{_SEED}\s*(?:-\s*{_SEED}\s*)?", part, re.ASCII)
    if match is None:
        raise ValueError("expected whole numbers, such as [0, 1, 2] or 0-2")
    first = int(match[1])
    last = int(match[2]) if match[2] else first
    if not first <= last < first + 1000:
        raise ValueError("expected a range upwards of at most 1000 seeds, such as 0-2")
    return list(range(first, last + 1))


def parse_shifts(value: object) -> object:
    """Return a list of shifts: one stands for a list of one, ``none`` for no shift."""
    several = list(value) if isinstance(value, list | tuple) else [value]
    return [{} if one in ("none", None) else one for one in several]


class Suite(Protocol):
    """A grid of runs: strategies x datasets x partitions x models x seeds.

    What all strategies share is the protocol's; a strategy may have other rounds and
    other local training of its own.
    """

    name: str = Field(pattern=SAFE_NAME)
    """What results call it; the file's name by default."""
    description: str = ""
    """What it is for; its first line is listed."""
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...],
        Field(min_length=1),
        BeforeValidator(parse_seeds),
    ]
    """Seeds: ``[0, 1, 2]`` or ``0-2``."""
    datasets: tuple[Listed, ...] = Field(min_length=1)
    """Data sets."""
    partitions: tuple[Listed, ...] = Field(min_length=1)
    """How the data is split over the clients."""
    shifts: Annotated[
        tuple[ShiftConfig, ...],
        Field(min_length=1),
        BeforeValidator(parse_shifts),
    ] = (NO_SHIFT,)
    """How clients differ beside their labels: ``[none, {features: [rotation, noise],
    strength: 0.5}, {concepts: 2}, {periods: 4}]``; not at all by default."""
    models: tuple[Mix, ...] = Field(min_length=1)
    """Models; a list within the list is a mix: client i has entry i mod n. A mapping
    with ``clients`` and ``server`` gives the server a model of its own, and ``widths``
    beside a name makes nested sub-models of it: a list, or the published rule
    ``{rho: 5, sigma: 4}``."""
    metrics: tuple[MetricEntry, ...] = ()
    """What is measured beside accuracy, which always is: ``[macro_f1, {name: rounds_to,
    target: 80}]``. A ``label`` beside a name gives its columns another one."""
    public: PublicEntry | None = None
    """Images without labels that everybody may see: ``{share: 0.1}`` of the training
    images, held out before the partition; or ``{dataset: NAME}``, the training images of
    another data set of the same shape, with that set's options beside its name."""
    checkpoint_every: int = Field(10, ge=0)
    """Rounds between checkpoints; 0 for the last round only."""
    strategies: tuple[ListedStrategy, ...] = Field(min_length=1)
    """What is compared."""
    reported: tuple[str, ...] = ()
    """Papers whose numbers the page shows beside ours: names of ``benchmarks/reported``
    or paths of files like those. Changes no result."""
    _where: str = PrivateAttr("")

    @property
    def where(self) -> str:
        """How messages call this suite."""
        return self._where or f"suite {self.name}"

    def plain(self) -> dict[str, Any]:
        """Return the suite as its file would hold it, with every default written out."""
        lists = (*ENTRY_LISTS, "strategies")
        # Younger than the first results: suites of no shift are written as they were.
        usual = {"shifts"} if self.shifts == (NO_SHIFT,) else set()
        usual |= set() if self.reported else {"reported"}
        return {
            "name": self.name,
            "description": self.description,
            **self.model_dump(mode="json", exclude={*lists, *usual, "public"}),
            **({} if self.public is None else {"public": self.public.plain()}),
            **{key: [one.plain() for one in getattr(self, key)] for key in lists},
        }

    def protocol(self, **own: Any) -> Protocol:
        """Return what all strategies share, with what one of them has of its own."""
        shared = {name: getattr(self, name) for name in Protocol.model_fields}
        return Protocol(**{**shared, **own})


def suite_names() -> list[str]:
    """Return the names of the packaged suites, sorted."""
    folder = resources.files("fedkd.suites")
    return sorted(
        item.name.removesuffix(".yaml")
        for item in folder.iterdir()
        if item.name.endswith(".yaml")
    )


def locate(name_or_path: str) -> tuple[Path, str]:
    """Return the file of a suite and how messages call it.

    Raises:
        ConfigError: If there is no such file and no packaged suite of that name.
    """
    path = Path(name_or_path)
    if name_or_path in suite_names():
        folder = Path(str(resources.files("fedkd.suites")))
        return folder / f"{name_or_path}.yaml", f"suite {name_or_path}"
    if path.is_file():
        return path, f"suite {path.name}"
    if path.suffix in (".yaml", ".yml"):
        problem = "is a folder" if path.is_dir() else "there is no such file"
        raise ConfigError(f"suite {name_or_path}: {problem}. Expected a YAML file.")
    raise ConfigError(
        f"unknown suite {name_or_path!r}.{suggestion(name_or_path, suite_names())} "
        f"Known: {listing(suite_names())}; or give the path of a YAML file."
    )


def read_suite(
    suite: str | Path | Mapping[str, Any],
) -> tuple[dict[str, Any], str]:
    """Read a suite file; its lists of registered things become entries.

    Args:
        suite: The name of a packaged one, a path, or what a file would hold.

    Returns:
        The values by key, for :func:`build_suite`, and how messages call the suite.

    Raises:
        ConfigError: Naming the file and the path or line of what cannot be used.
    """
    if isinstance(suite, Mapping):
        where = f"suite {suite.get('name', UNNAMED)}"
        raw = {"name": UNNAMED, **yamlfile.plain(suite, where)}
        return normalise(raw, where), where
    path, where = locate(str(suite))
    raw = yamlfile.read_mapping(path, where)
    raw.setdefault("name", path.stem)
    return normalise(raw, where), where


def build_suite(values: Mapping[str, Any], where: str) -> Suite:
    """Build the suite from the values of :func:`read_suite`.

    Raises:
        ConfigError: Naming the path of what cannot be used.
    """
    suite = build(Suite, values, where)
    suite._where = where
    taken: set[str] = set()
    for entry in suite.strategies:
        if entry.label in taken:
            raise ConfigError(
                f"{where}: strategies: the label {entry.label!r} comes twice. Give one "
                "of them a 'label' of its own."
            )
        taken.add(entry.label)
    return suite


def load_suite(name_or_path: str) -> Suite:
    """Read a suite: a file, or the name of a packaged one.

    Raises:
        ConfigError: Naming the file and the path or line of what cannot be used.
    """
    values, where = read_suite(name_or_path)
    return build_suite(values, where)
