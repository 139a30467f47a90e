"""Reads what the command lines of these scripts ask for."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection


def repeats_of(text: str) -> int:
    """Return a number of rounds to time, from 1 on.

    Raises:
        argparse.ArgumentTypeError: If the text is something else.
    """
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"found {text!r}, expected a whole number from 1 on"
        )
    return int(text)


def chosen_of(known: Collection[str]) -> Callable[[str], list[str]]:
    """Return what reads names out of ``known``, joined by commas."""

    def read(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",")]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(
                    f"found {name!r}, expected some of: {', '.join(known)}"
                )
        return names

    return read


def add_repeats(parser: argparse.ArgumentParser) -> None:
    """Add the number of rounds to time, by position."""
    text = "rounds of each to time (default: 9)"
    parser.add_argument("repeats", nargs="?", type=repeats_of, default=9, help=text)


def add_names(
    parser: argparse.ArgumentParser, name: str, known: Collection[str], default: str
) -> None:
    """Add names out of ``known``, joined by commas, by position."""
    parser.add_argument(
        name,
        nargs="?",
        type=chosen_of(known),
        default=default,
        help=f"some of: {', '.join(known)}; joined by commas (default: {default})",
    )
