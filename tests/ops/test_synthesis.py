"""Making images without data: losses by literal numbers, the search, the pool."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedkd.data.images import Augmentation, ImageInfo
from fedkd.ops.distillation import kl, kl_rows
from fedkd.ops.ensembles import LogitEnsemble, mean_by, mean_logits
from fedkd.ops.synthesis import (
    ImagePool,
    Lens,
    adversarial_divergence,
    difficulty_cross_entropy,
    disagreement,
    synthesise,
)

# The shared fixture: logits of two clients and of a student, and labels.
CLIENTS = torch.tensor(
    [[[2.0, 0, -1], [0, 1, 0]], [[0.0, 1, 0], [1, 0, 2]]], dtype=torch.float64
)
STUDENT = torch.tensor([[0.0, 1, 0], [0.5, 0, 1]], dtype=torch.float64)
LABELS = torch.tensor([0, 2])
TEACHER = mean_logits(CLIENTS)
CPU = torch.device("cpu")
GREY = ImageInfo((1, 8, 8), 3, (0.3,), (0.25,))


def near(number):
    return pytest.approx(number, rel=1e-12, abs=1e-15)


class Images(nn.Module):
    """A generator whose images are its noise and an offset, squashed into [0, 1]."""

    def __init__(self, start=0.0):
        super().__init__()
        self.offset = nn.Parameter(torch.tensor(start))

    def forward(self, z):
        return torch.sigmoid(z + self.offset).view(-1, 1, 2, 2)


def test_the_ensemble_and_its_cross_entropy_are_those_of_the_fixture():
    assert TEACHER.tolist() == [[1.0, 0.5, -0.5], [0.5, 0.5, 1.0]]
    assert F.cross_entropy(TEACHER, LABELS).item() == near(0.6992536873771857)


def test_kl_rows_and_mask_are_those_of_the_fixture():
    rows = kl_rows(TEACHER, STUDENT)
    assert rows.tolist() == near([0.2671381894945922, 0.0229272107546899])
    assert disagreement(TEACHER, STUDENT).tolist() == [True, False]


def test_the_adversarial_term_is_that_of_the_fixture():
    loss = adversarial_divergence(TEACHER, STUDENT)
    assert loss.item() == near(-0.13356909474729609)
    plain = adversarial_divergence(TEACHER, STUDENT, masked=False)
    assert plain.item() == near(-0.14503270012464106)


def test_the_adversarial_term_has_the_factor_t_squared():
    loss = adversarial_divergence(TEACHER, STUDENT, temperature=20, masked=False)
    assert loss.item() == near(-0.13980003432011445)
    assert kl(TEACHER, STUDENT, 20).item() == near(0.13980003432011445)


def test_an_empty_mask_gives_zero_and_no_gradient():
    student = (TEACHER * 2).requires_grad_()
    loss = adversarial_divergence(TEACHER, student)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == 0
    assert not gradient.any()


def test_equal_logits_have_no_divergence_also_without_the_mask():
    for masked in (True, False):
        loss = adversarial_divergence(TEACHER, TEACHER, temperature=3, masked=masked)
        assert loss.item() == 0


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_sure_predictions_give_no_nan(size):
    teacher = torch.tensor([[size, 0.0], [0.0, size]])
    student = torch.tensor([[0.0, size], [0.0, size]]).requires_grad_()
    loss = adversarial_divergence(teacher, student)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, student)[0].isfinite().all()


def test_difficulty_is_that_of_the_fixture():
    loss = difficulty_cross_entropy(TEACHER, LABELS, 1.0)
    assert loss.item() == near(0.35468544078918496)


def test_difficulty_is_not_a_part_of_the_gradient():
    logits = TEACHER.clone().requires_grad_()
    (loss,) = torch.autograd.grad(difficulty_cross_entropy(logits, LABELS, 1.0), logits)
    p = TEACHER.softmax(1)
    expected = (p - F.one_hot(LABELS, 3)) * (1 - p[[0, 1], LABELS])[:, None] / 2
    torch.testing.assert_close(loss, expected)


def test_without_difficulty_it_is_the_cross_entropy_to_the_bit():
    logits, labels = torch.randn(64, 10), torch.randint(10, (64,))
    loss = difficulty_cross_entropy(logits, labels, 0.0)
    assert torch.equal(loss, F.cross_entropy(logits, labels))


def test_difficulty_of_sure_predictions_is_zero_and_finite():
    logits = torch.tensor([[200.0, 0.0]]).requires_grad_()
    loss = difficulty_cross_entropy(logits, torch.tensor([0]), 0.5)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0
    assert not gradient.any()


def test_one_member_is_the_ensemble():
    x = torch.randn(4, 3)
    member = nn.Linear(3, 5)
    assert torch.equal(LogitEnsemble([member])(x), member(x))


def test_weights_of_an_ensemble_are_normalised():
    fuse = mean_by(torch.tensor([3.0, 1.0]))
    ensemble = LogitEnsemble([nn.Identity(), nn.Identity()], fuse)
    fused = ensemble.fuse(CLIENTS)
    torch.testing.assert_close(fused, 0.75 * CLIENTS[0] + 0.25 * CLIENTS[1])
    assert all(not m.training for m in ensemble.modules())


def test_a_lens_normalises_images():
    lens = Lens(GREY, CPU, augment=True)
    seen = lens(torch.tensor([0.0, 0.3, 1.0]).view(1, 1, 1, 3))
    assert seen.flatten().tolist() == pytest.approx([-1.2, 0.0, 2.8], abs=1e-6)
    assert lens.pixels(0.5).flatten().tolist() == [2.0]
    assert not lens.is_random


def test_a_lens_pads_with_black_and_passes_gradients():
    info = ImageInfo((1, 8, 8), 3, (0.3,), (0.25,), Augmentation(pad=8, flip=True))
    lens = Lens(info, CPU, augment=True)
    x = torch.ones(32, 1, 8, 8, requires_grad=True)
    seen = lens(x)
    assert lens.is_random
    assert not Lens(info, CPU, augment=False).is_random
    torch.testing.assert_close(seen.min(), torch.tensor(-1.2))
    (gradient,) = torch.autograd.grad(seen.sum(), x)
    # A pixel counts where it is seen, and not where it was cut off.
    assert gradient.unique().tolist() == pytest.approx([0.0, 4.0])


def test_a_lens_shows_colours_with_a_mean_and_deviation_each():
    lens = Lens(ImageInfo((2, 1, 1), 3, (0.5, 0.2), (0.25, 0.5)), CPU, augment=False)
    seen = lens(torch.ones(1, 2, 1, 1)).flatten()
    torch.testing.assert_close(seen, torch.tensor([2.0, 1.6]))


def test_the_search_moves_noise_and_generator_and_leaves_the_given_noise():
    generator, z = Images(), torch.zeros(2, 4)
    images = synthesise(generator, z, lambda x: -x.mean(), steps=3, lr=0.1)
    assert not z.any()
    # Images before each step: the third has seen two steps of 0.1 in both.
    assert generator.offset.item() == pytest.approx(0.3, abs=2e-3)
    expected = torch.sigmoid(torch.tensor(0.4)).expand(2, 1, 2, 2)
    torch.testing.assert_close(images, expected, atol=1e-3, rtol=0)
    assert not images.requires_grad


def test_the_search_keeps_the_images_of_least_loss():
    values = iter([3.0, 1.0, torch.nan, 2.0])
    seen = []

    def loss(images):
        seen.append(images.detach().clone())
        return 0 * images.sum() + next(values)

    generator = Images()
    with torch.no_grad():
        generator.offset.fill_(0.7)
    images = synthesise(generator, torch.randn(2, 4), loss, steps=4, lr=0.1)
    assert torch.equal(images, seen[1])


def test_the_search_clips_the_generator_and_not_the_noise():
    class Steep(nn.Module):
        def __init__(self):
            super().__init__()
            self.offset = nn.Parameter(torch.zeros(()))

        def forward(self, z):
            return z + self.offset

    norms = []
    for clip in (None, 0.5):
        generator, z = Steep(), torch.zeros(1, 4)
        synthesise(generator, z, lambda x: 9 * x.sum(), steps=1, lr=0.1, clip_norm=clip)
        norms.append(generator.offset.grad.item())
    assert norms == pytest.approx([36.0, 0.5], rel=1e-4)


def test_a_generator_that_has_collapsed_gives_finite_images():
    images = synthesise(
        Images(1e9), torch.randn(2, 4), lambda x: x.var(0).sum(), steps=3, lr=0.1
    )
    assert images.isfinite().all()


def test_a_search_without_steps_is_refused():
    with pytest.raises(ValueError, match="steps=0"):
        synthesise(Images(), torch.zeros(1, 4), lambda x: x.sum(), steps=0, lr=0.1)


def test_the_pool_keeps_8_bit_pixels():
    pool = ImagePool(10)
    images = torch.tensor([0.0, 0.4999, 0.7, 1.0]).view(1, 1, 2, 2)
    pool.add(images, torch.tensor([3]))
    (kept, labels), *_ = pool.batches(4, passes=1)
    levels = torch.tensor([0, 127, 178, 255]).div(255).view(1, 1, 2, 2)
    assert torch.equal(kept, levels)
    assert torch.equal(kept, pool.as_kept(images))
    assert torch.equal(pool.as_kept(kept), kept)
    assert labels.tolist() == [3]


def test_an_exact_pool_keeps_images_as_they_are():
    pool, images = ImagePool(10, exact=True), torch.rand(3, 1, 2, 2)
    pool.add(images)
    assert torch.equal(pool.newest(3), images)
    assert torch.equal(pool.as_kept(images), images)


def test_a_full_pool_forgets_its_oldest_images():
    pool = ImagePool(5)
    for first in range(0, 8, 2):
        pool.add(torch.zeros(2, 1, 2, 2), torch.tensor([first, first + 1]))
    ((_, labels),) = pool.batches(10, passes=1)
    assert len(pool) == 5
    assert sorted(labels.tolist()) == [3, 4, 5, 6, 7]


def test_what_is_noted_beside_an_image_stays_with_it():
    pool = ImagePool(100)
    for _ in range(3):
        numbers = torch.randint(256, (7,))
        pool.add(numbers.view(7, 1, 1, 1) / 255, numbers, numbers.view(7, 1) * 2.0)
    for images, labels, logits in pool.batches(4, passes=2):
        assert torch.equal((images.flatten() * 255).round().long(), labels)
        assert torch.equal(logits.flatten(), labels * 2.0)


@pytest.mark.parametrize(
    ("amount", "sizes"),
    [
        ({"passes": 2}, [3, 3, 3, 3]),
        ({"steps": 5}, [3, 3, 3, 3, 3]),
        ({"steps": 1}, [3]),
    ],
)
def test_batches_are_as_many_as_asked_for_and_none_has_one_image(amount, sizes):
    pool = ImagePool(100)
    pool.add(torch.rand(7, 1, 2, 2))
    assert [len(x) for (x,) in pool.batches(3, **amount)] == sizes


def test_a_pass_gives_every_image_once():
    pool = ImagePool(100)
    pool.add(torch.rand(8, 1, 2, 2), torch.arange(8))
    seen = torch.cat([labels for _, labels in pool.batches(3, passes=1)])
    assert sorted(seen.tolist()) == list(range(8))


def test_a_generator_that_has_diverged_gives_images_that_are_numbers():
    generator = torch.nn.Linear(4, 6)
    with torch.no_grad():
        generator.weight.fill_(torch.nan)
    z_BZ = torch.randn(3, 4)
    images = synthesise(generator, z_BZ, lambda x: x.square().mean(), steps=2, lr=0.1)
    assert torch.equal(images, torch.zeros(3, 6))
