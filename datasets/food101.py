"""FOOD101."""

from __future__ import annotations

import os
import shutil
from collections.abc import Container, Sequence
from pathlib import Path

from fedkd.data.dataset import Source, Split
from fedkd.datasets.jpegs import FolderTree, JpegConfig, JpegSet
from fedkd.datasets.published_files import fetch, md5, set_aside, stamp
from fedkd.errors import listing

FOLDER = "food-101"
ARCHIVE = "food-101.tar.gz"
ARCHIVE_MD5 = "85eeb15f3717b99a5da872d97d918f87"
"""As torchvision has it."""
TEXTS = ("meta/classes.txt", "meta/train.json", "meta/test.json")


class Food101(JpegSet):
    """FOOD101: 75,750 + 25,250 photos of 101 dishes (Bossard et al. 2014).

    The sides are up to 512 pixels and seldom equal. Images are stretched to 32x32, or
    to 64x64 with ``resolution: 64``, bilinearly with antialiasing, whatever their
    shape. Normalised by .5071 .4865 .4409 / .2673 .2564 .2762, which are CIFAR-100's
    mean and standard deviation. No augmentation. All this as in Mosaic's released code
    (commit a7f8b5b). Read from the folder ``food-101`` by torchvision's reader; the
    archive is 5 GB.
    """

    name = "food101"
    paper = (
        'Bossard, Guillaumin, Van Gool, "Food-101: Mining Discriminative Components '
        'with Random Forests", ECCV 2014'
    )
    Config = JpegConfig
    classes = 101
    images_a_class = (750, 250)
    published = (75_750, 25_250)
    places = (FOLDER,)
    url = f"http://data.vision.ee.ethz.ch/cvl/{ARCHIVE}"

    def open(self, root: Path) -> Source:
        """See :meth:`FileDataset.open`."""
        self._require(root)
        tree = FolderTree(root / FOLDER)
        classes = sorted(self.text(root, tree, TEXTS[0]).split())
        images = {
            f"images/{name}/{file}"
            for name in classes
            for file in tree.files(f"images/{name}")
        }
        train, test = (
            self._half(root, tree, half, classes, images) for half in ("train", "test")
        )
        self.require_whole(root, tree.path, classes, [train, test])
        return Source(
            train,
            test,
            classes=tuple(classes),
            mean=(0.5071, 0.4865, 0.4409),
            std=(0.2673, 0.2564, 0.2762),
        )

    def holds_part(self, root: Path) -> bool:
        """See :meth:`FileDataset.holds_part`; by the number of the files in ``images``."""
        tree = FolderTree(root / FOLDER)
        folders = tree.folders("images")
        number = sum(len(tree.files(f"images/{name}")) for name in folders)
        return number < self.classes * sum(self.images_a_class)

    def fingerprint(self, root: Path) -> str:
        """See :meth:`FileDataset.fingerprint`; of ``meta`` and the folders' times."""
        self._require(root)
        folder = root / FOLDER
        texts = [folder / name for name in TEXTS if (folder / name).is_file()]
        return stamp(root, [*texts, *sorted((folder / "images").iterdir())])

    def download(self, root: Path) -> None:
        """See :meth:`PublishedSet.download`; the archive is kept, as torchvision does."""
        # Imported here: torchvision takes a second.
        from torchvision.datasets.utils import extract_archive  # noqa: PLC0415

        archive, half = root / ARCHIVE, root / f"{FOLDER}.part"
        if archive.is_file() and md5(archive) != ARCHIVE_MD5:
            set_aside(archive)
        if not archive.is_file():
            fetch(self.url, archive, ARCHIVE_MD5)
        if half.exists():
            shutil.rmtree(half)  # of an unpacking that was interrupted
        extract_archive(archive, half)
        if (root / FOLDER).exists():
            set_aside(root / FOLDER)
        (half / FOLDER).rename(root / FOLDER)
        half.rmdir()

    def by_hand(self, root: Path) -> str:
        """See :meth:`PublishedSet.by_hand`."""
        return f"get {self.url} (MD5 {ARCHIVE_MD5}) and unpack it into {root}."

    def _require(self, root: Path) -> None:
        """Make sure that the folders are there."""
        missing = [
            name
            for name in (f"{FOLDER}/meta", f"{FOLDER}/images")
            if not (root / name).is_dir()
        ]
        if missing:
            raise self.absence(root, f"{listing(missing)} not in {root}")

    def _half(
        self,
        root: Path,
        tree: FolderTree,
        half: str,
        classes: Sequence[str],
        images: Container[str],
    ) -> Split:
        """Return the images that ``meta/<half>.json`` lists, in its order."""
        names, labels, listed = self._listed(root, tree, half)
        place = tree.place(f"meta/{half}.json")
        if listed != classes:
            odd = sorted(set(listed) ^ set(classes))
            problem = f"other classes than in {TEXTS[0]} ({listing(odd)})"
            raise self.damage(root, place, f"{problem}, expected the same")
        if not names:
            raise self.damage(root, place, "no image, expected at least one")
        for name, label in zip(names, labels, strict=True):
            if name not in images or name.split("/")[1] != classes[label]:
                problem = f"the image {name} of the class {classes[label]}"
                expected = f"only files in images/{classes[label]}"
                raise self.damage(root, place, f"{problem}, expected {expected}")
        return self.half(root, tree, names, labels)

    def _listed(
        self, root: Path, tree: FolderTree, half: str
    ) -> tuple[list[str], list[int], list[str]]:
        """Return files, labels and classes of a half, as torchvision's reader has them."""
        # Imported here: torchvision takes a second.
        from torchvision import datasets  # noqa: PLC0415

        name = f"meta/{half}.json"
        self.text(root, tree, name)  # says what is wrong with a file that is missing
        try:
            # Its loader is given a path, and here returns it: nothing is decoded yet.
            reader = datasets.Food101(root, half, loader=os.fspath)
            pairs = [reader[i] for i in range(len(reader))]
        except (ValueError, TypeError, AttributeError) as error:
            cause = " ".join(str(error).split())
            problem = f"no list of images by class ({cause}), expected JSON"
            raise self.damage(root, tree.place(name), problem) from error
        start = len(str(tree.path)) + 1
        names = [path[start:].replace(os.sep, "/") for path, _ in pairs]
        return names, [label for _, label in pairs], reader.classes
