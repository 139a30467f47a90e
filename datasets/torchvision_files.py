"""What the data sets that torchvision reads have in common: checking, fetching, errors.

torchvision tells no more than "not found or corrupted". Here every file has its size
and MD5, so that a message names the file, what was found and what was expected.
"""

from __future__ import annotations

import hashlib
import shlex
import socket
import tarfile
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from fedkd.data import ImageSet
from fedkd.data_root import where_sought
from fedkd.dataset import Dataset
from fedkd.errors import DataError, listing

TIMEOUT = 30.0
"""Seconds without an answer after which a download counts as failed."""
_CHUNK = 1 << 20


class TorchvisionSet(Dataset):
    """A data set in the files that torchvision downloads."""

    name: ClassVar[str]
    """The registered name, for messages."""

    def load(self, root: Path) -> ImageSet:
        """See :meth:`Dataset.load`."""
        self._require(root)
        return self.read(root)

    def prepare(self, root: Path) -> None:
        """Download the files into ``root`` unless they are there and sound.

        A damaged file is kept beside the new one, as ``<name>.damaged``.

        Raises:
            DataError: If they cannot be downloaded; says what to do by hand.
        """
        wrong = self.damaged(root)
        if not wrong and not self._missing(root):
            return
        for path in wrong:
            path.replace(path.with_name(f"{path.name}.damaged"))
        try:
            with _timeout(TIMEOUT):
                self.download(root)
        except (OSError, RuntimeError, EOFError, tarfile.TarError, zlib.error) as error:
            cause = " ".join(str(error).split()) or type(error).__name__
            raise DataError(
                f"{self.name} could not be downloaded: {cause}. By hand: "
                f"{self.by_hand(root)} Then run '{self._command('check', root)}'."
            ) from error
        self._require(root)
        self.verify(root)

    @abstractmethod
    def checksums(self) -> Mapping[str, str]:
        """Return the MD5 of each of :attr:`files`."""

    @abstractmethod
    def read(self, root: Path) -> ImageSet:
        """Read the set; its files are there and have the right sizes.

        Raises:
            DataError: If the content of a file is damaged.
        """

    @abstractmethod
    def download(self, root: Path) -> None:
        """Have torchvision download and unpack the files that are missing."""

    @abstractmethod
    def by_hand(self, root: Path) -> str:
        """Return a sentence: what to fetch, and where to put it."""

    def verify(self, root: Path) -> None:
        """Hold every file against its MD5.

        Raises:
            DataError: Naming the first damaged file, its MD5 and the one expected.
        """
        for path, found, expected in self._wrong_sums(root):
            raise self._damage(root, path, f"MD5 {found}, expected {expected}")

    def damaged(self, root: Path) -> list[Path]:
        """Return the files that are there with the wrong size or MD5."""
        return [path for path, _, _ in self._wrong_sums(root)]

    def _wrong_sums(self, root: Path) -> Iterator[tuple[Path, str, str]]:
        for name, expected in self.checksums().items():
            path = root / name
            if path.is_file() and (found := md5(path)) != expected:
                yield path, found, expected

    def _missing(self, root: Path) -> list[str]:
        return [name for name in self.files if not (root / name).is_file()]

    def _require(self, root: Path) -> None:
        """Make sure that every file is there and of the right size."""
        missing = [
            f"{name} ({self.files[name]:,} bytes)" for name in self._missing(root)
        ]
        if missing:
            raise DataError(
                f"{self.name}: {len(missing)} of {len(self.files)} files are not in "
                f"{root}: {listing(missing)}. Run '{self._command('prepare', root)}', "
                f"or put them there by hand. Data is sought in {where_sought()}."
            )
        for name, expected in self.files.items():
            found = (root / name).stat().st_size
            if found != expected:
                problem = f"{found:,} bytes, expected {expected:,}"
                raise self._damage(root, root / name, problem)

    def _damage(self, root: Path, path: Path, problem: str) -> DataError:
        return DataError(
            f"{self.name}: {path} is damaged: found {problem}. Run "
            f"'{self._command('prepare', root)}' to fetch it again."
        )

    def _command(self, verb: str, root: Path) -> str:
        return f"fedkd data {verb} {self.name} --data-root {shlex.quote(str(root))}"


def md5(path: Path) -> str:
    """Return the MD5 of a file in hexadecimal digits."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """Bound the wait for a server; urllib, which torchvision uses, waits for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
