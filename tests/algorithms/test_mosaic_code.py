"""What each switch of ``mosaic-code`` does, and what every preset of Mosaic resolves to."""

from dataclasses import replace

import pytest
import torch

from fedkd import testing
from fedkd.algorithms.mosaic.config import GeneratorConfig, MosaicConfig, TeacherConfig
from fedkd.algorithms.mosaic.generators import (
    draw,
    real_batches,
    scoring_classifier,
    split_batch,
    train_generator,
    without_class_zero,
)
from fedkd.algorithms.mosaic.strategy import Broadcast, Mosaic
from fedkd.data.images import Augmentation
from fedkd.plugins.registry import load_registry
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import simulate
from fedkd.strategy import Round

REGISTRY = load_registry()
TINY = GeneratorConfig(steps=2, batch_size=8, latent_size=4, width=2)


def client_of(number=1, data=None):
    sides = Sides(testing.toy_federation(data=data), testing.toy_protocol(), 0)
    client = sides.client(number, sides.protocol.training)
    client.load(client.initial)
    return client


def numbered_images():
    """Return six images of one pixel, 1 to 6."""
    return torch.arange(1.0, 7.0).view(6, 1, 1, 1)


def test_class_zero_leaves_each_batch_and_one_image_is_taken_twice():
    x = numbered_images()
    half = without_class_zero(x, torch.tensor([0, 2, 0, 0, 1, 0]))
    assert half.flatten().tolist() == [2, 5]
    alone = without_class_zero(x, torch.tensor([0, 0, 0, 1, 0, 0]))
    assert alone.flatten().tolist() == [4, 4]
    assert len(without_class_zero(x, torch.zeros(6, dtype=torch.int64))) == 0


@pytest.mark.parametrize(("drop", "sizes"), [(False, [5, 3]), (True, None)])
def test_batches_without_class_zero_are_as_many_and_smaller(drop, sizes):
    client = client_of()
    config = TINY.model_copy(
        update={"steps": None, "epochs": 1, "batch_size": 5, "drop_class_zero": drop}
    )
    assert len(client.data) == 8
    torch.manual_seed(0)
    order = torch.randperm(8)
    kept = [(client.data.labels[o] != 0).sum().item() for o in order.split(5)]
    torch.manual_seed(0)
    shown = [len(x) for x in real_batches(client, config)]
    assert shown == (sizes or [2 if n == 1 else n for n in kept if n])
    assert drop == (sum(shown) < 8)


def test_a_batch_of_class_zero_alone_is_passed_over():
    client = client_of()
    config = TINY.model_copy(update={"batch_size": 2, "drop_class_zero": True})
    client.data = client.data.subset(client.data.labels == 0)
    assert list(real_batches(client, config)) == []


def test_a_step_without_class_zero_counts_the_images_that_are_left():
    client = client_of()
    dropped = TINY.model_copy(
        update={"steps": None, "epochs": 1, "drop_class_zero": True, "batch_size": 64}
    )
    left = int((client.data.labels != 0).sum())
    assert 2 <= left < len(client.data)
    train_generator(client, dropped)
    assert client.examples == 3 * left


def test_a_fresh_classifier_starts_from_new_weights_at_every_client():
    starts = []
    for k in (0, 1):
        client = client_of(k)
        client.log("train_loss", 7.0)
        still = client.training.model_copy(update={"lr": 1e-12})
        client.training = still
        config = TINY.model_copy(update={"classifier": "fresh", "classifier_epochs": 1})
        torch.manual_seed(k)
        fresh = scoring_classifier(client, config)
        assert fresh.training
        assert client.logged["train_loss"] == 7.0
        assert client.examples > 0
        starts.append(fresh.state_dict()["classifier.weight"])
    assert not torch.allclose(starts[0], starts[1])
    assert not torch.allclose(starts[0], client.initial["classifier.weight"])


def test_new_weights_are_those_that_the_constructor_draws():
    client = client_of()
    config = TINY.model_copy(update={"classifier": "fresh", "classifier_epochs": 1})
    client.training = client.training.model_copy(update={"lr": 1e-12})
    torch.manual_seed(3)
    fresh = scoring_classifier(client, config)
    torch.manual_seed(3)
    built = client.build("cnn")
    for name, value in built.named_parameters():
        torch.testing.assert_close(fresh.get_parameter(name), value)


def test_a_fresh_classifier_trains_for_its_epochs():
    client = client_of()
    client.training = client.training.model_copy(update={"batch_size": 3})
    config = TINY.model_copy(update={"classifier": "fresh", "classifier_epochs": 3})
    scoring_classifier(client, config)
    assert client.examples == 3 * len(client.data)


def test_images_of_the_code_stay_between_minus_one_and_one():
    client = client_of()
    tanh = TINY.model_copy(update={"output_range": "tanh"})
    generator = train_generator(client, tanh)
    torch.manual_seed(0)
    images = draw(generator, 5, tanh, client.images)
    torch.manual_seed(0)
    assert torch.equal(images, generator(torch.randn(5, 4)).detach())


def shown_to_the_model(features_of):
    """Return a client with augmented images, and those whose features it takes."""
    toys = testing.toy_images()
    client = client_of(data=replace(toys, augmentation=Augmentation(pad=2, flip=True)))
    shown = []
    original = client.model.features

    def features(x):
        if not client.model.training:
            shown.append(x)
        return original(x)

    client.model.features = features
    options = {"prototypes": "features", "features_of": features_of, "per_class": 1}
    strategy = Mosaic(MosaicConfig(teacher=TeacherConfig(**options)))
    strategy.local(Broadcast(client.initial, None, False, True), client)
    return client, torch.cat(shown)


def test_features_are_of_all_images_as_they_are():
    client, shown = shown_to_the_model("images")
    stored = torch.cat([x for x, _ in client.data.images(8)])
    assert torch.equal(shown, stored)


def test_features_of_the_code_are_of_as_many_augmented_batches_as_training():
    client, shown = shown_to_the_model("batches")
    assert len(shown) == 2 * 8
    stored = {tuple(x.flatten().tolist()) for x, _ in client.data.images(1)}
    seen = [tuple(x.flatten().tolist()) in stored for x in shown]
    assert not all(seen)


def features_sent(**teacher):
    client = client_of()
    strategy = Mosaic(MosaicConfig(teacher={"prototypes": "features", **teacher}))
    up = strategy.local(Broadcast(client.initial, None, False, True), client)
    return client, up.features


def test_the_first_centres_of_each_class_are_sent():
    client, every = features_sent(per_class=3)
    _, first = features_sent(per_class=3, centres_sent=2)
    held = client.data.labels.unique().tolist()
    assert list(every) == list(first) == held
    assert {len(rows) for rows in every.values()} == {3}
    for label in held:
        assert torch.equal(first[label], every[label][:2])


def test_features_are_those_of_the_received_model_before_training():
    client, sent = features_sent(per_class=30)
    received = client.load(client.initial).eval()
    with torch.no_grad():
        for label, rows in sent.items():
            kept = client.data.subset(client.data.labels == label)
            x = torch.cat([x for x, _ in kept.images(64)])
            torch.testing.assert_close(rows[0], received.features(x).mean(0))


@pytest.mark.parametrize("clients", [1, 3, 10])
def test_each_generator_gives_its_own_32(clients):
    assert split_batch([7] * clients, 32, "each") == [32] * clients


def test_a_step_of_distillation_has_images_of_each_generator():
    strategy, _ = REGISTRY.strategy(
        "mosaic-code",
        {
            "warmup": 1,
            "generator": {"epochs": 1, "classifier_epochs": 1, "width": 2},
            "teacher": {"steps": 1, "expansion": 1, "batch_size": 4},
            "distil": {"steps": 5},
        },
    )
    federation, protocol = testing.toy_federation(), testing.toy_protocol(1)
    line = simulate(strategy, federation, protocol, 0).history[0]
    assert line["server_examples"] == 4 + 5 * 32 * 3


def test_generators_of_the_code_are_sent_in_a_clients_first_round():
    strategy, _ = REGISTRY.strategy("mosaic-code", {})
    sides = Sides(testing.toy_federation(), testing.toy_protocol(), 0)
    state = strategy.init(sides.server())
    after = replace(state, distilled=True)
    times = [(state, 0), (state, 340), (after, 341)]
    asked = [strategy.broadcast(s, 0, Round(i, 380, (0,))) for s, i in times]
    assert [down.send_generator for down in asked] == [True, True, False]
    later = replace(state, generators={0: {}})
    assert not strategy.broadcast(later, 0, Round(1, 380, (0,))).send_generator
    features = [
        i
        for i in range(380)
        if strategy.broadcast(
            replace(state, distilled=i > 340), 0, Round(i, 380, (0,))
        ).send_features
    ]
    assert features == list(range(300, 341))


DEFAULTS = {
    "warmup": 0.75,
    "finetune_lr": 1e-3,
    "aggregate": "plain",
    "generator": {
        "start": "warmup",
        "steps": 600,
        "epochs": None,
        "batch_size": 32,
        "latent_size": 64,
        "width": 32,
        "lr": 1e-3,
        "discriminator": "separate",
        "adversarial_weight": 1.0,
        "entropy_weight": 0.0,
        "diversity_weight": 1.0,
        "diversity": "own",
        "inversion_weight": 0.0,
        "inversion_below": 1000,
        "classifier": "local",
        "classifier_epochs": 50,
        "output_range": "classifier",
        "drop_class_zero": False,
    },
    "teacher": {
        "kind": "meta",
        "experts": "auto",
        "origin_prior": False,
        "origin_epsilon": 0.1,
        "meta": "gate",
        "expert_embedding": False,
        "gate_start": 2.0,
        "expansion": 10,
        "pooling": "sum",
        "prototypes": "samples",
        "per_class": 10,
        "centres_sent": None,
        "features_of": "images",
        "prototype_rounds": 1,
        "samples_per_client": 200,
        "steps": 600,
        "batch_size": 128,
        "lr": 1e-2,
        "ema_decay": 0.99,
        "ema_correction": True,
        "holdout": 0.2,
    },
    "distil": {
        "steps": 300,
        "batch_size": 128,
        "sampling": "proportional",
        "lr": 1e-3,
        "batch_norm": "auto",
        "cosine": True,
        "temperature": 1.0,
        "kl_weight": 1.0,
        "ce_weight": 0.0,
        "overlap_weight": 0.0,
        "overlap": "bhattacharyya",
    },
}
AMOUNTS = {
    "steps": None,
    "epochs": 200,
    "batch_size": 64,
    "latent_size": 100,
    "width": 64,
    "lr": 2e-4,
    "diversity_weight": 5.0,
    "diversity": "uniform",
}
META = {
    "meta": "transformer",
    "prototypes": "features",
    "steps": 150,
    "lr": 1e-3,
    "holdout": 0.0,
}
LESSONS = {
    "steps": 1500,
    "batch_size": 32,
    "sampling": "each",
    "lr": 1e-4,
    "cosine": False,
    "kl_weight": 0.8,
    "ce_weight": 0.2,
    "overlap_weight": 1.0,
}
CODE_GENERATOR = {
    **AMOUNTS,
    "start": "first",
    "classifier": "fresh",
    "output_range": "tanh",
    "drop_class_zero": True,
}
CODE_TEACHER = {
    **META,
    "centres_sent": 10,
    "features_of": "batches",
    "prototype_rounds": 41,
    "ema_correction": False,
}
RESOLVED = {
    "mosaic": {},
    "mosaic-origin": {"teacher": {"origin_prior": True}},
    "mosaic-paper": {
        "warmup": 341 / 380,
        "finetune_lr": 1e-4,
        "generator": {
            **AMOUNTS,
            "discriminator": "local_model",
            "entropy_weight": 1.0,
            "inversion_weight": 0.01,
        },
        "teacher": META,
        "distil": LESSONS,
    },
    "mosaic-code": {
        "warmup": 341 / 380,
        "finetune_lr": 1e-4,
        "generator": CODE_GENERATOR,
        "teacher": CODE_TEACHER,
        "distil": LESSONS,
    },
    "mosaic-code-cifar100": {
        "warmup": 1041 / 1080,
        "finetune_lr": 1e-4,
        "generator": CODE_GENERATOR,
        "teacher": {**CODE_TEACHER, "per_class": 60, "pooling": "mean"},
        "distil": {**LESSONS, "lr": 1e-5},
    },
}


@pytest.mark.parametrize("name", RESOLVED)
def test_every_preset_resolves_to_its_table(name):
    _, config = REGISTRY.strategy(name, {})
    expected = {
        key: {**value, **RESOLVED[name].get(key, {})}
        if isinstance(value, dict)
        else RESOLVED[name].get(key, value)
        for key, value in DEFAULTS.items()
    }
    assert config.model_dump() == expected


def test_every_card_says_what_is_the_papers_the_codes_and_ours():
    for name in set(RESOLVED) - {"mosaic"}:
        lists = REGISTRY.entry("strategies", name).resolve().deviations
        heads = [text.split(":")[0] for text in lists]
        assert heads == ["paper", "released code", "ours"], name
