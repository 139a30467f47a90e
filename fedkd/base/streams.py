"""Output and error stream of a program: text always comes out, and nobody need listen."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import IO, TextIO

OPEN = (0, 1, 2)
"""The numbers of the streams that every program has."""


class _Patient(io.TextIOWrapper):
    """A text stream whose reader may go away: what is written then goes nowhere."""

    def write(self, text: str) -> int:
        """Write text; nowhere if the reader has gone."""
        try:
            return super().write(text)
        except BrokenPipeError:
            self._forsake()
            return len(text)

    def flush(self) -> None:
        """Pass on what is written; nowhere if the reader has gone."""
        try:
            super().flush()
        except BrokenPipeError:
            self._forsake()

    def _forsake(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def make_patient() -> None:
    r"""Make this process's streams such that no text and no reader can end it.

    What their encoding lacks is written as an escape, such as ``\u4e2d``; what is
    written after the reader has gone is lost; a stream that was closed when the program
    started leads nowhere, so that no file that is opened later takes its place.
    """
    for number in OPEN:
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = open(os.devnull, "wb", buffering=0)  # noqa: SIM115
            errors = "backslashreplace"
            setattr(sys, name, io.TextIOWrapper(nowhere, "utf-8", errors))
        elif type(stream) is io.TextIOWrapper:
            setattr(sys, name, _patient(stream))


def _patient(stream: io.TextIOWrapper) -> TextIO:
    encoding, by_line = stream.encoding, stream.line_buffering
    through = stream.write_through
    return _Patient(
        stream.detach(),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=by_line,
        write_through=through,
    )


def is_screen(stream: IO[str]) -> bool:
    """Say whether a stream is a terminal, whatever the environment says of colours."""
    with contextlib.suppress(ValueError, AttributeError):
        return stream.isatty()
    return False
