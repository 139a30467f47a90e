"""Moments of features by class: by hand, exact when pooled, drawn as they say."""

import pytest
import torch

from fedkd.ops.gaussians import FeatureMoments, draw, moments, pooled


def of(features, labels, classes=3):
    pair = torch.tensor(features, dtype=torch.float32), torch.tensor(labels)
    return moments([pair], classes)


def random_features(number=60, size=5, classes=3):
    torch.manual_seed(0)
    labels = torch.randint(0, classes, (number,))
    return torch.randn(number, size) + labels[:, None], labels


def test_moments_by_hand():
    # Class 0: (0, 2), (2, 6): mean (1, 4), covariance [[2, 4], [4, 8]]. Class 2: one.
    known = of([[0, 2], [2, 6], [5, 7]], [0, 0, 2])
    assert known.classes.tolist() == [0, 2]
    assert known.counts.tolist() == [2, 1]
    assert known.means.tolist() == [[1, 4], [5, 7]]
    assert known.covariances.tolist() == [[2, 4, 8], [0, 0, 0]]
    assert known.non_negative is True
    assert of([[0, -1e-6]], [1]).non_negative is False


def test_only_classes_that_occur_have_a_row():
    assert of([[1.0, 2.0]], [1], classes=100).covariances.shape == (1, 3)


def test_no_batch_is_said():
    with pytest.raises(ValueError, match="no batch"):
        moments([], 3)


def test_pooling_by_hand():
    # Equation 5 with (0), (2) at one client and (4) at another: variance of 0, 2, 4 is 4.
    whole = pooled([of([[0], [2]], [0, 0]), of([[4]], [0])], 3)
    assert whole.counts.tolist() == [3]
    assert whole.means.tolist() == [[2]]
    assert whole.covariances.tolist() == [[4]]


def test_pooled_moments_are_those_of_all_features_in_one_place():
    x, y = random_features()
    parts = [(x[a:b], y[a:b]) for a, b in [(0, 1), (1, 24), (24, 60)]]
    whole = pooled([moments([part], 3) for part in parts], 3)
    for row, c in enumerate(whole.classes.tolist()):
        of_class = x[y == c].double()
        covariance = torch.cov(of_class.T)
        upper = covariance[tuple(torch.triu_indices(5, 5))]
        assert whole.counts[row] == len(of_class)
        torch.testing.assert_close(
            whole.means[row], of_class.mean(0), atol=1e-6, rtol=0
        )
        torch.testing.assert_close(whole.covariances[row], upper, atol=1e-5, rtol=0)


def test_batches_make_no_difference():
    x, y = random_features()
    whole = moments([(x, y)], 3)
    pieces = moments(zip(x.split(7), y.split(7), strict=True), 3)
    torch.testing.assert_close(pieces.means, whole.means, atol=1e-6, rtol=0)
    torch.testing.assert_close(pieces.covariances, whole.covariances, atol=1e-6, rtol=0)


def test_drawn_features_have_the_moments():
    covariance = torch.tensor([[2.0, 1.0, 1.0]])
    known = FeatureMoments(
        torch.tensor([4]),
        torch.tensor([9]),
        torch.tensor([[1.0, -3.0]]),
        covariance,
        False,
    )
    torch.manual_seed(0)
    x, y = draw(known, 100_000)
    assert x.dtype == torch.float32
    assert y.unique().tolist() == [4]
    torch.testing.assert_close(x.mean(0), known.means[0], atol=0.02, rtol=0)
    torch.testing.assert_close(
        torch.cov(x.T), torch.tensor([[2.0, 1.0], [1.0, 1.0]]), atol=0.03, rtol=0
    )


def test_a_class_of_one_image_is_drawn_at_its_feature():
    x, _ = draw(of([[3.0, 1.0]], [1]), 4)
    assert x.tolist() == [[3.0, 1.0]] * 4


def test_fewer_images_than_dimensions_give_features_in_their_plane():
    known = of([[0, 0, 1], [2, 4, 1], [4, 8, 1]], [0, 0, 0])
    x, _ = draw(FeatureMoments(**{**vars(known), "non_negative": False}), 50)
    torch.testing.assert_close(x[:, 1], 2 * x[:, 0], atol=1e-4, rtol=0)
    torch.testing.assert_close(x[:, 2], torch.ones(50), atol=1e-4, rtol=0)


def test_features_that_are_never_negative_are_not_drawn_below_zero():
    x, _ = draw(of([[0, 2], [2, 6], [5, 7]], [0, 0, 2]), 200)
    assert x.min() == 0


def test_features_are_drawn_class_by_class():
    _, y = draw(of([[0, 2], [2, 6], [5, 7]], [0, 0, 2]), 2)
    assert y.tolist() == [0, 0, 2, 2]
