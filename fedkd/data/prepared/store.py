"""Data sets prepared once: decoded, resized, and mapped into memory by every run after.

Under the data root, ``prepared/<name>-<key>/train.safetensors`` and ``test.safetensors``
hold the images as uint8; the key is of all options but those of subsets.
"""

from __future__ import annotations

import errno
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from fedkd.base.bounds import refuse_links_outside
from fedkd.base.locks import locked
from fedkd.data.dataset import Dataset, FileDataset
from fedkd.data.images import ImageSet
from fedkd.data.prepared.files import (
    SPLITS,
    Prepared,
    cause_at,
    folder_of,
    pair_in,
    require_sound,
)
from fedkd.data.prepared.halves import fingerprint_of, require_content, write_halves
from fedkd.data.prepared.map import opened
from fedkd.data.prepared.sound import note_written, require_sound_once
from fedkd.data.prepared.write import Progress
from fedkd.errors import DataError

_ATTEMPTS = 5
"""How often prepared files may be replaced between finding and opening them."""


LOCK = "lock"
"""Name of the file that who writes into a folder holds a lock on."""


class UnwritableError(DataError):
    """Prepared files cannot be written: no permission, or no room."""


def images(reader: FileDataset, root: Path, content: str | None = None) -> ImageSet:
    """Return a whole data set, mapped from its prepared files.

    They are written first if they are missing or of other source files. Where they
    cannot be written, a warning says so and the images are read into memory instead.
    Images that are mapped may be written to: that changes no file.

    Args:
        reader: The data set.
        root: The data root.
        content: What :meth:`Dataset.content` said when the run was set up; None if any
            content will do.

    Raises:
        DataError: If source files are damaged, of other content, or missing and not
            prepared either.
    """
    try:
        for _ in range(_ATTEMPTS):
            files = _sound(reader, root, prepare(reader, root, content=content))
            pair = None if files is None else opened(files)
            if pair is not None:
                return pair
    except UnwritableError as error:
        text = f"{error} Until then, every run reads the source files."
        warnings.warn(text, RuntimeWarning, stacklevel=2)
        images = reader.whole(root)
        if content is not None:
            require_content(reader.name, reader.content(), content)
        return images
    raise DataError(
        f"{reader.name}: {folder_of_set(reader, root)} changes all the time: another "
        "process prepares it from other files. Give it a --data-root of its own."
    )


def _sound(
    reader: FileDataset, root: Path, files: tuple[Prepared, Prepared]
) -> tuple[Prepared, Prepared] | None:
    """Return prepared files that hold what was written; None if they are to be made anew.

    Raises:
        DataError: If one is damaged and there is nothing to prepare it from.
        UnwritableError: If a damaged one cannot be removed.
    """
    try:
        require_sound_once(files)
    except DataError as error:
        if _is_sound(folder_of_set(reader, root)):
            return None  # another process has replaced them meanwhile
        if not has_sources(reader, root):
            raise
        text = f"{error} It is prepared again now."
        warnings.warn(text, RuntimeWarning, stacklevel=3)
        discard_damaged(reader, root)
        return None
    return files


def prepare(
    reader: FileDataset,
    root: Path,
    progress: Progress = lambda *_: None,
    content: str | None = None,
) -> tuple[Prepared, Prepared]:
    """Return the prepared training and test file; write them unless they are fresh.

    What another process writes is waited for. Prepared files stay in use when the
    source files are gone.

    Args:
        reader: The data set.
        root: The data root.
        progress: Called whenever a piece is written.
        content: See :func:`images`.

    Raises:
        DataError: If source files are damaged, of other content, or missing and not
            prepared either; files prepared before are left as they were. If a link in
            the folder of the prepared files leads out of it.
        UnwritableError: If the files cannot be written.
    """
    folder = folder_of_set(reader, root)
    if (there := usable_pair(reader, root, content)) is not None:
        return there
    reader.fingerprint(root)  # says what is missing before a folder is made
    with _writing(reader, folder), _made_and_locked(folder), _left_if_used(folder):
        # Another process may have written them meanwhile.
        if (there := usable_pair(reader, root, content)) is not None:
            return there
        headers = write_halves(reader, root, folder, progress, content)
        written = pair_in(folder)
        if written is not None:
            note_written(written)
    if written is None or not all(
        file.header.same_content(header)
        for file, header in zip(written, headers, strict=True)
    ):
        raise DataError(
            f"{reader.name}: {folder} changed while it was prepared. Remove it and run "
            f"'fedkd data prepare {reader.name}' again."
        )
    return written


@contextmanager
def _made_and_locked(folder: Path) -> Iterator[None]:
    """Make a folder and hold its lock; who had the lock before may remove the folder."""
    with ExitStack() as held:
        is_held = False
        while not is_held:
            folder.mkdir(parents=True, exist_ok=True)
            refuse_links_outside(folder)
            with suppress(FileNotFoundError):
                held.enter_context(locked(folder / LOCK))
                is_held = True
        yield


@contextmanager
def _left_if_used(folder: Path) -> Iterator[None]:
    """Remove a folder again that is locked, if the block fails with nothing written."""
    try:
        yield
    except BaseException:
        # Where open files cannot be removed, it stays.
        with suppress(OSError):
            if [path.name for path in folder.iterdir()] == [LOCK]:
                (folder / LOCK).unlink()
                folder.rmdir()
        raise


def folder_of_set(reader: FileDataset, root: Path) -> Path:
    """Return the folder of a set's prepared files."""
    return folder_of(root, reader.name, reader.key_options())


def discard_damaged(reader: FileDataset, root: Path) -> None:
    """Remove a set's prepared files if one does not hold what it held when written.

    Raises:
        UnwritableError: If they cannot be removed.
    """
    folder = folder_of_set(reader, root)
    if _is_sound(folder):
        return
    with _writing(reader, folder), locked(folder / LOCK):
        # Another process may have replaced them meanwhile.
        if not _is_sound(folder):
            for split in SPLITS:
                (folder / f"{split}.safetensors").unlink(missing_ok=True)


def _is_sound(folder: Path) -> bool:
    """Say whether prepared files hold what they held, or are none that are used."""
    try:
        for file in pair_in(folder) or ():
            require_sound(file)
    except DataError:
        return False
    return True


def is_current(
    reader: Dataset, root: Path, file: Prepared, content: str | None = None
) -> bool:
    """Say whether a prepared file is of the source files, if these are there at all.

    Args:
        reader: The data set.
        root: The data root.
        file: A prepared file of the set.
        content: See :func:`images`.
    """
    if not isinstance(reader, FileDataset):
        return False
    if content is not None and file.header.content != content:
        return False
    if not file.header.fingerprint.startswith(f"{reader.preparation}-"):
        return False
    try:
        return file.header.fingerprint == fingerprint_of(reader, root)
    except DataError:
        # Own files that are gone or damaged may have been others meanwhile.
        return type(reader).content is Dataset.content


def usable_pair(
    reader: Dataset, root: Path, content: str | None = None
) -> tuple[Prepared, Prepared] | None:
    """Return a set's prepared files that a run can use; None if there are none.

    Those of source files that are gone can be used, those of others cannot; for
    ``content`` see :func:`images`.
    """
    if not isinstance(reader, FileDataset):
        return None
    pair = pair_in(folder_of_set(reader, root))
    if pair is None or not is_current(reader, root, pair[0], content):
        return None
    return pair


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
    if (pair := usable_pair(reader, root)) is not None:
        train, test = (file.header for file in pair)
        return {
            "train": train.number,
            "test": test.number,
            "classes": len(train.classes),
            "shape": list(train.shape),
        }
    if isinstance(reader, FileDataset):
        source = reader.open(root)
        return {
            "train": len(source.train.labels),
            "test": len(source.test.labels),
            "classes": len(source.classes),
            "shape": list(source.train.shape),
        }
    images = reader.load(root)
    return {
        "train": len(images.y_train),
        "test": len(images.y_test),
        "classes": images.num_classes,
        "shape": list(images.shape),
    }


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
            f"{cause_at(error, folder)}; {advice}."
        ) from error
