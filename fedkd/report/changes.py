"""What a comparison of two sets of runs says: as a GitHub summary, as text, as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from fedkd.errors import counted
from fedkd.report.grouping import Setting, titles_of
from fedkd.report.notes import OF_CLIENTS, bounds
from fedkd.report.stats.comparison import Change, Comparison, Verdict
from fedkd.report.text import markdown_grid, section, signed, spread

WORDS: dict[Verdict, str] = {
    "equal": "equal",
    "noise": "within seed noise",
    "better": "better",
    "worse": "worse",
    "unclear": "too few seeds to tell",
}
"""What tables call a verdict."""
NUMBERS = ("before", "after", "change", "n")


def changes_markdown(comparison: Comparison, before: str, after: str) -> str:
    """Return a comparison as GitHub-flavoured Markdown: a verdict, then the tables.

    Args:
        comparison: What was found.
        before: What the runs are called that are held to.
        after: What those are called that are judged.
    """
    changed = [c for c in comparison.changes if c.verdict != "equal"]
    equal = [c for c in comparison.changes if c.verdict == "equal"]
    kind = "CAUTION" if comparison.has_failed else "NOTE"
    parts = [
        f"## {after} against {before}",
        f"> [!{kind}]\n> {headline(comparison)}",
        _grid(comparison, changed),
        " ".join(_notes(comparison)) if changed else "",
        section("Cells without a result", _lost(comparison)),
        section("Remarks", _remarks(comparison)),
    ]
    if equal:
        rows = _grid(comparison, equal)
        title = f"{counted(len(equal), 'value')} did not change"
        parts.append(f"<details><summary>{title}</summary>\n\n{rows}\n\n</details>")
    return "\n\n".join(part for part in parts if part) + "\n"


def changes_rich(comparison: Comparison) -> RenderableType:
    """Return a comparison for a terminal: what changed, then the verdict."""
    changed = [c for c in comparison.changes if c.verdict != "equal"]
    parts: list[RenderableType] = []
    if changed:
        grid = Grid()
        header, body = _table(comparison, changed)
        for name in header:
            right = name in NUMBERS
            grid.add_column(name, justify="right" if right else "left", overflow="fold")
        for change, line in zip(changed, body, strict=True):
            style = "bold" if change in comparison.regressions else ""
            grid.add_row(*(Text(text, style=style) for text in line))
        parts += [grid, Text(" ".join(_notes(comparison)))]
    lines = [*_lost(comparison), *_remarks(comparison), headline(comparison)]
    return Group(*parts, *map(Text, lines))


def changes_json(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as plain values."""
    bad = comparison.regressions
    return {
        "failed": comparison.has_failed,
        "threshold": comparison.threshold,
        "changes": [
            {
                "strategy": change.strategy,
                **asdict(change.setting),
                "metric": change.column.name,
                "before": list(change.before),
                "after": list(change.after),
                "paired": change.is_paired,
                "difference": change.difference,
                "interval": change.interval and asdict(change.interval),
                "verdict": change.verdict,
                "regression": change in bad,
            }
            for change in comparison.changes
        ],
        "lost": [
            {"strategy": label, **asdict(setting), "status": status}
            for (label, setting), status in comparison.lost.items()
        ],
        "new": [_named(*key) for key in comparison.new],
        "other_options": [_named(*key) for key in comparison.other_options],
    }


def headline(comparison: Comparison) -> str:
    """Return the verdict on everything, in a sentence or two."""
    counts = Counter(change.verdict for change in comparison.changes)
    total = counted(len(comparison.changes), "value")
    words = [
        f"{number} {WORDS[verdict]}"
        for verdict in WORDS
        if (number := counts[verdict])  # in the order of WORDS
    ]
    text = f"{total} compared: {', '.join(words) or 'none'}."
    bad = len(comparison.regressions)
    limit = _points(comparison.threshold)
    if bad:
        text += f" {counted(bad, 'value')} lost more than {limit}."
    elif comparison.changes:
        text += f" None lost more than {limit} beyond seed noise."
    if comparison.lost:
        text += f" {counted(len(comparison.lost), 'cell')} lost the result."
    return text


def _grid(comparison: Comparison, changes: Sequence[Change]) -> str:
    header, body = _table(comparison, changes)
    names = header.index(NUMBERS[0])
    return markdown_grid(header, body, names, 1) if changes else ""


def _table(
    comparison: Comparison, changes: Sequence[Change]
) -> tuple[list[str], list[list[str]]]:
    """Return the header and the lines; the setting is in them where there are several."""
    titles = _titles(comparison)
    several = len(titles) > 1
    start = ["strategy", "setting"] if several else ["strategy"]
    body = [
        [
            f"{change.strategy} {OF_CLIENTS}"
            if change.is_of_clients
            else change.strategy,
            *([titles[change.setting]] if several else []),
            change.column.scope,
            spread(change.before),
            spread(change.after),
            f"{signed(change.difference)} {bounds(change.interval, 2)}".rstrip(),
            _size(change),
            _verdict(change, comparison),
        ]
        for change in changes
    ]
    return [*start, "accuracy", *NUMBERS, "verdict"], body


def _points(number: float) -> str:
    return f"{number:g} percentage point{'' if number == 1 else 's'}"


def _verdict(change: Change, comparison: Comparison) -> str:
    word = WORDS[change.verdict]
    if change not in comparison.regressions:
        return word
    return f"{word}, more than {comparison.threshold:g}"


def _size(change: Change) -> str:
    if change.is_paired:
        return str(len(change.before))
    return f"{len(change.before)}, {len(change.after)} unpaired"


def _notes(comparison: Comparison) -> list[str]:
    level = {change.level for change in comparison.changes}.pop()
    titles = list(_titles(comparison).values())
    lines = [f"All: {titles[0]}."] if len(titles) == 1 else []
    lines += [
        "Means ± sample standard deviation over seeds, in percent. In square brackets: "
        f"the {100 * level:g} % interval of the mean paired difference, or of the "
        "difference of means (Welch) where no seed is in both.",
    ]
    if any(change.is_of_clients for change in comparison.changes):
        lines.append(
            f"{OF_CLIENTS} has no global model: its global accuracy is the mean over the "
            "clients' own models."
        )
    chance = comparison.by_chance()
    if chance >= 0.05:
        lines.append(
            f"Noise alone would make {chance:.1f} of so many look worse, on average."
        )
    return lines


def _lost(comparison: Comparison) -> list[str]:
    titles = _titles(comparison)
    return [
        f"{label}, {titles[setting]}: {status}; it had a result before"
        for (label, setting), status in comparison.lost.items()
    ]


def _remarks(comparison: Comparison) -> list[str]:
    titles = _titles(comparison)
    lines = [f"{label}, {titles[setting]}: new" for label, setting in comparison.new]
    if comparison.other_options:
        number = counted(len(comparison.other_options), "cell")
        lines.append(
            f"{number} ran with other options, metrics or another version of fedkd."
        )
    return lines


def _titles(comparison: Comparison) -> dict[Setting, str]:
    keys = [*comparison.lost, *comparison.new]
    settings = [change.setting for change in comparison.changes]
    return titles_of([*settings, *(setting for _, setting in keys)])


def _named(label: str, setting: Setting) -> dict[str, Any]:
    return {"strategy": label, **asdict(setting)}
