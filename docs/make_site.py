"""Gathers the pages of the documentation site in ``build/pages``; MkDocs does the rest.

Written pages come from ``docs/`` and the README; cards, the page of what leaves a client
and the list of what is documented by docstrings are made from the code. ``make site`` calls
this and then ``mkdocs build --strict``, whose settings are in ``mkdocs.yml``.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import sys
from collections.abc import Iterable, Iterator

import click
from generate import ROOT, built_in, strategy_card, thing_card
from traffic import traffic_page

import fedkd
from fedkd.plugins.cards import card
from fedkd.plugins.registry import Registry, load_registry

TARGET = ROOT / "build" / "pages"
KINDS = {
    "strategies": "Strategies",
    "datasets": "Data sets",
    "models": "Models",
    "partitioners": "Partitioners",
    "metrics": "Metrics",
}
PLACES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "algorithms/README.md": "strategies/index.md",
}
"""Where pages outside ``docs`` are on the site; those in it keep their names."""
AUTHORS_MODULES = (
    "fedkd.algorithms.averaging",
    "fedkd.ops.training",
    "fedkd.ops.optimisers",
    "fedkd.ops.schedules",
    "fedkd.ops.averaging",
    "fedkd.ops.distillation",
    "fedkd.ops.generation",
    "fedkd.hookspecs",
    "fedkd.testing.report",
    "fedkd.testing.toys",
    "fedkd.testing.checks",
)
"""Modules whose public functions a method builds on."""
FENCE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\[((?:`[^`]*`|[^\]])*)\]\(([^)\s]+)\)")


def site_pages(traffic_of: Iterable[str] | None = None) -> dict[str, str]:
    """Return every page of the site by its path there.

    Args:
        traffic_of: The strategies on the page of what leaves a client; all if None.
    """
    registry = load_registry(quiet=True)
    pages = dict(_written())
    for kind, title in KINDS.items():
        pages.update(_cards(registry, kind, title))
    entries = built_in(registry, "strategies")
    wanted = None if traffic_of is None else set(traffic_of)
    chosen = [e for e in entries if wanted is None or e.name in wanted]
    pages["traffic.md"] = _text(traffic_page(registry, chosen))
    pages["api.md"] = _text(_docstrings())
    return pages


def for_site(text: str, page: str) -> str:
    """Return a page of the checkout as MkDocs needs it: its links, and its lists.

    Links lead to pages of the site. What leads to a file that is no page, such as a module,
    is left as its words.

    Args:
        text: The page.
        page: Its path in the checkout.
    """

    def moved(match: re.Match[str]) -> str:
        words, target = match.groups()
        path, _, anchor = target.partition("#")
        if "://" in target or not path:
            return match[0]
        place = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
        there = PLACES.get(place) or _in_docs(place)
        if place == "algorithms/README.md" and anchor:
            there, anchor = f"strategies/{anchor}.md", ""
        if there is None:
            return words
        there = posixpath.relpath(there, posixpath.dirname(_place(page)) or ".")
        return f"[{words}]({there}{'#' + anchor if anchor else ''})"

    parts = FENCE.split(text)
    words = (LINK.sub(moved, part) for part in parts[::2])
    parts[::2] = [spaced(CODE.sub(_plain, part)) for part in words]
    return "".join(parts)


def _plain(code: re.Match[str]) -> str:
    """Return code of a line: GitHub wants a stroke in a table escaped, MkDocs does not."""
    return code[0].replace("\\|", "|")


def spaced(text: str) -> str:
    """Return Markdown with a blank line before each list, and inner lists four in."""
    lines: list[str] = []
    for line in text.split("\n"):
        is_item = re.match(r"(- |\d+\. )", line) is not None
        before = lines[-1] if lines else ""
        if is_item and before and not re.match(r"(- |\d+\. | )", before):
            lines.append("")
        lines.append("  " + line if line.startswith("  - ") else line)
    return "\n".join(lines)


def _written() -> Iterator[tuple[str, str]]:
    files = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
    for path in sorted(files):
        page = path.relative_to(ROOT).as_posix()
        yield _place(page), for_site(path.read_text("utf-8"), page)


def _place(page: str) -> str:
    """Return the path on the site of a page of the checkout."""
    return PLACES.get(page) or _in_docs(page) or page


def _in_docs(page: str) -> str | None:
    """Return the path on the site of a page of ``docs``; None if it is none."""
    inside = page.removeprefix("docs/")
    if inside == page or not page.endswith(".md"):
        return None
    return re.sub(r"\bREADME\.md$", "index.md", inside)


def _cards(registry: Registry, kind: str, title: str) -> Iterator[tuple[str, str]]:
    entries = built_in(registry, kind)
    head = ["| name | what it is |", "| --- | --- |"]
    rows = [f"| [`{e.name}`]({e.name}.md) | {e.summary} |" for e in entries]
    yield f"{kind}/index.md", _text([f"# {title}", "", *head, *rows])
    body = strategy_card if kind == "strategies" else thing_card
    for entry in entries:
        lines = "\n".join(body(card(entry))).strip()
        text = re.sub(r"\A#+", "#", lines)
        if kind == "strategies":
            text += f"\n\n[What it sends, in bytes](../traffic.md#{entry.name})."
        yield f"{kind}/{entry.name}.md", spaced(text) + "\n"


def _docstrings() -> Iterator[str]:
    yield "# Reference from docstrings"
    yield ""
    yield "The public names of `fedkd`, and then the modules that methods build on."
    for name, module in public_names().items():
        yield from ("", f"::: {module}.{name}")
    for module in AUTHORS_MODULES:
        yield from ("", f"::: {module}")


def public_names() -> dict[str, str]:
    """Return the module that each public name of ``fedkd`` is defined in."""
    homes = {name: getattr(fedkd, name) for name in fedkd.__all__ if name[0] != "_"}
    return {
        name: thing.__module__
        for name, thing in homes.items()
        if getattr(thing, "__module__", "").startswith("fedkd.")
    }


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write all pages; what was there before is removed."""
    pages = site_pages()
    shutil.rmtree(TARGET, ignore_errors=True)
    for path, text in pages.items():
        (TARGET / path).parent.mkdir(parents=True, exist_ok=True)
        (TARGET / path).write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "docs" / "site.css", TARGET)
    click.echo(f"wrote {len(pages)} pages to {TARGET.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
