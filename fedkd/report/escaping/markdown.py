r"""Texts for Markdown, as GitHub and Python-Markdown both read it.

Only what would be read as a sign is changed, so that a page can be read as it stands. A
backslash is put where both know it, else a character is named: Python-Markdown has no
``\<`` and no ``\$``.
"""

from __future__ import annotations

import html
import re

_SIGNS = re.compile(
    r"""
      [\\`*]                            # code, emphasis, and the backslash itself
    | (?<![^\W_])_ | _(?![^\W_])        # emphasis begins or ends; not inside a name
    | (?<=\])[(\[]                      # a link
    | <(?=[A-Za-z/!?])                  # HTML, or a link
    | &(?=\#?\w+;)                      # a character by its name
    | \$                                # a formula, on GitHub
    | ~(?=.*~) | (?<=~)~                # struck out
    | (?<=\s)\#(?=\#*$)                # ends a heading
    """,
    re.VERBOSE,
)
_NAMED = {"<": "&lt;", "&": "&amp;", "$": "&#36;", "~": "&#126;"}
_START = re.compile(r"#|>|\[|[+-](?=\s|$)|-(?=-)|\d+(?=[.)](?:\s|$))")
"""What at the start of a line makes a heading, a quote, a task, a list or a rule."""


def escaped(text: str) -> str:
    """Return a text as part of a line; line breaks and other blanks are spaces."""
    return _SIGNS.sub(_sign, " ".join(text.split()))


def escaped_line(text: str) -> str:
    """Return a text as a whole paragraph, heading or item of a list."""
    line = escaped(text)
    start = _START.match(line)
    if start is None:
        return line
    if start[0].isdigit():
        return f"{start[0]}\\{line[start.end() :]}"
    return f"\\{line}"


def escaped_entry(text: str) -> str:
    """Return a text as a field of a table."""
    return escaped(text).replace("|", "\\|")


def unescaped(text: str) -> str:
    """Return the text that :func:`escaped` or :func:`escaped_line` made something of."""
    return html.unescape(re.sub(r"\\([!-/:-@[-`{-~])", r"\1", text))


def _sign(match: re.Match[str]) -> str:
    return _NAMED.get(match[0], f"\\{match[0]}")
