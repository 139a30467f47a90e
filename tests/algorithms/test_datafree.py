"""What the data-free strategies share."""

import torch

from fedkd import testing
from fedkd.algorithms.datafree import Painter, lesson_images
from fedkd.models.conditional import UpsamplingGenerator
from fedkd.registry import load_registry
from fedkd.simulator import simulate

REGISTRY = load_registry()


def painter():
    torch.manual_seed(0)
    generator = UpsamplingGenerator((1, 8, 8), 3, latent_size=4, width=4)
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


def test_a_student_that_is_no_average_learns_statistics_of_its_own():
    options = {
        "generator": {"width": 2, "steps": 1, "latent_size": 4},
        "distil": {"steps": 2, "batch_size": 8},
    }
    for models, learns in ((("cnn",), False), (("cnn", "mlp"), True)):
        strategy, _ = REGISTRY.strategy("dfrd", options)
        federation = testing.toy_federation(models=models)
        still = testing.toy_protocol(1)
        result = simulate(strategy, federation, still, seed=0)
        entry = next(
            n for n in result.state.weights if n.endswith("num_batches_tracked")
        )
        moved = int(result.state.weights[entry])
        # Clients do the same steps each, so their average is their number of steps.
        steps = int(
            simulate(
                REGISTRY.strategy("fedavg")[0],
                testing.toy_federation(),
                still,
                seed=0,
            ).state.weights[entry]
        )
        assert (moved != steps) == learns, (moved, steps)
        assert moved > 0
