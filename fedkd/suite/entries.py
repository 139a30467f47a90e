"""The registered things that a suite lists, with the options written beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, Field

from fedkd.base.yamlfile import by_name
from fedkd.config import Config, build
from fedkd.errors import ConfigError
from fedkd.simulation.faults.files import with_checksum
from fedkd.suite.search import Space, plain_space


def _spelled(pattern: str, expected: str) -> AfterValidator:
    """Return what refuses texts that a pattern does not match as a whole."""

    def checked(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(f"Expected {expected}")
        return text

    return AfterValidator(checked)


SafeName: TypeAlias = Annotated[
    str,
    _spelled(
        r"[A-Za-z0-9][A-Za-z0-9_+-]{0,99}",
        "1 to 100 letters, digits, '_', '+' or '-', the first a letter or a digit: "
        "folders are named after it",
    ),
]
"""Names that become folder names and parts of dotted paths."""


ShownName: TypeAlias = Annotated[
    str,
    _spelled(
        r"[A-Za-z0-9][A-Za-z0-9_+./ -]*",
        "letters, digits, spaces, '_', '+', '.', '/' or '-', the first a letter or a "
        "digit",
    ),
]
"""What tables may call data sets, partitions and models."""


AMOUNTS = ("local_steps", "local_epochs")
"""Keys of ``training`` that say how much clients train, each in place of the other."""


def without_amounts(training: Any) -> Any:
    """Return training without its amount of work, of which another is set."""
    if not isinstance(training, Mapping):
        return training
    return {key: value for key, value in training.items() if key not in AMOUNTS}


class Listed(Config):
    """A registered thing in a suite, with the options that were written beside it."""

    name: str
    """Its registered name."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Its options."""
    label: ShownName | None = None
    """What tables call it; its name with the options that are not the default, if None."""

    def plain(self) -> str | dict[str, Any]:
        """Return the form that a suite file holds."""
        label = {} if self.label is None else {"label": self.label}
        beside = {**label, **self.options}
        return {"name": self.name, **beside} if beside else self.name


class Mix(Config):
    """The models of a federation."""

    clients: tuple[Listed, ...] = Field(min_length=1)
    """Client i has entry i mod n."""
    server: Listed | None = None
    """The server's model, the student of distillation; the first entry if None."""
    label: ShownName | None = None
    """What tables call it; the names of its models if None."""

    def mapped(self, change: Callable[[Listed], Listed]) -> Mix:
        """Return the mix with every entry changed."""
        server = None if self.server is None else change(self.server)
        clients = tuple(change(one) for one in self.clients)
        return Mix(clients=clients, server=server, label=self.label)

    def plain(self) -> Any:
        """Return the form that a suite file holds."""
        entries = [entry.plain() for entry in self.clients]
        clients = entries[0] if len(entries) == 1 else entries
        if self.server is None and self.label is None:
            return clients
        server = {} if self.server is None else {"server": self.server.plain()}
        label = {} if self.label is None else {"label": self.label}
        return {"clients": clients, **server, **label}


class ListedStrategy(Listed):
    """A strategy in a suite."""

    label: SafeName
    """What tables call it, and folders of runs are named after."""
    rounds: int | None = Field(None, ge=1)
    """Rounds, where they differ from the suite's."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Local training settings, where they differ from the suite's."""
    search: Space = Field(default_factory=dict)
    """What is searched of this strategy alone: ``{strategy.mu: [0.01, 0.1]}``."""

    def plain(self) -> str | dict[str, Any]:
        """Return the form that a suite file holds."""
        beside: dict[str, Any] = {}
        if self.label != self.name:
            beside["label"] = self.label
        if self.rounds is not None:
            beside["rounds"] = self.rounds
        if self.training:
            beside["training"] = dict(self.training)
        if self.search:
            beside["search"] = plain_space(self.search)
        beside.update(self.options)
        return {"name": self.name, **beside} if beside else self.name


class MetricEntry(Listed):
    """A metric in a suite."""

    label: str | None = None
    """What its columns are named after; its name, with options that are not the
    default, if None."""


def normalise(raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return ``raw`` with its lists of registered things as entries.

    Raises:
        ConfigError: If an entry is neither a name nor a mapping with a name.
    """
    values = dict(raw)
    if "faults" in values:
        values["faults"] = _with_content(values["faults"], f"{where}: faults")
    for key in ("datasets", "partitions"):
        if key in values:
            values[key] = [
                _labelled(e, f"{where}: {key}") for e in _as_list(values[key])
            ]
    if "models" in values:
        values["models"] = [
            _mix(mix, f"{where}: models") for mix in _as_list(values["models"])
        ]
    if "metrics" in values:
        values["metrics"] = [
            _metric_entry(entry, f"{where}: metrics")
            for entry in _as_list(values["metrics"])
        ]
    if "strategies" in values:
        values["strategies"] = [
            strategy_entry(entry, f"{where}: strategies")
            for entry in _as_list(values["strategies"])
        ]
    return values


def _with_content(raw: object, where: str) -> object:
    """Return faults whose file is known by its content, so that the suite can be kept."""
    if isinstance(raw, list):
        return [_with_content(one, where) for one in raw]
    if not isinstance(raw, Mapping) or "availability" not in raw:
        return raw
    try:
        return {**raw, "availability": with_checksum(raw["availability"])}
    except ValueError as error:
        raise ConfigError(f"{where}.availability: {error}") from None


def strategy_entry(raw: object, where: str) -> ListedStrategy:
    """Return the entry that a name, or a mapping with options beside the name, means.

    Raises:
        ConfigError: If it is neither.
    """
    if isinstance(raw, ListedStrategy):
        return raw
    entry = _entry(raw, where)
    options = dict(entry.options)
    beside: dict[str, Any] = {
        key: options.pop(key)
        for key in ("label", "rounds", "training", "search")
        if key in options
    }
    label = beside.pop("label", entry.name)
    values: dict[str, Any] = {"name": entry.name, "label": label, "options": options}
    values |= beside
    return build(ListedStrategy, values, f"{where}.{label}")


def _metric_entry(raw: object, where: str) -> MetricEntry:
    if isinstance(raw, MetricEntry):
        return raw
    entry = _entry(raw, where)
    options = dict(entry.options)
    label = options.pop("label", None)
    values = {"name": entry.name, "label": label, "options": options}
    return build(MetricEntry, values, f"{where}.{entry.name}")


def _entry(raw: object, where: str) -> Listed:
    if isinstance(raw, Listed):
        return raw
    if isinstance(raw, str):
        return Listed(name=raw)
    if not isinstance(raw, Mapping) or not isinstance(raw.get("name"), str):
        raise ConfigError(f"{where}: {not_an_entry(raw)}")
    bad = [key for key in raw if not isinstance(key, str)]
    if bad:
        raise ConfigError(
            f"{where}.{raw['name']}: found the key {bad[0]!r}, expected text."
        )
    options = {key: value for key, value in raw.items() if key != "name"}
    return Listed(name=raw["name"], options=options)


def not_an_entry(raw: object) -> str:
    """Return what is wrong with what is neither a name nor a mapping with a name."""
    instead = ""
    if isinstance(raw, Mapping) and len(raw) == 1:
        ((name, options),) = raw.items()
        if isinstance(options, Mapping):
            instead = f": {json.dumps({'name': name, **options}, default=repr)}"
    return (
        f"found {raw!r}, expected a name, or a mapping with 'name' and options beside "
        f"it{instead}.{by_name(raw)}"
    )


def _labelled(raw: object, where: str) -> Listed:
    """Return an entry whose label is not an option of it."""
    entry = _entry(raw, where)
    if "label" not in entry.options:
        return entry
    options = dict(entry.options)
    values = {"name": entry.name, "label": options.pop("label"), "options": options}
    return build(Listed, values, f"{where}.{entry.name}")


def _mix(raw: object, where: str) -> Mix:
    if isinstance(raw, Mix):
        return raw
    if isinstance(raw, str) and "," in raw:
        names = ", ".join(part.strip() for part in raw.split(",") if part.strip())
        raise ConfigError(
            f"{where}: found {raw!r}, expected one name, or a list in brackets: "
            f"[[{names}]] is one mix of them, [{names}] a setting of each. On the "
            f"command line: --set 'models=[[{names}]]'."
        )
    server = label = None
    if isinstance(raw, Mapping) and "name" not in raw and "clients" in raw:
        odd = [str(key) for key in raw if key not in Mix.model_fields]
        if odd:
            raise ConfigError(
                f"{where}: unknown key {odd[0]!r}; a mix has 'clients' and 'server', and "
                "may have a 'label'."
            )
        label = raw.get("label")
        if raw.get("server") is not None:
            server = _entry(raw["server"], f"{where}.server")
        raw = raw["clients"]
    entries = tuple(_labelled(entry, where) for entry in _as_list(raw))
    if not entries:
        raise ConfigError(f"{where}: found [], expected at least one model.")
    if len(entries) == 1 and label is None:
        label = entries[0].label
        entries = (entries[0].model_copy(update={"label": None}),)
    named = [entry for entry in entries if entry.label is not None]
    if named:
        raise ConfigError(
            f"{where}.{named[0].name}: found the label {named[0].label!r} beside one model "
            "of a mix, expected one for all of it: {clients: [...], label: ...}."
        )
    return build(Mix, {"clients": entries, "server": server, "label": label}, where)


def _as_list(value: object) -> list[Any]:
    """Return a list; a single value stands for a list of one."""
    return list(value) if isinstance(value, list | tuple) else [value]
