"""The client x class table of a split as CSV: what writes it and what reads it agree."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

_DIGITS = 15
"""Most digits of the number of a class."""


def table_text(counts: NDArray[np.int64], classes: Sequence[str]) -> str:
    """Return a table ``[K, C]`` as CSV with the header ``client,<class>,...``.

    Headings that are all numbers are read as class numbers. So where the classes have
    numbers for names, but others than their own, a heading is ``0: <class>``.

    Args:
        counts: Samples by client and class, ``[K, C]``.
        classes: The C class names.
    """
    own = [str(number) for number in range(len(classes))]
    names = list(classes)
    if are_numbers(names) and names != own:
        names = [f"{c}: {name}" for c, name in zip(own, names, strict=True)]
    text = io.StringIO()
    # Unquoted, a carriage return in a name would end the line for those who read it.
    ends = "\r" in "".join(names)
    head = csv.writer(
        text,
        lineterminator="\n",
        quoting=csv.QUOTE_ALL if ends else csv.QUOTE_MINIMAL,
    )
    head.writerow(["client", *names])
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([k, *row] for k, row in enumerate(counts.tolist()))
    return text.getvalue()


def are_numbers(headings: Sequence[str]) -> bool:
    """Say whether headings are class numbers, and not names in the order of classes."""
    return all(
        heading.strip().isdecimal() and len(heading) <= _DIGITS for heading in headings
    )


def lines_of(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines of a CSV text that are not empty, with their (last) numbers.

    Raises:
        csv.Error: If a line cannot be read.
    """
    reader = csv.reader(io.StringIO(text, newline=""))
    for row in reader:
        if row:
            yield reader.line_num, row
