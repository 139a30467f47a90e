"""Both halves of a data set, written from its source files into prepared files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedkd.data.dataset import FileDataset, Source
from fedkd.data.prepared.files import SPLITS, Header, cause_at, content_checksum
from fedkd.data.prepared.write import HalfWritten, Progress
from fedkd.errors import DataError


def write_halves(
    reader: FileDataset,
    root: Path,
    folder: Path,
    progress: Progress,
    content: str | None,
) -> list[Header]:
    """Write both files; return their headers, without checksums.

    Args:
        reader: The data set.
        root: The data root.
        folder: Where the files are written.
        progress: Called whenever a piece is written.
        content: What :meth:`Dataset.content` has to say of the source files; None if
            any content will do.

    Raises:
        DataError: If source files are missing, damaged, of other content, or changed
            while they were read.
        OSError: If the files cannot be written.
    """
    # Before the files are read: what is found then must be there to the end.
    fingerprint = fingerprint_of(reader, root)
    with _reading(reader, root):
        there = reader.content()
        if content is not None:
            require_content(reader.name, there, content)
        source = reader.open(root)
        facts = _facts_of(reader, source) | {
            "fingerprint": fingerprint,
            "sources": {name: _md5(root / name) for name in reader.files},
            "content": there,
        }
    groups = dict(zip(SPLITS, _groups_of(source), strict=True))
    halves = []
    for split, images in zip(SPLITS, (source.train, source.test), strict=True):
        number, shape = len(images.labels), tuple(images.shape)
        header = Header(
            split=split, number=number, shape=shape, groups=groups[split], **facts
        )
        halves.append(HalfWritten(folder, header, images))
    for half in halves:
        half.write(progress)
    with _reading(reader, root):
        _require_unchanged(reader, root, fingerprint)
    # Both or none: one that is damaged leaves those prepared before in use.
    for half in halves:
        half.seal()
    for half in halves:
        half.rename()
    return [half.header for half in halves]


def _facts_of(reader: FileDataset, source: Source) -> dict[str, Any]:
    return {
        "name": reader.name,
        "classes": tuple(source.classes),
        "mean": tuple(source.mean),
        "std": tuple(source.std),
        "augmentation": asdict(source.augmentation),
        "options": reader.key_options(),
        "notes": tuple(source.notes),
        "group_names": () if source.groups is None else source.groups.names,
    }


def _groups_of(source: Source) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the groups of the training and the test images; none if there are none."""
    if source.groups is None:
        return (), ()
    return tuple(source.groups.train.tolist()), tuple(source.groups.test.tolist())


def _require_unchanged(reader: FileDataset, root: Path, fingerprint: str) -> None:
    """Refuse images of which some may be of files before a change, some of after."""
    if fingerprint_of(reader, root) != fingerprint:
        raise DataError(
            f"{reader.name}: its source files changed while they were prepared. Try "
            "again when they are as they should be."
        )


def fingerprint_of(reader: FileDataset, root: Path) -> str:
    """Return what changes with the source files, or with how the set reads them."""
    return f"{reader.preparation}-{reader.fingerprint(root)}"


def require_content(name: str, found: str, expected: str) -> None:
    """Refuse files that are others than when a run was set up.

    Raises:
        DataError: If they are.
    """
    if found != expected:
        raise DataError(
            f"{name}: its files changed since the run was set up: found content "
            f"{found or 'none'}, expected {expected or 'none'}. Start the run again; "
            "it is another one then."
        )


@contextmanager
def _reading(reader: FileDataset, root: Path) -> Iterator[None]:
    """Turn what the system says of source files into an error of reading.

    Raises:
        DataError: If something cannot be read in the block.
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"{reader.name}: {cause_at(error, root)}.") from error


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return content_checksum(file, 0, "md5")
