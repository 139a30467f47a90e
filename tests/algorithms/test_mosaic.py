"""Mosaic, stage by stage, by the numbers."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from fedkd import testing
from fedkd.algorithms.mosaic.config import (
    DistilConfig,
    GeneratorConfig,
    MosaicConfig,
    TeacherConfig,
)
from fedkd.algorithms.mosaic.distillation import distil
from fedkd.algorithms.mosaic.experts import Gate, MetaTransformer, train_meta
from fedkd.algorithms.mosaic.extensions import log_prior
from fedkd.algorithms.mosaic.generators import (
    GeneratorLosses,
    ImageSource,
    draw,
    split_batch,
    train_generator,
)
from fedkd.algorithms.mosaic.presets import CIFAR100_OPTIONS
from fedkd.algorithms.mosaic.strategy import Broadcast, Mosaic
from fedkd.algorithms.mosaic.teacher import Teacher
from fedkd.config import build
from fedkd.errors import ConfigError, DivergedError
from fedkd.ops.ensembles import LogitEnsemble, apart
from fedkd.plugins.registry import load_registry
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import simulate
from fedkd.strategy import Round

REGISTRY = load_registry()
TINY = GeneratorConfig(steps=2, batch_size=8, latent_size=4, width=2)


def sides(classes=3, models=("cnn",)):
    federation = testing.toy_federation(models=models, data=testing.toy_images(classes))
    sides = Sides(federation, testing.toy_protocol(), 0)
    client = sides.client(1, sides.protocol.training)
    client.load(client.initial)
    return client, sides.server()


class Constant(nn.Module):
    """Gives fixed logits whatever it is shown."""

    def __init__(self, rows):
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(rows, dtype=torch.float64))

    def forward(self, x):
        return self.rows[: len(x)]


def logit(p):
    return torch.tensor(p, dtype=torch.float64).logit().item()


def test_generator_losses_are_those_of_the_specification():
    classifier = Constant([[0.7, 0.3], [0.1, 0.9]])
    with torch.no_grad():
        classifier.rows.log_()
    config = GeneratorConfig(diversity="uniform", diversity_weight=5.0)
    fake = Constant([logit(0.3)] * 2)
    counts = torch.tensor([1, 1])
    losses = GeneratorLosses(classifier, fake, counts, config)
    images = torch.zeros(2, 1, 8, 8)
    assert losses.of_generator(images).item() == pytest.approx(
        1.2039728043259361 + 5 * -0.6730116670092565, abs=1e-12
    )
    assert losses.of_generator(images).item() == pytest.approx(
        -2.1610855307203467, abs=1e-12
    )

    class Judge(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            p = 0.8 if x.max() > 0 else 0.3
            return torch.full((len(x),), logit(p), dtype=torch.float64)

    both = GeneratorLosses(classifier, Judge(), counts, config)
    value = both.of_discriminator(torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2))
    assert value.item() == pytest.approx(0.5798184952529422, abs=1e-12)


@pytest.mark.parametrize("weight", ["entropy_weight", "inversion_weight"])
def test_every_generator_loss_changes_the_generator(weight):
    client, _ = sides()
    base = TINY.model_copy(update={"diversity_weight": 0.0})
    changed = base.model_copy(update={weight: 10.0})
    outcomes = []
    for config in (base, changed):
        torch.manual_seed(0)
        outcomes.append(train_generator(client, config).state_dict())
    assert any(not torch.equal(outcomes[0][k], outcomes[1][k]) for k in outcomes[0])


def test_inversion_is_for_clients_below_the_threshold_only():
    client, _ = sides()
    number = len(client.data)
    outcomes = []
    for below in (number, 0):
        config = TINY.model_copy(
            update={"inversion_weight": 10.0, "inversion_below": below}
        )
        torch.manual_seed(0)
        outcomes.append(train_generator(client, config).state_dict())
    for name, value in outcomes[0].items():
        assert torch.equal(value, outcomes[1][name])


def test_without_batch_normalisation_the_inversion_loss_is_0_and_that_is_said():
    client, _ = sides(models=("cnn-plain",))
    config = TINY.model_copy(update={"inversion_weight": 10.0, "inversion_below": 999})
    outcomes = []
    torch.manual_seed(0)
    with pytest.warns(RuntimeWarning, match="no batch normalisation"):
        outcomes.append(train_generator(client, config).state_dict())
    torch.manual_seed(0)
    off = config.model_copy(update={"inversion_weight": 0.0})
    outcomes.append(train_generator(client, off).state_dict())
    for name, value in outcomes[0].items():
        assert torch.equal(value, outcomes[1][name])


@pytest.mark.parametrize("discriminator", ["separate", "local_model"])
@pytest.mark.parametrize("classifier", ["local", "fresh"])
def test_training_a_generator_leaves_the_local_model_alone(discriminator, classifier):
    client, _ = sides()
    before = {n: v.clone() for n, v in client.model.state_dict().items()}
    config = TINY.model_copy(
        update={
            "discriminator": discriminator,
            "classifier": classifier,
            "classifier_epochs": 1,
        }
    )
    train_generator(client, config)
    for name, value in client.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_generator_work_is_counted_three_images_an_image():
    client, _ = sides()
    train_generator(client, TINY)
    assert client.examples == 2 * 3 * 8


def test_images_lie_in_the_range_that_the_classifier_sees():
    client, _ = sides()
    generator = train_generator(client, TINY)
    low = (0 - 0.3) / 0.25
    high = (1 - 0.3) / 0.25
    images = draw(generator, 50, TINY, client.images)
    assert images.shape == (50, 1, 8, 8)
    assert images.min() >= low - 1e-5
    assert images.max() <= high + 1e-5
    tanh = TINY.model_copy(update={"output_range": "tanh"})
    assert draw(generator, 50, tanh, client.images).abs().max() <= 1


def test_a_generator_that_diverges_names_its_own_rate():
    client, _ = sides()
    wild = TINY.model_copy(update={"lr": 1e38})
    with pytest.raises(DivergedError, match=r"not finite; lower generator\.lr"):
        train_generator(client, wild)


def test_a_fresh_classifiers_training_is_counted_and_its_loss_not_logged():
    client, _ = sides()
    client.train()
    before, loss = client.examples, client.logged["train_loss"]
    fresh = TINY.model_copy(update={"classifier": "fresh", "classifier_epochs": 1})
    train_generator(client, fresh)
    assert client.examples == before + len(client.data) + 2 * 3 * 8
    assert client.logged["train_loss"] == loss


def test_quality_is_logged_against_the_clients_own_classes():
    client, _ = sides()
    train_generator(client, TINY)
    assert 0 <= client.logged["generator_own_share"] <= 1
    assert 0 <= client.logged["generator_mix_distance"] <= 1


def test_a_client_with_only_class_zero_trains_a_generator():
    client, _ = sides()
    client.data = client.data.subset(client.data.labels == 0)
    assert train_generator(client, TINY) is not None
    dropped = TINY.model_copy(update={"drop_class_zero": True})
    assert train_generator(client, dropped) is None


def test_the_gate_starts_at_the_class_diagonal():
    gate = Gate([0, 1, 2], 3, start=50.0)
    logits = torch.randn(3, 5, 3)
    expected = torch.stack([logits[c, :, c] for c in range(3)], 1)
    torch.testing.assert_close(gate(logits), expected)


def test_the_gate_is_a_convex_mix_with_the_given_start():
    gate = Gate([0, 2], 3, start=4.0)
    mix = gate.theta_CE.softmax(1)
    e4 = torch.tensor(4.0).exp()
    torch.testing.assert_close(mix[2, 1], e4 / (e4 + 1))
    torch.testing.assert_close(mix[1], torch.tensor([0.5, 0.5]))


def test_the_released_meta_model_has_its_published_size():
    meta = MetaTransformer(10, 10, TeacherConfig())
    # 948,316 in the released code, with 110 values that nothing reads.
    assert sum(p.numel() for p in meta.parameters()) == 948_316 - 110


def test_the_released_meta_model_of_cifar100_has_its_published_size():
    config = TeacherConfig(**CIFAR100_OPTIONS["teacher"])
    meta = MetaTransformer(100, 100, config)
    # 20,425,396 in the released code, with 200 values that nothing reads.
    assert sum(p.numel() for p in meta.parameters()) == 20_425_396 - 200


def test_the_released_meta_model_cannot_tell_experts_apart():
    torch.manual_seed(0)
    logits = torch.randn(3, 4, 3)
    order = [2, 0, 1]
    blind = MetaTransformer(3, 3, TeacherConfig(expansion=2)).eval()
    torch.testing.assert_close(blind(logits), blind(logits[order]), atol=1e-5, rtol=0)
    config = TeacherConfig(expansion=2, expert_embedding=True)
    told = MetaTransformer(3, 3, config).eval()
    assert (told(logits) - told(logits[order])).abs().max() > 1e-2


def test_the_meta_model_gives_the_experts_no_gradient_and_holds_none_of_them():
    _, server = sides()
    members = [server.build("cnn") for _ in range(3)]
    gate = Gate([0, 1, 2], 3, 4.0)
    teacher = Teacher(LogitEnsemble(members, apart), gate)
    assert not any(p.requires_grad for p in teacher.experts.parameters())
    assert set(gate.state_dict()) == {"theta_CE", "scale", "bias_C"}


def test_the_meta_model_learns_which_expert_to_believe():
    _, server = sides()
    torch.manual_seed(0)
    labels = torch.arange(300) % 3
    good = nn.functional.one_hot(labels, 3).float() * 4
    noise = torch.randn(300, 3) * 4
    config = TeacherConfig(steps=300, lr=0.05, gate_start=0.0)
    train_meta(Gate([0, 1], 3, 0.0), torch.stack([good, noise]), labels, config, server)
    assert server.logged["meta_heldout_accuracy"] > 99
    assert server.logged["experts_heldout_accuracy"] < 95


def test_the_origin_prior_is_the_floored_log_of_the_label_mix():
    prior = log_prior(torch.tensor([3, 1, 0]), 1e-3)
    expected = torch.log(torch.tensor([0.751, 0.251, 0.001]) / 1.003)
    torch.testing.assert_close(prior, expected)
    assert prior.exp().sum().item() == pytest.approx(1.0)


def test_equal_shares_differ_by_at_most_one_and_proportional_ones_follow_n_k():
    torch.manual_seed(0)
    shares = split_batch([5, 1, 1], 32, "equal")
    assert sum(shares) == 32
    assert max(shares) - min(shares) <= 1
    drawn = torch.tensor([split_batch([70, 20, 10], 100, "proportional")] * 1)
    many = torch.stack(
        [
            torch.tensor(split_batch([70, 20, 10], 100, "proportional"))
            for _ in range(99)
        ]
    ).double()
    assert drawn.sum() == 100
    torch.testing.assert_close(
        many.mean(0), torch.tensor([70.0, 20.0, 10.0]).double(), atol=2, rtol=0
    )


def test_every_image_knows_whose_generator_made_it():
    client, server = sides()
    made = {}
    for k, value in ((3, -1.0), (8, 1.0)):

        class Flat(nn.Module):
            def __init__(self, value):
                super().__init__()
                self.value = nn.Parameter(torch.tensor(value))

            def forward(self, z):
                return self.value.expand(len(z), 1, 8, 8)

        made[k] = Flat(value)
    source = ImageSource(made, TINY, server)
    images, origin = source.draw([2, 3])
    assert source.clients == [3, 8]
    assert origin.tolist() == [0, 0, 1, 1, 1]
    low, high = (0 - 0.3) / 0.25, (1 - 0.3) / 0.25
    torch.testing.assert_close(
        images[:, 0, 0, 0], torch.tensor([low, low, high, high, high])
    )
    del client


def test_distillation_moves_the_student_to_the_teacher_and_keeps_its_statistics():
    client, server = sides()
    generator = train_generator(client, TINY)
    student = server.build("cnn").eval()
    source = ImageSource({0: generator}, TINY, server)
    config = DistilConfig(steps=60, batch_size=16, lr=1e-2)
    before = {n: b.clone() for n, b in student.named_buffers()}

    def always_class_two(x, origin):
        return torch.tensor([0.0, 0.0, 9.0]).expand(len(x), 3)

    distil(student, always_class_two, source, [1], config, server)
    images, _ = source.draw([32])
    assert (student(images).argmax(1) == 2).all()
    for name, value in student.named_buffers():
        assert torch.equal(value, before[name]), name
    assert server.examples == 60 * 16
    assert server.logged["distil_loss_last"] < server.logged["distil_loss_first"]


def test_what_is_asked_of_a_client_in_each_round():
    strategy = Mosaic(
        MosaicConfig(
            warmup=3,
            teacher=TeacherConfig(prototypes="features", prototype_rounds=2),
        )
    )
    _, server = sides()
    state = strategy.init(server)
    states = [replace(state, distilled=i > 2) for i in range(5)]
    asked = [strategy.broadcast(s, 0, Round(i, 5, (0,))) for i, s in enumerate(states)]
    assert [d.send_generator for d in asked] == [False, False, True, False, False]
    assert [d.send_features for d in asked] == [False, True, True, False, False]
    assert [d.lr for d in asked] == [None, None, None, 1e-3, 1e-3]


def test_fine_tuning_has_a_rate_of_its_own_and_leaves_the_clients_settings_alone():
    client, _ = sides()
    settings, still = client.training, Broadcast(client.initial, 1e-12, False, False)
    sent = Mosaic().local(still, client).weights
    assert client.training is settings
    names = [name for name, _ in client.model.named_parameters()]
    for name in names:
        torch.testing.assert_close(sent[name], client.initial[name])
    plain = Broadcast(client.initial, None, False, False)
    moved = Mosaic().local(plain, client).weights
    assert any(not torch.allclose(moved[n], client.initial[n]) for n in names)


@pytest.mark.parametrize(
    "kind", ["meta", "experts", "diagonal", "clients", "global", "own_client"]
)
@pytest.mark.parametrize("origin_prior", [False, True])
def test_every_teacher_can_teach(kind, origin_prior):
    config = MosaicConfig(
        warmup=1,
        generator=TINY,
        teacher=TeacherConfig(
            kind=kind, origin_prior=origin_prior, steps=2, samples_per_client=4
        ),
        distil=DistilConfig(steps=2, batch_size=8),
    )
    federation, protocol = testing.toy_federation(), testing.toy_protocol(2)
    result = simulate(Mosaic(config), federation, protocol, seed=0)
    measured = result.history[0]["measured"]
    assert "before_distillation" in measured
    assert ("teacher" in measured) == (kind in ("meta", "experts", "diagonal"))
    assert result.history[1]["measured"] == {}


def test_stages_are_measured_whatever_the_rhythm_of_measuring():
    config = MosaicConfig(
        warmup=2,
        generator=TINY,
        teacher=TeacherConfig(steps=1, samples_per_client=4),
        distil=DistilConfig(steps=1, batch_size=8),
    )
    protocol = testing.toy_protocol(5, evaluation={"every": 5})
    result = simulate(Mosaic(config), testing.toy_federation(), protocol, seed=0)
    measured = [line["global_accuracy"] is not None for line in result.history]
    assert measured == [False, True, False, False, True]
    line = result.history[1]
    assert set(line["measured"]) == {
        "before_distillation",
        "after_distillation",
        "experts",
        "teacher",
    }
    assert line["measured"]["after_distillation"] == line["global_accuracy"]
    assert {"meta_heldout_accuracy", "experts_heldout_accuracy"} <= set(line["logged"])
    assert {"generator_own_share", "generator_mix_distance"} <= set(line["logged"])


def test_generators_are_sent_once_and_weigh_what_they_weigh():
    config = MosaicConfig(
        warmup=2,
        generator=TINY,
        distil=DistilConfig(steps=1, batch_size=8),
        teacher=TeacherConfig(kind="global"),
    )
    federation = testing.toy_federation()
    result = simulate(Mosaic(config), federation, testing.toy_protocol(4), seed=0)
    up = [line["clients"][0]["bytes_up"] for line in result.history]
    generator = federation.build("dcgan-generator", latent_size=4, width=2)
    weight = sum(v.numel() * v.element_size() for v in generator.state_dict().values())
    assert up[1] - up[0] == weight
    assert up[0] == up[2] == up[3]
    plain = simulate(
        REGISTRY.strategy("fedavg", {})[0],
        federation,
        testing.toy_protocol(1),
        seed=0,
    )
    counts = 3 * 8
    assert up[0] == plain.history[0]["clients"][0]["bytes_up"] + counts


def test_the_gallery_has_a_row_for_each_client(tmp_path):
    from safetensors.torch import load_file

    config = MosaicConfig(
        warmup=1,
        generator=TINY,
        teacher=TeacherConfig(kind="global"),
        distil=DistilConfig(steps=1, batch_size=8),
    )
    simulate(
        Mosaic(config),
        testing.toy_federation(),
        testing.toy_protocol(1),
        seed=0,
        folder=tmp_path,
    )
    images = load_file(tmp_path / "gallery.safetensors")
    assert sorted(images) == ["client 0", "client 1", "client 2"]
    assert images["client 0"].shape == (10, 1, 8, 8)
    assert images["client 0"].dtype == torch.uint8


def test_either_steps_or_epochs_of_the_generator_are_given():
    with pytest.raises(ConfigError, match="exactly one of steps and epochs"):
        build(GeneratorConfig, {"epochs": 3}, "x")
    assert build(GeneratorConfig, {"epochs": 3, "steps": None}, "x").epochs == 3
