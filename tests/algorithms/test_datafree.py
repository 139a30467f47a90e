"""What the data-free strategies share."""

import pytest
import torch

from fedkd import testing
from fedkd.algorithms.datafree import Painter, lesson_images
from fedkd.models.conditional import UpsamplingGenerator
from fedkd.party import ModelSpec
from fedkd.plugins.registry import load_registry
from fedkd.simulation.simulator import simulate

REGISTRY = load_registry()


def painter():
    torch.manual_seed(0)
    generator = UpsamplingGenerator.build((1, 8, 8), 3, latent_size=4, width=4)
    return Painter(generator, testing.toy_federation().data.info, "as_is")


def drawn():
    return torch.randn(16, 4), torch.arange(16) % 3


def test_lessons_are_on_the_images_that_the_search_saw():
    made, (z_BZ, labels_B) = painter(), drawn()
    before = {n: v.clone() for n, v in made.named_buffers()}
    x = lesson_images(made, z_BZ, labels_B, as_searched=True)
    assert all(torch.equal(v, before[n]) for n, v in made.named_buffers())
    with torch.no_grad():
        assert torch.equal(x, made.train()(z_BZ, labels_B))


def test_running_statistics_give_flat_images_of_a_young_generator():
    made, (z_BZ, labels_B) = painter(), drawn()
    spread = {
        how: lesson_images(made, z_BZ, labels_B, as_searched=how).std(0).mean().item()
        for how in (True, False)
    }
    assert spread[False] < spread[True] / 2


@pytest.mark.parametrize(
    ("models", "learns"),
    [(("cnn",), False), (("cnn", "mlp"), False), (("mlp",), True)],
)
def test_a_student_that_is_no_average_learns_statistics_of_its_own(models, learns):
    options = {
        "generator": {"width": 2, "steps": 1, "latent_size": 4},
        "distil": {"steps": 3, "batch_size": 8},
    }
    strategy, _ = REGISTRY.strategy("dfrd", options)
    federation = testing.toy_federation(models=models)
    federation.server_model = ModelSpec("cnn")
    weights = simulate(
        strategy, federation, testing.toy_protocol(1), seed=0
    ).state.weights
    entry = next(name for name in weights if name.endswith("num_batches_tracked"))
    # The average of clients that did two steps each says two.
    assert int(weights[entry]) > 0
    assert (int(weights[entry]) != 2) == learns
