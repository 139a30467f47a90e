"""What published data sets have in common: fetching, fingerprints, one-sentence errors."""

from __future__ import annotations

import hashlib
import shlex
import socket
import tarfile
import zlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from fedkd.base.locks import locked
from fedkd.data.dataset import FileDataset
from fedkd.data.root import where_sought
from fedkd.errors import DataError

TIMEOUT = 30.0
"""Seconds without an answer after which a download counts as failed."""
FAILED_FETCH = (OSError, RuntimeError, EOFError, tarfile.TarError, zlib.error)
"""What downloading and unpacking raise."""
_CHUNK = 1 << 20


class PublishedSet(FileDataset):
    """A data set in the files that its authors publish."""

    def prepare(self, root: Path) -> None:
        """Download the files into ``root`` unless they are there and sound.

        What is damaged is kept beside the new files, as ``<name>.damaged``. What
        another process downloads is waited for, under a lock on ``<set>.lock``.

        Raises:
            DataError: If they cannot be downloaded; says what to do by hand.
        """
        if self._is_sound(root):
            return
        try:
            root.mkdir(parents=True, exist_ok=True)
            with locked(root / f"{self.name}.lock"), _timeout(TIMEOUT):
                if self._is_sound(root):  # another process fetched them meanwhile
                    return
                self.download(root)
        except FAILED_FETCH as error:
            cause = " ".join(str(error).split()) or type(error).__name__
            raise DataError(
                f"{self.name} could not be downloaded: {cause}. By hand: "
                f"{self.by_hand(root)} Then run '{self.command('check', root)}'."
            ) from error
        self.verify(root)

    @abstractmethod
    def verify(self, root: Path) -> None:
        """Hold the files against what was published, but decode no image.

        Raises:
            DataError: Naming the first file that is missing or damaged.
        """

    @abstractmethod
    def download(self, root: Path) -> None:
        """Download and unpack what is missing or damaged.

        Files get their names when they are whole: it may be interrupted at any moment.
        """

    @abstractmethod
    def by_hand(self, root: Path) -> str:
        """Return a sentence: what to fetch, and where to put it."""

    @property
    def held(self) -> bool:
        """Whether the files must be the published ones; not with ``partial``."""
        return not getattr(self.config, "partial", False)

    def command(self, verb: str, root: Path) -> str:
        """Return the command ``fedkd data VERB`` for this set, fit to be pasted."""
        return f"fedkd data {verb} {self.name} --data-root {shlex.quote(str(root))}"

    def absence(self, root: Path, what: str) -> DataError:
        """Return the error that says what is missing and how to get it."""
        return DataError(
            f"{self.name}: {what}. Run '{self.command('prepare', root)}', "
            f"or put them there by hand. Data is sought in {where_sought()}."
        )

    def damage(self, root: Path, place: Path | str, problem: str) -> DataError:
        """Return the error for a damaged file: what was found, what was expected."""
        return DataError(
            f"{self.name}: {place} is damaged: found {problem}. Run "
            f"'{self.command('prepare', root)}' to fetch it again."
        )

    def part(self, root: Path, place: Path, held: str) -> DataError:
        """Return the error for files that hold only ``found``, a part of the set."""
        return DataError(
            f"{self.name}: {place} holds {held}. Run "
            f"'{self.command('prepare', root)}' to fetch the whole set, or set the "
            "option partial to true to use what is there."
        )

    def require_labels(
        self, root: Path, place: Path, labels: Tensor, classes: int
    ) -> None:
        """Make sure that labels ``[N]`` are in ``0..classes - 1``."""
        if not len(labels):
            raise self.damage(root, place, "no image, expected at least one")
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            wrong = low if low < 0 else high
            problem = f"the label {wrong}, expected labels from 0 to {classes - 1}"
            raise self.damage(root, place, problem)

    def _is_sound(self, root: Path) -> bool:
        try:
            self.verify(root)
        except DataError:
            return False
        return True


def stamp(root: Path, paths: Iterable[Path]) -> str:
    """Return a text that changes when one of some files or folders does.

    It holds their sizes and times, not their contents. A folder changes when a file is
    added to it, removed or renamed, but not when one in it is overwritten.

    Raises:
        FileNotFoundError: If one is missing.
    """
    digest = hashlib.sha256()
    for path in paths:
        facts = path.stat()
        line = f"{path.relative_to(root)} {facts.st_size} {facts.st_mtime_ns}\n"
        digest.update(line.encode())
    return digest.hexdigest()[:32]


def md5(path: Path) -> str:
    """Return the MD5 of a file in hexadecimal digits."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def set_aside(path: Path) -> None:
    """Rename a damaged file or folder to ``<name>.damaged``, or ``-2``, ``-3``, …."""
    place = path.with_name(f"{path.name}.damaged")
    number = 1
    while place.exists():
        number += 1
        place = path.with_name(f"{path.name}.damaged-{number}")
    path.rename(place)


def fetch(url: str, path: Path, checksum: str) -> None:
    """Download a file; it appears under its name only when it is whole.

    Raises:
        OSError: If the server cannot be reached or the disk is full.
        RuntimeError: If the MD5 of what came is not ``checksum``.
    """
    # Imported here: torchvision takes a second.
    from torchvision.datasets.utils import download_url  # noqa: PLC0415

    half = path.with_name(f"{path.name}.part")
    download_url(url, path.parent, half.name, checksum)
    half.replace(path)


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """Bound the wait for a server; urllib, which torchvision uses, waits for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
