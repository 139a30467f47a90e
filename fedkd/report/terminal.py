"""Tables of results for terminals: as wide as there is room, and no name is cut."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TypeAlias

from rich.console import (
    Console,
    ConsoleOptions,
    Group,
    JustifyMethod,
    RenderableType,
)
from rich.table import Table as Grid
from rich.text import Text

from fedkd.metrics.columns import Column
from fedkd.report.grouping import column_titles
from fedkd.report.notes import labelled, meaning, mixed_data, notes, verdicts
from fedkd.report.parts import Part, marked
from fedkd.report.results import Row
from fedkd.report.summary import Table, summarise
from fedkd.report.table import (
    entry_text,
    is_asked_for,
    reasons,
    started_anew,
    went_back,
)

STYLES = {"best": "bold", "second": "underline", "leading": "", "": ""}
_Texts: TypeAlias = Sequence[Sequence[str]]
"""Of the strategies, by setting."""
FRAME = 3
"""Characters that a column takes beside its text: a line and two spaces."""
NAME = 12
"""Characters of a name that stay together before numbers have to."""


def table_rich(
    rows: Sequence[Row],
    *,
    title: str = "",
    references: Collection[str] = (),
    columns: Sequence[Column] = (),
) -> RenderableType:
    """Return the global accuracies, and what belongs under them, for a terminal.

    Args:
        rows: All rows of the bench, in the order that strategies shall have.
        title: Heading.
        references: Labels of strategies that are marked and never best.
        columns: Of metrics beside accuracy; each has a table, but for local means.
    """
    if not rows:
        return Text("There are no results yet.")
    table = summarise(rows, references)
    _, shared = column_titles(table.settings)
    parts: list[RenderableType] = [
        *(Text(line, style="bold") for line in mixed_data(rows)),
        Fitted(table, title),
        *map(Text, notes(rows, table, shared)),
    ]
    for column in columns:
        table = summarise(rows, references, column)
        if column.scope != "local" and is_asked_for(table):
            note = Text(" ".join([*meaning(rows, table), *verdicts(table)]))
            parts += [Fitted(table, column.title), note]
    lines = [*reasons(rows), *started_anew(rows), *went_back(rows)]
    return Group(*parts, *map(Text, lines))


def part_rich(part: Part) -> RenderableType:
    """Return a part of a page for a terminal: its grid, and what stands below."""
    rest = [Text(line) for line in (*part.notes, *part.items)]
    if part.grid is None:
        return Group(Text(part.title, style="bold"), *rest)
    table = part.grid
    numbers = range(table.names, len(table.header) - table.remarks)
    body = [
        [Text(one.text, style=STYLES[one.mark]) for one in line] for line in table.body
    ]
    heading = Text(part.title, style="bold")
    return Group(heading, Whole(table.header, body, numbers), *rest)


class Whole:
    """A table in which no number and no header breaks, however narrow its console is.

    Where there is too little room, a name that is longer than :data:`NAME` goes on in the
    next line; where there is less, each line of the table is a paragraph that says it all.
    """

    def __init__(
        self,
        header: Sequence[str],
        body: Sequence[Sequence[Text]],
        numbers: Collection[int],
        grid: Callable[[], Grid] = Grid,
    ) -> None:
        """Take what stands in it.

        Args:
            header: The columns' names.
            body: The lines.
            numbers: Places of the columns that stand to the right, and have room first.
            grid: Makes the table that is filled.
        """
        self._header = header
        self._body = body
        self._numbers = numbers
        self._make = grid

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """Yield the grid, or a paragraph a line."""
        del console
        widths = self._widths(options.max_width)
        grid = self._make()
        if widths is None:
            yield from [grid.title or "", *map(self._paragraph, self._body)]
            return
        for place, name in enumerate(self._header):
            side: JustifyMethod = "right" if place in self._numbers else "left"
            width = widths[place]
            grid.add_column(Text(name), justify=side, width=width, overflow="fold")
        for line in self._body:
            grid.add_row(*line)
        yield grid

    def _widths(self, room: int) -> list[int] | None:
        """Return how wide each column is; None where one would have to break a word."""
        places = range(len(self._header))
        room -= FRAME * len(places) + 1
        words = [self._longest(place) for place in places]
        least = [
            longest
            if place in self._numbers
            else max(min(longest, NAME), _longest(self._header[place]))
            for place, longest in enumerate(words)
        ]
        widths = words if sum(words) <= room else least
        left = room - sum(widths)
        if left < 0:
            return None
        # Numbers first: with room they stand in one line.
        for place in sorted(places, key=lambda place: place not in self._numbers):
            texts = [Text(self._header[place]), *(line[place] for line in self._body)]
            more = min(left, max(text.cell_len for text in texts) - widths[place])
            widths[place] += more
            left -= more
        return widths

    def _longest(self, place: int) -> int:
        """Return the length of the longest word of a column."""
        lines = (line[place].plain for line in self._body)
        return max(map(_longest, [self._header[place], *lines]))

    def _paragraph(self, line: Sequence[Text]) -> Text:
        named = zip(self._header, line, strict=True)
        return Text("; ").join(
            Text(f"{name} ").append_text(text) for name, text in named
        )


class Fitted:
    """A table that is as wide as its console allows.

    Settings that have no room beside others follow below, with the strategies again. What
    is longer than a line goes on in the next one. Where text has no styles, as in a file,
    bold and underlined are as in Markdown.
    """

    def __init__(self, table: Table, title: str) -> None:
        self._table = table
        self._title = title
        self._titles, _ = column_titles(table.settings)
        self._labels = [labelled(label, table) for label in table.strategies]

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """Yield one grid, or several where one is too wide."""
        # What is recorded becomes a page, with styles.
        texts = self._entries(console.color_system is not None or console.record)
        title = self._title
        for places in self._parts(options.max_width, texts):
            yield self._grid(places, title, texts)
            title = f"{self._title} (goes on)".lstrip()

    def _entries(self, is_styled: bool) -> _Texts:
        """Return the texts of each setting, with signs of their marks without styles."""
        table = self._table
        texts = []
        for setting in table.settings:
            entries = [table.entries[label, setting] for label in table.strategies]
            marks = ["" if is_styled else entry.mark for entry in entries]
            plain = [entry_text(entry, table) for entry in entries]
            texts.append(list(map(marked, plain, marks)))
        return texts

    def _parts(self, room: int, texts: _Texts) -> list[list[int]]:
        """Return which settings stand side by side: as many as have room."""
        start = Text(max([*self._labels, "strategy"], key=len)).cell_len + FRAME + 1
        parts: list[list[int]] = [[]]
        used = start
        widths = map(_least, self._titles, texts)
        for place, width in enumerate(widths):
            if parts[-1] and used + width + FRAME > room:
                parts.append([])
                used = start
            parts[-1].append(place)
            used += width + FRAME
        return parts

    def _grid(self, places: Sequence[int], title: str, texts: _Texts) -> Grid:
        table = self._table
        # Text here and below: what is in square brackets is markup to rich, and vanishes.
        heading = Text(title) if title else None
        grid = Grid(title=heading, title_justify="left", title_style="bold")
        grid.add_column("strategy", overflow="fold")
        for place in places:
            name = Text(self._titles[place])
            grid.add_column(name, justify="right", overflow="fold")
        for line, label in enumerate(table.strategies):
            marks = [table.entries[label, table.settings[p]].mark for p in places]
            shown = [
                Text(texts[place][line], style=STYLES[mark])
                for place, mark in zip(places, marks, strict=True)
            ]
            grid.add_row(Text(self._labels[line]), *shown)
        return grid


def _least(title: str, texts: Sequence[str]) -> int:
    """Return the least width of a setting: its numbers and its title's words."""
    return max(Text(word).cell_len for word in (*texts, *title.split()))


def _longest(text: str) -> int:
    """Return the length of a text's longest word."""
    return max((Text(word).cell_len for word in text.split()), default=0)
