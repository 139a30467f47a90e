"""A suite: the grid of an experiment as a YAML file, read strictly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PrivateAttr

from fedkd.base import yamlfile
from fedkd.base.runname import Axes
from fedkd.config import build
from fedkd.data.shift import NO_SHIFT, ShiftConfig
from fedkd.errors import ConfigError, listing, suggestion
from fedkd.simulation.faults.config import NO_FAULTS
from fedkd.simulation.protocol import AcceptConfig, Protocol
from fedkd.suite.axes import AxisValues, axes_of, points_of, with_value
from fedkd.suite.entries import (
    Listed,
    ListedStrategy,
    MetricEntry,
    Mix,
    SafeName,
    normalise,
)
from fedkd.suite.public import PublicEntry
from fedkd.suite.search import SearchConfig
from fedkd.suite.seeds import Seeds

ENTRY_LISTS = ("datasets", "partitions", "models", "metrics")
"""The keys of a suite that list registered things."""

UNNAMED = "python"
"""What a suite is called that is given as a mapping without a name."""


def parse_shifts(value: object) -> object:
    """Return a list of shifts: one stands for a list of one, ``none`` for no shift."""
    several = list(value) if isinstance(value, list | tuple) else [value]
    return [{} if one in ("none", None) else one for one in several]


class Suite(Protocol):
    """A grid of runs: strategies x datasets x partitions x models x seeds.

    What all strategies share is the protocol's; a strategy may have other rounds and
    other local training of its own.
    """

    name: SafeName
    """What results call it, in letters, digits, `_`, `+` and `-`; the file's name by
    default."""
    description: str = ""
    """What it is for; its first line is listed."""
    seeds: Seeds
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
    validation: float | None = Field(None, gt=0, lt=1)
    """Share of every client's training images, class by class, that it does not train on
    and that models are measured on beside the test set: ``0.1``; none by default."""
    search: SearchConfig | None = None
    """What is tried before the table is run, and chosen on validation images: ``{trials:
    6, seeds: 100, rounds: 10, training.lr: [0.01, 0.05]}``; nothing by default."""
    checkpoint_every: int = Field(10, ge=0)
    """Rounds between checkpoints; 0 for the last round only."""
    strategies: tuple[ListedStrategy, ...] = Field(min_length=1)
    """What is compared."""
    reported: tuple[str, ...] = ()
    """Papers whose numbers the page shows beside ours: names of ``benchmarks/reported``
    or paths of files like those. Changes no result."""
    _where: str = PrivateAttr("")
    _axes: AxisValues = PrivateAttr(default_factory=dict)
    _points: tuple[tuple[Axes, Suite], ...] = PrivateAttr(())

    @property
    def where(self) -> str:
        """How messages call this suite."""
        return self._where or f"suite {self.name}"

    @property
    def axes(self) -> AxisValues:
        """What has a list where one value is expected, by its path.

        Fields hold the first value of each; :attr:`points` has all.
        """
        return self._axes

    @property
    def points(self) -> tuple[tuple[Axes, Suite], ...]:
        """Each point of the axes, and the suite there, which has no axes."""
        return self._points or (((), self),)

    def with_seeds(self, seeds: Iterable[int]) -> Suite:
        """Return the suite with other seeds, at every point of its axes too."""
        own = {"seeds": tuple(seeds)}
        made = self.model_copy(update=own)
        made._points = tuple(
            (axes, there.model_copy(update=own)) for axes, there in self._points
        )
        return made

    def plain(self) -> dict[str, Any]:
        """Return the suite as its file would hold it, with every default written out."""
        lists = (*ENTRY_LISTS, "strategies")
        # Younger than the first results: suites of no shift are written as they were.
        usual = {"shifts"} if self.shifts == (NO_SHIFT,) else set()
        usual |= {"validation"} if self.validation is None else set()
        usual |= {"accept"} if self.accept == AcceptConfig() else set()
        usual |= {"faults"} if self.faults == NO_FAULTS else set()
        usual |= {"clock"} if self.clock is None else set()
        usual |= set() if self.reported else {"reported"}
        search = {} if self.search is None else {"search": self.search.plain()}
        plain = {
            "name": self.name,
            "description": self.description,
            **self.model_dump(
                mode="json", exclude={*lists, *usual, "public", "search"}
            ),
            **search,
            **({} if self.public is None else {"public": self.public.plain()}),
            **{key: [one.plain() for one in getattr(self, key)] for key in lists},
        }
        for path, several in self.axes.items():
            plain = with_value(plain, path, several)
        return plain

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
        problem = "there is no such file"
        if path.exists():
            problem = "is a folder" if path.is_dir() else "is a pipe or a device"
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
    axes = axes_of(values, where)
    points = [(point, _built(at, where)) for point, at in points_of(values, axes)]
    suite = points[0][1].model_copy()
    _check_search(suite, axes)
    if axes:
        suite._axes, suite._points = axes, tuple(points)
    taken: set[str] = set()
    for entry in suite.strategies:
        if entry.label in taken:
            raise ConfigError(
                f"{where}: strategies: the label {entry.label!r} comes twice. Give one "
                "of them a 'label' of its own."
            )
        taken.add(entry.label)
    return suite


def _check_search(suite: Suite, axes: AxisValues) -> None:
    """Refuse a search that would see what the table is measured on."""
    search, where = suite.search, f"{suite.where}: search"
    searched = {path for entry in suite.strategies for path in entry.search}
    if search is None:
        if searched:
            raise ConfigError(
                f"{where}: there is none, and a strategy has one of its own; give the "
                "suite its budget: search: {trials: 6, seeds: 100}."
            )
        return
    if suite.validation is None:
        raise ConfigError(
            f"{where}: a choice is made on validation images, and there are none; add "
            "validation: 0.1."
        )
    both = sorted(set(search.seeds) & set(suite.seeds))
    if both:
        raise ConfigError(
            f"{where}.seeds: {listing(map(str, both))} is also a seed of the table, "
            "which would be run on splits that its values were chosen for. Give the search "
            "others, such as 100."
        )
    twice = axes.keys() & (searched | search.space.keys())
    if twice:
        raise ConfigError(
            f"{where}: {listing(sorted(twice))} is an axis of the grid too; remove one."
        )


def _built(values: Mapping[str, Any], where: str) -> Suite:
    suite = build(Suite, values, where)
    suite._where = where
    return suite


def load_suite(name_or_path: str) -> Suite:
    """Read a suite: a file, or the name of a packaged one.

    Raises:
        ConfigError: Naming the file and the path or line of what cannot be used.
    """
    values, where = read_suite(name_or_path)
    return build_suite(values, where)
