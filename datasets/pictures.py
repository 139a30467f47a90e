"""Opening image files of anybody: of known kinds only, and no larger than can be used."""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

from fedkd.base.bounds import opened
from fedkd.errors import BoundsError, listing

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "DIB", "PPM", "TIFF", "WEBP", "AVIF")
"""What images may be, whatever they are called. Pillow knows more, and has other programs
read some: EPS is PostScript, which it runs."""
PIXELS = 1 << 26
"""Most pixels of an image, 8192 x 8192; a few bytes may stand for any number."""
DECODING = (
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, struct.error),
    *(AttributeError, ArithmeticError, RuntimeError, AssertionError, MemoryError),
    *(zlib.error, Image.DecompressionBombError),
)
"""What Pillow raises on damaged images."""


@functools.lru_cache(maxsize=1)
def _known() -> tuple[str, ...]:
    """Return those of :data:`FORMATS` that this Pillow reads."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _identified(file: IO[bytes]) -> Image.Image:
    try:
        return Image.open(file, formats=_known())
    except UnidentifiedImageError:
        names = listing(_known())
        raise UnidentifiedImageError(f"cannot identify it as any of {names}") from None


@contextmanager
def picture(source: Path | IO[bytes]) -> Iterator[Image.Image]:
    """Open an image; nothing of it is decoded yet.

    Raises:
        BoundsError: If it has more than :data:`PIXELS` pixels, or is no file.
        PIL.UnidentifiedImageError: If it is of none of :data:`FORMATS`, or one of
            :data:`DECODING`.
    """
    file = opened(source) if isinstance(source, Path) else source
    with file, _identified(file) as image:
        width, height = image.size
        if width * height > PIXELS:
            raise BoundsError(
                f"found {height:,} x {width:,} pixels, expected at most {PIXELS:,} in all"
            )
        yield image
