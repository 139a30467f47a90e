"""DFRD's diversity loss at sizes that images have."""

import pytest
import torch

from fedkd.algorithms.dfrd.config import DFRDConfig
from fedkd.models.conditional import AcganGenerator
from fedkd.ops.diversity import diversity_loss
from fedkd.ops.terms import WeightedTerms


def gradient(shape, metric):
    """Return the loss of a fresh generator, and the norm of its gradient."""
    torch.manual_seed(0)
    generator = AcganGenerator.build(shape, 10, width=32)
    h = generator.merge(torch.randn(64, 100), torch.arange(64) % 10)
    loss = diversity_loss(h, generator.decode(h), metric)
    grads = torch.autograd.grad(loss, list(generator.parameters()))
    return loss.item(), torch.stack([g.norm() for g in grads]).norm().item()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_a_fresh_generator_is_driven_to_diversity_at_real_sizes(shape):
    loss, norm = gradient(shape, DFRDConfig().generator.diversity)
    assert 0 < loss < 1
    assert norm > 1e-3


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_with_euclidean_distances_it_is_not(shape):
    loss, norm = gradient(shape, "norms")
    assert loss < 1e-30
    assert norm == 0


def test_a_term_that_vanishes_in_a_round_is_warned_of():
    torch.manual_seed(0)
    generator = AcganGenerator.build((3, 32, 32), 10, width=8)
    terms = WeightedTerms()
    for _ in range(5):
        h = generator.merge(torch.randn(16, 100), torch.arange(16) % 10)
        x = generator.decode(h)
        apart = diversity_loss(h, x, "norms")
        terms.sum(x, fidelity=(1.0, x.mean()), diversity=(1.0, apart))
    with pytest.warns(RuntimeWarning, match="weight on diversity, which stayed 0"):
        assert terms.report()["diversity_share"] == 0
