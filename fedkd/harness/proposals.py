"""Which values the trials of a search try: all, drawn, or as Optuna proposes them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from fedkd.base.randomness import numpy_stream, stream_seed
from fedkd.errors import ConfigError
from fedkd.suite.search import Range
from fedkd.suite.trials import Study, Values

DIGITS = 6
"""Significant digits of a number that is drawn from a range."""
START = 3
"""One of so many trials is drawn before the estimator proposes any; ten at most, which is
Optuna's default."""


class Proposer(Protocol):
    """Proposes the values of a study's trials, one after the other."""

    known: Sequence[Values]
    """Those of all trials, if they hang on no score; else none."""

    def ask(self) -> Values | None:
        """Return the values of the next trial; None if there is none."""

    def ends(self, score: float | None, done: int) -> bool:
        """Say whether the last trial ends early, from its score after some rounds."""

    def tell(self, score: float | None, pruned: bool) -> None:
        """Note the last trial's score; None if it has none."""


def proposer(study: Study, higher_is_better: bool) -> Proposer:
    """Return what proposes the values of a study.

    Raises:
        ConfigError: If a grid cannot be gone through, or Optuna is missing.
    """
    if study.search.method == "tpe":
        return _Estimator(study, higher_is_better)
    drawn = _grid(study) if study.search.method == "grid" else _drawn(study)
    return _Fixed(drawn)


class _Fixed:
    """Values that do not hang on scores."""

    def __init__(self, trials: Sequence[Values]) -> None:
        self.known = trials
        self._trials = iter(trials)

    def ask(self) -> Values | None:
        return next(self._trials, None)

    def ends(self, score: float | None, done: int) -> bool:
        del score, done
        return False

    def tell(self, score: float | None, pruned: bool) -> None:
        """Do nothing: no proposal hangs on it."""


def _grid(study: Study) -> list[Values]:
    where = f"{study.suite.where}: search"
    ranges = [path for path, one in study.space.items() if isinstance(one, Range)]
    if ranges:
        raise ConfigError(
            f"{where}.{ranges[0]}: a grid goes through lists, found a range; give a "
            "list, or another method: random or tpe."
        )
    points = list(itertools.product(*map(_choices, study.space.values())))
    if len(points) > study.search.trials:
        raise ConfigError(
            f"{where}.trials: found {study.search.trials}, and the grid of "
            f"{study.entry.label} has {len(points)} points; raise trials, shorten "
            "the lists, or take another method: random or tpe."
        )
    return [dict(zip(study.space, point, strict=True)) for point in points]


def _drawn(study: Study) -> list[Values]:
    """Draw values; trials of one number have equal values of what strategies share."""
    seed, trials = study.search.seeds[0], study.search.trials
    drawn = {
        path: _draws(values, numpy_stream(seed, "search", path), trials)
        for path, values in study.space.items()
    }
    return [{path: drawn[path][i] for path in study.space} for i in range(trials)]


def _choices(values: Range | tuple[Any, ...]) -> tuple[Any, ...]:
    return () if isinstance(values, Range) else values


def _draws(
    values: Range | tuple[Any, ...], rng: np.random.Generator, number: int
) -> list[Any]:
    """Return random values; a list is gone through in random order, again and again."""
    if isinstance(values, Range):
        return [_draw(values, rng) for _ in range(number)]
    places: list[int] = []
    while len(places) < number:
        places += rng.permutation(len(values)).tolist()
    return [values[place] for place in places[:number]]


def _draw(values: Range, rng: np.random.Generator) -> float | int:
    if values.whole and not values.log:
        return int(rng.integers(int(values.low), int(values.high) + 1))
    low, high = float(values.low), float(values.high)
    if values.log:
        drawn = math.exp(rng.uniform(math.log(low), math.log(high)))
    else:
        drawn = rng.uniform(low, high)
    return round(drawn) if values.whole else rounded(drawn)


def rounded(number: float) -> float:
    """Return a number of few digits, which can be written into a suite."""
    return float(f"{number:.{DIGITS}g}")


class _Estimator:
    """Optuna's tree-structured Parzen estimator, asked and told.

    Its study is in memory: finished trials are told to it again, in the same order, when
    a search goes on, so that it proposes what it proposed before.
    """

    def __init__(self, study: Study, higher_is_better: bool) -> None:
        optuna = _optuna(study.suite.where)
        trials = study.search.trials
        label = study.entry.label
        seed = stream_seed(study.search.seeds[0], "search", label) % 2**32
        start = min(10, math.ceil(trials / START))
        self._space = study.space
        self._optuna = optuna
        self._left = trials
        self._study = optuna.create_study(
            direction="maximize" if higher_is_better else "minimize",
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=start),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=start),
        )
        self._trial: Any = None
        self.known: Sequence[Values] = ()

    def ask(self) -> Values | None:
        if not self._left:
            return None
        self._left -= 1
        places = self._optuna.distributions
        self._trial = self._study.ask(
            {
                path: _distribution(places, values)
                for path, values in self._space.items()
            }
        )
        return {
            path: _value(values, self._trial.params[path])
            for path, values in self._space.items()
        }

    def ends(self, score: float | None, done: int) -> bool:
        if score is None:
            return False
        self._trial.report(score, done)
        return bool(self._trial.should_prune())

    def tell(self, score: float | None, pruned: bool) -> None:
        states = self._optuna.trial.TrialState
        if pruned:
            self._study.tell(self._trial, state=states.PRUNED)
        elif score is None:
            self._study.tell(self._trial, state=states.FAIL)
        else:
            self._study.tell(self._trial, score)


def _optuna(where: str) -> Any:
    try:
        import optuna  # noqa: PLC0415 - an extra, and slow to import
    except ImportError:
        raise ConfigError(
            f"{where}: search.method: tpe needs Optuna, which is not installed; install "
            "the extra 'search' (pip install 'fedkd[search]'), or take the method random."
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _distribution(distributions: Any, values: Range | tuple[Any, ...]) -> Any:
    if not isinstance(values, Range):
        return distributions.CategoricalDistribution(tuple(range(len(values))))
    if values.whole:
        whole = (int(values.low), int(values.high))
        return distributions.IntDistribution(*whole, log=values.log)
    bounds = (float(values.low), float(values.high))
    return distributions.FloatDistribution(*bounds, log=values.log)


def _value(values: Range | tuple[Any, ...], proposed: Any) -> Any:
    """Return what a proposal stands for: of a list, it is a place."""
    if not isinstance(values, Range):
        return values[proposed]
    return proposed if values.whole else rounded(proposed)
