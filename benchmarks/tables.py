"""Makes the recorded tables anew from the recorded results, or checks that they are fresh.

    python benchmarks/tables.py            write them
    python benchmarks/tables.py --check    name those that are out of date

Of a folder of ``benchmarks/results``, ``results.csv`` is what was measured, and all of
``table.md`` that follows from it is written anew, what each stage did from ``stages.csv``
where there is one; what only the runs knew (warnings, protocol, provenance) is kept as it
is there. Pages show parts of these tables between two comments, ``<!-- table:FOLDER:SECTION
-->`` and ``<!-- /table -->``; the pages of ``docs/results`` are made as a whole, by
``pages.py``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pages as pages_of_results
from laststages import read_stages

from fedkd.plugins.registry import Registry, load_registry
from fedkd.report.escaping.markdown import unescaped
from fedkd.report.reported import meant_by, reported_section
from fedkd.report.results import read_results
from fedkd.report.stages import TITLE as STAGES
from fedkd.report.stages import stage_table
from fedkd.report.table import DERIVED_ORIGIN, table_markdown
from fedkd.suite.reported import load_reported
from fedkd.suite.suite import load_suite

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SITE = ROOT / "docs" / "results"
PAGES = ("README.md", "docs/heterogeneity.md", "docs/robust-averages.md")
LISTS = ("Protocol", "Tuning", "Provenance", "Warnings")
"""Sections of a page that are lists, and of which only the runs knew."""
SHOWN = re.compile(
    r"(<!-- table:([^:\n]+):([^\n]+?) -->\n)"
    r"(?:(?!<!-- table:).)*?(<!-- /table -->)",
    re.S,
)


def texts() -> Iterator[tuple[Path, str]]:
    """Yield every file with recorded tables, and what should be in it."""
    registry = load_registry(quiet=True)
    pages: dict[str, str] = {}
    for path in sorted(RESULTS.glob("*/table.md")):
        pages[path.parent.name] = page = renewed(path, registry)
        yield path, page
    folders = [
        pages_of_results.recorded(RESULTS / name, sections(text), registry)
        for name, text in pages.items()
    ]
    for one in folders:
        yield SITE / f"{one.name}.md", pages_of_results.page(one)
    yield SITE / "README.md", pages_of_results.index(folders)
    for name in PAGES:
        text = (ROOT / name).read_text("utf-8")
        yield ROOT / name, filled(text, pages)


def renewed(
    path: Path, registry: Registry, told: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Return a recorded page, made anew from the results beside it.

    Args:
        path: The ``table.md`` of a folder of ``benchmarks/results``.
        registry: Where names are looked up.
        told: Lines of the sections that only the runs knew, by heading; those of the page
            as it is if None.
    """
    rows = read_results(path.with_name("results.csv"))
    suite = load_suite(rows[0].suite)
    kept = sections(path.read_text("utf-8")) if path.is_file() else {}
    if told is None:
        told = {title: items(body) for title, body in kept.items() if title in LISTS}
    lines = read_stages(path.parent)
    stages = (
        stage_table([(row, lines.get(row.run_id, [])) for row in rows])
        if lines
        else kept.get(STAGES, "")
    )
    origin = told.get("Provenance", ())
    papers = [load_reported(name) for name in suite.reported]
    return table_markdown(
        rows,
        title=path.parent.name,
        protocol_lines=told.get("Protocol", ()),
        references=pages_of_results.references_of(rows, suite, registry),
        provenance=[line for line in origin if not line.startswith(DERIVED_ORIGIN)],
        tuning=told.get("Tuning", ()),
        stages=stages,
        warned=told.get("Warnings", ()),
        columns=pages_of_results.columns_of(suite, registry),
        reported=reported_section(rows, papers, meant_by([suite], registry)),
    )


def sections(page: str) -> dict[str, str]:
    """Return the sections of a page by their headings."""
    parts = re.split(r"^## (.+)\n", page, flags=re.M)[1:]
    return {title: body.strip() for title, body in zip(*[iter(parts)] * 2, strict=True)}


def filled(text: str, pages: dict[str, str]) -> str:
    """Return a text with a section of a page in each place that is marked for one.

    Args:
        text: May have places: ``<!-- table:FOLDER:Heading -->`` up to ``<!-- /table -->``,
            each a line, with anything or nothing in between.
        pages: By folder.
    """

    def put(match: re.Match[str]) -> str:
        start, folder, title, end = match.groups()
        return f"{start}\n{sections(pages[folder])[title]}\n\n{end}"

    return SHOWN.sub(put, text)


def items(body: str) -> list[str]:
    """Return the lines of a section that is a list, without their marks."""
    return [unescaped(line.removeprefix("- ")) for line in body.splitlines() if line]


def _there(path: Path) -> str:
    return path.read_text("utf-8") if path.is_file() else ""


def main() -> int:
    """Write what is out of date, or say what is; return the exit code."""
    old = [(path, text) for path, text in texts() if _there(path) != text]
    checks = "--check" in sys.argv[1:]
    for path, text in old:
        if not checks:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, "utf-8")
        print(f"{'out of date' if checks else 'written'}: {path.relative_to(ROOT)}")
    return 1 if checks and old else 0


if __name__ == "__main__":
    sys.exit(main())
