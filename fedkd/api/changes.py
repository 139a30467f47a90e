"""What changed between two results, in Python and notebooks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fedkd.api.notebook import Page, as_html
from fedkd.base.shown import brief
from fedkd.report.changes import changes_json, changes_markdown, changes_rich, headline
from fedkd.report.stats.comparison import Comparison


@dataclass(frozen=True, repr=False)
class Changes:
    """What changed between two results, cell by cell, as ``fedkd compare`` says it."""

    comparison: Comparison
    """The cells, with their values, intervals and verdicts."""
    before: str
    """What the results are called that are held to."""
    after: str
    """What those are called that are judged."""

    @property
    def has_failed(self) -> bool:
        """Whether the command would exit with code 1: something was lost."""
        return self.comparison.has_failed

    def plain(self) -> dict[str, Any]:
        """Return the plain values that ``--format json`` prints."""
        return changes_json(self.comparison)

    def table(self) -> Page:
        """Return the text that ``--format markdown`` prints; a notebook shows the page."""
        return Page(changes_markdown(self.comparison, self.before, self.after))

    def __repr__(self) -> str:
        """Return the verdict on everything."""
        return brief(self, headline(self.comparison))

    def _repr_html_(self) -> str:
        """Return the table of a terminal as HTML."""
        return as_html(changes_rich(self.comparison))
