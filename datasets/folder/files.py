"""A folder of images by class: its files, and which of them are left out, and why."""

from __future__ import annotations

import hashlib
import itertools
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fedkd.base.sums import sha256
from fedkd.datasets.folder.contents import Facts, encoded
from fedkd.errors import DataError, listing

ENDINGS = (
    *(".apng", ".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm"),
    *(".png", ".ppm", ".tif", ".tiff", ".webp"),
)
"""Endings of the files that are images, in small or capital letters."""
TOGETHER = 256
"""Files that a thread reads at a time: one costs less than handing it over."""
HALVES = ("train", "test")
_SYSTEM = {".ds_store", ".localized", "thumbs.db", "desktop.ini", "__macosx"}
"""What file managers leave behind, in small letters: nobody means it to be used."""


@dataclass(frozen=True)
class Half:
    """The training or the test half: its files and their classes, in order."""

    name: str
    """``train`` or ``test``."""
    files: Sequence[str]
    classes: Sequence[str]
    """For each file, the name of its folder."""


def find_halves(folder: Path) -> tuple[Half, Half, tuple[str, ...]]:
    """List the files of both halves by class, and the classes, sorted by name.

    Raises:
        DataError: If ``train`` or ``test`` is missing, a class has no image, or a class
            is only in ``test``.
    """
    train, test = (_half(folder, name) for name in HALVES)
    classes = tuple(sorted(set(train.classes)))
    unknown = sorted(set(test.classes) - set(classes))
    if unknown:
        raise DataError(
            f"folder: found the class {unknown[0]!r} in {folder / 'test'} only; expected "
            f"a folder of that name in {folder / 'train'} too. Add it, or remove it from "
            "test."
        )
    return train, test, classes


def facts_of(folder: Path) -> Iterator[Facts]:
    """Yield the images of both halves and what the file system knows of each, in order.

    Names begin at ``folder``, so that they do not depend on how it is spelled.

    Raises:
        DataError: If ``train`` or ``test`` is missing, or a class has no image.
    """
    for name in HALVES:
        start = len(str(folder / name)) - len(name)
        for _, entry in _listed(folder, name):
            yield entry.path[start:], entry.stat()


def digest_of(folder: Path) -> str:
    """Return 16 digits that change with the names or contents of the images only.

    Raises:
        DataError: As :func:`find_halves` does.
        OSError: If an image cannot be read.
    """
    halves = find_halves(folder)[:2]
    files = [file for half in halves for file in half.files]
    names = [
        f"{half.name}/{one}/{os.path.basename(file)}"
        for half in halves
        for file, one in zip(half.files, half.classes, strict=True)
    ]
    parts = [files[i : i + TOGETHER] for i in range(0, len(files), TOGETHER)]

    def digests(part: Sequence[str]) -> list[bytes]:
        return [_digest(file) for file in part]

    whole = hashlib.sha256()
    with ThreadPoolExecutor() as pool:
        contents = itertools.chain.from_iterable(pool.map(digests, parts))
        for name, content in zip(names, contents, strict=True):
            whole.update(encoded(name) + b"\0" + content)
    return whole.hexdigest()[:16]


def repeated(train: Half, test: Half) -> int:
    """Count the test files that are equal to a training file, byte for byte.

    Raises:
        OSError: If an image cannot be read.
    """
    size = os.path.getsize
    wanted = {size(file) for file in test.files}
    alike = [file for file in train.files if size(file) in wanted]
    wanted = {size(file) for file in alike}
    known = {_digest(file) for file in alike}
    return sum(_digest(f) in known for f in test.files if size(f) in wanted)


def left_out(folder: Path) -> tuple[str, ...]:
    """Return a sentence on the files of a folder that are not used; none if all are."""
    kinds, endings = _unused(folder)
    parts = []
    if kinds:
        why = [f"{kinds[kind]:,} {kind}" for kind in _KINDS if kinds[kind]]
        if endings:
            why[-1] += f": {listing(sorted(endings), 5)}"
        noun = "file" if kinds.total() == 1 else "files"
        parts.append(f"{kinds.total():,} {noun} ({', '.join(why)})")
    with os.scandir(str(folder)) as entries:
        beside = sorted(
            _shown(entry.name)
            for entry in entries
            if entry.is_dir() and entry.name not in HALVES and not _hides(entry.name)
        )
    if beside:
        parts.append(f"what is in {listing(beside, 5)} beside train and test")
    return (f"Left out of {_shown(str(folder))}: {'; '.join(parts)}.",) if parts else ()


def _unused(folder: Path) -> tuple[Counter[str], set[str]]:
    """Count the files of both halves that are not used; return the endings of some."""
    kinds: Counter[str] = Counter()
    endings: set[str] = set()
    for path, depth in (one for name in HALVES for one in _files_under(folder, name)):
        kind = _why_left_out(path, depth)
        kinds[kind] += 1
        if kind == _OTHER:
            endings.add(_shown(path.suffix.lower()) or "no ending")
    del kinds[""]
    return kinds, endings


def _files_under(folder: Path, name: str) -> Iterator[tuple[Path, int]]:
    """Yield the files of a half, and how many folders below ``folder`` each lies."""
    for place, folders, files in os.walk(str(folder / name), followlinks=True):
        depth = len(Path(place).relative_to(folder).parts)
        # A link to a class is followed; one in a class may lead back to where it is.
        folders[:] = [
            one
            for one in folders
            if not _hides(one) and (depth < 2 or not os.path.islink(Path(place, one)))
        ]
        for file in files:
            yield Path(place, file), depth


_HIDDEN = "hidden"
_LOST = "as links to nowhere"
_DEEP = "in folders inside those of classes"
_BARE = "in no folder of a class"
_OTHER = "of other kinds than images"
_KINDS = (_DEEP, _BARE, _LOST, _HIDDEN, _OTHER)


def _why_left_out(path: Path, depth: int) -> str:
    """Return why a file is not used; empty if it is, or if nobody would miss it."""
    name = path.name.lower()
    if _is_system(name):
        return ""
    if path.name.startswith("."):
        return _HIDDEN
    if not path.exists():
        return _LOST
    if not name.endswith(ENDINGS) or not path.is_file():
        return _OTHER
    return "" if depth == 2 else _DEEP if depth > 2 else _BARE


def _hides(name: str) -> bool:
    return name.startswith(".") or _is_system(name)


def _is_system(name: str) -> bool:
    return name.lower() in _SYSTEM or name.startswith("._")


def _digest(file: str) -> bytes:
    return bytes.fromhex(sha256(Path(file)))


def _half(folder: Path, name: str) -> Half:
    images = _listed(folder, name)
    return Half(name, [entry.path for _, entry in images], [one for one, _ in images])


def _listed(folder: Path, name: str) -> list[tuple[str, os.DirEntry[str]]]:
    """Return the images of a half, each with its class, in order."""
    place = folder / name
    if not place.is_dir():
        there = listing(sorted(path.name for path in folder.iterdir()), 5) or "nothing"
        raise DataError(
            f"folder: {place} is not there; expected the folders train and test, with a "
            f"folder for each class in them. {folder} holds: {there}."
        )
    folders = (entry for entry in _visible(place) if entry.is_dir())
    classes = sorted(folders, key=lambda entry: entry.name)
    if not classes:
        raise DataError(f"folder: {place} is empty; expected a folder for each class.")
    images: list[tuple[str, os.DirEntry[str]]] = []
    for one in classes:
        files = [
            entry
            for entry in _visible(Path(one.path))
            if entry.name.lower().endswith(ENDINGS) and entry.is_file()
        ]
        if not files:
            raise DataError(
                f"folder: found no image in {place / one.name}; expected files that end "
                f"in {' '.join(ENDINGS)} (folders in it are not searched). Add some, or "
                "remove the folder."
            )
        images += [(_shown(one.name), entry) for entry in files]
    return sorted(images, key=lambda image: (image[0], image[1].name))


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder, but what hides, such as ``.DS_Store``."""
    with os.scandir(str(folder)) as entries:
        return [entry for entry in entries if not _hides(entry.name)]


def _shown(name: str) -> str:
    """Return a file's name as text: composed, and bytes that are no UTF-8 escaped.

    Names that look alike are equal then, whichever system they were written on.
    """
    text = encoded(name).decode("utf-8", "backslashreplace")
    return unicodedata.normalize("NFC", text)
