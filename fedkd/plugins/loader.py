"""Loads plug-ins one by one, so that a broken one is named and harms no other.

The loader that pluggy has, ``load_setuptools_entrypoints``, stops at the first plug-in
that raises. Here each is imported, registered and asked for its entries on its own;
what fails is rolled back and recorded with its cause.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import linecache
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pluggy

from fedkd import hookspecs
from fedkd._version import __version__
from fedkd.base.forms import require
from fedkd.errors import (
    ConfigError,
    PluginError,
    cause,
    line_of,
    readable,
    suggestion,
)
from fedkd.plugins.sources import digest_of_file, digest_of_package, in_place

BUILTINS = (
    "fedkd.algorithms",
    "fedkd.datasets",
    "fedkd.models",
    "fedkd.partition.builtin",
    "fedkd.metrics.builtin",
    "fedkd.simulation.builtin",
    "fedkd.engines",
    "fedkd.observers.builtin",
)
"""Modules that enter through the same door as third sides, and before them."""

SLOW = 10.0
"""Seconds that a plug-in may take to be imported before somebody is told."""

Status = Literal["ok", "partly", "broken", "disabled"]


@dataclass
class PluginStatus:
    """A plug-in and what became of it."""

    name: str
    """Name of the entry point, of the built-in module or of the file."""
    distribution: str
    """The distribution it came with; for a file its name."""
    version: str
    """Version of the distribution, with the start of a SHA-256 of its sources if it is
    installed in place; for a file that of it and of what it imports beside it."""
    target: str
    """What is imported: ``module``, ``module:attribute`` or the path of a file."""
    hooks: tuple[str, ...] = ()
    """The hooks it implements."""
    status: Status = "ok"
    """``partly`` means: it works but for the problem in ``error``."""
    error: str | None = None
    """What is wrong, in one sentence; None if nothing."""
    traceback: str | None = None
    """Where it went wrong; None if it did not raise."""

    @property
    def line(self) -> str:
        """What is wrong, on one line that names distribution, plug-in and cause."""
        who = f"plug-in {self.name!r} of {self.distribution} {self.version}"
        state = "works in part" if self.status == "partly" else f"is {self.status}"
        return f"fedkd: {who} {state}: {self.error}"

    def refuse(self, problem: str) -> None:
        """Record a problem that leaves the rest of the plug-in usable."""
        self.status = "partly"
        self.error = f"{self.error} Also: {problem}" if self.error else problem

    def fail(self, error: BaseException) -> None:
        """Record an exception that makes the plug-in unusable."""
        self.status = "broken"
        self.error = cause(error) + line_of(error)
        self.traceback = "".join(traceback.format_exception(error))


@dataclass(frozen=True)
class PluginSource:
    """Where a plug-in comes from, before it is imported."""

    status: PluginStatus
    load: Callable[[], Any] = field(repr=False)


def sources(plugin_files: Iterable[str | Path]) -> Iterator[PluginSource]:
    """Yield built-ins, then installed plug-ins by distribution, then files.

    Raises:
        ConfigError: If a plug-in file does not exist, or what is given is no path.
    """
    for module in BUILTINS:
        status = PluginStatus(module, hookspecs.GROUP, __version__, module)
        yield PluginSource(status, partial(importlib.import_module, module))
    for point in sorted(entry_points(), key=lambda p: (_fact(p, "name"), p.name)):
        name, version = _fact(point, "name"), _version(point)
        status = PluginStatus(
            readable(point.name), name, version, readable(point.value)
        )
        yield PluginSource(status, point.load)
    seen: dict[str, Path] = {}
    for path in _paths(plugin_files):
        yield _file_source(path, seen)


def _paths(given: Iterable[str | Path]) -> dict[Path, None]:
    """Return the files that are given, each once; a path alone is one."""
    how = "a path of a Python file, or several"
    if isinstance(given, str | Path):  # a text is an Iterable, too: of characters
        given = [given]
    require(given, (Iterable,), "plug-in files", how)
    files = list(given)
    for file in files:
        require(file, (str, Path), "plug-in files", how)
    return dict.fromkeys(Path(file).resolve() for file in files)


def entry_points() -> list[importlib.metadata.EntryPoint]:
    """Return what installed distributions offer; one whose files are damaged is left out.

    It is named on one line of stderr.
    """
    try:
        return list(importlib.metadata.entry_points(group=hookspecs.GROUP))
    # The damaged file of one distribution would end every command. Which it is, and
    # what is raised, nobody says.
    except Exception:
        return [*_one_by_one()]


def _one_by_one() -> Iterator[importlib.metadata.EntryPoint]:
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions():
        place = readable(str(getattr(distribution, "_path", distribution)))
        try:
            name, points = distribution.metadata["Name"], distribution.entry_points
        except Exception as error:
            sys.stderr.write(
                f"fedkd: {place} is damaged, and what it offers is left out: "
                f"{cause(error)}. Install that distribution again.\n"
            )
            continue
        if name not in seen:
            seen.add(name)
            yield from points.select(group=hookspecs.GROUP)


def _fact(point: importlib.metadata.EntryPoint, name: str) -> str:
    """Return the name or version of the distribution of a plug-in, if it has any."""
    try:
        value = getattr(point.dist, name)
    except Exception:
        return "unknown"
    return readable(str(value)) if value else "unknown"


def _version(point: importlib.metadata.EntryPoint) -> str:
    """Return the version of a plug-in; with a hash if it is installed in place."""
    version = _fact(point, "version")
    digest = digest_of_package(point.module) if in_place(point) else ""
    return f"{version} in place, sha256:{digest}" if digest else version


def _file_source(path: Path, seen: dict[str, Path]) -> PluginSource:
    if not path.is_file():
        raise ConfigError(
            f"--plugin {path}: there is no such file; give the path of a Python file "
            "with functions marked by fedkd.hookimpl."
        )
    text = path.read_bytes()
    version = f"sha256:{digest_of_file(path, text)}"
    status = PluginStatus(path.name, path.name, version, str(path))
    first = seen.setdefault(path.stem, path)
    return PluginSource(status, partial(_import_file, path, text, first))


def _import_file(path: Path, text: bytes, first: Path) -> ModuleType:
    """Import a plug-in file under a module name that is the same in every process.

    It may import the modules that lie beside it.

    The text is run as it was read, without a cache of bytecode beside it, so that the
    version in the results is that of what ran.
    """
    if first != path:
        raise PluginError(
            f"it has the same name as {first}; rename one, because payloads are "
            "identified by the name of the file."
        )
    name = "fedkd_plugin_" + re.sub(r"\W", "_", path.stem)
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__text__", None) == text:
        return loaded
    module = ModuleType(name)
    module.__file__ = str(path)
    vars(module)["__text__"] = text
    # Last, so that the modules beside it hide none that is installed.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[name] = module  # before it runs: dataclasses look themselves up here
    linecache.checkcache(str(path))
    try:
        exec(compile(text, str(path), "exec", dont_inherit=True), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextlib.contextmanager
def _told_if_slow(status: PluginStatus) -> Iterator[None]:
    """Say which plug-in it is, on one line of stderr, that takes long to import."""
    if status.distribution == hookspecs.GROUP:
        yield
        return
    text = (
        f"fedkd: plug-in {status.name!r} of {status.distribution} {status.version} is "
        f"being imported for {SLOW:g} s now. Ctrl-C ends that; with "
        f"FEDKD_DISABLE_PLUGINS={status.name} it is left out.\n"
    )
    timer = threading.Timer(SLOW, sys.stderr.write, (text,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Loader:
    """Puts plug-ins into a pluggy manager, each on its own."""

    def __init__(self, offer: Callable[[PluginStatus, list[Offer]], None]) -> None:
        """Args: ``offer`` is given what each sound plug-in registered."""
        self.manager = pluggy.PluginManager(hookspecs.GROUP)
        self.manager.add_hookspecs(hookspecs)
        self.specified = {
            name for name in vars(hookspecs) if name.startswith(f"{hookspecs.GROUP}_")
        }
        self._offer = offer

    def load(self, source: PluginSource) -> None:
        """Import one plug-in, register it and hand on its entries.

        Whatever a plug-in raises ends here: it is recorded in the source's status and
        its traces are removed. Only an interruption by the user passes.
        """
        status = source.status
        key = f"{status.distribution}:{status.name}:{status.target}"
        if self.manager.has_plugin(key):
            status.fail(PluginError("it is offered twice; install it again, once."))
            return
        try:
            with _told_if_slow(status):
                plugin = source.load()
            if isinstance(plugin, type):
                raise PluginError(
                    f"{status.target} is a class; point to a module or an instance."
                )
            self.manager.register(plugin, name=key)
            status.hooks = self._check_hooks(status, plugin)
            offers = self._collect(status, plugin)
        except KeyboardInterrupt:
            raise
        # A module that calls sys.exit, or worse, must not end every command.
        except BaseException as error:
            status.fail(error)
            if self.manager.has_plugin(key):
                self.manager.unregister(name=key)
            return
        self._offer(status, offers)

    def _check_hooks(self, status: PluginStatus, plugin: Any) -> tuple[str, ...]:
        """Return the known hooks that a plug-in implements; report misspelt ones."""
        callers = self.manager.get_hookcallers(plugin) or []
        names = sorted(caller.name for caller in callers)
        for name in names:
            if name not in self.specified and not self._is_optional(name, plugin):
                hint = suggestion(name, self.specified)
                status.refuse(f"it implements an unknown hook {name!r}.{hint}")
        if not names:
            raise PluginError(
                f"{status.target} implements no hook; mark its functions with "
                "@fedkd.hookimpl."
            )
        return tuple(name for name in names if name in self.specified)

    def _is_optional(self, name: str, plugin: Any) -> bool:
        impls = getattr(self.manager.hook, name).get_hookimpls()
        return all(i.optionalhook for i in impls if i.plugin is plugin)

    def _collect(self, status: PluginStatus, plugin: Any) -> list[Offer]:
        """Call the registering hooks of one plug-in and return what it registered."""
        offers: list[Offer] = []
        module = getattr(plugin, "__name__", type(plugin).__module__)
        for hook in status.hooks:
            thing = hook.removeprefix(f"{hookspecs.GROUP}_register_")
            if thing != hook:
                self.call(hook, plugin, register=_Collector(thing, module, offers))
        return offers

    def call(self, hook: str, plugin: Any, **arguments: Any) -> None:
        """Call one hook of one plug-in."""
        others = [p for p in self.manager.get_plugins() if p is not plugin]
        self.manager.subset_hook_caller(hook, others)(**arguments)


@dataclass(frozen=True)
class Offer:
    """One call of ``register``, not yet checked."""

    thing: str
    name: str
    target: str
    summary: str
    kind: str


@dataclass(frozen=True)
class _Collector:
    """The ``register`` callback of one hook of one plug-in."""

    thing: str
    module: str
    offers: list[Offer]

    def __call__(
        self, name: str, target: str, *, summary: str = "", kind: str = ""
    ) -> None:
        if isinstance(target, str) and target.startswith(":"):
            target = self.module + target
        self.offers.append(Offer(self.thing, name, target, summary, kind))


def load_target(target: str) -> Any:
    """Import ``"module:attribute"`` and return it.

    Raises:
        PluginError: If the module cannot be imported or lacks the attribute.
    """
    name, _, path = target.partition(":")
    try:
        thing: Any = importlib.import_module(name)
        for part in path.split("."):
            thing = getattr(thing, part)
    # Importing a plug-in runs its code, which may raise anything.
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"cannot load {target}: {cause(error)}{line_of(error)}"
        ) from error
    return thing
