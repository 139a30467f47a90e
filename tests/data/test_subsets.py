"""Subsets of data sets: which images they hold."""

import io
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from fedkd.config import Config
from fedkd.data.dataset import DatasetConfig
from fedkd.data.images import Augmentation, ImageSet
from fedkd.data.subsets import subset
from fedkd.errors import ConfigError
from fedkd.plugins.options import resolve
from fedkd.plugins.registry import load_registry
from fedkd.report.results import Row
from fedkd.report.table import table_markdown
from fedkd.report.terminal import table_rich

SIZES = (50, 30, 3)


@pytest.fixture
def images():
    """83 + 83 images of three classes in mixed order; each pixel is its position."""
    order = torch.randperm(sum(SIZES), generator=torch.Generator().manual_seed(3))
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor(SIZES))[order]
    x = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)
    names = ("cat", "dog", "owl")
    flip = Augmentation(flip=True)
    halves = (x, labels, x + 100, labels)
    return ImageSet("zoo", *halves, names, (0.5,), (0.5,), augmentation=flip)


def part(images, **options):
    return subset(images, DatasetConfig(**options))


def counts(labels):
    return torch.bincount(labels, minlength=3).tolist()


def test_without_options_it_is_the_set_itself(images):
    assert subset(images, DatasetConfig()) is images


def test_a_fraction_takes_each_class_its_share_rounded_to_the_nearest(images):
    # 10 % are 5, 3 and 0.3: the owl has 1 at least.
    found = part(images, fraction=0.1)
    assert counts(found.y_train) == [5, 3, 1]
    # 50 % are 25, 15 and 1.5, and a half is rounded up.
    assert counts(part(images, fraction=0.5).y_train) == [25, 15, 2]


def test_a_number_a_class_takes_that_of_every_class(images):
    assert counts(part(images, per_class=2).y_train) == [2, 2, 2]


def test_the_whole_fraction_is_the_whole_set(images):
    found = part(images, fraction=1.0, test_fraction=1.0)
    assert torch.equal(found.x_train, images.x_train)
    assert torch.equal(found.y_test, images.y_test)


def test_images_keep_their_labels_and_their_order(images):
    found = part(images, fraction=0.3, test_fraction=0.4)
    positions = found.x_train.flatten().long()
    assert (positions.diff() > 0).all()
    assert torch.equal(found.y_train, images.y_train[positions])
    tested = found.x_test.flatten().long() - 100
    assert (tested.diff() > 0).all()
    assert torch.equal(found.y_test, images.y_test[tested])


def test_each_half_is_cut_on_its_own(images):
    train = part(images, per_class=1)
    assert (len(train.x_train), len(train.x_test)) == (3, 83)
    test = part(images, test_fraction=0.1)
    assert (len(test.x_train), counts(test.y_test)) == (83, [5, 3, 1])


def test_all_but_the_images_stays(images):
    found = part(images, per_class=1)
    same = replace(images, x_train=found.x_train, y_train=found.y_train)
    assert found == same


def test_only_what_is_kept_is_held(images):
    found = part(images, per_class=1)
    assert found.x_train.untyped_storage().nbytes() == 3


def test_the_subset_seed_says_which_images_and_nothing_else_does(images):
    torch.manual_seed(1)
    first = part(images, fraction=0.3)
    torch.manual_seed(2)
    again = part(images, fraction=0.3)
    other = part(images, fraction=0.3, subset_seed=1)
    assert torch.equal(first.x_train, again.x_train)
    assert not torch.equal(first.x_train, other.x_train)


def test_which_images_are_drawn_does_not_change_unnoticed(images):
    assert part(images, per_class=1).x_train.flatten().tolist() == [10, 65, 66]


def test_a_larger_subset_holds_the_smaller_one(images):
    small = set(part(images, fraction=0.2).x_train.flatten().tolist())
    large = set(part(images, fraction=0.4).x_train.flatten().tolist())
    assert small < large


@pytest.mark.parametrize("sizes", [(1, 1, 1), (7, 3, 3), (6, 6, 2), (97, 13, 5), SIZES])
def test_a_larger_subset_holds_every_smaller_one(images, sizes):
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))
    x = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)
    zoo = replace(images, x_train=x, y_train=labels, x_test=x, y_test=labels)
    before = {"train": set(), "test": set()}
    for step in range(1, 401):
        found = part(zoo, fraction=step / 400, test_fraction=step / 400)
        for half, kept in (("train", found.x_train), ("test", found.x_test)):
            now = set(kept.flatten().tolist())
            assert before[half] <= now, step / 400
            before[half] = now
        assert min(counts(found.y_train)) >= 1
    assert len(before["train"]) == sum(sizes)


def test_a_class_without_images_stays_so(images):
    bare = replace(images, classes=("cat", "dog", "owl", "yak"))
    assert torch.bincount(part(bare, per_class=2).y_train).tolist() == [2, 2, 2]
    assert torch.bincount(part(bare, fraction=0.1).y_train).tolist() == [5, 3, 1]


def test_more_than_a_class_has_is_refused_with_the_smallest_class(images):
    with pytest.raises(ConfigError) as caught:
        part(images, per_class=4)
    assert str(caught.value) == (
        "zoo: found per_class 4, but class 'owl' has 3 training images. Expected 3 or "
        "less; 'fraction' fits classes of any size."
    )


def test_options_that_know_no_subsets_leave_the_set_as_it_is(images):
    class Mine(Config):
        """A plug-in's own."""

        fraction: float = 0.5
        """Of something else."""

    assert subset(images, Mine()) is images


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"fraction": 0.5, "per_class": 3},
            "expected fraction or per_class, found both",
        ),
        ({"fraction": 0}, "fraction: found 0."),
        ({"fraction": 1.1}, "fraction: found 1.1."),
        ({"per_class": 0}, "per_class: found 0."),
        ({"test_fraction": 2}, "test_fraction: found 2."),
        ({"subset_seed": -1}, "subset_seed: found -1."),
        ({"per_clas": 2}, "unknown key. Did you mean 'per_class'?"),
    ],
)
def test_what_cannot_be_a_subset_is_refused(options, message):
    with pytest.raises(ConfigError) as caught:
        resolve(load_registry(), "datasets", "digits", options, "datasets.digits")
    assert message in str(caught.value)


def test_a_subset_is_named_in_the_results():
    options = {"fraction": 0.1, "test_fraction": 0.5}
    found = resolve(load_registry(), "datasets", "cifar10", options, "here")
    assert found.shown() == "cifar10[fraction=0.1,test_fraction=0.5]"


@pytest.mark.parametrize("shown", ["fraction=0.1", "per_class=3,subset_seed=2"])
def test_tables_name_the_subset_in_files_and_in_terminals(shown):
    name = f"cifar10[{shown}]"
    row = row_of(name)
    assert f"{name}, iid" in table_markdown([row], title="mine")
    console = Console(width=200, file=io.StringIO())
    console.print(table_rich([row]))
    printed = console.file.getvalue()
    assert f"{name}, iid" in printed
    assert "Percent, on the whole test set, after" in printed


def test_a_table_does_not_claim_the_whole_test_set_for_a_part_of_it():
    page = table_markdown(
        [row_of("cifar10[fraction=0.1,test_fraction=0.5]")], title="x"
    )
    assert "on the test set, or the part of it that test_fraction says, after" in page
    assert "whole test set" not in page


def row_of(dataset):
    return Row(
        suite="mine",
        strategy="fedavg",
        dataset=dataset,
        partition="iid",
        alpha=None,
        models="cnn",
        clients=2,
        rounds=1,
        seed=0,
        status="done",
        global_accuracy=50.0,
        run_id="r",
    )
