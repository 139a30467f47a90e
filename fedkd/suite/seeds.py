"""Seeds as suites write them: a list, a number, or a range in text."""

from __future__ import annotations

import re
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Field

_DIGITS = 18
"""Most digits of a seed: it is a whole number of 64 bits in every file of results."""
_SEED = rf"(0|[1-9]\d{{0,{_DIGITS - 1}}})"
"""A seed in text: 010 is none, which may be 8 or 10."""
_EXPECTED = (
    f"expected whole numbers of at most {_DIGITS} digits, such as [0, 1, 2] or 0-2"
)


def parse_seeds(value: object) -> object:
    """Return the seeds that ``0-4``, ``"0,3"``, ``2`` or a list of numbers means.

    Raises:
        ValueError: If it means none, or one twice.
    """
    seeds = value
    if isinstance(value, bool):
        raise ValueError(_EXPECTED)
    if isinstance(value, int):
        seeds = [value]
    if isinstance(value, str):
        seeds = [seed for part in value.split(",") for seed in _seed_range(part)]
    if isinstance(seeds, list | tuple) and len(set(map(str, seeds))) < len(seeds):
        raise ValueError("a seed comes twice; remove one of them")
    return seeds


def _seed_range(part: str) -> list[int]:
    match = re.fullmatch(rf"\s*{_SEED}\s*(?:-\s*{_SEED}\s*)?", part, re.ASCII)
    if match is None:
        raise ValueError(_EXPECTED)
    first = int(match[1])
    last = int(match[2]) if match[2] else first
    if not first <= last < first + 1000:
        raise ValueError("expected a range upwards of at most 1000 seeds, such as 0-2")
    return list(range(first, last + 1))


Seeds: TypeAlias = Annotated[
    tuple[Annotated[int, Field(ge=0, lt=10**_DIGITS)], ...],
    Field(min_length=1),
    BeforeValidator(parse_seeds),
]
"""Seeds: ``[0, 1, 2]`` or ``0-2``."""
