"""Messages of what the command line shares, in the words of a call from Python."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator

from fedkd.errors import FedKDError

_OPTION = re.compile(
    r"(?P<command>fedkd [a-z][^'`;\n]*?--[^'`;\n]*)"
    r"|--set(?: (?P<path>[\w.-]+)(?P<value>=?))?"
    r"|--plugin FILE"
    # What stands after an option is its value, if it looks like one: a number, a path,
    # a device.
    r"|--(?P<name>[a-z][a-z-]*)(?: (?=[^\s:;,]*[/\d]|(?:auto|cpu|cuda|True|False)\b))?"
)
_OTHER_NAMES = {"plugin": "plugins", "observer": "observers"}


@contextlib.contextmanager
def said_in_python(keywords: Collection[str]) -> Iterator[None]:
    """Let errors of the block call options as a caller from Python gave them.

    Args:
        keywords: Keys of a suite that were given as keywords; others came by ``set``.
    """
    try:
        yield
    except FedKDError as error:
        error.args = tuple(
            in_python(part, keywords) if isinstance(part, str) else part
            for part in error.args
        )
        raise


def in_python(text: str, keywords: Collection[str] = ()) -> str:
    """Return a message with keywords in the place of options; commands stay."""

    def keyword(hit: re.Match[str]) -> str:
        if hit["command"]:
            return hit[0]
        if hit["path"]:
            path = hit["path"]
            shown = path if path in keywords else f"set[{path!r}]"
            return shown + hit["value"]
        if hit["name"]:
            name = hit["name"].replace("-", "_")
            is_place = text.startswith(":", hit.end())
            return _OTHER_NAMES.get(name, name) + ("" if is_place else "=")
        return "set=" if hit[0].startswith("--set") else "plugins=[FILE]"

    return _OPTION.sub(keyword, text)
