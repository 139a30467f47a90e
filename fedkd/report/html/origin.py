"""Where results were made, and the commands that make them again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from fedkd.base.bounds import read_text
from fedkd.base.files import json_mapping
from fedkd.base.folders import ResultsFolder
from fedkd.report.description import EARLIER
from fedkd.report.reading import Report
from fedkd.report.results import Row

LEFT_OUT = ("command", "plugins", EARLIER)
"""Facts that are shown otherwise."""
NEEDED = ("--plugin", "--data-root")
"""Options of a command without which its runs cannot be made."""


@dataclass(frozen=True)
class Command:
    """A line for a shell, and what it does."""

    about: str
    line: str


@dataclass(frozen=True)
class Origin:
    """One results folder."""

    folder: str
    commands: tuple[Command, ...]
    facts: tuple[tuple[str, str], ...]
    """What ``environment.json`` says of machine and versions, at the last call."""
    suite: str
    """The text of ``suite.yaml``; empty if there is none."""


def origins_of(report: Report) -> list[Origin]:
    """Return the folders of a report, in the order in which they were given."""
    places = dict.fromkeys(
        ResultsFolder(folder.path.parent.parent) for folder in report.folders.values()
    )
    return [_origin(place, report) for place in places]


def _origin(place: ResultsFolder, report: Report) -> Origin:
    facts = json_mapping(place.environment) or {}
    suite = _text(place.suite)
    rows = (
        row
        for row in report.rows
        if suite and report.folders[row.run_id].path.parent == place.runs
    )
    commands = _commands(place, facts, next(rows, None))
    return Origin(str(place.path), tuple(commands), _shown(facts), suite)


def _commands(
    place: ResultsFolder, facts: Mapping[str, Any], row: Row | None
) -> list[Command]:
    """Return what was called, and what makes all or one run again."""
    known = facts.get("command")
    is_list = isinstance(known, Sequence) and not isinstance(known, str)
    called = [str(word) for word in known] if known and is_list else []
    lines = []
    if called:
        about = "What was called when the last of these runs was made:"
        lines.append(Command(about, shlex.join(called)))
    if row is not None:
        again = ["fedkd", "bench", str(place.suite), "--out", f"{place.path}-again"]
        again += [word for option in NEEDED for word in _given(called, option)]
        if place.chosen.exists():
            # Else the search would be made again.
            again += ["--chosen", str(place.chosen)]
        one = ["--strategies", row.strategy, "--seeds", str(row.seed)]
        lines += [
            Command("All of it again, into a new folder:", shlex.join(again)),
            Command(
                "One run again: its strategy and seed, as in the table of runs:",
                shlex.join([*again, *one]),
            ),
        ]
    return lines


def _given(called: Sequence[str], option: str) -> list[str]:
    """Return an option of a command and its value, as often as it has one."""
    start = f"{option}="
    apart = [after for before, after in pairwise(called) if before == option]
    joined = [word.removeprefix(start) for word in called if word.startswith(start)]
    values = dict.fromkeys([*apart, *joined])
    return [word for value in values for word in (option, value)]


def _shown(facts: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return facts as names and texts; those that are not known are left out."""
    return tuple(
        (name.replace("_", " "), _fact(value))
        for name, value in facts.items()
        if name not in LEFT_OUT and value not in (None, "", [], {})
    )


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    return str(value)


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except (OSError, ValueError):
        return ""
