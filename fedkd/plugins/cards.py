"""Cards: what a registered thing is, needs, sends and can be told, as plain records."""

from __future__ import annotations

import dataclasses
import importlib.resources
import inspect
import re
import sys
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from fedkd.config import build
from fedkd.errors import ConfigError
from fedkd.plugins.builders import config_of
from fedkd.plugins.citations import Paper, entries_of, papers_of
from fedkd.plugins.composing import composed
from fedkd.plugins.entries import Entry
from fedkd.plugins.fields import (
    dataclass_fields,
    one_line,
    options_of,
    plain,
    type_text,
)
from fedkd.strategy import Preset, Requires, Strategy

KEYS = ("Paper", "Algorithm", "Code", "Deviations")
"""The keys of the docstring of a strategy's module."""
SENDING = {
    "down": "Server sends",
    "up": "Client sends",
    "last": "Client sends in the last round",
}
"""How the payloads of a card are called."""
_NEEDS = {
    "one_architecture": "one architecture for all clients and the server",
    "nested_widths": "one family of models at nested widths, the server's the widest",
    "equal_feature_size": "models with features of one size",
    "shared_layers": "models with equal upper layers",
    "batch_norm": "batch normalisation in every model",
    "public_data": "public data at the server",
    "public_data_at_clients": "public data at the server and at every client",
}


def card(entry: Entry) -> dict[str, Any]:
    """Return the card of a registered thing, ready for JSON.

    Raises:
        PluginError: If it cannot be imported.
        ContractError: If it is not what it should be.
    """
    target = entry.resolve()
    origin = {"owner": entry.owner, "version": entry.version, "target": entry.target}
    head = {"kind": entry.kind_of_thing, "name": entry.name, "summary": entry.summary}
    return head | origin | _BODIES[entry.kind_of_thing](entry, target)


def papers(entry: Entry) -> list[Paper]:
    """Return the papers of a strategy or a data set; of other things none.

    Those of a preset come with those of the strategy that it is a preset of.

    Raises:
        PluginError: If it cannot be imported.
        ContractError: If it is not what it should be.
    """
    target = entry.resolve()
    if entry.kind_of_thing == "datasets":
        return papers_of(target.paper)
    if entry.kind_of_thing != "strategies":
        return []
    cls = target.strategy if isinstance(target, Preset) else target
    lines = (_keys(entry, target).get("Paper", ""), method_keys(cls).get("Paper", ""))
    return list(dict.fromkeys(paper for line in lines for paper in papers_of(line)))


def suite_card(name: str) -> dict[str, Any]:
    """Return the card of a packaged suite: its file."""
    file = importlib.resources.files("fedkd.suites").joinpath(f"{name}.yaml")
    return {"kind": "suites", "name": name, "text": file.read_text(encoding="utf-8")}


def _strategy(entry: Entry, target: Any) -> dict[str, Any]:
    preset = target if isinstance(target, Preset) else Preset(target)
    cls = preset.strategy
    keys = _keys(entry, target)
    # With what its options add to any strategy: how the server averages, a last step.
    whole = composed("strategies", cls, preset.options)
    options = options_of(whole.Config)
    down, up = _wire_types(cls)
    sends = {"down": _payload(down), "up": _payload(up)}
    if whole.last_answer is not None:
        sends["last"] = _payload(whole.last_answer)
    body: dict[str, Any] = {
        "description": preset.doc or keys.pop("", "") or _doc(cls),
        "reference": cls.is_reference,
        **{key.lower(): keys.get(key, "") for key in KEYS},
        "bibtex": entries_of(papers(entry)),
        "needs": needs_of(_requires(whole, preset.options)),
        "average": average_of(cls),
        "sends": sends,
        "options": options,
    }
    if isinstance(target, Preset):
        _override(options, target.options)
        for option in options:
            if option["name"].partition(".")[0] not in cls.Config.model_fields:
                option["added"] = True
        body["preset_of"] = cls.__name__
        body["preset_deviations"] = list(target.deviations)
    return body


def _dataset(entry: Entry, target: Any) -> dict[str, Any]:
    return {
        "description": _doc(target),
        "paper": target.paper,
        "bibtex": entries_of(papers(entry)),
        "files": dict(target.files),
        "options": options_of(target.Config),
    }


def _plain(entry: Entry, target: Any) -> dict[str, Any]:
    del entry
    return {"description": _doc(target), "options": []}


def _partitioner(entry: Entry, target: Any) -> dict[str, Any]:
    del entry
    return {"description": _doc(target), "options": options_of(target.Config)}


def _metric(entry: Entry, target: Any) -> dict[str, Any]:
    del entry
    return {
        "description": _doc(target),
        "unit": target.unit,
        "better": "higher" if target.higher_is_better else "lower",
        "options": options_of(target.Config),
    }


def _model(entry: Entry, builder: Any) -> dict[str, Any]:
    if entry.kind == "mix":
        texts = [
            "- " + ", ".join(f"{k}: {v}" for k, v in one.items()) for one in builder
        ]
        return {
            "model_kind": entry.kind,
            "description": "\n".join([entry.summary, "", *texts]),
            "options": [],
        }
    return {
        "model_kind": entry.kind,
        "description": _doc(builder),
        "options": options_of(config_of(builder)),
    }


_BODIES = {
    "strategies": _strategy,
    "datasets": _dataset,
    "models": _model,
    "partitioners": _partitioner,
    "executors": _plain,
    "observers": _plain,
    "metrics": _metric,
}


def method_keys(cls: type) -> dict[str, str]:
    """Return the keyed paragraphs of a strategy's module, or of the package around it."""
    module = sys.modules[cls.__module__]
    around = sys.modules.get(module.__package__ or "", module)
    own, outer = (docstring_keys(m.__doc__ or "") for m in (module, around))
    return outer if len(outer) > len(own) else own


def _keys(entry: Entry, target: Any) -> dict[str, str]:
    """Return the keyed paragraphs of a strategy; those of a preset's own module first."""
    if not isinstance(target, Preset):
        return method_keys(target)
    module = sys.modules[entry.target.partition(":")[0]]
    own = docstring_keys(module.__doc__ or "")
    return own if "Paper" in own else method_keys(target.strategy)


def docstring_keys(text: str, keys: Sequence[str] = KEYS) -> dict[str, str]:
    """Return the keyed paragraphs of a docstring; the prose before as ``""``.

    A key stands at the start of a line, ``Paper: …``; its further lines are indented.
    Items that start with ``- `` keep lines of their own.
    """
    paragraphs: dict[str, list[str]] = {"": []}
    current = ""
    for line in inspect.cleandoc(text).splitlines():
        match = re.match(rf"({'|'.join(keys)}):\s*(.*)", line)
        if match:
            current = match[1]
            paragraphs[current] = [match[2]]
        elif current and line and not line.startswith(" "):
            current = ""
        else:
            paragraphs[current].append(line.strip())
    return {key: _joined(lines) for key, lines in paragraphs.items()}


def _joined(lines: list[str]) -> str:
    text = "\n".join(lines).strip()
    return re.sub(r"\s*\n(?!- )\s*", " ", text)


def _requires(
    cls: type[Strategy[Any, Any, Any]], preset: Mapping[str, Any]
) -> Requires:
    """Return what a strategy requires with the options of a preset."""
    try:
        config = build(cls.Config, preset, cls.__name__)
    except ConfigError:  # an option without a default
        return cls.requires
    return cls(config).requires


def needs_of(requires: Requires) -> list[str]:
    """Return what a strategy requires, in words; nothing if it runs anywhere."""
    needs = [words for name, words in _NEEDS.items() if getattr(requires, name)]
    default = Requires().buffers
    if tuple(requires.buffers) != default:
        needs.append(f"buffer policy {' or '.join(requires.buffers)}")
    if requires.clients > 1:
        needs.append(f"{requires.clients} clients in a round")
    return needs


def average_of(cls: type[Strategy[Any, Any, Any]]) -> str:
    """Return whether a strategy takes the option ``average``, and if not, why."""
    if "average" in cls.Config.model_fields:
        return "an option of its own has this name"
    if cls.no_average:
        return f"mean only, for {cls.no_average}"
    return "the mean, or the rule that the option average names"


def _wire_types(cls: type) -> tuple[Any, Any]:
    """Return what ``Down`` and ``Up`` stand for in a subclass of ``Strategy``.

    A base class in between may leave the three of them open, in this order.
    """
    for base in cls.__mro__:
        for parent in base.__dict__.get("__orig_bases__", ()):
            origin, arguments = typing.get_origin(parent), typing.get_args(parent)
            strategy = isinstance(origin, type) and issubclass(origin, Strategy)
            still_open = any(isinstance(a, typing.TypeVar) for a in arguments)
            if strategy and len(arguments) == 3 and not still_open:
                down, up = (_named(argument, base) for argument in arguments[1:])
                return down, up
    return None, None


def _named(argument: Any, cls: type) -> Any:
    """Return the class that a type argument written as a string stands for."""
    if not isinstance(argument, typing.ForwardRef):
        return argument
    name = argument.__forward_arg__
    return getattr(sys.modules[cls.__module__], name, name)


def _payload(kind: Any) -> dict[str, Any]:
    """Return name, description and fields of a payload class."""
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return {
            "type": type_text(kind) if kind else "",
            "description": "",
            "fields": [],
        }
    return {
        "type": kind.__name__,
        "description": _doc(kind),
        "fields": dataclass_fields(kind),
    }


def _override(options: list[dict[str, Any]], changes: Mapping[str, Any]) -> None:
    """Add the values of a preset to the records of the options that it changes."""
    flat = _flat(changes)
    for option in options:
        if option["name"] in flat:
            option["preset"] = plain(flat[option["name"]])


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return every value of a tree by path, inner mappings included as values too."""
    values: dict[str, Any] = {}
    for key, value in tree.items():
        values[f"{prefix}{key}"] = value
        if isinstance(value, Mapping):
            values |= _flat(value, f"{prefix}{key}.")
    return values


def _doc(thing: Any) -> str:
    """Return the docstring of a thing without its sections, one paragraph a line."""
    # Dataclasses without a docstring get their signature as one: that says nothing.
    text = inspect.cleandoc(getattr(thing, "__doc__", None) or "")
    name = getattr(thing, "__name__", "")
    if name and text.startswith(f"{name}("):
        return ""
    text = re.split(r"\n(?:Args|Returns|Raises|Example|Examples):\n", text)[0]
    paragraphs = (one_line(part) for part in text.split("\n\n"))
    return "\n".join(part for part in paragraphs if part)
