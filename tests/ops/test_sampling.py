"""Labels for generated images."""

import pytest
import torch

from fedkd.ops.sampling import label_batches, label_deck

COUNTS = torch.tensor([[30, 0, 10], [10, 20, 0]]).sum(0)


def shares(labels, classes):
    return torch.bincount(labels.flatten(), minlength=classes) / labels.numel()


def test_the_fixtures_deck_is_dealt_in_its_proportion():
    deck = label_deck(COUNTS, 70)
    assert torch.bincount(deck).tolist() == [40, 20, 10]


@pytest.mark.parametrize("number", [1, 7, 50, 501])
@pytest.mark.parametrize(
    "counts", [[40, 20, 10], [1, 1, 1], [0, 5, 0], [3, 0, 0, 9997], [7, 0]]
)
def test_a_decks_counts_are_off_by_less_than_one(number, counts):
    counts = torch.tensor(counts)
    cards = torch.bincount(label_deck(counts, number), minlength=len(counts))
    assert cards.sum() == number
    wanted = counts.double() * number / counts.sum()
    assert ((cards - wanted).abs() < 1).all()


@pytest.mark.parametrize("how", ["deck", "iid", "uniform"])
@pytest.mark.parametrize("empty", [0, 1, 2])
def test_a_class_that_nobody_has_is_never_drawn(how, empty):
    counts = torch.tensor([3, 3, 3])
    counts[empty] = 0
    drawn = label_batches(counts, 10, 101, how)
    assert drawn.shape == (10, 101)
    assert (drawn != empty).all()


def test_a_deck_of_many_thirds_gives_no_card_to_an_empty_last_class():
    """Running sums of shares in floats would end below 1 and leave it one."""
    counts = torch.tensor([1] * 49 + [0])
    for number in range(1, 200):
        assert label_deck(counts, number).max() < 49


def test_labels_drawn_by_themselves_follow_the_shares():
    torch.manual_seed(0)
    drawn = label_batches(COUNTS, 100, 100, "iid")
    torch.testing.assert_close(
        shares(drawn, 3), torch.tensor([4 / 7, 2 / 7, 1 / 7]), atol=0.02, rtol=0
    )


def test_uniform_labels_take_no_notice_of_sizes():
    torch.manual_seed(0)
    drawn = label_batches(torch.tensor([1000, 1, 0]), 100, 100, "uniform")
    torch.testing.assert_close(
        shares(drawn, 3), torch.tensor([0.5, 0.5, 0]), atol=0.02, rtol=0
    )


def test_a_deck_is_shuffled_over_all_batches():
    torch.manual_seed(0)
    drawn = label_batches(torch.tensor([10, 10]), 4, 50, "deck")
    assert torch.bincount(drawn.flatten()).tolist() == [100, 100]
    assert len({tuple(row.tolist()) for row in drawn}) == 4
    assert all(0 < row.sum() < 50 for row in drawn)


@pytest.mark.parametrize("how", ["deck", "iid", "uniform"])
@pytest.mark.parametrize("counts", [[0, 0], [-1, 5]])
def test_counts_that_cannot_be_are_refused(how, counts):
    with pytest.raises(ValueError, match="found the label counts"):
        label_batches(torch.tensor(counts), 1, 4, how)
