"""What a comparison of two sets of runs says: as a GitHub summary, as text, as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from fedkd.errors import counted, listing
from fedkd.report.escaping.markdown import escaped_line
from fedkd.report.grouping import Setting, titles_of
from fedkd.report.notes import OF_CLIENTS, bounds
from fedkd.report.parts import Grid, Part, listed
from fedkd.report.stats.comparison import Cell, Change, Comparison, Other, Verdict
from fedkd.report.terminal import Whole
from fedkd.report.text import signed, spread

WORDS: dict[Verdict, str] = {
    "equal": "equal",
    "noise": "within seed noise",
    "better": "better",
    "worse": "worse",
    "unclear": "too few seeds to tell",
}
"""What tables call a verdict."""
UNLIKE = "Not run alike"
SHORT = {"config_hash": "options, metrics or the version of fedkd"}
"""What is told of settings that have only a hash."""
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
    doubt = "WARNING" if comparison.untold else "NOTE"
    kind = "CAUTION" if comparison.has_failed else doubt
    parts = [
        f"## {escaped_line(f'{after} against {before}')}",
        f"> [!{kind}]\n> {escaped_line(headline(comparison))}",
        *(part.markdown for part in listed(UNLIKE, _unlike(comparison))),
        _changed(comparison, changed),
        *(part.markdown for part in listed("Without a result", _lost(comparison))),
        *(part.markdown for part in listed("Remarks", _remarks(comparison))),
    ]
    if equal:
        rows = _grid(comparison, equal).markdown
        title = f"{counted(len(equal), 'value')} did not change"
        parts.append(f"<details><summary>{title}</summary>\n\n{rows}\n\n</details>")
    return "\n\n".join(part for part in parts if part) + "\n"


def changes_rich(comparison: Comparison) -> RenderableType:
    """Return a comparison for a terminal: what is unlike, what changed, the verdict."""
    changed = [c for c in comparison.changes if c.verdict != "equal"]
    parts: list[RenderableType] = [
        Text(f"{UNLIKE}: {line}") for line in _unlike(comparison)
    ]
    if changed:
        header, body = _table(comparison, changed)
        styles = ("bold" if one in comparison.regressions else "" for one in changed)
        texts = [
            [Text(text, style=style) for text in line]
            for line, style in zip(body, styles, strict=True)
        ]
        numbers = [header.index(name) for name in NUMBERS]
        parts += [Whole(header, texts, numbers), Text(" ".join(_notes(comparison)))]
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
        "lost_seeds": [
            {**_named(*key), "seed": seed, "status": status}
            for (key, seed), status in comparison.lost_seeds.items()
        ],
        "new": [_named(*key) for key in comparison.new],
        "differing": [
            {**_named(*key), **asdict(one)}
            for key, others in comparison.differing.items()
            for one in others
        ],
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
    text += _losses(comparison)
    lost = {"cell": len(comparison.lost), "single run": len(comparison.lost_seeds)}
    for what, times in lost.items():
        text += f" {counted(times, what)} lost the result." if times else ""
    if comparison.differing:
        cells = counted(len(comparison.differing), "cell")
        text += (
            f" The two sides ran {cells} with other settings ({_names(comparison)}), so "
            "a change there may come from these."
        )
    return text


def _losses(comparison: Comparison) -> str:
    """Return how many values lost more than the threshold, by what can be said of it."""
    limit = _points(comparison.threshold)
    bad, untold = len(comparison.regressions), comparison.untold
    text = f" {counted(bad, 'value')} lost more than {limit}." if bad else ""
    if comparison.changes and not bad and not untold:
        text = f" None lost more than {limit} beyond seed noise."
    if untold:
        names = listing(_changes_named(comparison, untold), 5)
        text += (
            f" {counted(len(untold), 'value')} lost more than {limit}, on too few seeds to "
            f"tell whether beyond seed noise: {names}."
        )
    if within := len(comparison.within_noise):
        text += f" {counted(within, 'value')} lost more than {limit} within seed noise."
    return text


def _changes_named(comparison: Comparison, changes: Sequence[Change]) -> list[str]:
    """Return ``fedavg (global)``; with the setting where there are several."""
    titles = _titles(comparison)
    several = len(titles) > 1
    return [
        f"{one.strategy} ({f'{titles[one.setting]}, ' * several}{one.column.scope})"
        for one in changes
    ]


def _names(comparison: Comparison) -> str:
    """Return what cells were run with differently, each name once."""
    every = (one for others in comparison.differing.values() for one in others)
    return listing(dict.fromkeys(SHORT.get(one.name, one.name) for one in every), 5)


def _unlike(comparison: Comparison) -> list[str]:
    """Return a line for each set of settings that cells were run with differently."""
    titles = _titles(comparison)
    cells: dict[str, list[Cell]] = {}
    for key, others in comparison.differing.items():
        cells.setdefault("; ".join(map(_other, others)), []).append(key)
    lines = []
    for text, keys in cells.items():
        labels = listing(dict.fromkeys(label for label, _ in keys), 5)
        settings = dict.fromkeys(titles[setting] for _, setting in keys)
        where = f", {listing(settings, 3)}" if len(titles) > 1 else ""
        lines.append(f"{labels}{where}: {text}.")
    return lines


def _other(one: Other) -> str:
    if one.name in SHORT:
        return f"{SHORT[one.name]}: results.csv does not say which"
    old, new = ("none" if v is None else v for v in (one.before, one.after))
    return f"{one.name} {old} before, {new} after"


def _changed(comparison: Comparison, changes: Sequence[Change]) -> str:
    if not changes:
        return ""
    notes = (" ".join(_notes(comparison)),)
    return Part("Values that changed", _grid(comparison, changes), notes).markdown


def _grid(comparison: Comparison, changes: Sequence[Change]) -> Grid:
    header, body = _table(comparison, changes)
    return Grid.of(header, body, header.index(NUMBERS[0]), 1)


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
    lines = [
        f"{label}, {titles[setting]}: {status}; it had a result before"
        for (label, setting), status in comparison.lost.items()
    ]
    return lines + [
        f"{label}, {titles[setting]}, seed {seed}: {status}; it had a result before"
        for ((label, setting), seed), status in comparison.lost_seeds.items()
    ]


def _remarks(comparison: Comparison) -> list[str]:
    titles = _titles(comparison)
    return [f"{label}, {titles[setting]}: new" for label, setting in comparison.new]


def _titles(comparison: Comparison) -> dict[Setting, str]:
    keys = [*comparison.lost, *comparison.new, *comparison.differing]
    settings = [change.setting for change in comparison.changes]
    return titles_of([*settings, *(setting for _, setting in keys)])


def _named(label: str, setting: Setting) -> dict[str, Any]:
    return {"strategy": label, **asdict(setting)}
