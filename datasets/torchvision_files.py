"""What the data sets in a few files that torchvision reads have in common: checking.

torchvision tells no more than "not found or corrupted". Here every file has its size
and MD5, so that a message names the file, what was found and what was expected.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path

from fedkd.dataset import Source
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
            found = (root / name).stat().st_size
            if found != expected:
                problem = f"{found:,} bytes, expected {expected:,}"
                raise self.damage(root, root / name, problem)
        for path, sum_found, sum_expected in self._wrong_sums(root):
            problem = f"MD5 {sum_found}, expected {sum_expected}"
            raise self.damage(root, path, problem)

    def download(self, root: Path) -> None:
        """See :meth:`PublishedSet.download`."""
        for path, _, _ in self._wrong_sums(root):
            set_aside(path)
        self.fetch(root)

    @abstractmethod
    def checksums(self) -> Mapping[str, str]:
        """Return the MD5 of each of :attr:`files`."""

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
        """Have torchvision download and unpack the files that are missing."""

    def _wrong_sums(self, root: Path) -> Iterator[tuple[Path, str, str]]:
        for name, expected in self.checksums().items():
            path = root / name
            if path.is_file() and (found := md5(path)) != expected:
                yield path, found, expected

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
