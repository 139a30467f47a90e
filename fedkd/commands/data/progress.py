"""How far a preparation is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

LINE_EVERY = 5.0
"""Least seconds between two plain lines of one half."""
Shown = Callable[[str, int, int], None]
"""Is told the half, the images that are done and all its images."""


@contextmanager
def shown(name: str, console: Console | None = None) -> Iterator[Shown]:
    """Give a function that shows how far the preparation of a data set is.

    It writes to the standard error, so that the output holds nothing but results.

    Args:
        name: The data set.
        console: Where to draw; the standard error if None.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield Lines(name, console)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("images"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console) as bars:
        tasks = {}

        def update(split: str, done: int, number: int) -> None:
            if split not in tasks:
                tasks[split] = bars.add_task(f"{name} {split}", total=number)
            bars.update(tasks[split], completed=done)

        yield update


class Lines:
    """Plain lines: the first of a half, one now and then, and its last."""

    def __init__(
        self, name: str, console: Console, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._console = console
        self._clock = clock
        self._next: dict[str, float] = {}

    def __call__(self, split: str, done: int, number: int) -> None:
        """Write a line if it is time for one."""
        now = self._clock()
        if split in self._next and now < self._next[split] and done < number:
            return
        self._next[split] = now + LINE_EVERY
        share = 100 * done // max(number, 1)
        text = f"{self._name}: {split}: {done:,} of {number:,} images ({share} %)"
        self._console.print(
            text, markup=False, emoji=False, highlight=False, soft_wrap=True
        )
