"""Whole stages of DENSE and Co-Boosting against loops that are written out once more."""

import copy
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from replaying import divergence
from torch import nn

from fedkd import testing
from fedkd.algorithms.averaging import Update
from fedkd.algorithms.dense.strategy import State
from fedkd.party import ModelSpec
from fedkd.plugins.registry import load_registry
from fedkd.simulation.federation import Federation
from fedkd.simulation.sides import Sides
from fedkd.strategy import Round

REGISTRY = load_registry()
MEAN, STD, CLASSES = 0.3, 0.25, 3
# Small, but for what a preset is: three epochs and a pool that forgets in the third.
AMOUNTS = {"epochs": 3, "generator_steps": 3, "batch_size": 6, "width": 2}
EXACT = {"pool_images": 15, "pool_exact": True}
SHARP = {"adversarial_weight": 5.0, "lr": 0.02}


def sides_of(models):
    data = testing.toy_images()
    shards = [np.arange(0, 24), np.arange(8, 30, 2), np.arange(20, 36, 3)]
    tests = [np.arange(k, 36, 3) for k in range(3)]
    specs = [ModelSpec(name) for name in models]
    federation = Federation(data, shards, tests, specs, REGISTRY.model)
    return Sides(federation, testing.toy_protocol(1), 0)


@cache
def trained(models):
    """Return what three unequal clients send after training, in single precision."""
    wanted = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    sides = sides_of(models)
    settings = {"local_steps": 12, "momentum": 0.9, "lr": 0.1, "batch_size": 5}
    training = sides.protocol.training.model_copy(update=settings)
    torch.manual_seed(5)
    ups = {}
    for k in range(3):
        client = sides.client(k, training)
        client.load(client.initial)
        client.train()
        state = copy.deepcopy(client.model.state_dict())
        ups[k] = Update(state, len(client.data))
    torch.set_default_dtype(wanted)
    return ups


def as_default(weights):
    """Return weights in the precision of now."""
    kind = torch.get_default_dtype()
    return {n: v.to(kind) if v.is_floating_point() else v for n, v in weights.items()}


def seen(images):
    return (images - MEAN) / STD


def bn_gap(members, x, by_layer):
    """Return mean_k of sum_l (or mean_l) |var - running| + |mean - running|."""
    total = 0
    for member in members:
        gaps = []

        def watch(layer, inputs, gaps=gaps):
            rows = inputs[0].transpose(0, 1).flatten(1)
            gap = (rows.mean(1) - layer.running_mean).pow(2).sum().sqrt()
            spread = rows.var(1, unbiased=False) - layer.running_var
            gaps.append(gap + spread.pow(2).sum().sqrt())

        layers = [m for m in member.modules() if isinstance(m, nn.BatchNorm2d)]
        hooks = [layer.register_forward_pre_hook(watch) for layer in layers]
        member(x)
        for hook in hooks:
            hook.remove()
        if gaps:
            total = total + sum(gaps) / (len(gaps) if by_layer == "mean" else 1)
    return total / len(members)


class Dense:
    """DENSE's rules."""

    def __init__(self, config):
        self.config = config

    def mix(self, logits):
        return sum(logits) / len(logits)

    def label_loss(self, teacher, labels):
        own = teacher.softmax(1)[torch.arange(len(labels)), labels]
        return -own.log().mean()

    def moved(self, x, members):
        return x

    def reweigh(self, batches, members, epoch):
        pass


class CoBoosting(Dense):
    """Co-Boosting's rules: hard images, moved images, learnt weights."""

    w = None

    def mix(self, logits):
        if self.w is None:
            return super().mix(logits)
        return sum(w * z for w, z in zip(self.w, logits, strict=True)) / self.w.sum()

    def label_loss(self, teacher, labels):
        own = teacher.softmax(1)[torch.arange(len(labels)), labels]
        hard = (1 - own.detach()) ** self.config.synthesis.difficulty
        return -(hard * own.log()).mean()

    def moved(self, x, members):
        x = x.detach().requires_grad_()
        soft = torch.softmax(self.mix([m(x) for m in members]) / 4, 1)
        u = torch.rand(soft.shape) * 2 - 1
        (u * soft).sum().backward()
        in_pixels = self.config.epsilon_unit == "pixel"
        step = self.config.epsilon / (STD if in_pixels else 1)
        return (x + step * x.grad.sign()).detach()

    def reweigh(self, batches, members, epoch):
        if epoch == 0:
            return
        step = self.config.weight_step * self.config.weight_decay_per_epoch**epoch
        for images, labels in batches:
            self.w = torch.full((len(members),), 1 / 3) if self.w is None else self.w
            w = self.w.clone().requires_grad_()
            with torch.no_grad():
                logits = [m(seen(images)) for m in members]
            mixed = sum(a * z for a, z in zip(w, logits, strict=True)) / w.sum()
            F.cross_entropy(mixed, labels).backward()
            self.w = (w.detach() - step * w.grad.sign()).clamp(0, 1)


def stage(rules, student, members, generator_of):
    """Run Algorithm 1's server part on ``student``, in place."""
    how, kd = rules.config.synthesis, rules.config.distil
    names = {"lr": kd.lr, "momentum": kd.momentum, "weight_decay": kd.weight_decay}
    sgd = torch.optim.SGD(student.parameters(), **names)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, how.epochs)
    images, labels = torch.empty(0), torch.empty(0).long()
    generator = generator_of()
    for epoch in range(how.epochs):
        if epoch and how.reinitialise:
            generator = generator_of()
        made, wanted = search(rules, student, members, generator.train(), epoch)
        rules.reweigh(batches(images, labels, kd), members, epoch)
        if not how.pool_exact:
            made = (made * 255).round().byte().float() / 255
        images = torch.cat([images, made])[-how.pool_images :]
        labels = torch.cat([labels, wanted])[-how.pool_images :]
        student.train()
        for raw, _ in batches(images, labels, kd):
            lesson(rules, student, members, raw, sgd)
        if kd.cosine:
            cosine.step()


def batches(images, labels, kd):
    """Give batches for a number of steps, or in whole passes over the pool."""
    done, limit = 0, kd.steps or float("inf")
    for _ in range(kd.passes or 99):
        for places in torch.randperm(len(images)).split(kd.batch_size):
            alone = len(places) == 1 and len(images) > 1
            if done < limit and not alone:
                yield images[places], labels[places]
                done += 1
        if done >= limit:
            return


def lesson(rules, student, members, raw, sgd):
    """Take one step of the student towards the ensemble."""
    kd = rules.config.distil
    x = rules.moved(seen(raw), members)
    with torch.no_grad():
        teacher = rules.mix([m(x) for m in members])
    sgd.zero_grad()
    loss = divergence(teacher, student(x), kd.temperature).mean()
    (kd.temperature**2 * loss).backward()
    if kd.clip_norm:
        nn.utils.clip_grad_norm_(student.parameters(), kd.clip_norm)
    sgd.step()


def search(rules, student, members, generator, epoch):
    """Train generator and noise; return the images of least loss and their labels."""
    how = rules.config.synthesis
    z = torch.randn(how.batch_size, how.latent_size).requires_grad_()
    wanted = torch.randint(CLASSES, (how.batch_size,)).sort().values
    adam = torch.optim.Adam([*generator.parameters(), z], how.lr, (0.5, 0.999))
    student.train(bool(how.first_in_train_mode and epoch == 0))
    least, best = float("inf"), None
    for _ in range(how.generator_steps):
        made = generator(z)
        teacher = rules.mix([m(seen(made)) for m in members])
        pupil = student(seen(made))
        heat = how.adversarial_temperature
        rows = heat**2 * divergence(teacher, pupil, heat)
        if how.adversarial_mask:
            rows = rows * (teacher.argmax(1) != pupil.argmax(1))
        loss = how.label_weight * rules.label_loss(teacher, wanted)
        loss = loss - how.adversarial_weight * rows.mean()
        if how.inversion_weight:
            gap = bn_gap(members, seen(made), how.inversion_over_layers)
            loss = loss + how.inversion_weight * gap
        if loss < least:
            least, best = loss.item(), made.detach().clone()
        adam.zero_grad()
        loss.backward()
        if how.clip_norm:
            nn.utils.clip_grad_norm_(generator.parameters(), how.clip_norm)
        adam.step()
    return best, wanted


def agree(name, options, rules, models=("cnn",), tolerance=1e-9):
    """Run a preset's stage and its replay on the same draws; compare the students."""
    strategy, _ = REGISTRY.strategy(name, options)
    server = sides_of(models).server()
    ups = {
        k: Update(as_default(up.weights), up.examples)
        for k, up in trained(models).items()
    }
    replay = rules(strategy.config)
    member_of = server.client_model
    members = [member_of(k, up.weights).requires_grad_(False) for k, up in ups.items()]
    student = copy.deepcopy(server.load(server.initial)).requires_grad_(True)
    how = strategy.config.synthesis

    def generator():
        sizes = {"latent_size": how.latent_size, "width": how.width}
        return server.build("dense-generator", **sizes)

    start = State(server.initial, server.alike)
    torch.manual_seed(11)
    after = strategy.aggregate(start, ups, server, Round(0, 1, (0, 1, 2)))
    torch.manual_seed(11)
    stage(replay, student, members, generator)
    moved = 0.0
    for entry, value in student.state_dict().items():
        mine = after.weights[entry]
        torch.testing.assert_close(mine, value, rtol=tolerance, atol=tolerance)
        moved = max(moved, (mine - server.initial[entry]).abs().max().item())
    assert moved > 0.01
    return after, replay


KD = {"batch_size": 4, "lr": 0.2, "temperature": 2.0}
STEPS = {**KD, "steps": 4}
PASSES = {**KD, "steps": None, "passes": 1}
HOW = {**AMOUNTS, **EXACT, **SHARP}


@pytest.mark.parametrize(
    ("name", "synthesis", "distil"),
    [
        ("dense", HOW, STEPS),
        ("dense", {**HOW, "adversarial_mask": False, "clip_norm": 0.1}, STEPS),
        # At such a rate the loss rises too, so that the last images are not the best.
        ("dense", {**HOW, "lr": 0.3, "generator_steps": 6}, STEPS),
        ("dense", HOW, {**STEPS, "weight_decay": 0.01, "cosine": True}),
        ("dense-published", HOW, PASSES),
        ("dense-paper", HOW, PASSES),
        ("dense-code", {**HOW, "label_weight": 0.7}, PASSES),
    ],
)
@pytest.mark.parametrize("models", [("cnn",), ("cnn", "mlp")])
@pytest.mark.usefixtures("double")
def test_a_stage_of_dense_is_the_papers_loop(name, synthesis, distil, models):
    agree(name, {"synthesis": synthesis, "distil": distil}, Dense, models)


@pytest.mark.parametrize(
    ("name", "synthesis", "distil", "more"),
    [
        ("coboosting", HOW, STEPS, {}),
        ("coboosting", {**HOW, "clip_norm": 0.1, "difficulty": 2.0}, STEPS, {}),
        ("coboosting", HOW, {**STEPS, "clip_norm": 0.1}, {"weight_step": 0.2}),
        ("coboosting-published", HOW, PASSES, {"weight_decay_per_epoch": 0.5}),
        ("coboosting-code", HOW, PASSES, {}),
    ],
)
@pytest.mark.parametrize("models", [("cnn",), ("cnn", "mlp")])
@pytest.mark.usefixtures("double")
def test_a_stage_of_coboosting_is_the_papers_loop(
    name, synthesis, distil, more, models
):
    options = {"synthesis": synthesis, "distil": distil, "epsilon": 0.1, **more}
    after, replay = agree(name, options, CoBoosting, models)
    torch.testing.assert_close(after.stage.shares_K, replay.w)
    assert len(replay.w.unique()) > 1


@pytest.mark.parametrize("rules", [Dense, CoBoosting])
def test_a_pool_of_8_bits_rounds_what_is_taught_on(rules):
    """In single precision, as the pixels of the pool are."""
    name = "dense" if rules is Dense else "coboosting"
    synthesis = {**AMOUNTS, "pool_images": 15}
    options = {"synthesis": synthesis, "distil": STEPS}
    agree(name, options, rules, tolerance=1e-4)
