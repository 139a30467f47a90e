"""The parts of a page of results, whatever it is written in: headings, grids, notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fedkd.report.escaping.markdown import escaped_entry, escaped_line
from fedkd.report.grouping import Setting
from fedkd.report.stats.standings import Mark
from fedkd.report.text import markdown_grid


def marked(text: str, mark: Mark) -> str:
    """Return a text, bold or underlined as its mark says, as Markdown has it."""
    if mark == "best":
        return f"**{text}**"
    return f"<u>{text}</u>" if mark == "second" else text


@dataclass(frozen=True)
class Entry:
    """One field of a grid."""

    text: str
    """Plain, whatever is in it."""
    mark: Mark = ""
    """What it is in its column; see :func:`fedkd.report.stats.standings.standing`."""
    of: tuple[str, Setting] | None = None
    """The strategy and setting whose runs it says something of, if it does."""

    @property
    def markdown(self) -> str:
        """The text, bold or underlined as its mark says."""
        return marked(escaped_entry(self.text), self.mark)


@dataclass(frozen=True)
class Grid:
    """A table: names, then numbers, then remarks."""

    header: tuple[str, ...]
    body: tuple[tuple[Entry, ...], ...]
    names: int = 1
    """Columns at the start that are no numbers."""
    remarks: int = 0
    """Columns at the end that are none."""

    @classmethod
    def of(
        cls,
        header: Sequence[str],
        body: Iterable[Sequence[Entry | str]],
        names: int = 1,
        remarks: int = 0,
    ) -> Grid:
        """Return a grid; plain texts become entries."""
        lines = (
            tuple(Entry(one) if isinstance(one, str) else one for one in line)
            for line in body
        )
        return cls(tuple(header), tuple(lines), names, remarks)

    @property
    def markdown(self) -> str:
        """The table in Markdown."""
        header = [escaped_entry(title) for title in self.header]
        body = ([entry.markdown for entry in line] for line in self.body)
        return markdown_grid(header, body, self.names, self.remarks)


@dataclass(frozen=True)
class Part:
    """A section of a page: a heading, and some of a grid, paragraphs and a list.

    All texts are plain; what a page is written in may not take parts of them for its own.
    """

    title: str
    grid: Grid | None = None
    notes: tuple[str, ...] = ()
    """Paragraphs under the grid."""
    items: tuple[str, ...] = ()
    """A list, under all else."""

    @property
    def content(self) -> str:
        """What stands under the heading, in Markdown; lists as one block."""
        grid = self.grid.markdown if self.grid else ""
        items = "\n".join(f"- {escaped_line(item)}" for item in self.items)
        notes = map(escaped_line, self.notes)
        return "\n\n".join(filter(None, [grid, *notes, items]))

    @property
    def markdown(self) -> str:
        """The section in Markdown."""
        return f"## {escaped_line(self.title)}\n\n{self.content}"


def listed(title: str, items: Iterable[str]) -> list[Part]:
    """Return a headed list; nothing without items."""
    every = tuple(items)
    return [Part(title, items=every)] if every else []
