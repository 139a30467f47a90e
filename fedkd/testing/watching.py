"""The one wrapper of strategies: it forwards everything, and tells of every call."""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from fedkd.party import Party
from fedkd.strategy import Client, Round, Strategy

AnyStrategy: TypeAlias = Strategy[Any, Any, Any]


@dataclass(frozen=True)
class Call:
    """A call of a strategy's method by the simulator."""

    verb: str
    args: dict[str, Any]
    """By the names that the method gives them."""
    client: int | None
    round: int | None
    """From 1, as in ``metrics.jsonl``; None before the first."""

    @property
    def party(self) -> Party | None:
        """The side on which it happens, if it is given one."""
        return next((arg for arg in self.args.values() if isinstance(arg, Party)), None)

    def __str__(self) -> str:
        """Return what sentences call it: ``local (client 1, round 2)``."""
        places = (("client", self.client), ("round", self.round))
        named = ", ".join(f"{word} {n}" for word, n in places if n is not None)
        return f"{self.verb} ({named})" if named else self.verb


class Watcher(ABC):
    """Sees every call of one strategy."""

    def __init__(self) -> None:
        self._round: int | None = None

    @abstractmethod
    def around(self, call: Call, proceed: Callable[[], Any]) -> Any:
        """Return what ``proceed()`` returns, which does the call."""

    def call(self, verb: str, args: dict[str, Any]) -> Call:
        """Say which call this is; ``local`` belongs to the round last named."""
        values = args.values()
        for arg in values:
            if isinstance(arg, Round):
                self._round = arg.index + 1
        ids = [a.id for a in values if isinstance(a, Client)]
        ids += [a for a in values if isinstance(a, int)]
        return Call(verb, args, ids[0] if ids else None, self._round)


def watched(strategy: AnyStrategy, watcher: Watcher) -> AnyStrategy:
    """Return a strategy that is ``strategy`` in all things, and tells ``watcher``.

    It is of the same class and has the same attributes; only its public methods, whatever
    they are called, go by way of ``watcher`` to those of ``strategy``. Calls that the
    strategy makes to itself are its own affair and are not told.
    """
    twin = copy.copy(strategy)
    for name in public_methods(type(strategy)):
        vars(twin)[name] = _told(getattr(strategy, name), name, watcher)
    return twin


def public_methods(kind: type) -> list[str]:
    """Return the names of the methods of a class that others may call."""
    return [
        name
        for name in dir(kind)
        if not name.startswith("_") and _is_method(inspect.getattr_static(kind, name))
    ]


def _is_method(attribute: object) -> bool:
    if isinstance(attribute, staticmethod | classmethod):
        return True
    return inspect.isroutine(attribute)


def _told(method: Callable[..., Any], name: str, watcher: Watcher) -> Any:
    signature = inspect.signature(method)

    def told(*args: Any) -> Any:
        call = watcher.call(name, dict(signature.bind(*args).arguments))
        return watcher.around(call, lambda: method(*args))

    return told
