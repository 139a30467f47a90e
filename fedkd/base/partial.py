"""How a note on the data says which part of a published set it is, and how that is read.

Notes are what a row of results.csv knows of its files. A part that changes between two
runs leaves them with two names.
"""

from __future__ import annotations

import re

_NAMED = re.compile(r"\(part ([0-9a-f]{8})\)")


def named_part(digest: str) -> str:
    """Return what a note ends with: ``(part 1f2e3d4c)``.

    Args:
        digest: Of all images and labels, hexadecimal, eight digits or more.
    """
    return f"(part {digest[:8]})"


def parts_named(notes: str) -> str:
    """Return the digests of the parts that notes name, one after the other; "" if none."""
    return " ".join(_NAMED.findall(notes))
