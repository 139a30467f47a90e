"""Prepared files: where they are, what their headers say, whether they are whole.

A prepared file is one half of a data set as safetensors: ``labels`` int64 ``[N]``, then
``images`` uint8 ``[N, C, H, W]``, and the facts in the header's metadata. Nothing here
needs torch, so that listing is quick.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from fedkd.base.bounds import HEADER, inside, opened, parse_json
from fedkd.errors import BoundsError, DataError

VERSION = 1
"""Of the form of prepared files; others are prepared again."""
FOLDER = "prepared"
SPLITS = ("train", "test")
MOST_PADDING = 4096
"""Most pixels around an image; padded images are made batch by batch."""
UNKNOWN = "0" * 64
"""Stands for the checksum while a file is written; as long as one."""
_LENGTH = struct.Struct("<Q")
_CHUNK = 1 << 20
FOREIGN = (OSError, ValueError, TypeError, KeyError, AttributeError, struct.error)
"""What :func:`read_header` raises on other files."""
_TUPLES = ("shape", "classes", "mean", "std", "notes", "groups", "group_names")
"""What JSON has as lists."""


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
    """The fields of :class:`fedkd.data.images.Augmentation`."""
    options: Mapping[str, Any]
    """The options of the set, without those of its subsets."""
    fingerprint: str
    """Of the source files; see :meth:`fedkd.data.dataset.FileDataset.fingerprint`."""
    sources: Mapping[str, str]
    """MD5 of each source file, of sets that name their files."""
    content: str = ""
    """Digest of own files; see :meth:`fedkd.data.dataset.Dataset.content`."""
    notes: tuple[str, ...] = ()
    """What a reader of results should know of the files."""
    groups: tuple[int, ...] = ()
    """The group of each image; empty if the set has none."""
    group_names: tuple[str, ...] = ()
    """What groups are called."""
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
        plain = asdict(self)
        if not self.group_names:  # files of sets without groups are as they were
            del plain["groups"], plain["group_names"]
        values = {key: json.dumps(value) for key, value in plain.items()}
        labels, images = self.placed()
        head = {"__metadata__": values, "labels": labels, "images": images}
        text = json.dumps(head).encode()
        text += b" " * (-len(text) % 8)  # so that labels lie on whole words
        return _LENGTH.pack(len(text)) + text

    def placed(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return where labels and images are, as safetensors say it."""
        middle, end = self.label_bytes, self.label_bytes + self.image_bytes
        return (
            _tensor("I64", [self.number], 0, middle),
            _tensor("U8", [self.number, *self.shape], middle, end),
        )

    def same_content(self, other: Header) -> bool:
        """Say whether both describe the same labels and images of the same files."""
        mine, theirs = (replace(header, checksum=UNKNOWN) for header in (self, other))
        return mine.encoded() == theirs.encoded()


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
        with opened(inside(path.parent, path)) as file:
            return read_opened(path, file)
    except (OSError, BoundsError):
        return None


def read_opened(path: Path, file: IO[bytes]) -> Prepared | None:
    """Return what :func:`read_prepared` does, of a file that is open already."""
    file.seek(0)
    try:
        header, start = read_header(file)
        size = os.fstat(file.fileno()).st_size
        whole = start + header.label_bytes + header.image_bytes == size
    except FOREIGN:
        return None
    if header.version != VERSION or not whole:
        return None
    return Prepared(path, header, start, size)


def require_sound(file: Prepared) -> None:
    """Read a prepared file to its end and hold it against its checksum.

    Raises:
        DataError: If it is damaged, or cannot be read.
    """
    try:
        with file.path.open("rb") as content:
            checksum = content_checksum(content, file.start)
    except OSError as error:
        raise DataError(f"{file.header.name}: {cause_at(error, file.path)}.") from error
    if checksum != file.header.checksum:
        raise DataError(
            f"{file.header.name}: {file.path} is damaged: found SHA-256 {checksum}, "
            f"expected {file.header.checksum}. Remove it, or run 'fedkd data prepare "
            f"{file.header.name}' with its options, and it is prepared again."
        )


def cause_at(error: OSError, place: Path) -> str:
    """Return what went wrong where; ``place`` stands in for an unnamed file."""
    return f"{error.filename or place}: {error.strerror or type(error).__name__}"


def read_header(file: IO[bytes]) -> tuple[Header, int]:
    """Return the header of a prepared file and where the labels begin, in bytes.

    Raises:
        OSError: If it cannot be read. If it is another file, one of :data:`FOREIGN`.
    """
    (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
    if length > min(HEADER, os.fstat(file.fileno()).st_size):
        raise ValueError("no header of safetensors")
    raw = parse_json(file.read(length), HEADER)
    plain = {key: parse_json(value) for key, value in raw["__metadata__"].items()}
    for key in _TUPLES:
        if not isinstance(plain.get(key, []), list):
            raise TypeError(f"no header of prepared files: {key}")
        plain[key] = tuple(plain.get(key, ()))
    header = Header(**plain)
    _require_plausible(header)
    labels, images = header.placed()
    if (raw["labels"], raw["images"]) != (labels, images):
        raise ValueError("other tensors than its facts say")
    return header, _LENGTH.size + length


def _require_plausible(header: Header) -> None:
    """Refuse facts that no set has; whoever maps the file relies on them.

    Raises:
        ValueError: Naming the first that is odd.
    """
    channels = header.shape[0] if header.shape else 0
    numbers = (header.number, *header.shape, header.version)
    texts = (header.name, header.fingerprint, header.content, header.checksum)
    names = (*texts, *header.classes, *header.notes, *header.group_names)
    pairs = (*header.sources, *header.sources.values())
    looks = header.augmentation
    odd = {
        "split": header.split not in SPLITS,
        "number or shape": len(header.shape) != 3 or not _whole(numbers, 1),
        "names": not all(isinstance(one, str) for one in (*names, *pairs)),
        "mean": not _finite(header.mean, channels),
        "std": not _finite(header.std, channels) or not all(s > 0 for s in header.std),
        "augmentation": not looks.keys() <= {"pad", "flip"}
        or not _whole([looks.get("pad", 0)], 0, MOST_PADDING)
        or not isinstance(looks.get("flip", False), bool),
        "options": not isinstance(header.options, dict),
        "groups": len(header.groups) not in (0, header.number)
        or not _whole(header.groups, 0, len(header.group_names) - 1),
    }
    if wrong := [name for name, is_odd in odd.items() if is_odd]:
        raise ValueError(f"no header of prepared files: {wrong[0]}")


def _whole(values: Iterable[Any], least: int, most: int = 1 << 40) -> bool:
    return all(type(one) is int and least <= one <= most for one in values)


def _finite(values: Sequence[Any], number: int) -> bool:
    return len(values) == number and all(
        type(one) in (int, float) and math.isfinite(one) for one in values
    )


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
        groups=train.header.groups,
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
