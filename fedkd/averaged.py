"""Robust averages for strategies: the option ``average`` beside any other.

``average: median`` beside a strategy, or ``average: {name: trimmed_mean, share: 0.1}``,
puts a rule of :mod:`fedkd.robust` in the place of the mean wherever the strategy's server
averages what its clients sent. A strategy whose server learns from single answers in
another way refuses it, and says why: ``Strategy.no_average``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from pydantic import Field, create_model, field_validator

from fedkd.robust.rule import MEAN, Mean, Rule
from fedkd.robust.table import Asked
from fedkd.strategy import Strategy

OPTION = "average"
"""What the option is called."""


class Composed:
    """A strategy of a class that is made when it is asked for, and pickled by its parts."""

    def __copy__(self) -> Any:
        """Return a strategy with the same attributes, as copying does without pickling."""
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        return twin


class _Averaged(Composed):
    """A strategy whose server averages by the rule of its option."""

    plain_class: type[Strategy[Any, Any, Any]]
    config: Any

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the strategy and its options: the class itself is made when needed."""
        return _made, (self.plain_class, self.config.model_dump())


@cache
def averaged(cls: type[Strategy[Any, Any, Any]]) -> type[Strategy[Any, Any, Any]]:
    """Return a strategy with an option for how its server averages.

    Args:
        cls: Any strategy.

    Returns:
        A strategy class whose ``Config`` has the options of ``cls`` and ``average``, which
        can only be the mean where ``cls`` refuses another. Left at the mean, it is no part
        of a run's configuration.
    """

    def start(self: Any, config: Any = None) -> None:
        cls.__init__(self, config)
        self.rule = self.config.average
        self.requires = _needs(self.requires, self.rule)

    attributes = {
        "Config": _with_option(cls),
        "plain_class": cls,
        "__init__": start,
        "__doc__": f"{cls.__name__}, with an average of its own.",
        "__module__": cls.__module__,
    }
    return type(f"Averaged{cls.__name__}", (_Averaged, cls), attributes)


def plain_class(cls: type[Strategy[Any, Any, Any]]) -> type[Strategy[Any, Any, Any]]:
    """Return the class that :func:`averaged` was given, or the class itself."""
    plain: type[Strategy[Any, Any, Any]] = getattr(cls, "plain_class", cls)
    return plain


def _with_option(cls: type[Strategy[Any, Any, Any]]) -> Any:
    """Return the options of a strategy and ``average``."""
    refusal = cls.no_average

    def allowed(rule: Rule) -> Rule:
        if refusal and not isinstance(rule, Mean):
            raise ValueError(
                f"Expected mean: {cls.__name__} takes no other average, for {refusal}. "
                "Leave average out"
            )
        return rule

    said = "How the server averages what clients sent: the name of an average."
    made = create_model(
        f"Averaged{cls.Config.__name__}",
        __base__=cls.Config,
        __validators__={"allowed": field_validator(OPTION)(allowed)},
        average=(Asked, Field(MEAN, description=said)),
    )
    return _left_out_when_idle(made)


def _left_out_when_idle(made: Any) -> Any:
    """Return options whose ``average`` is no part of a run where it is the mean.

    A function of its own, for type checkers take what ``create_model`` gives for a class
    that they know.
    """
    made.younger_options = made.younger_options | {OPTION}
    return made


def _needs(requires: Any, rule: Rule) -> Any:
    """Return what a strategy needs with a rule: clients enough, models that compare."""
    least = max(requires.clients, rule.least)
    one = requires.one_architecture or rule.needs_whole
    return replace(requires, clients=least, one_architecture=one)


def _made(
    cls: type[Strategy[Any, Any, Any]], options: Mapping[str, Any]
) -> Strategy[Any, Any, Any]:
    """Return an averaged strategy with its options, in another process."""
    made = averaged(cls)
    return made(made.Config(**options))
