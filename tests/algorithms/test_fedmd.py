"""FedMD: by hand, its traffic, and local training in the limit."""

import pytest
import torch
from torch.nn.functional import l1_loss

from fedkd import testing
from fedkd.algorithms.mixed.fedmd import consensus
from fedkd.plugins.registry import load_registry
from fedkd.simulation.simulator import simulate

REGISTRY = load_registry()
ONE = torch.tensor([[2, 0, -1], [0, 1, 0]], dtype=torch.float64)
TWO = torch.tensor([[0, 1, 0], [1, 0, 2]], dtype=torch.float64)
STUDENT = torch.tensor([[0, 1, 0], [0.5, 0, 1]], dtype=torch.float64)


def result(name, **options):
    strategy = REGISTRY.strategy(name, options)[0]
    return simulate(strategy, testing.toy_federation(), testing.toy_protocol(2), 0)


def test_the_consensus_and_its_mean_absolute_error_by_hand():
    mean = consensus([ONE, TWO])
    assert mean.tolist() == [[1, 0.5, -0.5], [0.5, 0.5, 1]]
    assert torch.equal(mean, consensus([TWO, ONE]))
    assert l1_loss(STUDENT, mean).item() == pytest.approx(0.4166666666666667)


def test_without_a_digest_it_is_local_training():
    ours, local = result("fedmd", epochs=0), result("local")
    assert [line["train_loss"] for line in ours.history] == [
        line["train_loss"] for line in local.history
    ]


def test_scores_and_places_cross_and_no_model():
    """12 public images: 8 bytes a place, 4 bytes a score, to and from three clients."""
    first, second = result("fedmd").history
    scores = 3 * 12 * 4 * testing.toy_images().num_classes
    assert (first["bytes_down"], first["bytes_up"]) == (3 * 96, scores)
    down = 3 * (96 + 192) + scores  # of both rounds together
    assert (second["bytes_down"], second["bytes_up"]) == (down, 2 * scores)
