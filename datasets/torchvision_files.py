"""What the data sets in a few files that torchvision reads have in common: checking.

torchvision tells no more than "not found or corrupted". Here every file has its size
and MD5, so that a message names the file, what was found and what was expected.
"""

from __future__ import annotations

import os
import shutil
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path

from fedkd.data.dataset import Source
from fedkd.datasets.published_files import PublishedSet, md5, set_aside, stamp
from fedkd.errors import listing


class TorchvisionSet(PublishedSet):
    """A data set in the files that torchvision downloads."""

    def open(self, root: Path) -> Source:
        """See :meth:`FileDataset.open`."""
        self.verify(root)
        return self.read(root)

    def check(self, root: Path) -> None:
        """See :meth:`Dataset.check`."""
        self.open(root)

    def fingerprint(self, root: Path) -> str:
        """See :meth:`FileDataset.fingerprint`; of sizes and times."""
        self._require(root)
        return stamp(root, [root / name for name in self.files])

    def verify(self, root: Path) -> None:
        """See :meth:`PublishedSet.verify`; every file has its size and its MD5."""
        self._require(root)
        self.inspect(root)
        if not self.held:
            return
        for name, expected in self.files.items():
            size = (root / name).stat().st_size
            if size != expected:
                problem = f"{size:,} bytes, expected {expected:,}"
                raise self.damage(root, root / name, problem)
        for path, sum_found, sum_expected in _wrong_sums(root, self.checksums()):
            problem = f"MD5 {sum_found}, expected {sum_expected}"
            raise self.damage(root, path, problem)

    def download(self, root: Path) -> None:
        """See :meth:`PublishedSet.download`; into ``<set>.part`` until all is sound.

        What an attempt before left there is used if it is whole.
        """
        part = root / f"{self.name}.part"
        part.mkdir(exist_ok=True)
        sums = {**self.archives(), **self.checksums()}
        for path, _, _ in _wrong_sums(part, sums):
            path.unlink()
        for name, checksum in self.archives().items():
            _borrow(root / name, part / name, checksum)
        self.fetch(part)
        self._require_published(part)
        for name, checksum in sums.items():
            _move(part / name, root / name, checksum)
        shutil.rmtree(part)

    @abstractmethod
    def checksums(self) -> Mapping[str, str]:
        """Return the MD5 of each of :attr:`files`."""

    def archives(self) -> Mapping[str, str]:
        """Return the MD5 of each file that torchvision fetches, by where it puts it.

        Those that are at hand are not fetched again; none by default.
        """
        return {}

    def inspect(self, root: Path) -> None:
        """Look at the files before sizes and MD5s are held against the published.

        What it finds says more than a wrong size does; nothing by default.

        Raises:
            DataError: If the layout of a file is another than that of the set.
        """
        del root

    @abstractmethod
    def read(self, root: Path) -> Source:
        """Read the set; its files are there and are the published ones.

        Raises:
            DataError: If the content of a file is damaged.
        """

    @abstractmethod
    def fetch(self, root: Path) -> None:
        """Have torchvision download and unpack the files that are not in ``root``."""

    def _require_published(self, part: Path) -> None:
        """Make sure that what came is what was published.

        Raises:
            RuntimeError: Naming the first file that is missing or another.
        """
        sums = self.checksums()
        for name in sums:
            if not (part / name).is_file():
                raise RuntimeError(f"{name} did not come")
        for path, found, expected in _wrong_sums(part, sums):
            name = path.relative_to(part).as_posix()
            raise RuntimeError(f"{name} came with MD5 {found}, expected {expected}")

    def _require(self, root: Path) -> None:
        """Make sure that every file is there."""
        missing = [
            f"{name} ({size:,} bytes)"
            for name, size in self.files.items()
            if not (root / name).is_file()
        ]
        if missing:
            what = f"{len(missing)} of {len(self.files)} files are not in {root}"
            raise self.absence(root, f"{what}: {listing(missing)}")


def _wrong_sums(
    folder: Path, sums: Mapping[str, str]
) -> Iterator[tuple[Path, str, str]]:
    """Yield files that are there but have another MD5: which, found and expected."""
    for name, expected in sums.items():
        path = folder / name
        if path.is_file() and (found := md5(path)) != expected:
            yield path, found, expected


def _borrow(path: Path, place: Path, checksum: str) -> None:
    """Have a sound file at ``place`` too; it is only read there."""
    if place.exists() or not path.is_file() or md5(path) != checksum:
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, place)
    except OSError:  # not every file system has links
        shutil.copyfile(path, place)


def _move(new: Path, place: Path, checksum: str) -> None:
    """Put a file in its place, unless a sound one is there; what is damaged is kept."""
    if not new.is_file() or (place.is_file() and md5(place) == checksum):
        return
    if place.exists():
        set_aside(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    new.replace(place)
