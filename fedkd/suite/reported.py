"""Numbers that papers print: YAML files with their source and what differs there."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from fedkd.base import yamlfile
from fedkd.config import Config, build
from fedkd.errors import ConfigError, listing, suggestion


class ReportedTable(Config):
    """Accuracies of methods on one data set."""

    dataset: str
    """The data set, by its registered name."""
    partition: str
    """The partitioner, by its registered name."""
    alphas: tuple[float, ...] = ()
    """The degrees of skew that the numbers are of; none for a partition without them."""
    accuracy: Mapping[str, tuple[float, ...]]
    """Percent, by the method's name in the paper: one number for each of ``alphas``, or
    a single one."""

    @model_validator(mode="after")
    def _one_each(self) -> ReportedTable:
        """Refuse other numbers than one percentage for each degree of skew."""
        wanted = len(self.alphas) or 1
        for method, numbers in self.accuracy.items():
            if len(numbers) != wanted:
                raise ValueError(
                    f"accuracy.{method} has {len(numbers)} numbers, expected {wanted}"
                )
            odd = [number for number in numbers if not 0 <= number <= 100]
            if odd:
                raise ValueError(
                    f"accuracy.{method} has {odd[0]:g}, expected percent, from 0 to 100"
                )
        return self

    def by_alpha(self, method: str) -> dict[float | None, float]:
        """Return a method's numbers by the degree of skew; None where there is none."""
        alphas: tuple[float | None, ...] = self.alphas or (None,)
        return dict(zip(alphas, self.accuracy[method], strict=True))


class Reported(Config):
    """A table of a paper: its numbers, where they are from, and what is other there."""

    title: str
    """What the page calls it."""
    source: str
    """Where it is printed: venue, year, table."""
    link: str = ""
    """Where that can be read."""
    seen: str
    """How the numbers came here: read in the paper, or transcribed by whom."""
    clients: int
    """Clients of its federation."""
    rounds: int
    """Rounds."""
    models: tuple[str, ...] = Field(min_length=1)
    """What its clients train, in words."""
    measured: str
    """On which images, and after which round, in words."""
    metric: Literal["global_accuracy", "local_accuracy"] = "global_accuracy"
    """Which of our columns it is held beside."""
    differs: tuple[str, ...] = Field(min_length=1)
    """What else is not as it is here, a sentence each."""
    ours: Mapping[str, tuple[str, ...]]
    """Registered strategies by the method's name in the paper."""
    numbers: tuple[ReportedTable, ...] = Field(min_length=1)
    """The tables."""


def reported_names() -> list[str]:
    """Return the names of the packaged files, sorted."""
    folder = resources.files("fedkd.reported")
    return sorted(
        item.name.removesuffix(".yaml")
        for item in folder.iterdir()
        if item.name.endswith(".yaml")
    )


def load_reported(name_or_path: str) -> Reported:
    """Read the numbers of a paper: a packaged file by its name, or a YAML file.

    Raises:
        ConfigError: If there is no such file, or naming the key that cannot be used.
    """
    path = Path(name_or_path)
    if name_or_path in reported_names():
        path = Path(str(resources.files("fedkd.reported"))) / f"{name_or_path}.yaml"
    elif not path.is_file():
        raise ConfigError(
            f"reported: unknown name {name_or_path!r}."
            f"{suggestion(name_or_path, reported_names())} Known: "
            f"{listing(reported_names())}; or give the path of a YAML file."
        )
    where = f"reported {path.name}"
    return build(Reported, yamlfile.read_mapping(path, where), where)
