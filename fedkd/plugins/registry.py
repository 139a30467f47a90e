"""Names to things: strategies, data sets, models, metrics, whoever brought them.

Built-ins and third sides enter through the same hooks (:mod:`fedkd.hookspecs`) and
are imported when they are first asked for, so that listing them is instant.
"""

from __future__ import annotations

import importlib.resources
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedkd.base.forms import require
from fedkd.base.shown import brief
from fedkd.errors import (
    PLUGIN_HINT,
    ConfigError,
    FedKDError,
    PluginError,
    cause,
    line_of,
    listing,
    named,
    readable,
    suggestion,
)
from fedkd.plugins.builders import build_model
from fedkd.plugins.composing import composed
from fedkd.plugins.entries import KINDS, Entry, first_line, problem_of
from fedkd.plugins.loader import (
    Loader,
    Offer,
    PluginSource,
    PluginStatus,
    sources,
)

if TYPE_CHECKING:
    import pluggy
    from torch import nn

    from fedkd.config import Config
    from fedkd.data.dataset import Dataset
    from fedkd.metrics.base import Metric
    from fedkd.partition.base import Partitioner
    from fedkd.simulation.executors.base import Executor
    from fedkd.strategy import Strategy


class Registry:
    """All that is registered. Made by :func:`load_registry`."""

    def __init__(self) -> None:
        self.plugins: list[PluginStatus] = []
        """Every plug-in that was found, sound or not, in the order of loading."""
        self._entries: dict[str, dict[str, Entry]] = {kind: {} for kind in KINDS}
        self._loader = Loader(self._admit)
        self._complained: set[tuple[str, str]] = set()

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        # In another process it is made anew, of the same plug-in files.
        files = [p.target for p in self.plugins if p.version.startswith("sha256:")]
        return partial(load_registry, files, quiet=True), ()

    def __repr__(self) -> str:
        """Return how many things there are of each kind."""
        counts = (
            f"{len(table)} {kind}" for kind, table in self._entries.items() if table
        )
        return brief(self, *counts, f"{len(self.plugins)} plug-ins")

    def load(self, source: PluginSource) -> None:
        """Load one plug-in; what it registers is entered, what fails is recorded."""
        self._loader.load(source)

    @property
    def hook(self) -> pluggy.HookRelay:
        """The relay of all hooks. Observers are called by :meth:`notify`."""
        return self._loader.manager.hook

    @property
    def problems(self) -> list[PluginStatus]:
        """The plug-ins that do not work, or not wholly."""
        return [p for p in self.plugins if p.status in ("broken", "partly")]

    def entries(self, kind: str) -> Mapping[str, Entry]:
        """Return what is registered of a kind, by name, in alphabetical order."""
        return dict(sorted(self._entries[kind].items()))

    def entry(self, kind: str, name: str) -> Entry:
        """Return what is registered under a name.

        Raises:
            ConfigError: If nothing is, or it is no text; suggests the nearest name.
        """
        known = self.entries(kind)
        require(name, (str,), kind, "a name, as a text")
        if name in known:
            return known[name]
        word, hint = KINDS[kind], suggestion(name, known)
        broken = [p.name for p in self.plugins if p.status == "broken"]
        missing = f" Broken plug-ins: {listing(broken)} (run 'fedkd plugins')."
        raise ConfigError(
            f"unknown {word} {name!r}.{hint} Known: {listing(known)} "
            f"(run 'fedkd list {kind}').{missing if broken else ''}{PLUGIN_HINT}"
        )

    def resolve(self, kind: str, name: str) -> Any:
        """Return the class, preset, function or mix registered under a name.

        Raises:
            ConfigError: If the name is unknown.
            PluginError: If it cannot be loaded; names its owner.
            ContractError: If it is not what such a name must stand for.
        """
        return self.entry(kind, name).resolve()

    def strategy(
        self, name: str, options: Mapping[str, Any] | None = None
    ) -> tuple[Strategy[Any, Any, Any], Config]:
        """Return a strategy and its resolved configuration.

        The options of a preset come first, those given here go on top, key by key.

        Raises:
            ConfigError: If the name or an option is wrong.
        """
        target = self.resolve("strategies", name)
        if not isinstance(target, type):  # a preset, as resolve has made sure
            options = merged(target.options, options or {})
            target = target.strategy
        target = composed("strategies", target, options or {})
        strategy: tuple[Strategy[Any, Any, Any], Config]
        strategy = self._build("strategies", name, target, options)
        return strategy

    def is_reference(self, name: str) -> bool:
        """Say whether a strategy, or that of a preset, is a reference of tables.

        Raises:
            FedKDError: If the name is unknown or cannot be loaded.
        """
        target = self.resolve("strategies", name)
        return bool(getattr(target, "strategy", target).is_reference)

    def dataset(
        self, name: str, options: Mapping[str, Any] | None = None
    ) -> tuple[Dataset, Config]:
        """Return a data set, not yet read, and its resolved configuration.

        Raises:
            ConfigError: If the name or an option is wrong.
        """
        target = self.resolve("datasets", name)
        dataset: tuple[Dataset, Config]
        dataset = self._build("datasets", name, target, options)
        return dataset

    def partitioner(
        self, name: str, options: Mapping[str, Any] | None = None
    ) -> tuple[Partitioner, Config]:
        """Return a partitioner and its resolved configuration.

        Raises:
            ConfigError: If the name or an option is wrong.
        """
        target = self.resolve("partitioners", name)
        partitioner: tuple[Partitioner, Config]
        partitioner = self._build("partitioners", name, target, options)
        return partitioner

    def metric(
        self, name: str, options: Mapping[str, Any] | None = None
    ) -> tuple[Metric, Config]:
        """Return a metric and its resolved configuration.

        Raises:
            ConfigError: If the name or an option is wrong.
        """
        cls = self.resolve("metrics", name)
        metric: tuple[Metric, Config] = self._build("metrics", name, cls, options)
        return metric

    def _build(
        self, kind: str, name: str, cls: Any, options: Mapping[str, Any] | None
    ) -> Any:
        """Return an instance of a configurable class, and its configuration."""
        from fedkd.config import build  # noqa: PLC0415 - pydantic; no listing needs it

        place = "partitions" if kind == "partitioners" else kind
        config = build(cls.Config, options or {}, f"{place}.{name}")
        return self.constructed(kind, name, cls, config), config

    def constructed(self, kind: str, name: str, cls: Any, *config: Config) -> Any:
        """Return an instance of a registered class; what it raises names its plug-in."""
        title = self.entry(kind, name).title
        with named(f"{title}: {cls.__name__}.__init__"):
            return cls(*config)

    def model(self, name: str, kind: str | None = None) -> Callable[..., nn.Module]:
        """Return what builds a model, ``build(input_shape, num_classes, **options)``.

        Options are fields of the model's ``Config``; a wrong one is a ``ConfigError``.

        Args:
            name: The registered name.
            kind: What it must be; anything if None.

        Raises:
            ConfigError: If the name is unknown or stands for another kind.
        """
        entry = self.entry("models", name)
        if kind is not None and entry.kind != kind:
            fit = [e.name for e in self.entries("models").values() if e.kind == kind]
            raise ConfigError(
                f"model {name!r} is a {entry.kind}; expected a {kind}. "
                f"Choose one of: {listing(fit)}."
            )
        return partial(build_model, entry.resolve(), f"models.{name}")

    def executor(self, name: str) -> type[Executor]:
        """Return the class of an executor.

        Raises:
            ConfigError: If the name is unknown.
        """
        executor: type[Executor] = self.resolve("executors", name)
        return executor

    def executors(self) -> tuple[type[Executor], ...]:
        """Return the classes of all executors; one that cannot be loaded is left out.

        It is named on one line of stderr.
        """
        classes: list[type[Executor]] = []
        for name in self.entries("executors"):
            try:
                classes.append(self.executor(name))
            except FedKDError as error:
                say(f"fedkd: {error}")
        return tuple(classes)

    def suites(self) -> dict[str, str]:
        """Return the packaged suites: ``{name: first line of the description}``."""
        folder = importlib.resources.files("fedkd.suites")
        files = sorted(f.name for f in folder.iterdir() if f.name.endswith(".yaml"))
        return {
            name.removesuffix(".yaml"): first_line(
                folder.joinpath(name).read_text("utf-8")
            )
            for name in files
        }

    def observe(self, names: Iterable[str]) -> None:
        """Let registered observers hear of the runs from now on; each once.

        Raises:
            ConfigError: If a name is unknown, or the package that it needs is missing.
        """
        for name in dict.fromkeys(names):
            key = f"{name}:observer"
            if not self._loader.manager.has_plugin(key):
                cls = self.resolve("observers", name)
                observer = self.constructed("observers", name, cls)
                self._loader.manager.register(observer, name=key)

    def notify(self, hook_name: str, **arguments: Any) -> None:
        """Call an observer hook of every plug-in; one that fails harms no run.

        The first failure of each is reported on one line of stderr.
        """
        for implementation in getattr(self.hook, hook_name).get_hookimpls():
            plugin = implementation.plugin
            try:
                self._loader.call(hook_name, plugin, **arguments)
            except KeyboardInterrupt:
                raise
            # An observer is plug-in code and may raise anything; the run goes on.
            except BaseException as error:
                self._complain(implementation.plugin_name, hook_name, error)

    def _complain(self, plugin: str, hook: str, error: BaseException) -> None:
        if (plugin, hook) in self._complained:
            return
        self._complained.add((plugin, hook))
        owner = plugin.partition(":")[0]
        say(
            f"fedkd: {hook} of plug-in {owner} failed; runs go on: {cause(error)}"
            f"{line_of(error)}"
        )

    def _admit(self, status: PluginStatus, offers: list[Offer]) -> None:
        """Enter what a plug-in registered; refuse what cannot be entered."""
        for offer in offers:
            problem = problem_of(offer)
            if problem is None:
                problem = self._enter(status, offer)
            if problem is not None:
                status.refuse(problem)

    def _enter(self, status: PluginStatus, offer: Offer) -> str | None:
        """Enter one offer; return what is wrong if its name is taken."""
        table = self._entries[offer.thing]
        kind = offer.kind or ("classifier" if offer.thing == "models" else "")
        fresh = Entry(
            offer.name,
            offer.thing,
            offer.target,
            readable(str(offer.summary)),
            kind,
            status.distribution,
            status.version,
        )
        first = table.setdefault(offer.name, fresh)
        if first is fresh:
            return None
        rivals = (*first.rivals, status.distribution)
        table[offer.name] = replace(first, rivals=rivals)
        return (
            f"{KINDS[offer.thing]} {offer.name!r} is already registered by "
            f"{first.owner} ({first.target}); rename the one of {status.distribution} "
            f"({offer.target})."
        )


def load_registry(
    plugin_files: Iterable[str | Path] = (),
    *,
    quiet: bool = False,
    strict: bool | None = None,
) -> Registry:
    """Load built-ins, installed plug-ins and plug-in files into a new registry.

    A plug-in that does not work is named on one line of stderr and left out.
    ``FEDKD_DISABLE_PLUGINS`` names plug-ins, or their distributions, that are not even
    imported: ``"one,two"``.

    Args:
        plugin_files: Python files with hooks at their top level.
        quiet: Whether problems are kept from stderr; for worker processes.
        strict: Whether a plug-in that does not work is an error; by default if
            ``FEDKD_STRICT_PLUGINS`` is ``1``.

    Raises:
        ConfigError: If a plug-in file does not exist.
        PluginError: If a plug-in does not work and ``strict`` holds.
    """
    registry = Registry()
    disabled = _words(os.environ.get("FEDKD_DISABLE_PLUGINS", ""))
    unused = set(disabled)
    for source in sources(plugin_files):
        status = source.status
        registry.plugins.append(status)
        hits = disabled & {status.name, status.distribution}
        unused -= hits
        if hits:
            status.status = "disabled"
        else:
            registry.load(source)
    lines = [problem.line for problem in registry.problems]
    if lines and (is_strict() if strict is None else strict):
        raise PluginError(" ".join(line.removeprefix("fedkd: ") for line in lines))
    if unused:
        lines.append(
            f"fedkd: FEDKD_DISABLE_PLUGINS names unknown plug-ins: "
            f"{listing(sorted(unused))} (run 'fedkd plugins')."
        )
    if not quiet:
        for line in lines:
            say(line)
    return registry


def is_strict() -> bool:
    """Say whether ``FEDKD_STRICT_PLUGINS`` asks for sound plug-ins only."""
    return os.environ.get("FEDKD_STRICT_PLUGINS", "") not in ("", "0")


def say(line: str) -> None:
    """Write one line to stderr."""
    sys.stderr.write(line + "\n")


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one tree of options over another; mappings merge, other values replace."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return result


def _words(text: str) -> set[str]:
    return {word.strip() for word in text.split(",") if word.strip()}
