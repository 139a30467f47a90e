"""Mosaic's signs, schedules and routes, by numbers worked out by hand."""

import math

import pytest
import torch
from torch import nn

from fedkd import testing
from fedkd.algorithms.fleet import Fleet
from fedkd.algorithms.mosaic.config import (
    DistilConfig,
    GeneratorConfig,
    MosaicConfig,
    TeacherConfig,
)
from fedkd.algorithms.mosaic.distillation import distil, distilled
from fedkd.algorithms.mosaic.experts import (
    Gate,
    Members,
    sample_prototypes,
    train_meta,
)
from fedkd.algorithms.mosaic.extensions import with_origin_prior
from fedkd.algorithms.mosaic.generators import (
    GeneratorLosses,
    ImageSource,
    LocalDiscriminator,
    scoring_classifier,
    train_generator,
)
from fedkd.algorithms.mosaic.strategy import Broadcast, Mosaic
from fedkd.algorithms.mosaic.teacher import make_teacher
from fedkd.ops.optimisers import Stepper
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import simulate
from fedkd.strategy import read_weights

QUIET = GeneratorConfig(diversity_weight=0.0)
TINY = GeneratorConfig(steps=2, batch_size=8, latent_size=4, width=2)
ADVERSARIAL = math.log(1 / 0.3)
"""L_adv of images that the judge of these tests takes for real at 0.3."""


def sides(training=None):
    protocol = testing.toy_protocol(**({"training": training} if training else {}))
    sides = Sides(testing.toy_federation(), protocol, 0)
    client = sides.client(1, sides.protocol.training)
    client.load(client.initial)
    return client, sides.server()


class Says(nn.Module):
    """Gives fixed answers whatever it is shown."""

    def __init__(self, rows):
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(rows, dtype=torch.float64))

    def forward(self, x):
        return self.rows[: len(x)]


class Statistics(nn.Module):
    """A classifier of two classes that has seen numbers of mean 0 and variance 1."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x):
        return self.norm(x).flatten(1).expand(-1, 2)


UNSURE = Says([0.3, 0.3])
UNSURE.rows.data.logit_()
PREDICTS = Says([[0.7, 0.3], [0.1, 0.9]])
PREDICTS.rows.data.log_()


def generator_loss(classifier, fake=None, counts=(1, 1), **changed):
    config = QUIET.model_copy(update=changed)
    images = torch.zeros(2, 1, 1, 1) if fake is None else fake
    losses = GeneratorLosses(classifier.eval(), UNSURE, torch.tensor(counts), config)
    return losses.of_generator(images).item()


def test_the_entropy_of_predictions_is_added():
    # -(.7 ln .7 + .3 ln .3) = 0.6108643, -(.1 ln .1 + .9 ln .9) = 0.3250830.
    expected = ADVERSARIAL + 2 * (0.6108643020548935 + 0.3250829733914482) / 2
    assert generator_loss(PREDICTS, entropy_weight=2.0) == pytest.approx(expected)


def test_the_wanted_mix_pulls_the_mean_prediction():
    # The mean is (.4, .6), wanted is (.75, .25): .75 ln(.75/.4) + .25 ln(.25/.6).
    apart = 0.75 * 0.6286086594223742 + 0.25 * -0.8754687373538999
    value = generator_loss(PREDICTS, counts=(3, 1), diversity_weight=2.0)
    assert value == pytest.approx(ADVERSARIAL + 2 * apart)


def test_the_entropy_of_the_mean_prediction_is_subtracted():
    # .4 ln .4 + .6 ln .6 = -0.6730117.
    value = generator_loss(PREDICTS, diversity_weight=2.0, diversity="uniform")
    assert value == pytest.approx(ADVERSARIAL - 2 * 0.6730116670092565)


@pytest.mark.parametrize(("counts", "added"), [((5, 4), 2.5), ((5, 5), 0.0)])
def test_the_distance_of_statistics_is_added_below_the_threshold(counts, added):
    # 0 and 4 have mean 2 and variance 4: |2 - 0| + |4 - 1| = 5.
    fake = torch.tensor([0.0, 4.0]).view(2, 1, 1, 1)
    value = generator_loss(
        Statistics(), fake, counts, inversion_weight=0.5, inversion_below=10
    )
    assert value == pytest.approx(ADVERSARIAL + added)


def test_the_adversarial_term_has_its_weight():
    value = generator_loss(PREDICTS, adversarial_weight=0.25)
    assert value == pytest.approx(ADVERSARIAL / 4)


def test_the_local_model_believes_by_its_evidence():
    # Z = e^0 + e^ln 3 = 4, D = 4/5.
    judge = LocalDiscriminator(Says([[0.0, math.log(3)]]))
    assert judge(torch.zeros(1, 1, 1, 1)).sigmoid().item() == pytest.approx(0.8)


@pytest.mark.parametrize("discriminator", ["separate", "local_model"])
def test_images_are_scored_by_a_model_in_eval_mode_and_judged_by_one_in_train(
    discriminator,
):
    client, _ = sides()
    modes = []
    # Copies of the model have the hook too.
    client.model.register_forward_hook(lambda m, x, y: modes.append(m.training))
    config = TINY.model_copy(update={"discriminator": discriminator})
    train_generator(client, config)
    scores = [False] * 3  # two steps, and once for the log
    assert modes.count(False) == len(scores)
    assert modes.count(True) == (6 if discriminator == "local_model" else 0)


def test_the_classifier_is_a_frozen_copy_of_the_local_model():
    client, _ = sides()
    classifier = scoring_classifier(client, TINY)
    assert classifier is not client.model
    assert not classifier.training
    assert not any(p.requires_grad for p in classifier.parameters())
    for name, value in client.model.state_dict().items():
        assert torch.equal(classifier.state_dict()[name], value)


def test_the_origin_prior_is_added_by_the_origin_of_each_image():
    _, server = sides()
    counts = [torch.tensor([3, 1, 0]), torch.tensor([0, 0, 4])]

    def zeros(x, origin):
        return torch.zeros(len(x), 3)

    teacher = with_origin_prior(zeros, counts, 0.1, server)
    logits = teacher(torch.zeros(2, 1, 8, 8), torch.tensor([1, 0]))
    # (p + .1)/1.3: (.1, .1, 1.1)/1.3 and (.85, .35, .1)/1.3.
    expected = torch.tensor([[0.1, 0.1, 1.1], [0.85, 0.35, 0.1]]) / 1.3
    torch.testing.assert_close(logits.exp(), expected)


def members_of_one_class(server):
    """Return three clients; client 0 holds class 2, 1 holds 0, and 2 holds 1.

    Client k answers (k, 10 + k, 20 + k) to any image.
    """
    models = {}
    for k in range(3):
        weights = {n: v.clone() for n, v in server.initial.items()}
        weights["classifier.weight"].zero_()
        weights["classifier.bias"].copy_(torch.tensor([k, 10 + k, 20 + k]))
        models[k] = weights
    counts = {0: [0, 0, 4], 1: [2, 0, 0], 2: [0, 3, 0]}
    held = {k: torch.tensor(n) for k, n in counts.items()}
    return Members(Fleet((0, 0, 0), {0: server.initial}, heard=(0,)), models, held, 0)


class Flat(nn.Module):
    """Makes images of one value."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, z):
        return self.value.expand(len(z), 1, 8, 8)


def source_of(server, *clients):
    return ImageSource({k: Flat(0.0) for k in clients}, TINY, server)


@pytest.mark.parametrize("kind", ["meta", "diagonal"])
def test_the_expert_of_a_class_speaks_for_it(kind):
    _, server = sides()
    config = TeacherConfig(kind=kind, steps=0, gate_start=60.0, samples_per_client=2)
    members = members_of_one_class(server)
    source = source_of(server, 0, 1, 2)
    teacher, _ = make_teacher(config, members, source, {}, server)
    logits = teacher(torch.zeros(1, 1, 8, 8), torch.tensor([0]))
    # Class 0 is client 1's, class 1 is client 2's, class 2 is client 0's.
    torch.testing.assert_close(logits, torch.tensor([[1.0, 12.0, 20.0]]))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("experts", [1.0, 11.0, 21.0]),
        ("clients", [1.0, 11.0, 21.0]),
        ("own_client", [2.0, 12.0, 22.0]),
    ],
)
def test_other_teachers_ask_whom_they_say(kind, expected):
    _, server = sides()
    members, source = members_of_one_class(server), source_of(server, 0, 2)
    teacher, _ = make_teacher(TeacherConfig(kind=kind), members, source, {}, server)
    logits = teacher(torch.zeros(1, 1, 8, 8), torch.tensor([1]))
    torch.testing.assert_close(logits, torch.tensor([expected]))


def test_each_part_of_a_batch_is_asked_of_its_own_client():
    _, server = sides()
    members, source = members_of_one_class(server), source_of(server, 0, 1, 2)
    config = TeacherConfig(kind="own_client")
    teacher, _ = make_teacher(config, members, source, {}, server)
    logits = teacher(torch.zeros(3, 1, 8, 8), torch.tensor([0, 2, 2]))
    torch.testing.assert_close(logits[:, 0], torch.tensor([0.0, 2.0, 2.0]))


def test_a_sample_is_labelled_by_its_own_client_among_the_classes_it_holds():
    _, server = sides()
    members, source = members_of_one_class(server), source_of(server, 0, 1, 2)
    experts = Says([[0.0] * 3] * 2)
    _, labels = sample_prototypes(
        lambda x: experts(x).unsqueeze(0), source, members, 2, server
    )
    # Every client prefers class 2; clients 1 and 2 do not hold it.
    assert labels.tolist() == [2, 2, 0, 0, 1, 1]


class Trail(Gate):
    """A gate that keeps which prototypes it saw, and its weights at each training step."""

    def __init__(self):
        super().__init__([0, 1], 2, 1.0)
        self.seen = {True: set(), False: set()}
        self.steps = []

    def forward(self, logits):
        self.seen[self.training] |= set(logits[0, :, 0].int().tolist())
        if self.training:
            self.steps.append(self.bias_C.detach().clone())
        return super().forward(logits)


def numbered(count):
    """Return answers of two experts on prototypes; the first number says which it is."""
    numbers = torch.arange(count).float().view(1, -1, 1)
    return torch.cat([numbers, -numbers]).expand(-1, -1, 2), torch.arange(count) % 2


def test_held_out_prototypes_are_measured_and_not_trained_on():
    _, server = sides()
    meta = Trail()
    config = TeacherConfig(steps=30, batch_size=4, holdout=0.2)
    train_meta(meta, *numbered(10), config, server)
    assert len(meta.seen[True]) == 8
    assert len(meta.seen[False]) == 2
    assert not meta.seen[True] & meta.seen[False]
    assert server.examples == 30 * 4


@pytest.mark.parametrize("corrected", [True, False])
def test_the_meta_model_ends_as_the_mean_of_its_steps(corrected):
    _, server = sides()
    meta = Trail()
    config = TeacherConfig(steps=2, ema_decay=0.5, ema_correction=corrected, holdout=0)
    last = []
    step = Stepper.step

    def watched(self, *args, **how):
        result = step(self, *args, **how)
        last.append(meta.bias_C.detach().clone())
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stepper, "step", watched)
        train_meta(meta, *numbered(6), config, server)
    q, p1, p2 = meta.steps[0], *last
    assert not torch.equal(p1, p2)
    # a_2 = q/4 + p_1/4 + p_2/2; without its start, (p_1 + 2 p_2)/3.
    expected = (p1 + 2 * p2) / 3 if corrected else q / 4 + p1 / 4 + p2 / 2
    torch.testing.assert_close(meta.bias_C.detach(), expected)
    assert not meta.training


def test_the_rate_of_fine_tuning_is_that_of_the_clients_steps():
    training = testing.toy_protocol().training
    one = training.model_copy(update={"local_steps": 1, "weight_decay": 0.0})
    client, _ = sides(one)
    moved = []
    for lr in (None, 0.005):
        torch.manual_seed(0)
        up = Mosaic().local(Broadcast(client.initial, lr, False, False), client)
        name = "classifier.bias"
        moved.append(up.weights[name] - client.initial[name])
    # The protocol's rate is 0.05.
    torch.testing.assert_close(moved[0], 10 * moved[1], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(("cosine", "rates"), [(False, [1, 1, 1, 1]), (True, None)])
def test_the_rate_of_distillation_falls_by_a_cosine(cosine, rates):
    _, server = sides()
    student = server.build("cnn").eval()
    seen = []
    step = Stepper.step

    def watched(self, *args, **how):
        seen.append(self.lr)
        return step(self, *args, **how)

    config = DistilConfig(steps=4, batch_size=4, lr=1e-3, cosine=cosine)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stepper, "step", watched)
        distil(
            student,
            lambda x, origin: torch.zeros(len(x), 3),
            source_of(server, 0),
            [4],
            config,
            server,
        )
    # (1 + cos(0, 45, 90, 135 degrees))/2.
    falls = rates or [1, 0.8535533905932737, 0.5, 0.14644660940672627]
    assert seen == pytest.approx([1e-3 * fall for fall in falls])


def test_the_student_starts_from_the_average_and_learns_from_the_teacher():
    _, server = sides()
    client, _ = sides()
    sent = {0: read_weights(train_generator(client, TINY))}
    config = MosaicConfig(
        generator=TINY,
        teacher=TeacherConfig(kind="experts", origin_prior=True),
        distil=DistilConfig(steps=1, batch_size=4, lr=1e-12),
    )
    members = members_of_one_class(server)
    weights, stage = distilled(config, members, sent, {}, server)
    for name, value in members.fleet.whole.items():
        torch.testing.assert_close(weights[name], value)
    assert stage.meta is None
    # The student's logits are those of initial weights, the teacher's (1, 11, 21) with
    # a prior that has class 2 alone: nearly all weight is there.
    assert server.logged["distil_loss_first"] > 0.5


def test_prototypes_of_several_rounds_and_clients_are_kept_together():
    strategy = Mosaic(
        MosaicConfig(
            warmup=3,
            generator=TINY,
            teacher=TeacherConfig(
                prototypes="features", prototype_rounds=2, per_class=1, steps=1
            ),
            distil=DistilConfig(steps=1, batch_size=8),
        )
    )
    kept = []

    class Features(testing.Watcher):
        def around(self, call, proceed):
            result = proceed()
            if call.verb == "aggregate":
                kept.append({c: len(rows) for c, rows in result.features.items()})
            return result

    federation, protocol = testing.toy_federation(), testing.toy_protocol(4)
    result = simulate(testing.watched(strategy, Features()), federation, protocol, 0)
    # Each class is held by two of three clients, which send one centre a round; after
    # distillation they are of no use.
    assert kept == [{}, {0: 2, 1: 2, 2: 2}, {}, {}]
    assert result.history[2]["logged"]["prototypes"] == 12
