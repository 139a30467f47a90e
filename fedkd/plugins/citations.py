"""From the ``Paper`` line of a card to BibTeX.

The line is the only home of a reference: last names of the authors, the title in quotes,
venue and year, arXiv id or DOI, with a semicolon and a name before another paper::

    Reddi, Charles, "Adaptive Federated Optimization", ICLR 2021, arXiv:2003.00295v5;
    FedAvgM: Hsu, Qi, Brown, "Measuring the Effects ...", arXiv:1909.06335v1.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from fedkd._version import __version__

_PAPER = re.compile(r'(?P<authors>[^";]+), "(?P<title>[^"]+)"(?P<rest>[^;"]*)')
_SMALL = ("a", "an", "and", "for", "from", "in", "of", "on", "the", "to", "with", "no")
"""Words of titles that keys leave out."""
OURS = f"""\
@software{{fedkd,
  author = {{{{The fedkd authors}}}},
  title = {{fedkd: a pluggable benchmark suite for federated learning}},
  version = {{{__version__}}},
  note = {{Give the commit from environment.json, too}},
}}"""
"""The entry of fedkd itself."""


@dataclass(frozen=True)
class Paper:
    """A reference, as a card has it."""

    authors: tuple[str, ...]
    """Last names."""
    title: str
    venue: str = ""
    year: str = ""
    arxiv: str = ""
    """Its id, with the version if the card has it: ``1602.05629v4``."""
    doi: str = ""

    @property
    def key(self) -> str:
        """``mcmahan2017communication``: first author, year, first word of the title."""
        words = re.findall(r"[a-z0-9]+", _ascii(self.title).lower())
        first = next((word for word in words if word not in _SMALL), "")
        name = re.sub(r"[^a-z0-9]", "", _ascii(self.authors[0]).lower())
        return f"{name}{self.year}{first}"

    def bibtex(self, key: str = "") -> str:
        """Return the entry, a field a line, under another key if one is given."""
        fields = {
            "author": " and ".join(map(_braced, self.authors)),
            # Braces keep capitals, which styles would lower.
            "title": f"{{{_escaped(self.title)}}}",
            "booktitle": _escaped(self.venue),
            "year": self.year,
            "eprint": self.arxiv,
            "archiveprefix": "arXiv" if self.arxiv else "",
            "doi": self.doi,
        }
        kind = "inproceedings" if self.venue else "misc"
        lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
        return "\n".join([f"@{kind}{{{key or self.key},", *lines, "}"])


def papers_of(line: str) -> list[Paper]:
    """Return the papers that a ``Paper`` line names; none if it starts with "none"."""
    if line.startswith("none"):
        return []
    return [_paper(match) for match in _PAPER.finditer(line)]


def entries_of(papers: Iterable[Paper]) -> list[str]:
    """Return the BibTeX entries of papers, each once, by key; equal keys get a letter."""
    entries = []
    taken: dict[str, int] = {}
    for paper in sorted(set(papers), key=lambda p: (p.key, p.title)):
        number = taken.get(paper.key, 0)
        taken[paper.key] = number + 1
        letter = chr(ord("a") + number) if number else ""
        entries.append(paper.bibtex(f"{paper.key}{letter}"))
    return entries


def _paper(match: re.Match[str]) -> Paper:
    names = match["authors"].rpartition(": ")[2].split(",")
    # What follows a full stop is said of the paper and no part of the reference.
    rest = re.split(r"\.(?:\s|$)", match["rest"].strip(", "))[0]
    arxiv = re.search(r"arXiv:([\w.]+)", rest)
    doi = re.search(r"doi:(\S+)", rest)
    held = re.match(r"(?:(?P<venue>[^:]*?) )?(?P<year>(?:19|20)\d\d)(?:,|$)", rest)
    year = held["year"] if held else ""
    return Paper(
        tuple(name.strip() for name in names),
        match["title"].rstrip(",."),
        (held["venue"] or "") if held else "",
        # An id of arXiv starts with year and month.
        year or (f"20{arxiv[1][:2]}" if arxiv else ""),
        arxiv[1] if arxiv else "",
        doi[1] if doi else "",
    )


def _braced(name: str) -> str:
    """Keep a last name of several words together: BibTeX would take it for two names."""
    return f"{{{name}}}" if " " in name else name


def _escaped(text: str) -> str:
    """Return text as LaTeX has it."""
    return re.sub(r"([&%#_$])", r"\\\1", text)


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
