"""Promises that every data set keeps, one function each: ``check(make, root)``.

``make()`` gives the data set, ``root`` is the folder with its files. A set whose files
are not there raises :class:`~fedkd.testing.NotApplicable` with what the set says.
"""

from __future__ import annotations

import functools
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fedkd.data.checks import repeated
from fedkd.data.dataset import Dataset, FileDataset
from fedkd.data.images import ImageSet, LabelledSet
from fedkd.data.subsets import DatasetConfig
from fedkd.data.vectors import VectorSet
from fedkd.errors import DataError
from fedkd.testing.foreign import (
    called,
    no_global_touched,
    options_have_descriptions,
    refusal,
    untouched,
)
from fedkd.testing.runs import NotApplicable

DatasetFactory: TypeAlias = Callable[[], Dataset]
LOOKED_AT = 2000
"""Inputs of each half that are looked at one by one."""


def options_are_documented(make: DatasetFactory, root: Path) -> None:
    """Every option has a description, which its card shows."""
    del root
    options_have_descriptions(type(make()).Config)


def it_can_be_used_in_part(make: DatasetFactory, root: Path) -> None:
    """Its options are those of every set: which part of it is used."""
    config = type(make()).Config
    assert issubclass(config, DatasetConfig), (
        f"{config.__name__} has no fraction and no per_class, so it cannot be used in "
        "part. Derive it from fedkd.DatasetConfig."
    )
    whole = _loaded(make, root)
    dataset = make()
    options = {"per_class": 1, "fraction": None}
    dataset.config = dataset.config.model_copy(update=options)
    part = called("load (per_class 1)", lambda: dataset.load(root))
    assert len(part.x_train) == len(set(whole.y_train.tolist())), (
        f"load (per_class 1) gave {len(part.x_train)} training {whole.noun}s of "
        f"{whole.num_classes} classes. Let load return the whole set: it is cut to the "
        "part by fedkd."
    )


def images_are_loaded(make: DatasetFactory, root: Path) -> None:
    """``load`` gives an ImageSet of uint8 ``[N, C, H, W]``, or a VectorSet of vectors."""
    data = _loaded(make, root)
    for half, x in (("x_train", data.x_train), ("x_test", data.x_test)):
        assert x.is_contiguous(), (
            f"{half} is not contiguous, which makes every batch slow. Add .contiguous()."
        )


def names_are_names(make: DatasetFactory, root: Path) -> None:
    """The set and its classes have names."""
    data = _loaded(make, root)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", data.name), (
        f"the set is called {data.name!r}; expected its registered name, lower-case words "
        "joined by hyphens. Give the set that name."
    )
    unnamed = [c for c, name in enumerate(data.classes) if not str(name).strip()]
    assert not unnamed, f"class {unnamed[0]} has no name. Give one in classes."


def every_class_is_in_both_halves(make: DatasetFactory, root: Path) -> None:
    """Every class has training images and test images."""
    data = _loaded(make, root)
    for half, y in (("training", data.y_train), ("test", data.y_test)):
        counts = torch.bincount(y, minlength=data.num_classes).tolist()
        for c, number in enumerate(counts):
            assert number, (
                f"class {c}, {data.classes[c]!r}, has no {half} {data.noun}. Leave it out "
                "of classes, or split the set otherwise."
            )


def images_are_no_constants(make: DatasetFactory, root: Path) -> None:
    """Grey levels use the range of a byte, and inputs differ."""
    data = _loaded(make, root)
    for half, x in (("x_train", data.x_train), ("x_test", data.x_test)):
        some = x[:LOOKED_AT]
        most = int(some.max())
        assert isinstance(data, VectorSet) or most > 32, (
            f"the largest grey level of {half} is {most} of 255. Scale images to 0..255 "
            "before they become uint8."
        )
        assert (some != some[0]).any(), (
            f"the {data.noun}s of {half} are all equal. Look at how they are read."
        )


def they_are_normalised(make: DatasetFactory, root: Path) -> None:
    """Normalised training inputs have a mean near 0 and a deviation near 1."""
    data = _loaded(make, root)
    if isinstance(data, VectorSet):
        _values_are_normalised(data)
        return
    x = data.normalise(data.x_train[:LOOKED_AT])
    centre, spread = float(x.mean()), float(x.std())
    # Some constants are customary rather than exact.
    assert abs(centre) < 0.6 and 0.3 < spread < 1.3, (  # noqa: PT018 - one fact
        f"normalised training images have mean {centre:.2f} and deviation {spread:.2f}; "
        "expected about 0 and 1. Give mean and std of the training pixels scaled to "
        "[0, 1]."
    )


def _values_are_normalised(data: VectorSet) -> None:
    """Each value of normalised vectors has a mean near 0 and a deviation near 1 or 0."""
    x = data.normalise(data.x_train)
    spreads = x.std(0, correction=0)
    near = (x.mean(0).abs() < 0.6) & (((spreads - 0.8).abs() < 0.5) | (spreads < 1e-3))
    for column in (~near).nonzero().flatten().tolist():
        raise AssertionError(
            f"value {column} of the normalised training vectors has mean "
            f"{float(x[:, column].mean()):.2f} and deviation {float(spreads[column]):.2f}; "
            "expected about 0 and 1. fedkd.vector_moments(x_train) computes mean "
            "and std of each value."
        )


def no_vector_holds_its_label(make: DatasetFactory, root: Path) -> None:
    """No value of a vector is its label, as where a table's target column stayed."""
    data = _loaded(make, root)
    if not isinstance(data, VectorSet):
        raise NotApplicable("its inputs are images.")
    if len(set(data.y_train.tolist())) < 2:
        raise NotApplicable("it has training vectors of one class only.")
    same = (data.x_train == data.y_train[:, None]).all(0).nonzero().flatten().tolist()
    assert not same, (
        f"value {same[0]} of every training vector is its label. Leave the column of the "
        "target out of x_train and x_test."
    )


def no_test_image_is_trained_on(make: DatasetFactory, root: Path) -> None:
    """No test image is a training image, but for a few that were published so."""
    data = _loaded(make, root)
    some = data.x_test[:LOOKED_AT]
    number = repeated(data.x_train, some)
    assert number <= len(some) / 10, (
        f"{number} of {len(some)} test {data.noun}s are training {data.noun}s, byte for "
        "byte. Split the set once, and give each half its own."
    )


def reading_twice_gives_equal_bits(make: DatasetFactory, root: Path) -> None:
    """Two readings give equal images and labels, in one order."""
    first = _loaded(make, root)
    again = called("load", lambda: make().load(root))
    for name in ("x_train", "y_train", "x_test", "y_test"):
        one, other = getattr(first, name), getattr(again, name)
        same = one.shape == other.shape and torch.equal(one, other)
        assert same, (
            f"load gave another {name} the second time, at position "
            f"{_position(one, other)}. Sort what a folder lists, and draw from a "
            "generator with a fixed seed."
        )


def global_generators_are_left_alone(make: DatasetFactory, root: Path) -> None:
    """Reading draws from no global generator, and changes no setting of torch."""
    _loaded(make, root)
    with no_global_touched("load"):
        called("load", lambda: make().load(root))


def nothing_is_written(make: DatasetFactory, root: Path) -> None:
    """Reading leaves the folder of the data files as it was."""
    _loaded(make, root)
    before = _listed(root)
    called("load", lambda: make().load(root))
    changed = sorted(before ^ _listed(root))
    assert not changed, (
        f"load wrote {changed[0][0]} under the data root, which others share. Write in "
        "prepare, or keep it in memory."
    )


def options_are_left_alone(make: DatasetFactory, root: Path) -> None:
    """Reading keeps nothing in the data set."""
    _loaded(make, root)
    dataset = make()
    remedy = "Cells of a bench share it: keep nothing in it."
    with untouched("load", remedy, self=vars(dataset)):
        called("load", lambda: dataset.load(root))


def missing_files_are_named(make: DatasetFactory, root: Path) -> None:
    """Without its files, reading and checking say which, where and what to do."""
    del root
    dataset = make()
    if not dataset.files:
        raise NotApplicable("it declares no files.")
    with tempfile.TemporaryDirectory() as empty:
        for verb in ("load", "check"):
            said = _refusal(dataset, verb, Path(empty))
            assert empty in said, (
                f"{verb} said {said!r} of an empty folder, and not where it looked. Name "
                "the folder."
            )
            assert any(name in said for name in dataset.files) or "prepare" in said, (
                f"{verb} said {said!r} of an empty folder. Name the file that is missing, "
                "and the command that fetches it."
            )
        left = list(Path(empty).iterdir())
        assert not left, f"reading wrote {left[0].name} where its files were missing."


def pieces_are_those_of_the_whole(make: DatasetFactory, root: Path) -> None:
    """What is read in pieces is what ``load`` gives."""
    dataset = make()
    if not isinstance(dataset, FileDataset):
        raise NotApplicable("it is no fedkd.FileDataset: it is not read in pieces.")
    data = _loaded(make, root)
    source = called("open", lambda: dataset.open(root))
    halves = {
        "train": (source.train, data.x_train, data.y_train),
        "test": (source.test, data.x_test, data.y_test),
    }
    for name, (half, x, y) in halves.items():
        assert torch.equal(half.labels, y), f"open gave other {name} labels than load."
        for start, stop in ((0, 3), (len(y) - 3, len(y))):
            what = f"open(...).{name}.read({start}, {stop})"
            piece = called(what, lambda h=half, a=start, b=stop: h.read(a, b))  # type: ignore[misc]
            assert torch.equal(piece, x[start:stop]), (
                f"{what} gave other {data.noun}s than load. Read from start up to stop."
            )


DATASET_CHECKS: tuple[Callable[[Any, Path], None], ...] = (
    options_are_documented,
    it_can_be_used_in_part,
    images_are_loaded,
    names_are_names,
    every_class_is_in_both_halves,
    images_are_no_constants,
    they_are_normalised,
    no_vector_holds_its_label,
    no_test_image_is_trained_on,
    reading_twice_gives_equal_bits,
    global_generators_are_left_alone,
    nothing_is_written,
    options_are_left_alone,
    missing_files_are_named,
    pieces_are_those_of_the_whole,
)
"""Every promise of a data set, one function each: ``check(make, root)``."""


@functools.lru_cache(maxsize=1)
def _loaded(make: DatasetFactory, root: Path) -> LabelledSet:
    """Read a set, once for all checks.

    Raises:
        NotApplicable: If its files are not there.
        AssertionError: If it raises, or gives something else than a data set.
    """
    dataset = make()
    if isinstance(dataset, FileDataset):
        try:
            dataset.open(root)
        except DataError as error:
            raise NotApplicable(str(error)) from error
    elif not all((root / name).exists() for name in dataset.files):
        raise NotApplicable(_refusal(dataset, "load", root))
    data = called("load", lambda: dataset.load(root))
    assert isinstance(data, ImageSet | VectorSet), (
        f"load returned a {type(data).__name__}, expected a fedkd.ImageSet or a "
        "fedkd.VectorSet. Return one."
    )
    return data


def _refusal(dataset: Dataset, verb: str, root: Path) -> str:
    """Return what a set says of missing files.

    Raises:
        AssertionError: If it says nothing, or raises something else.
    """
    return refusal(
        verb,
        lambda: getattr(dataset, verb)(root),
        DataError,
        "files that are missing",
        "Say which file is missing, and which command fetches it.",
    )


def _listed(root: Path) -> set[tuple[str, int]]:
    """Return the files under a folder with the times at which they were written."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {(str(p.relative_to(root)), p.stat().st_mtime_ns) for p in files}


def _position(one: Tensor, other: Tensor) -> int:
    """Return the first position at which two tensors differ."""
    number = min(len(one), len(other))
    for position in range(number):
        if not torch.equal(one[position], other[position]):
            return position
    return number
