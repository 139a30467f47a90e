r"""Tables for LaTeX: a float for each accuracy and metric, with its notes below it.

booktabs has the lines, and siunitx sets each number in a column of its own: decimals stand
below each other, and spreads. What does not fit side by side stands below, in the same
float as long as a page has room; nothing is scaled.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import groupby
from typing import TypeAlias

from fedkd.metrics.columns import Column
from fedkd.report.escaping.latex import breakable, escaped
from fedkd.report.grouping import LOCAL, Setting, setting_titles
from fedkd.report.notes import LEADING, OF_CLIENTS, REFERENCE, mixed_data, notes
from fedkd.report.results import Row, notes_of
from fedkd.report.summary import Table, TableField, summarise
from fedkd.report.table import is_asked_for, lost_text, lost_to, remarks_on
from fedkd.report.text import MISSING, signed

PREAMBLE = (
    "Tables of 'fedkd report --format latex', to be read by \\input. The document needs",
    "  \\usepackage{booktabs}",
    "  \\usepackage{siunitx}  % version 3 or later, of 2021",
)
ROOM = {"column": 235.0, "page": 345.0}
"""Points that a table has: a column of 3.3 inches, or the lines of the class article."""
FLOATS = {"column": "table", "page": "table*"}
LETTER = 4.85
"""Points of a letter at 9 pt, which is ``\\small``: a digit, and about a mean letter."""
GAP = 11.0
"""Points between two columns, where the signs of numbers stand."""
LABELS = 22
"""Letters of a strategy's name in a line; longer ones go on in the next."""
LINES = 46
"""Lines that one float has, with headings and notes."""
HEADING = 5
"""Lines that a part of a float takes beside its strategies."""
REASON = 160
"""Letters of a reason in a note."""
Part: TypeAlias = tuple[Sequence[Setting], Sequence[str]]
"""Settings that stand side by side, and the strategies that are there."""


def tables_latex(
    rows: Sequence[Row],
    *,
    title: str | None,
    references: Collection[str] = (),
    columns: Sequence[Column] = (),
    width: str = "page",
) -> str:
    """Return the tables of global and local accuracy, and those of other metrics.

    Args:
        rows: All rows of the bench, in the order that strategies shall have.
        title: Ends every caption; None for no captions.
        references: Labels of strategies that are marked and never best.
        columns: Of metrics beside accuracy.
        width: ``column`` or ``page``: the room that there is.
    """
    lines = [f"% {line}" for line in PREAMBLE]
    if not rows:
        return "\n".join([*lines, "% There are no results yet."]) + "\n"
    first = summarise(rows, references)
    others = [summarise(rows, references, column) for column in (LOCAL, *columns)]
    for table in [first, *filter(is_asked_for, others)]:
        lines += _Floats(rows, table, title, width).lines()
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Shape:
    """How wide the numbers of one setting are."""

    whole: int
    """Digits before the point of the longest mean."""
    decimals: int
    spread: int
    """Digits before the point of the largest deviation; 0 where there is none."""
    negative: bool

    @classmethod
    def of(cls, entries: Sequence[TableField], decimals: int) -> Shape:
        """Return the shape that all fields of a setting fit in."""
        means = [_number(e.mean, decimals) for e in entries if e.mean is not None]
        stds = [_number(e.std, decimals) for e in entries if e.std is not None]
        return cls(
            max((len(_whole(text)) for text in means), default=1),
            decimals,
            max((len(_whole(text)) for text in stds), default=0),
            any(text.startswith("-") for text in means),
        )

    def joined(self, other: Shape) -> Shape:
        """Return the shape in which the numbers of both fit."""
        return Shape(
            max(self.whole, other.whole),
            self.decimals,
            max(self.spread, other.spread),
            self.negative or other.negative,
        )

    @property
    def format(self) -> str:
        """The ``table-format`` of siunitx."""
        end = f".{self.decimals}" if self.decimals else ""
        start = f"{'-' if self.negative else ''}{self.whole}{end}"
        return f"{start}({self.spread}{end})" if self.spread else start

    @property
    def letters(self) -> float:
        """Letters that it takes, about."""
        end = self.decimals + 0.6 if self.decimals else 0
        spread = self.spread + end + 3 if self.spread else 0
        return self.whole + end + spread + (1.7 if self.negative else 0)

    def padded(self, mean: str, std: str) -> str:
        """Return an underlined number as wide as the column, so that it stands in line."""
        missing = self.whole - len(_whole(mean))
        minus = self.negative and not mean.startswith("-")
        left = ("-" if minus else "") + "0" * missing
        start = rf"\phantom{{\num{{{left}}}}}" if left and left != "-" else ""
        if left == "-":
            start = r"\phantom{$-$}"
        short = "0" * (self.spread - len(_whole(std)))
        gap = rf"\phantom{{{short}}}" if short else ""
        if std:
            inner = rf"$\num{{{mean}}} \pm {gap}\num{{{std}}}$"
            return rf"{{{start}\underline{{{inner}}}}}"
        point = "." if self.spread and self.decimals else ""
        lacking = "0" * (self.spread + self.decimals if self.spread else 0) + point
        end = rf"\phantom{{${{}}\pm{{}}${lacking}}}" if self.spread else ""
        return rf"{{{start}\underline{{\num{{{mean}}}}}{end}}}"


@dataclass
class _Floats:
    """The floats of one column of results."""

    rows: Sequence[Row]
    table: Table
    title: str | None
    width: str
    remarks: list[str] = field(default_factory=list)
    """What letters beside numbers stand for, in their order."""

    def __post_init__(self) -> None:
        table = self.table
        sizes = Counter(entry.n for entry in table.entries.values() if entry.n)
        self.usual_n = max(sizes, key=lambda n: (sizes[n], n), default=0)
        self.shapes = {
            setting: Shape.of(
                [table.entries[label, setting] for label in table.strategies],
                table.column.decimals,
            )
            for setting in table.settings
        }
        titles, self.shared = setting_titles(table.settings)
        self.heads = {
            setting: title.removeprefix(f"{setting.dataset}, ")
            for setting, title in zip(table.settings, titles, strict=True)
        }
        longest = max(map(len, table.strategies), default=8) + 2
        self.folds = longest > LABELS + 2
        self.first = (LABELS + 2 if self.folds else longest) * LETTER

    def lines(self) -> Iterator[str]:
        """Yield the lines of every float; the notes are below the last one."""
        for entry in self.table.entries.values():
            self._letter(entry)
        sentences = [*self._sentences()]
        below = sum(map(len, sentences)) / (ROOM[self.width] / 4.1)
        floats = _filled([*self._parts()], below)
        for number, parts in enumerate(floats):
            tabulars = [self._tabular(*part) for part in parts]
            own = sentences if number == len(floats) - 1 else ()
            yield from self._float(tabulars, number, own)

    def _parts(self) -> Iterator[Part]:
        """Yield what stands side by side, and of which strategies."""
        every, size = self.table.strategies, LINES - HEADING
        if len([*self._blocks()]) > 1:
            # Parts that stand below each other have equal columns.
            shape = reduce(Shape.joined, self.shapes.values())
            self.shapes = dict.fromkeys(self.shapes, shape)
        for settings in self._blocks():
            labels: list[str] = []
            for label in every:
                if _height([*labels, label]) > size:
                    yield settings, labels
                    labels = []
                labels.append(label)
            yield settings, labels

    def _float(
        self, tabulars: Sequence[Sequence[str]], number: int, below: Sequence[str]
    ) -> Iterator[str]:
        name = FLOATS[self.width]
        yield from ["", rf"\begin{{{name}}}[tp]", r"\centering", r"\small"]
        yield (
            r"\sisetup{separate-uncertainty=true, table-align-uncertainty=true, "
            "mode=text, reset-text-series=false, group-digits=none}"
        )
        yield rf"\setlength{{\tabcolsep}}{{{GAP / 2:g}pt}}"
        if self.title is not None:
            column = self.table.column
            again = " (continued)" if number else ""
            text = f"{column.title} ({column.unit}){again}: {self.title}"
            slug = re.sub(r"[^a-z0-9]+", "-", f"{column.name} {self.title}".lower())
            place = f"-{number + 1}" if number else ""
            yield rf"\caption{{{escaped(text)}.}}"
            yield rf"\label{{tab:{slug.strip('-')}{place}}}"
            yield r"\smallskip"
        for line, tabular in enumerate(tabulars):
            yield from ["", r"\medskip"] if line else []
            yield from tabular
        if below:
            yield from ["", r"\smallskip", r"\begin{minipage}{\linewidth}"]
            yield from [r"\footnotesize\raggedright", *below, r"\end{minipage}"]
        yield rf"\end{{{name}}}"

    def _blocks(self) -> Iterator[list[Setting]]:
        """Yield the settings that stand side by side; a data set is kept together."""
        room = ROOM[self.width]
        block: list[Setting] = []
        for _, every in groupby(self.table.settings, lambda one: one.dataset):
            some = [*every]
            together = self.first + sum(map(self._points, some)) <= room
            for unit in [some] if together else [[one] for one in some]:
                used = self.first + sum(map(self._points, [*block, *unit]))
                if block and used > room:
                    yield block
                    block = []
                block = [*block, *unit]
        yield block

    def _points(self, setting: Setting) -> float:
        lines = _folded(self.heads[setting]) + _folded(setting.dataset)
        letters = max(self.shapes[setting].letters, *map(len, lines))
        return letters * LETTER + GAP

    def _tabular(self, settings: Sequence[Setting], labels: Sequence[str]) -> list[str]:
        start = (
            rf">{{\raggedright\arraybackslash\hangindent1em}}p{{{self.first:.0f}pt}}"
            if self.folds
            else "l"
        )
        formats = [f"S[table-format={self.shapes[one].format}]" for one in settings]
        lines = [rf"\begin{{tabular}}{{@{{}}{start}", *(f"  {one}" for one in formats)]
        lines[-1] += "@{}}"
        lines += [r"\toprule", *self._head(settings), r"\midrule"]
        for label in labels:
            name = breakable(label) if self.folds else escaped(label)
            entries = [self._entry(label, setting) for setting in settings]
            lines.append(" & ".join([name + self._signs(label), *entries]) + r" \\")
        return [*lines, r"\bottomrule", r"\end{tabular}"]

    def _head(self, settings: Sequence[Setting]) -> Iterator[str]:
        """Yield the data sets above their partitions."""
        cells, rules, place = [""], [], 2
        for dataset, every in groupby(settings, lambda one: one.dataset):
            size = len([*every])
            cells.append(rf"\multicolumn{{{size}}}{{c}}{{{_stacked(dataset, size)}}}")
            rules.append(rf"\cmidrule(lr){{{place}-{place + size - 1}}}")
            place += size
        yield " & ".join(cells) + r" \\"
        if any("-" in rule for rule in rules) and len(settings) > len(rules):
            yield " ".join(rules)
        heads = [f"{{{_stacked(self.heads[one])}}}" for one in settings]
        yield " & ".join(["strategy", *heads]) + r" \\"

    def _signs(self, label: str) -> str:
        table = self.table
        signs = [REFERENCE] * (label in table.references)
        signs += [OF_CLIENTS] * (label in table.without_global)
        return f"~{escaped(''.join(signs))}" if signs else ""

    def _entry(self, label: str, setting: Setting) -> str:
        """Return a number, what is lost of it, and its marks."""
        entry = self.table.entries[label, setting]
        if entry.mean is None:
            return f"{{{escaped(lost_text(entry) or MISSING)}}}".replace("{-}", "{--}")
        decimals = self.table.column.decimals
        mean = _number(entry.mean, decimals)
        std = "" if entry.std is None else _number(entry.std, decimals)
        leading = escaped(LEADING) if entry.mark == "leading" else ""
        own = escaped(OF_CLIENTS) if entry.is_signed else ""
        signs = ",".join(filter(None, [leading, own, self._letter(entry)]))
        above = rf"{{\rlap{{\textsuperscript{{{signs}}}}}}}" if signs else ""
        if entry.mark == "second":
            return self.shapes[setting].padded(mean, std)[:-1] + above + "}"
        number = f"{mean} +- {std}" if std else mean
        bold = r"\fontseries{b}\selectfont " if entry.mark == "best" else ""
        return f"{bold}{number}{above}"

    def _letter(self, entry: TableField) -> str:
        """Return the letter of a note; equal notes have one letter."""
        remarks = remarks_on(entry, self.table)
        if (
            not entry.n
            or not remarks
            or (entry.n == self.usual_n and len(remarks) == 1)
        ):
            return ""
        text = ", ".join(remarks).replace("n=", "n = ")
        if text not in self.remarks:
            self.remarks.append(text)
        return _name(self.remarks.index(text))

    def _sentences(self) -> Iterator[str]:
        """Yield what stands below: letters, marks, and what became of other runs."""
        usual = f"n = {self.usual_n}, but where a note says otherwise"
        lines = [*mixed_data(self.rows)]
        lines += notes(self.rows, self.table, self.shared, usual)
        lines += [*notes_of(self.rows), *_lost_runs(self.rows)]
        for place, text in enumerate(self.remarks):
            yield rf"\textsuperscript{{{_name(place)}}}~{escaped(text)}."
        for line in lines:
            yield breakable(line if line.endswith((".", "?", "!")) else f"{line}.")


def _filled(parts: Sequence[Part], below: float) -> list[list[Part]]:
    """Return the parts by float, so that the notes have room in the last one.

    Args:
        parts: What is to be set.
        below: Lines of the notes.
    """
    floats: list[list[Part]] = [[]]
    used = 0
    for place, part in enumerate(parts):
        size = _height(part[1]) + HEADING
        notes = below if place == len(parts) - 1 else 0
        if floats[-1] and used + size + notes > LINES:
            floats.append([])
            used = 0
        floats[-1].append(part)
        used += size
    return floats


def _height(labels: Sequence[str]) -> int:
    """Return the lines of some strategies, whose names may go on in the next line."""
    return sum(math.ceil((len(label) + 2) / (LABELS + 2)) for label in labels)


def _lost_runs(rows: Sequence[Row]) -> Iterator[str]:
    """Yield what became of the runs that are not done, and why; of each reason once."""
    labels: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if (why := lost_to(row)) is not None:
            labels.setdefault(why, []).append(row.strategy)
    for (status, reason), names in labels.items():
        short = reason if len(reason) <= REASON else f"{reason[:REASON].rstrip()} …"
        yield f"{status.capitalize()}: {', '.join(dict.fromkeys(names))}: {short}"


def _number(value: float | None, decimals: int) -> str:
    return signed(value or 0.0, decimals, "").replace(",", "")


def _whole(number: str) -> str:
    return number.lstrip("-").partition(".")[0]


def _name(place: int) -> str:
    """Return ``a`` to ``z``, then ``aa``, ``ab``."""
    start, end = divmod(place, 26)
    return (_name(start - 1) if start else "") + chr(ord("a") + end)


def _folded(text: str, size: int = 1) -> list[str]:
    """Return the lines of a heading over some columns: broken where names have joints."""
    width = 16 * size
    lines = [""]
    for piece in re.findall(r"[^\s,\[_+/=-]*[\s,\[_+/=-]*", text):
        if lines[-1] and len((lines[-1] + piece).rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.strip() for line in lines]


def _stacked(text: str, size: int = 1) -> str:
    lines = [escaped(line) for line in _folded(text, size)]
    if len(lines) == 1:
        return lines[0]
    inner = r" \\ ".join(f"{{{line}}}" for line in lines)
    return rf"\shortstack{{{inner}}}"
