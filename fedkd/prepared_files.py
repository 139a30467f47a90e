"""Prepared files: where they are, what their headers say, whether they are whole.

A prepared file is one half of a data set as safetensors: ``labels`` int64 ``[N]``, then
``images`` uint8 ``[N, C, H, W]``, and the facts in the header's metadata. Nothing here
needs torch, so that listing is quick.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

VERSION = 1
"""Of the form of prepared files; others are prepared again."""
FOLDER = "prepared"
SPLITS = ("train", "test")
UNKNOWN = "0" * 64
"""Stands for the checksum while a file is written; as long as one."""
_LENGTH = struct.Struct("<Q")
_LONGEST = 100_000_000
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Header:
    """What a prepared file says of itself."""

    name: str
    """The data set."""
    split: str
    """``train`` or ``test``."""
    number: int
    """Images in it."""
    shape: tuple[int, ...]
    """``(channels, height, width)`` of one image."""
    classes: tuple[str, ...]
    """Class names; label ``c`` is ``classes[c]``."""
    mean: tuple[float, ...]
    """Per channel, of images scaled to [0, 1]."""
    std: tuple[float, ...]
    """Per channel, of images scaled to [0, 1]."""
    augmentation: Mapping[str, Any]
    """The fields of :class:`fedkd.data.Augmentation`."""
    options: Mapping[str, Any]
    """The options of the set, without those of its subsets."""
    fingerprint: str
    """Of the source files; see :meth:`fedkd.dataset.FileDataset.fingerprint`."""
    sources: Mapping[str, str]
    """MD5 of each source file, of sets that name their files."""
    version: int = VERSION
    checksum: str = UNKNOWN
    """SHA-256 of labels and images, in hexadecimal digits."""

    @property
    def label_bytes(self) -> int:
        """Size of the labels."""
        return 8 * self.number

    @property
    def image_bytes(self) -> int:
        """Size of the images."""
        return self.number * math.prod(self.shape)

    def encoded(self) -> bytes:
        """Return the start of the file, up to the first label."""
        values = {key: json.dumps(value) for key, value in asdict(self).items()}
        labels, whole = self.label_bytes, self.label_bytes + self.image_bytes
        head = {
            "__metadata__": values,
            "labels": _tensor("I64", [self.number], 0, labels),
            "images": _tensor("U8", [self.number, *self.shape], labels, whole),
        }
        text = json.dumps(head).encode()
        text += b" " * (-len(text) % 8)  # so that labels lie on whole words
        return _LENGTH.pack(len(text)) + text

    def same_content(self, other: Header) -> bool:
        """Say whether both describe the same labels and images of the same files."""
        return replace(self, checksum=UNKNOWN) == replace(other, checksum=UNKNOWN)


def _tensor(dtype: str, shape: list[int], start: int, stop: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


@dataclass(frozen=True)
class Prepared:
    """A prepared file whose size is right; its content was not looked at."""

    path: Path
    header: Header
    start: int
    """Where the labels begin, in bytes."""
    bytes: int
    """Size of the file."""


def read_prepared(path: Path) -> Prepared | None:
    """Return what is in a prepared file; None if it is missing, cut short or foreign."""
    try:
        with path.open("rb") as file:
            header, start = read_header(file)
            size = path.stat().st_size
    except (OSError, ValueError, TypeError, KeyError, struct.error):
        return None
    if (
        header.version != VERSION
        or start + header.label_bytes + header.image_bytes != size
    ):
        return None
    return Prepared(path, header, start, size)


def read_header(file: IO[bytes]) -> tuple[Header, int]:
    """Return the header of a prepared file and where the labels begin, in bytes.

    Raises:
        ValueError: If it is another file; so do TypeError, KeyError and struct.error.
        OSError: If it cannot be read.
    """
    (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
    if length > _LONGEST:
        raise ValueError("no header of safetensors")
    values = json.loads(file.read(length))["__metadata__"]
    plain = {key: json.loads(value) for key, value in values.items()}
    for key in ("shape", "classes", "mean", "std"):
        plain[key] = tuple(plain[key])
    return Header(**plain), _LENGTH.size + length


def content_checksum(file: IO[bytes], start: int, kind: str = "sha256") -> str:
    """Return the checksum of a file from ``start`` on, in hexadecimal digits."""
    digest = hashlib.new(kind, usedforsecurity=False)
    file.seek(start)
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def folder_of(root: Path, name: str, options: Mapping[str, Any]) -> Path:
    """Return the folder of a set's prepared files; one for all its subsets.

    Args:
        root: The data root.
        name: The data set.
        options: Its options as plain JSON, without those of its subsets.
    """
    text = json.dumps(options, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:8]
    return root / FOLDER / f"{name}-{key}"


def pair_in(folder: Path) -> tuple[Prepared, Prepared] | None:
    """Return the training and the test file in a folder; None unless they fit."""
    train, test = (read_prepared(folder / f"{split}.safetensors") for split in SPLITS)
    if train is None or test is None:
        return None
    other = replace(
        test.header,
        split="train",
        number=train.header.number,
        checksum=train.header.checksum,
    )
    return (train, test) if other == train.header else None


def folders_under(root: Path, name: str) -> Iterator[Path]:
    """Yield the folders of prepared files of a set, one for each choice of options."""
    length = len(name) + 1 + 8
    for folder in sorted((root / FOLDER).glob(f"{name}-*")):
        # 'food-x' is no variant of 'food'.
        if len(folder.name) == length and folder.is_dir():
            yield folder
