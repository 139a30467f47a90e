"""The models of a federation, from what a suite says: packaged mixes, nested widths."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedkd.errors import ConfigError, listing
from fedkd.ops.widths import width_budgets
from fedkd.plugins.options import Resolved, resolve
from fedkd.plugins.registry import Registry
from fedkd.suite.entries import Listed, Mix

WIDTHS = "widths"
"""Beside a model's name: the widths of its sub-models, or the rule that gives them."""


@dataclass(frozen=True)
class Models:
    """The models of a federation, options checked."""

    clients: tuple[Resolved, ...]
    """Client i has entry i mod n."""
    server: Resolved | None
    """The server's own; the first of the clients' if None."""
    shown: str
    """A short text for tables: ``cnn``, ``cnn+mlp``, ``cnn[widths=1,0.5]``."""

    def plain(self) -> dict[str, Any]:
        """Return the parts that run configurations hold."""
        parts: dict[str, Any] = {"models": [model.plain() for model in self.clients]}
        if self.server is not None:
            parts["server_model"] = self.server.plain()
        return parts

    @property
    def every(self) -> tuple[Resolved, ...]:
        """All models, the server's too."""
        return self.clients if self.server is None else (*self.clients, self.server)


def models_of(registry: Registry, mix: Mix, clients: int, where: str) -> Models:
    """Return the models that a suite's mix means for a number of clients.

    Raises:
        ConfigError: Naming the path of what cannot be used.
    """
    members: list[Resolved] = []
    texts: list[str] = []
    server = None
    for entry in mix.clients:
        at = f"{where}: models.{entry.name}"
        if WIDTHS in entry.options:
            nested, full = _nested(registry, entry, clients, at)
            members += nested
            texts.append(f"{full.shown()}[widths={_text(entry.options[WIDTHS])}]")
            server = server or full
        else:
            members += _resolved(registry, entry, at)
            texts.append(_label(registry, entry, members))
    if mix.server is not None:
        server = _one(registry, mix.server, f"{where}: models.server")
        texts[-1] += f">{server.shown()}"
    if server is not None and server.plain() == members[0].plain():
        server = None
    return Models(tuple(members), server, mix.label or "+".join(texts))


def _resolved(registry: Registry, entry: Listed, where: str) -> list[Resolved]:
    """Return the model of an entry, or the models of a packaged mix.

    An option beside a mix is one of each of its models.
    """
    if not _is_mix(registry, entry.name):
        return [_one(registry, entry, where)]
    members: Sequence[Mapping[str, Any]] = registry.resolve("models", entry.name)
    for option in entry.options:
        own = [one["name"] for one in members if option in one]
        if own:
            raise ConfigError(
                f"{where}.{option}: the packaged mix has one of its own for "
                f"{listing(own)}. List its models one by one to change it."
            )
    return [
        resolve(
            registry, "models", one["name"], {**_beside(one), **entry.options}, where
        )
        for one in members
    ]


def _one(registry: Registry, entry: Listed, where: str) -> Resolved:
    return resolve(registry, "models", entry.name, entry.options, where)


def _beside(member: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in member.items() if key != "name"}


def _is_mix(registry: Registry, name: str) -> bool:
    entry = registry.entries("models").get(name)
    return entry is not None and entry.kind == "mix"


def _label(registry: Registry, entry: Listed, members: Sequence[Resolved]) -> str:
    if not _is_mix(registry, entry.name):
        return members[-1].shown()
    differs = {name for model in members for name in model.changed}
    changed = {k: v for k, v in entry.options.items() if k in differs}
    return Resolved(entry.name, entry.options, changed).shown()


def _nested(
    registry: Registry, entry: Listed, clients: int, where: str
) -> tuple[list[Resolved], Resolved]:
    """Return sub-models of one family, and the whole that the server has."""
    if _is_mix(registry, entry.name):
        members = [one["name"] for one in registry.resolve("models", entry.name)]
        raise ConfigError(
            f"{where}.{WIDTHS}: widths go beside one model, and {entry.name!r} is a mix. "
            "List its models one by one, with widths beside those that are to have them: "
            f"{listing(members)}."
        )
    asked = entry.options[WIDTHS]
    rest = {key: value for key, value in entry.options.items() if key != WIDTHS}
    widths = (
        _by_rule(asked, clients, f"{where}.{WIDTHS}")
        if isinstance(asked, Mapping)
        else asked
    )
    if not isinstance(widths, list | tuple) or not widths:
        raise ConfigError(
            f"{where}.{WIDTHS}: found {asked!r}, expected a list such as [1, 0.5, 0.25], "
            "or the published rule, such as {rho: 5, sigma: 4}."
        )
    whole = resolve(registry, "models", entry.name, rest, where)
    nested = [
        whole
        if width == 1
        else resolve(registry, "models", entry.name, {**rest, "width": width}, where)
        for width in widths
    ]
    return nested, whole


def _by_rule(rule: Mapping[Any, Any], clients: int, where: str) -> list[float]:
    """Return the widths of the published rule; its options are checked."""
    if set(rule) != {"rho", "sigma"}:
        raise ConfigError(
            f"{where}: found the keys {sorted(map(str, rule))}, expected rho and sigma."
        )
    rho, sigma = rule["rho"], rule["sigma"]
    for name, value in rule.items():
        right = isinstance(value, int | float) and not isinstance(value, bool)
        if not right or not math.isfinite(value) or value < 0:
            raise ConfigError(
                f"{where}.{name}: found {value!r}, expected a number from 0 on."
            )
    return width_budgets(clients, rho, sigma)


def _text(asked: Any) -> str:
    if isinstance(asked, Mapping):
        return ",".join(f"{key}{value:g}" for key, value in asked.items())
    return ",".join(f"{width:g}" for width in asked)
