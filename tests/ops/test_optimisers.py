"""Optimisers as values: torch's bits, worked numbers, schedules, hooks and moments."""

import subprocess
import sys

import pytest
import torch

from fedkd.ops.optimisers import Adam, AdamW, Sgd
from fedkd.ops.schedules import Schedule

CASES = {
    "sgd": (
        Sgd(lr=0.1, momentum=0.9, weight_decay=0.01),
        lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.01, foreach=True),
    ),
    "adam": (
        Adam(lr=0.1, betas=(0.5, 0.999), weight_decay=0.01),
        lambda p: torch.optim.Adam(p, 0.1, (0.5, 0.999), weight_decay=0.01),
    ),
    "adamw": (AdamW(lr=0.1), lambda p: torch.optim.AdamW(p, 0.1)),
}


def number(value):
    return torch.nn.Parameter(torch.tensor([value], dtype=torch.float64))


def pair():
    generator = torch.Generator().manual_seed(0)
    shapes = ((3, 4), (4,))
    return [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in shapes]


def bowl(values):
    """Return a loss of two parameters whose gradients change with them."""
    return sum((p - 1).pow(4).sum() for p in values)


@pytest.mark.parametrize("name", CASES)
def test_a_step_uses_its_own_gradient_only(name):
    how, _ = CASES[name]
    clean, littered = pair(), pair()
    for values in (clean, littered):
        stepper = how.start(values)
        if values is littered:
            bowl([p * 3 for p in values]).backward()  # another loss left its gradients
        stepper.step(bowl(values))
    assert all(torch.equal(a, b) for a, b in zip(clean, littered, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_steps_are_torchs_to_the_bit(name):
    how, reference = CASES[name]
    ours, theirs = pair(), pair()
    stepper, optimiser = how.start(ours), reference(theirs)
    for _ in range(5):
        loss = bowl(theirs)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs, 1.0)
        optimiser.step()
        assert torch.equal(stepper.step(bowl(ours), clip_norm=1.0), loss.detach())
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_no_optimiser_imports_torchs_compiler():
    code = (
        "import sys, torch; from fedkd.ops.optimisers import Adam, AdamW, Sgd\n"
        "for kind in (Sgd, Adam, AdamW):\n"
        "    p = torch.ones(2, requires_grad=True)\n"
        "    kind(lr=0.1).start([p]).step(p.sum())\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_parameter_without_a_gradient_stays_and_has_no_moments():
    moving, still = number(1.0), number(1.0)
    stepper = Adam(lr=0.1).start([still, moving])
    stepper.step((2 * moving).sum())
    assert still.item() == 1.0
    assert set(stepper.moments()) == {"1.step", "1.exp_avg", "1.exp_avg_sq"}


def test_two_steps_of_sgd_in_numbers():
    p = number(1.0)
    sgd = Sgd(lr=0.5, momentum=0.5, weight_decay=0.1).start([p])
    assert sgd.step((2 * p).sum()).item() == 2.0
    assert p.item() == pytest.approx(-0.05, rel=1e-12)  # b = 2 + 0.1; 1 - 1.05
    sgd.step((2 * p).sum())
    assert p.item() == pytest.approx(-1.5725, rel=1e-12)  # b = 1.05 + 2 - 0.005


def test_two_steps_of_adam_in_numbers():
    p = number(1.0)
    adam = Adam(lr=0.1, betas=(0.5, 0.5), eps=1e-12).start([p])
    adam.step((2 * p).sum())
    assert p.item() == pytest.approx(0.9)  # m / (1 - 0.5) = 2, v / (1 - 0.5) = 4
    adam.step((4 * p).sum())
    # m = 0.5 * 1 + 2 = 2.5, v = 0.5 * 2 + 8 = 9; over 0.75: 10/3 / sqrt(12)
    assert p.item() == pytest.approx(0.9 - 0.1 * (10 / 3) / 12**0.5)


def test_decay_goes_through_adams_moments_and_past_adamws():
    p, q = number(1.0), number(1.0)
    Adam(lr=0.1, weight_decay=0.5, eps=1e-12).start([p]).step((2 * p).sum())
    AdamW(lr=0.1, weight_decay=0.5, eps=1e-12).start([q]).step((2 * q).sum())
    assert p.item() == pytest.approx(0.9)  # its gradient is 2.5; divided by its root
    assert q.item() == pytest.approx(0.85)  # 1 (1 - 0.1 * 0.5) - 0.1


def test_a_schedule_per_step_moves_by_itself_and_per_round_when_told():
    rates = Schedule(cosine=2, per="step")
    p = number(0.0)
    sgd = Sgd(lr=1.0, schedule=rates).start([p])
    places = []
    for _ in range(3):
        sgd.step(p.sum())
        places.append(p.item())
    assert places == pytest.approx([-1.0, -1.5, -1.5])
    q = number(0.0)
    sgd = Sgd(lr=1.0, schedule=Schedule(cosine=2)).start([q])
    sgd.step(q.sum())
    sgd.step(q.sum())
    assert q.item() == -2.0
    sgd.advance()
    sgd.step(q.sum())
    assert q.item() == pytest.approx(-2.5)


@pytest.mark.parametrize("kind", [Sgd, Adam, AdamW])
def test_a_schedule_starts_where_it_is_told(kind):
    how = kind(lr=0.1, schedule=Schedule(decay=0.998))
    assert how.start([number(0.0)], time=7).lr == 0.1 * 0.998**7


@pytest.mark.parametrize("total", [1, 5])
def test_a_scheduled_optimiser_is_torchs_to_the_bit(total):
    ours, theirs = pair(), pair()
    stepper = Adam(lr=0.1, schedule=Schedule(cosine=total, per="step")).start(ours)
    adam = torch.optim.Adam(theirs, 0.1)
    course = torch.optim.lr_scheduler.CosineAnnealingLR(adam, total)
    for _ in range(total):
        stepper.step(bowl(ours))
        adam.zero_grad()
        bowl(theirs).backward()
        adam.step()
        course.step()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_the_hook_comes_after_the_backward_pass_and_before_clipping():
    p = number(0.0)

    def hook():
        assert p.grad.item() == 2.0
        p.grad += 2.0

    Sgd(lr=1.0).start([p]).step((2 * p).sum(), clip_norm=3.0, gradient=hook)
    assert p.item() == pytest.approx(-3.0, rel=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_moments_carry_an_optimiser_over_to_another_round(name):
    how, _ = CASES[name]
    straight, parted = pair(), pair()
    stepper, early = how.start(straight), how.start(parted)
    for _ in range(2):
        stepper.step(bowl(straight))
        early.step(bowl(parted))
    kept = early.moments()
    assert all(value.device.type == "cpu" for value in kept.values())
    late = how.start(parted)
    late.restore(kept)
    stepper.step(bowl(straight))
    late.step(bowl(parted))
    assert all(torch.equal(a, b) for a, b in zip(straight, parted, strict=True))
    unchanged = {name: value.clone() for name, value in kept.items()}
    late.step(bowl(parted))
    assert all(torch.equal(kept[n], unchanged[n]) for n in kept)
