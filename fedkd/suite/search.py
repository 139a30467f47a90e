"""The search of a suite: what is tried before its table is run, and with what budget."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from fedkd.config import Config
from fedkd.errors import ConfigError, FedKDError, suggestion
from fedkd.plugins.options import option_names
from fedkd.plugins.registry import Registry
from fedkd.suite.seeds import Seeds

ROOTS = ("training", "strategy")
"""What the path of a searched value begins with."""


class Range(Config):
    """Numbers from ``low`` to ``high``; whole ones if both are whole."""

    low: int | float
    """The smallest."""
    high: int | float
    """The largest."""
    log: bool = False
    """Whether their logarithms are drawn evenly, and not they themselves."""

    @model_validator(mode="after")
    def _upwards(self) -> Range:
        if not self.low < self.high:
            raise ValueError(
                f"low {self.low} is not below high {self.high}; exchange them"
            )
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low} has no logarithm; expected one above 0")
        return self

    @property
    def whole(self) -> bool:
        """Whether it has whole numbers only."""
        return isinstance(self.low, int) and isinstance(self.high, int)


def _checked(value: object) -> object:
    """Refuse a path that a search cannot set, and what is neither list nor range."""
    if not isinstance(value, Mapping):
        return value
    for path, values in value.items():
        root, _, below = str(path).partition(".")
        if root not in ROOTS or not below:
            raise ValueError(
                f"{path!r} is no value that can be searched; expected training.OPTION or "
                "strategy.OPTION"
            )
        if not isinstance(values, list | tuple | Mapping | Range) or not values:
            raise ValueError(
                f"{path}: {values!r} is nothing to choose from; expected a list such as "
                "[0.01, 0.05], or {low: 0.001, high: 1, log: true}"
            )
    return value


Space: TypeAlias = Annotated[
    dict[str, Range | tuple[Any, ...]], BeforeValidator(_checked)
]
"""What is searched: for each path a list, or a range."""


class SearchConfig(Config):
    """What is tried before a table is run: values of options, chosen on validation images.

    Beside these keys stand the paths of what is searched for all strategies that have
    the option: ``training.lr: [0.01, 0.05]``, ``strategy.mu: {low: 0.001, high: 1, log:
    true}``. Others stand in ``search`` beside a strategy.
    """

    trials: int = Field(ge=1)
    """Values that are tried for each strategy in each setting: as many for all, but of a
    ``grid`` no more than its lists have combinations."""
    seeds: Seeds
    """Seeds of each trial, none of them one of the table's."""
    rounds: int | None = Field(None, ge=1)
    """Rounds of a trial; those of the table if None. A strategy with fewer of its own has
    those."""
    method: Literal["grid", "random", "tpe"] = "random"
    """How values are proposed: all combinations of lists; drawn; or by the
    tree-structured Parzen estimator of Optuna (extra ``search``)."""
    metric: str = "global_accuracy"
    """What is best of: a column, as it is measured on the validation images after the
    last round of a trial."""
    prune: bool = False
    """Whether a trial ends early that is worse than the median of those before it, which
    is asked about every quarter of its rounds, but of those that are drawn; with ``tpe``
    only."""
    families: tuple[tuple[str, ...], ...] = ()
    """Registered names of data sets that share values: those chosen on the first of a
    family, at the suite's first partition, count for all of them at every partition. A
    data set of no family has a search of its own in each setting."""
    space: Space = Field(default_factory=dict)
    """What is searched for every strategy that has the option."""

    @model_validator(mode="before")
    @classmethod
    def _paths_beside(cls, raw: Any) -> Any:
        """Put what has a point in its name into the space."""
        if not isinstance(raw, Mapping):
            return raw
        paths = {k: v for k, v in raw.items() if "." in str(k)}
        rest = {k: v for k, v in raw.items() if k not in paths}
        return {**rest, "space": {**(rest.get("space") or {}), **paths}}

    @model_validator(mode="after")
    def _in_one_family(self) -> SearchConfig:
        members = [name for family in self.families for name in family]
        twice = {name for name in members if members.count(name) > 1}
        if twice or not all(self.families):
            what = f"{min(twice)} twice" if twice else "a family without data sets"
            raise ValueError(
                f"families: found {what}; expected lists of data sets, each in one of them"
            )
        return self

    @model_validator(mode="after")
    def _prunes_with_optuna(self) -> SearchConfig:
        if self.prune and self.method != "tpe":
            raise ValueError(
                f"prune is of the method tpe, found {self.method}; choose that, or leave "
                "prune out"
            )
        return self

    def plain(self) -> dict[str, Any]:
        """Return the form that a suite file holds."""
        return {
            **self.model_dump(mode="json", exclude={"space"}),
            **plain_space(self.space),
        }


def plain_space(space: Mapping[str, Range | tuple[Any, ...]]) -> dict[str, Any]:
    """Return what a suite file holds of a space."""
    return {
        path: values.model_dump() if isinstance(values, Range) else list(values)
        for path, values in space.items()
    }


def space_of(
    registry: Registry, search: SearchConfig, name: str, own: Space
) -> dict[str, Range | tuple[Any, ...]]:
    """Return what is searched of a strategy.

    Args:
        registry: Says which options it has.
        search: Of the suite.
        name: The strategy's registered name.
        own: What stands beside the strategy itself, which counts more.
    """
    options = option_names(registry, "strategies", name)
    shared = {
        path: values
        for path, values in search.space.items()
        if path.split(".")[0] == "training" or path.split(".")[1] in options
    }
    return {**shared, **own}


def require_searchable(
    registry: Registry, search: SearchConfig, spaces: Sequence[Space], where: str
) -> None:
    """Refuse a search of nothing, or of an option that no strategy has.

    Args:
        registry: Says which options strategies have.
        search: Of the suite.
        spaces: What is searched of each of its strategies.
        where: How messages call the suite.

    Raises:
        ConfigError: Naming the path.
    """
    if not any(spaces):
        raise ConfigError(
            f"{where}: search: found nothing to search; add paths such as "
            "training.lr: [0.01, 0.05]."
        )
    for path in search.space:
        # Strategies that have it may have been left out on the command line.
        if not any(path in one for one in spaces):
            _require_known(registry, path, where)


def _require_known(registry: Registry, path: str, where: str) -> None:
    """Refuse a path whose option no registered strategy has."""
    known: set[str] = set()
    for name in registry.entries("strategies"):
        with contextlib.suppress(FedKDError):  # a plug-in that does not load has none
            known.update(option_names(registry, "strategies", name))
    option = path.split(".")[1]
    if option not in known:
        raise ConfigError(
            f"{where}: search: no strategy has the option {option!r} of {path}."
            f"{suggestion(option, known)} Remove it, or write it as 'fedkd show' does."
        )
