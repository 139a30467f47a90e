"""What a notebook shows is short: of every public class an object, and its text."""

import dataclasses
import inspect
import pydoc

import numpy as np
import pytest
import torch
from torch import nn

import fedkd
from fedkd.hookspecs import RunInfo
from fedkd.metrics.base import Predictions
from fedkd.simulation.identity import _facts
from fedkd.suite.suite import load_suite, suite_names

LONGEST = 300
REGISTRY = fedkd.load_registry(quiet=True)


def big_images():
    x, y = torch.zeros(500, 3, 8, 8, dtype=torch.uint8), torch.arange(500) % 100
    x[:, 0, 0, 0] = torch.arange(500) % 256
    x[:, 1, 0, 0] = torch.arange(500) // 256
    groups = fedkd.Groups(torch.arange(500), torch.arange(500))
    names = tuple(f"a class with a long name, {c}" for c in range(100))
    mean, std = (1 / 3,) * 3, (1 / 7,) * 3
    halves = (x, y, x.flip(0), y.flip(0))
    return fedkd.ImageSet("many", *halves, names, mean, std, groups=groups)


def big_vectors():
    x, y = torch.randn(40, 300), torch.arange(40) % 4
    moments = (x.mean(0).tolist(), x.std(0).tolist())
    mean, std = (tuple(each) for each in moments)
    return fedkd.VectorSet("long", x, y, x + 1, y, tuple("abcd"), mean, std)


def a_run():
    world = fedkd.testing.toy_federation()
    strategy, _ = REGISTRY.strategy("fedavg")
    return fedkd.simulate(strategy, world, fedkd.testing.toy_protocol(2), seed=0)


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    """An object of every public class that can have one, as large as they come."""
    images, vectors, result = big_images(), big_vectors(), a_run()
    world = fedkd.testing.toy_federation()
    shards = [np.arange(k, 500, 100) for k in range(100)]
    specs = [fedkd.ModelSpec("cnn", {"width": w / 100}) for w in range(1, 101)]
    many = fedkd.Federation(images, shards, shards, specs, REGISTRY.model)
    split = fedkd.Partition.of(shards, images.y_train.numpy(), 100)
    every = tuple(range(1000))
    step = next(
        fedkd.rounds("fedavg", world, rounds=1, training={"local_steps": 1}, seed=0)
    )
    results = fedkd.bench(
        "smoke", strategies="fedavg", out=tmp_path_factory.mktemp("r"), progress=False
    )
    (run,) = results
    info = RunInfo(
        **{f.name: getattr(run.row, f.name) for f in dataclasses.fields(RunInfo) if
           hasattr(run.row, f.name)},
        folder=run.folder,
        config=run.config,
    )  # fmt: skip
    sides = fedkd.simulation.sides.Sides(world, fedkd.testing.toy_protocol(1), 0)
    said = Predictions.of([torch.randn(500, 100)], images.y_train)
    parts = (images, vectors, images.info, vectors.info, images.groups, many, split)
    parts += (many.clients[0], fedkd.PublicData(images.x_train, images), said)
    parts += (result, step, results, run, run.row, info, REGISTRY, sides.server())
    parts += (sides.client(0, fedkd.testing.toy_protocol(1).training), specs[0])
    parts += (fedkd.Round(0, 3, every), fedkd.Requires(builds=tuple(specs)))
    parts += (
        fedkd.testing.toy_protocol(2),
        fedkd.TrainingConfig(local_steps=2, clip_norm=1.0, lr_from_round={5: 0.001}),
        fedkd.EvaluationConfig(every=5),
        *map(load_suite, suite_names()),
    )
    for kind in ("strategies", "datasets", "partitioners", "metrics"):
        for entry in REGISTRY.entries(kind).values():
            thing = entry.resolve()
            parts += (thing,) if isinstance(thing, fedkd.Preset) else ()
            cls = getattr(thing, "strategy", thing)
            usual = not any(f.is_required() for f in cls.Config.model_fields.values())
            parts += (cls(cls.Config()),) if usual else ()
    return parts


def test_no_object_is_longer_than_a_line_or_two(things):
    texts = [repr(thing) for thing in things]
    assert [text for text in texts if len(text) > LONGEST] == []
    assert [text for text in texts if " object at 0x" in text or "\n" in text] == []


def test_every_public_class_is_among_them(things):
    shown = {cls for thing in things for cls in type(thing).__mro__}
    lost = set()
    for name in fedkd.__all__:
        cls = getattr(fedkd, name)
        is_shown = cls in shown or not inspect.isclass(cls)
        # Modules are shown as torch shows them; what is raised is its sentence.
        if not is_shown and not issubclass(cls, nn.Module | BaseException):
            lost.add(name)
    # What authors derive from or fill in, and never see as an object.
    bases = {"Executor", "FileDataset", "DatasetConfig", "Observer", "Source", "Split"}
    assert lost <= bases


def test_texts_say_what_matters(things):
    texts = [repr(thing) for thing in things]
    assert (
        "ImageSet(many, 500 training and 500 test images, 3x8x8, 100 classes)" in texts
    )
    vectors = "40 training and 40 test vectors, length 300, 4 classes"
    assert f"VectorSet(long, {vectors})" in texts
    assert any(t.startswith("RunResult(round 2, accuracy ") for t in texts)
    assert any(t.startswith("Results(smoke, 1 of 1 runs done, ") for t in texts)
    assert "Partition(100 clients, 100 classes, 5 to 5 samples each, hash " in str(
        texts
    )
    assert repr(REGISTRY.strategy("fedprox", {"mu": 0.5})[0]) == "FedProx(mu=0.5)"
    assert (
        repr(REGISTRY.dataset("digits", {"fraction": 0.5})[0]) == "Digits(fraction=0.5)"
    )


def test_a_configuration_shows_what_differs_from_its_defaults():
    training = fedkd.TrainingConfig(local_steps=3, lr=0.01, batch_size=8)
    assert repr(training) == "TrainingConfig(local_steps=3, batch_size=8)"
    assert str(training) == repr(training)


def test_what_checkpoints_know_of_vectors_is_as_it_was():
    info = fedkd.VectorInfo((2,), 3, (0.5, 1.0), (1.0, 2.0))
    assert _facts(info) == (
        "VectorInfo(shape=(2,), num_classes=3, mean=(0.5, 1.0), std=(1.0, 2.0))"
    )
    images = big_images().info
    assert _facts(images) == repr(images)


@pytest.mark.parametrize("kind", ["strategies", "datasets", "models", "partitioners"])
def test_help_has_every_option_of_a_configuration(kind):
    for entry in REGISTRY.entries(kind).values():
        cls = getattr(entry.resolve(), "Config", None)
        fields = {} if cls is None else cls.model_fields
        text = " ".join((cls.__doc__ or "").split()) if fields else ""
        for name, info in fields.items():
            assert f"{name} (" in text, (entry.name, name)
            assert " ".join(info.description.split()) in text, (entry.name, name)


def test_help_prints_them():
    page = pydoc.plain(pydoc.render_doc(fedkd.TrainingConfig))
    assert "batch_size (default 64): Images in a step;" in page
    assert page.count("Options:") == 1
