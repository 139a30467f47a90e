"""How strategies are told apart in all pictures of a bench: by colour, marker and dash."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D",
    "#8C6D31",
)  # fmt: skip
"""After Okabe and Ito: told apart with every common form of colour blindness."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
"""Shapes of points: with eight colours, 24 strategies differ in one or both of them."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
"""Of the first eight strategies, the next eight, and so on."""
REFERENCE_COLOURS = ("#555555", "#888888", "#333333")
REFERENCE_DASHES = ((0, (4, 2)), (0, (1.2, 1.6)), (0, (6, 1.5, 1.2, 1.5)))


@dataclass(frozen=True)
class Look:
    """What one strategy is drawn with, in every picture."""

    colour: str
    marker: str
    dash: Any
    """A line style of matplotlib."""
    reference: bool = False
    """Whether it is grey and hollow: a reference, which does not compete."""


def look(number: int, reference: bool = False) -> Look:
    """Return what the competitor or the reference of a number is drawn with, from 0."""
    marker = MARKERS[number % len(MARKERS)]
    if reference:
        place = number % len(REFERENCE_COLOURS)
        return Look(REFERENCE_COLOURS[place], marker, REFERENCE_DASHES[place], True)
    dash = DASHES[number // len(COLOURS) % len(DASHES)]
    return Look(COLOURS[number % len(COLOURS)], marker, dash)


def looks(labels: Sequence[str], references: Collection[str]) -> dict[str, Look]:
    """Return what each strategy of a bench is drawn with.

    Competitors and references are counted apart, so that no reference takes a colour.

    Args:
        labels: All of the bench, in its order, whatever is drawn of them.
        references: Labels of those that do not compete.
    """
    counted = {True: 0, False: 0}
    found = {}
    for label in labels:
        reference = label in references
        found[label] = look(counted[reference], reference)
        counted[reference] += 1
    return found
