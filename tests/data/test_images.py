"""Batches: which images, in which order, cropped, flipped and normalised how."""

from dataclasses import replace

import pytest
import torch

from fedkd.data.images import Augmentation, ClientData, ImageSet, augmented


def images(number, **changes):
    """A set whose image ``i`` has every pixel ``i``; its label is ``i % 3``."""
    x = torch.arange(number, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, 1, 2, 2)
    y = torch.arange(number) % 3
    facts = {"classes": ("a", "b", "c"), "mean": (0.0,), "std": (1 / 255,), **changes}
    return ImageSet("toy", x, y, x[:2], y[:2], **facts)


def client(number, **changes):
    return ClientData(images(number, **changes), torch.arange(number))


def passes(shard, size, **options):
    """The pixel values of each batch; with mean 0 and std 1/255 they are image ids."""
    return [x[:, 0, 0, 0].tolist() for x, _ in shard.batches(size, **options)]


def ids(batches):
    return sorted(int(i) for batch in batches for i in batch)


def test_normalisation_subtracts_the_mean_and_divides_by_the_deviation():
    x = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1)
    found = images(3, mean=(0.2,), std=(0.4,)).normalise(x)
    torch.testing.assert_close(found.flatten(), torch.tensor([-0.5, 0.0, 2.0]))


def test_each_channel_is_normalised_by_its_own_constants():
    x = torch.full((1, 2, 1, 1), 255, dtype=torch.uint8)
    two = torch.zeros(3, 2, 1, 1, dtype=torch.uint8)
    facts = {"mean": (0.0, 0.5), "std": (0.5, 0.25), "x_train": two, "x_test": two[:2]}
    found = replace(images(3), **facts).normalise(x)
    torch.testing.assert_close(found.flatten(), torch.tensor([2.0, 2.0]))


def test_a_batch_is_normalised_as_the_set_normalises():
    shard = client(4, mean=(0.3,), std=(0.2,))
    x, _ = next(shard.images(4))
    assert torch.equal(
        x, images(4, mean=(0.3,), std=(0.2,)).normalise(images(4).x_train)
    )


def test_an_epoch_gives_every_image_once():
    assert ids(passes(client(10), 4, epochs=1)) == list(range(10))


def test_labels_stay_with_their_images():
    for x, y in client(20).batches(6, epochs=2):
        assert torch.equal(x[:, 0, 0, 0].round().long() % 3, y)


def test_every_pass_is_shuffled_anew():
    torch.manual_seed(0)
    first, second = passes(client(40), 40, epochs=2)
    assert first != second
    assert first != sorted(first)


def test_the_order_comes_from_the_default_generator_of_torch():
    torch.manual_seed(3)
    one = passes(client(10), 4, epochs=1)
    torch.manual_seed(3)
    same = passes(client(10), 4, epochs=1)
    torch.manual_seed(4)
    assert one == same
    assert one != passes(client(10), 4, epochs=1)


@pytest.mark.parametrize(
    ("number", "rule", "sizes"),
    [
        (10, "never", [4, 4, 2]),
        (10, "singleton", [4, 4, 2]),
        (10, "always", [4, 4]),
        (9, "never", [4, 4, 1]),
        (9, "singleton", [4, 4]),
        (9, "always", [4, 4]),
        (8, "always", [4, 4]),
        (3, "always", [3]),
        (2, "singleton", [2]),
        (5, "singleton", [4]),
    ],
)
def test_drop_last_leaves_out_the_short_batch_but_never_the_only_one(
    number, rule, sizes
):
    found = passes(client(number), 4, epochs=1, drop_last=rule)
    assert [len(batch) for batch in found] == sizes


def test_batches_of_one_image_are_full_batches_not_short_ones():
    assert len(passes(client(3), 1, epochs=1, drop_last="singleton")) == 3


def test_a_single_image_is_given_twice():
    assert passes(client(1), 4, epochs=1) == [[0.0, 0.0]]


def test_steps_go_on_over_passes_and_stop_in_the_middle_of_one():
    found = passes(client(8), 4, steps=3)
    assert [len(batch) for batch in found] == [4, 4, 4]
    assert ids(found[:2]) == list(range(8))


def test_no_steps_give_no_batches():
    assert passes(client(8), 4, steps=0) == []


def test_images_come_once_in_stored_order_without_augmentation():
    source = images(5, augmentation=Augmentation(pad=4, flip=True))
    shard = ClientData(source, torch.tensor([4, 0, 2]))
    found = [x[:, 0, 0, 0].tolist() for x, _ in shard.images(2)]
    assert found == [[4.0, 0.0], [2.0]]


def test_label_counts_count_every_class_also_the_absent():
    shard = ClientData(images(9), torch.tensor([0, 3, 6, 1]))
    assert shard.label_counts().tolist() == [3, 1, 0]


def test_a_subset_keeps_what_the_mask_keeps():
    shard = ClientData(images(6), torch.tensor([5, 3, 1]))
    kept = shard.subset(torch.tensor([True, False, True]))
    assert kept.indices.tolist() == [5, 1]


def test_no_augmentation_changes_nothing_and_draws_nothing():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    x = torch.rand(4, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(augmented(x, Augmentation()), x)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_flip_mirrors_left_to_right_and_about_half_of_the_images():
    torch.manual_seed(0)
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).repeat(1000, 1, 1, 1)
    found = augmented(x, Augmentation(flip=True))
    mirrored = torch.tensor([[3.0, 2.0, 1.0], [6.0, 5.0, 4.0]])
    flipped = (found == mirrored).flatten(1).all(1)
    assert torch.equal(found[~flipped], x[~flipped])
    assert 450 < int(flipped.sum()) < 550


def test_a_crop_is_a_window_of_the_image_padded_with_black():
    torch.manual_seed(0)
    image = torch.arange(1.0, 10.0).view(3, 3)
    padded = torch.tensor(
        [
            [0.0, 0, 0, 0, 0],
            [0, 1, 2, 3, 0],
            [0, 4, 5, 6, 0],
            [0, 7, 8, 9, 0],
            [0, 0, 0, 0, 0],
        ]
    )
    windows = [padded[i : i + 3, j : j + 3] for i in range(3) for j in range(3)]
    found = augmented(image.repeat(400, 1, 1, 1), Augmentation(pad=1))
    seen = {
        next(k for k, window in enumerate(windows) if torch.equal(crop[0], window))
        for crop in found
    }
    assert seen == set(range(9))


def test_the_channels_of_an_image_are_cropped_together():
    torch.manual_seed(0)
    x = torch.rand(16, 1, 5, 5).repeat(1, 3, 1, 1)
    found = augmented(x, Augmentation(pad=2))
    assert found.shape == (16, 3, 5, 5)
    assert torch.equal(found[:, 0], found[:, 1])
    assert torch.equal(found[:, 0], found[:, 2])


def test_padding_is_black_before_normalisation():
    source = images(1, mean=(0.5,), std=(0.5,), augmentation=Augmentation(pad=2))
    white = torch.full_like(source.x_train, 255)
    source = ImageSet(**{**vars(source), "x_train": white})
    torch.manual_seed(0)
    batches = ClientData(source, torch.zeros(64, dtype=torch.int64)).batches(
        64, epochs=1
    )
    x, _ = next(batches)
    assert x.mul(2).round().unique().tolist() == [-2.0, 2.0]


def test_augmentation_can_be_left_out_of_batches():
    shard = client(1, augmentation=Augmentation(pad=2))
    for _ in range(5):
        x, _ = next(shard.batches(4, epochs=1, augment=False))
        assert torch.equal(x, torch.zeros(2, 1, 2, 2))


def test_augmentation_draws_from_the_default_generator_of_torch():
    x = torch.rand(32, 3, 8, 8)
    found = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        found.append(augmented(x, Augmentation(pad=4, flip=True)))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_set_knows_its_shape_and_classes():
    info = images(4).info
    assert (info.shape, info.num_classes, info.mean) == ((1, 2, 2), 3, (0.0,))
