"""Data sets prepared once: decoded, resized, and mapped into memory by every run after.

Under the data root, ``prepared/<name>-<key>/train.safetensors`` and ``test.safetensors``
hold the images as uint8; the key is of all options but those of subsets.
"""

from __future__ import annotations

import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedkd.data import Augmentation, ImageSet
from fedkd.dataset import Dataset, DatasetConfig, FileDataset, Split
from fedkd.errors import DataError
from fedkd.locks import locked
from fedkd.prepared_files import (
    SPLITS,
    Header,
    Prepared,
    content_checksum,
    folder_of,
    pair_in,
)
from fedkd.prepared_write import HalfWritten, Progress


class UnwritableError(DataError):
    """Prepared files cannot be written: no permission, or no room."""


def images(reader: FileDataset, root: Path) -> ImageSet:
    """Return a whole data set, mapped from its prepared files.

    They are written first if they are missing or of other source files. Where they
    cannot be written, a warning says so and the images are read into memory instead.
    Images that are mapped may be written to: that changes no file.

    Raises:
        DataError: If source files are damaged, or missing and not prepared either.
    """
    try:
        return opened(prepare(reader, root))
    except UnwritableError as error:
        warnings.warn(
            f"{error} Until then, every run reads the source files.", stacklevel=2
        )
        return reader.load(root)


def prepare(
    reader: FileDataset, root: Path, progress: Progress = lambda *_: None
) -> tuple[Prepared, Prepared]:
    """Return the prepared training and test file; write them unless they are fresh.

    What another process writes is waited for. Prepared files stay in use when the
    source files are gone.

    Args:
        reader: The data set.
        root: The data root.
        progress: Called whenever a piece is written.

    Raises:
        DataError: If source files are damaged, or missing and not prepared either;
            files prepared before are left as they were.
        UnwritableError: If the files cannot be written.
    """
    folder = folder_of_set(reader, root)
    if (there := found(reader, root)) is not None:
        return there
    reader.fingerprint(root)  # says what is missing before a folder is made
    with _writing(reader, folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "lock"):
            # Another process may have written them meanwhile.
            if (there := found(reader, root)) is not None:
                return there
            _write(reader, root, folder, progress)
    written = pair_in(folder)
    if written is None:
        raise DataError(
            f"{reader.name}: {folder} changed while it was prepared. Remove it and run "
            f"'fedkd data prepare {reader.name}' again."
        )
    return written


def folder_of_set(reader: FileDataset, root: Path) -> Path:
    """Return the folder of a set's prepared files."""
    return folder_of(root, reader.name, _lasting(reader))


def opened(files: tuple[Prepared, Prepared]) -> ImageSet:
    """Return the set in a training and a test file; its images are mapped, not read."""
    header = files[0].header
    (x_train, y_train), (x_test, y_test) = (_mapped(file) for file in files)
    return ImageSet(
        header.name,
        x_train,
        y_train,
        x_test,
        y_test,
        header.classes,
        header.mean,
        header.std,
        Augmentation(**header.augmentation),
    )


def require_sound(file: Prepared) -> None:
    """Read a prepared file to its end and hold it against its checksum.

    Raises:
        DataError: If it is damaged, or cannot be read.
    """
    try:
        with file.path.open("rb") as content:
            checksum = content_checksum(content, file.start)
    except OSError as error:
        raise DataError(f"{file.header.name}: {_cause(error, file.path)}.") from error
    if checksum != file.header.checksum:
        raise DataError(
            f"{file.header.name}: {file.path} is damaged: found SHA-256 {checksum}, "
            f"expected {file.header.checksum}. Remove it, or run 'fedkd data prepare "
            f"{file.header.name}' with its options, and it is prepared again."
        )


def discard_damaged(reader: FileDataset, root: Path) -> None:
    """Remove a set's prepared files if one does not hold what it held when written.

    Raises:
        UnwritableError: If they cannot be removed.
    """
    pair = pair_in(folder_of_set(reader, root))
    try:
        for file in pair or ():
            require_sound(file)
    except DataError:
        with _writing(reader, root):
            for file in pair or ():
                file.path.unlink(missing_ok=True)


def is_current(reader: Dataset, root: Path, file: Prepared) -> bool:
    """Say whether a prepared file is of the source files, if these are there at all."""
    if not isinstance(reader, FileDataset):
        return False
    try:
        return file.header.fingerprint == _fingerprint(reader, root)
    except DataError:
        # Own files that are gone or damaged may have been others meanwhile.
        return type(reader).content is Dataset.content


def found(reader: Dataset, root: Path) -> tuple[Prepared, Prepared] | None:
    """Return a set's prepared files that a run can use; None if there are none.

    Those of source files that are gone can be used, those of others cannot.
    """
    if not isinstance(reader, FileDataset):
        return None
    pair = pair_in(folder_of_set(reader, root))
    return pair if pair is not None and is_current(reader, root, pair[0]) else None


def has_sources(reader: Dataset, root: Path) -> bool:
    """Say whether the source files are there; a plain data set is asked to load."""
    try:
        if isinstance(reader, FileDataset):
            reader.fingerprint(root)
    except DataError:
        return False
    return True


def facts(reader: Dataset, root: Path) -> dict[str, Any]:
    """Return how large a set is, without preparing it.

    Raises:
        DataError: If it is missing or damaged.
    """
    if (pair := found(reader, root)) is not None:
        images = opened(pair)
    elif isinstance(reader, FileDataset):
        source = reader.open(root)
        return {
            "train": len(source.train.labels),
            "test": len(source.test.labels),
            "classes": len(source.classes),
            "shape": list(source.train.shape),
        }
    else:
        images = reader.load(root)
    return {
        "train": len(images.y_train),
        "test": len(images.y_test),
        "classes": images.num_classes,
        "shape": list(images.shape),
    }


def _write(reader: FileDataset, root: Path, folder: Path, progress: Progress) -> None:
    # Before the files are read: if they change meanwhile, they are prepared again.
    fingerprint = _fingerprint(reader, root)
    try:
        source = reader.open(root)
        sources = {name: _md5(root / name) for name in reader.files}
    except OSError as error:
        raise DataError(f"{reader.name}: {_cause(error, root)}.") from error
    facts: dict[str, Any] = {
        "name": reader.name,
        "classes": tuple(source.classes),
        "mean": tuple(source.mean),
        "std": tuple(source.std),
        "augmentation": asdict(source.augmentation),
        "options": _lasting(reader),
        "fingerprint": fingerprint,
        "sources": sources,
    }
    halves = [
        HalfWritten(folder, Header(split=split, **_form(half), **facts), half)
        for split, half in zip(SPLITS, (source.train, source.test), strict=True)
    ]
    for half in halves:
        half.write(progress)
    # Both or none: one that is damaged leaves those prepared before in use.
    for half in halves:
        half.seal()
    for half in halves:
        half.rename()


def _form(half: Split) -> dict[str, Any]:
    return {"number": len(half.labels), "shape": tuple(half.shape)}


def _fingerprint(reader: FileDataset, root: Path) -> str:
    """Return what changes with the source files, or with how the set reads them."""
    return f"{reader.preparation}-{reader.fingerprint(root)}"


def _lasting(reader: FileDataset) -> dict[str, Any]:
    """Return the options of a set that decide what its prepared files hold."""
    options: dict[str, Any] = reader.config.model_dump(mode="json")
    if isinstance(reader.config, DatasetConfig):
        subset = DatasetConfig.model_fields
        options = {key: options[key] for key in options if key not in subset}
    return options


def _mapped(file: Prepared) -> tuple[Tensor, Tensor]:
    """Return images uint8 ``[N, C, H, W]`` and labels int64 ``[N]`` of a file."""
    # Not shared: a page that is written to becomes a copy of this process alone.
    content = torch.from_file(
        str(file.path), shared=False, size=file.bytes, dtype=torch.uint8
    )
    header = file.header
    middle = file.start + header.label_bytes
    y = content[file.start : middle].view(torch.int64).clone()
    return content[middle:].view(header.number, *header.shape), y


@contextmanager
def _writing(reader: FileDataset, folder: Path) -> Iterator[None]:
    """Turn what the system says of a folder into one sentence.

    Raises:
        UnwritableError: If something cannot be written in the block.
    """
    try:
        yield
    except OSError as error:
        advice = "choose a folder that you may write to with --data-root"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = f"free some space, or {advice}; it goes on where it stopped"
        raise UnwritableError(
            f"{reader.name}: its prepared images could not be written: "
            f"{_cause(error, folder)}; {advice}."
        ) from error


def _cause(error: OSError, place: Path) -> str:
    return f"{error.filename or place}: {error.strerror or type(error).__name__}"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return content_checksum(file, 0, "md5")
