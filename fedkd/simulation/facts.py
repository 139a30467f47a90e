"""What payloads are like: classes, names of entries, types and shapes, and no values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from fedkd.errors import listing
from fedkd.payload import Weights, is_frozen_dataclass

Facts = Mapping[str, str]
"""What a payload is like, by path: ``{"": "an Update", "weights.w": "float32 [3, 4]"}``."""
ENTRIES = " (its entries)"
"""Ends the path of a mapping where it stands for the names in it."""
CLASSES = " (its classes)"
"""Ends the path of a mapping by class where it stands for the classes in it."""
_PAYLOAD = "a payload "


@dataclass(frozen=True)
class Rejection:
    """Why the server leaves out an answer."""

    entry: str
    """The path in the payload; ``the answer`` for all of it."""
    found: str
    """What is there."""
    expected: str
    """What should be."""

    def __str__(self) -> str:
        """Return it as ``metrics.jsonl`` has it."""
        return f"{self.entry}: found {self.found}, expected {self.expected}"


def unlike(facts: Facts, like: Any, varying: tuple[str, ...]) -> Rejection | None:
    """Return the first thing in which an answer is not as it should be; None if nothing.

    Args:
        facts: What the answer is like.
        like: An answer that is as it should be; what is None or empty in it is open. All
            is open if it is None.
        varying: Paths at and below which sizes may differ.
    """
    if like is None:
        return None
    wanted, own = (without(f, varying) for f in (dict(facts_of(like)), facts))
    if own.get("") != wanted[""]:
        return difference("", own.get("", "something else"), wanted[""])
    judged = [one.name for one in fields(like) if _says(getattr(like, one.name))]
    for path, found in own.items():
        place = path.removesuffix(ENTRIES)
        if not _is_below(place, judged):
            continue
        # A mapping by class may be empty; by classes it is not told from one by name.
        is_open = _is_below(place, varying) or not found
        expected = wanted.get(path, found if is_open else "no such entry")
        if found != expected:
            return difference(path, found, expected)
    there = {re.split(r"[. ]", path, maxsplit=1)[0] for path in own}
    lacking = [name for name in judged if name not in there]
    return Rejection(lacking[0], "nothing", "what was asked for") if lacking else None


def _says(value: Any) -> bool:
    """Say whether a field of an answer that is as it should be says something."""
    empty = isinstance(value, Mapping | tuple | list) and not value
    return value is not None and not empty


def without(facts: Facts, varying: tuple[str, ...]) -> Facts:
    """Return facts without classes, and without what varies: sizes, kinds of payloads."""
    kept = {p: fact for p, fact in facts.items() if not p.endswith(CLASSES)}
    for path in [p for p in kept if _is_below(p, varying)]:
        kept[path] = re.sub(r"\d+(?=[],])", "n", kept[path])
        if kept[path].startswith(_PAYLOAD):
            del kept[path]  # what one client sends as a tensor, another may take apart
    return kept


def _is_below(path: str, tops: Iterable[str]) -> bool:
    return any(path == top or path.startswith(f"{top}.") for top in tops)


def difference(path: str, found: str, expected: str) -> Rejection:
    """Return why a fact is not the one expected; of names, those that differ."""
    if not path.endswith(ENTRIES):
        return Rejection(path or "the answer", found, expected)
    own, usual = (set(filter(None, names.split(", "))) for names in (found, expected))
    missing, extra = sorted(usual - own), sorted(own - usual)
    told = [f"no {listing(missing, 3)}"] if missing else []
    told += [f"{listing(extra, 3)} beside"] if extra else []
    return Rejection(path, " and ".join(told), "the entries that answers have")


def facts_of(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield what a payload is like: classes, names of entries, types and shapes.

    What is None has no facts: a field may be left empty.

    Args:
        value: The payload, or a part of it.
        path: Where the part is.
    """
    if isinstance(value, Tensor):
        yield path, form_of(value)
    elif isinstance(value, bool | int | float | str):
        yield path, "a text" if isinstance(value, str) else "a number"
    elif value is not None:
        yield from _facts_of_tree(value, path)


def _facts_of_tree(value: Any, path: str) -> Iterator[tuple[str, str]]:
    inside: Iterable[tuple[Any, Any]]
    if is_frozen_dataclass(value):
        yield path, f"{_PAYLOAD}{type(value).__name__}"
        inside = [(one.name, getattr(value, one.name)) for one in fields(value)]
    elif isinstance(value, Mapping):
        inside = value.items()
        if all(isinstance(key, str) for key in value):
            yield path + ENTRIES, ", ".join(sorted(value))
        elif all(isinstance(key, int) for key in value):
            yield path + CLASSES, f"{min(value)} to {max(value)}"
    else:
        inside = enumerate(value)
    for key, inner in inside:
        yield from facts_of(inner, f"{path}.{key}" if path else str(key))


def form_of(value: Tensor) -> str:
    """Return type and shape of a tensor: ``float32 [3, 4]``."""
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def forms_of(weights: Weights) -> dict[str, str]:
    """Return type and shape of every entry of a model's state."""
    return {name: form_of(value) for name, value in weights.items()}
