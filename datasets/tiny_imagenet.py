"""Tiny-ImageNet, which torchvision has no reader for."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

from fedkd.data.dataset import Source, Split
from fedkd.data.images import Augmentation
from fedkd.datasets.jpegs import FolderTree, JpegConfig, JpegSet, Tree, ZipTree
from fedkd.datasets.published_files import fetch, md5, set_aside, stamp
from fedkd.errors import listing

FOLDER = "tiny-imagenet-200"
ARCHIVE = "tiny-imagenet-200.zip"
ARCHIVE_BYTES = 248_100_043
ARCHIVE_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
"""Of the zip at :attr:`TinyImageNet.url`; not given there, but what all users get."""
ANNOTATIONS = "val/val_annotations.txt"
_STORED = 64


class TinyImageNet(JpegSet):
    """Tiny-ImageNet: 100,000 + 10,000 photos of 200 classes, 64x64 (Stanford CS231n, 2015).

    The test set is the folder ``val``; the published test images have no labels.
    Classes are in the order of their WordNet ids and are called by their first word in
    ``words.txt``. Resized to 32x32 (``resolution: 64`` keeps them), normalised by
    ImageNet's .485 .456 .406 / .229 .224 .225; training images are cropped (of the
    image padded by 4) and flipped at random. All this as in Mosaic's released code
    (commit a7f8b5b). Read from ``tiny-imagenet-200.zip`` as it is or, if there is none,
    from the folder ``tiny-imagenet-200`` that it unpacks to.
    """

    name = "tiny-imagenet"
    paper = (
        'Le, Yang, "Tiny ImageNet Visual Recognition Challenge", Stanford CS231n 2015'
    )
    Config = JpegConfig
    classes = 200
    images_a_class = (500, 50)
    published = (100_000, 10_000)
    places = (ARCHIVE, FOLDER)
    url = f"http://cs231n.stanford.edu/{ARCHIVE}"

    def open(self, root: Path) -> Source:
        """See :meth:`FileDataset.open`."""
        tree, place = self._tree(root)
        wnids = sorted(set(self.text(root, tree, "wnids.txt").split()))
        if not wnids:
            problem = "no class, expected a WordNet id a line"
            raise self.damage(root, tree.place("wnids.txt"), problem)
        labels = {wnid: label for label, wnid in enumerate(wnids)}
        train = self._train(root, tree, labels)
        test = self._test(root, tree, labels)
        self.require_whole(root, place, wnids, [train, test])
        return Source(
            train,
            test,
            classes=self._names(root, tree, wnids),
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            augmentation=Augmentation(pad=4, flip=True),
        )

    def holds_part(self, root: Path) -> bool:
        """See :meth:`FileDataset.holds_part`; by the size of the zip, or its files."""
        if (root / ARCHIVE).is_file() and (
            root / ARCHIVE
        ).stat().st_size >= ARCHIVE_BYTES:
            return False
        tree = type(self)(self.config.model_copy(update={"partial": True}))._tree(root)[
            0
        ]
        folders = [f"train/{name}/images" for name in tree.folders("train")]
        number = sum(len(_jpegs(tree, name)) for name in [*folders, "val/images"])
        return number < self.classes * sum(self.images_a_class)

    def fingerprint(self, root: Path) -> str:
        """See :meth:`FileDataset.fingerprint`; of the zip, or of the folders' times."""
        if (root / ARCHIVE).is_file():
            return stamp(root, [root / ARCHIVE])
        self._require_folder(root)
        folder = root / FOLDER
        texts = [folder / name for name in ("wnids.txt", "words.txt", ANNOTATIONS)]
        images = sorted(folder.glob("train/*/images"))
        try:
            return stamp(root, [*texts, folder / "val/images", *images])
        except FileNotFoundError as error:
            raise self.absence(root, f"{error.filename} is missing") from error

    def download(self, root: Path) -> None:
        """See :meth:`PublishedSet.download`; the zip, which is not unpacked."""
        if (root / ARCHIVE).is_file():
            set_aside(root / ARCHIVE)
        fetch(self.url, root / ARCHIVE, ARCHIVE_MD5)

    def by_hand(self, root: Path) -> str:
        """See :meth:`PublishedSet.by_hand`."""
        return f"get {self.url} (MD5 {ARCHIVE_MD5}) into {root}."

    def _tree(self, root: Path) -> tuple[Tree, Path]:
        """Return the files, from the zip or the folder, and where they are."""
        path = root / ARCHIVE
        if not path.is_file():
            self._require_folder(root)
            return FolderTree(root / FOLDER), root / FOLDER
        if self.held:
            self._require_archive(root, path)
        try:
            return ZipTree(path, FOLDER), path
        except (OSError, zipfile.BadZipFile) as error:
            problem = f"no readable zip ({error}), expected that of {self.url}"
            raise self.damage(root, path, problem) from error

    def _require_folder(self, root: Path) -> None:
        if not (root / FOLDER).is_dir():
            what = f"neither {ARCHIVE} nor the folder {FOLDER} is in {root}"
            raise self.absence(root, what)

    def _require_archive(self, root: Path, path: Path) -> None:
        size = path.stat().st_size
        if size != ARCHIVE_BYTES:
            problem = f"{size:,} bytes, expected {ARCHIVE_BYTES:,}"
            raise self.damage(root, path, problem)
        if (checksum := md5(path)) != ARCHIVE_MD5:
            problem = f"MD5 {checksum}, expected {ARCHIVE_MD5}"
            raise self.damage(root, path, problem)

    def _train(self, root: Path, tree: Tree, labels: Mapping[str, int]) -> Split:
        """Return the training half: a folder of images for each class."""
        there = tree.folders("train")
        unknown = [name for name in there if name not in labels]
        if unknown:
            problem = f"{listing(unknown)}, expected only classes of wnids.txt"
            raise self.damage(root, tree.place("train"), problem)
        names, numbers = [], []
        for wnid, label in labels.items():
            folder = f"train/{wnid}/images"
            files = _jpegs(tree, folder)
            if not files:
                problem = "no JPEG, expected those of a class of wnids.txt"
                raise self.damage(root, tree.place(folder), problem)
            names += [f"{folder}/{file}" for file in files]
            numbers += [label] * len(files)
        return self.half(root, tree, names, numbers, stored=_STORED)

    def _test(self, root: Path, tree: Tree, labels: Mapping[str, int]) -> Split:
        """Return the test half: one folder of images, and a line for each."""
        classes = self._annotations(root, tree, labels)
        there = _jpegs(tree, "val/images")
        place = tree.place(ANNOTATIONS)
        absent = classes.keys() - set(there)
        if absent:
            problem = f"lines for {listing(sorted(absent))}, not in val/images"
            raise self.damage(root, place, f"{problem}; expected its images only")
        bare = set(there) - classes.keys()
        if bare or not classes:
            problem = f"no line for {listing(sorted(bare)) or 'any image'}"
            raise self.damage(root, place, f"{problem}, expected one for each image")
        names = [f"val/images/{file}" for file in classes]
        numbers = [labels[wnid] for wnid in classes.values()]
        return self.half(root, tree, names, numbers, stored=_STORED)

    def _annotations(
        self, root: Path, tree: Tree, labels: Mapping[str, int]
    ) -> dict[str, str]:
        """Return the class of each test image, in the order of the lines."""
        class_of: dict[str, str] = {}
        lines = self.text(root, tree, ANNOTATIONS).splitlines()
        for number, line in enumerate(lines, start=1):
            file, wnid, *_ = [*line.split("\t"), ""]
            if wnid not in labels or file in class_of:
                problem = f"{line!r} in line {number}"
                expected = "an image, once, and its class in wnids.txt, after a tab"
                place = tree.place(ANNOTATIONS)
                raise self.damage(root, place, f"{problem}, expected {expected}")
            class_of[file] = wnid
        return class_of

    def _names(self, root: Path, tree: Tree, wnids: list[str]) -> tuple[str, ...]:
        """Return the first word or words of each class."""
        lines = self.text(root, tree, "words.txt").splitlines()
        words = dict(line.split("\t", 1) for line in lines if "\t" in line)
        unnamed = [wnid for wnid in wnids if wnid not in words]
        if unnamed:
            problem = f"no line for {listing(unnamed)}, expected one for each class"
            raise self.damage(root, tree.place("words.txt"), problem)
        return tuple(words[wnid].split(",")[0].strip() for wnid in wnids)


def _jpegs(tree: Tree, folder: str) -> list[str]:
    return [name for name in tree.files(folder) if name.endswith(".JPEG")]
