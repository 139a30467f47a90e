"""DFRD's diversity loss at sizes that images have."""

import pytest
import torch

from fedkd import testing
from fedkd.algorithms.datafree import log_shares
from fedkd.algorithms.dfrd.config import DFRDConfig
from fedkd.models.conditional import AcganGenerator
from fedkd.ops.diversity import diversity_loss
from fedkd.simulation.sides import Sides


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


def test_a_term_that_has_vanished_is_warned_of():
    server = Sides(testing.toy_federation(2), testing.toy_protocol(clients=2), 0)
    x = torch.randn(8, 3, 32, 32, requires_grad=True)
    apart = diversity_loss(torch.randn(8, 100), x, "norms")
    with pytest.warns(RuntimeWarning, match="diversity loss .* no gradient"):
        log_shares({"fidelity": x.sum(), "diversity": apart}, x, server.server())


def test_shares_are_of_the_norms_of_gradients():
    server = Sides(testing.toy_federation(2), testing.toy_protocol(clients=2), 0)
    side = server.server()
    x = torch.ones(2, 2, requires_grad=True)
    log_shares({"fidelity": x.sum(), "diversity": 3 * x.sum()}, x, side)
    shares = {name: float(value) for name, value in side.logged.items()}
    assert shares == {"fidelity_share": 0.25, "diversity_share": 0.75}
