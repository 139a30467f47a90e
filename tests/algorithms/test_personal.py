"""Models of the clients' own: what crosses, what stays, and the limits, bit for bit."""

import pytest
import torch

from fedkd import ModelSpec, load_registry, testing
from fedkd.algorithms.personal.apfl import mixture, next_alpha
from fedkd.algorithms.personal.fedala import (
    FedALAConfig,
    aggregated,
    next_taken,
    part_of,
)
from fedkd.algorithms.personal.fedrep import repeated
from fedkd.base.randomness import torch_stream
from fedkd.errors import ConfigError, NotApplicableError
from fedkd.ops.heads import head_entries
from fedkd.ops.layers import entries_by_layer
from fedkd.ops.training import TrainingConfig, train
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import Run, simulate

REGISTRY = load_registry()
LAYERS = 5
"""Of the model ``cnn``: three convolutions, each with BatchNorm, and two linear layers."""
MODEL = 161_124
"""Bytes of the model ``cnn`` for the toy images: parameters and BatchNorm's buffers."""
HEAD = 4 * (3 * 64 + 3)
"""Bytes of its classifier."""


def finished(name, options=None, rounds=3, model="cnn", **protocol):
    """Run a strategy in the toy world; return its result and its sides."""
    strategy, _ = REGISTRY.strategy(name, options or {})
    federation = testing.toy_federation(models=[ModelSpec(model)])
    sides = Sides(federation, testing.toy_protocol(rounds, **protocol), 3)
    return Run(strategy, sides, name).execute(None, 0, lambda _: None), sides


def own_models(strategy, result, sides):
    """Return the weights of each client's own model."""
    models = []
    for k in range(3):
        client = sides.client(k, sides.protocol.training)
        own = strategy.personal(result.state, client)
        models.append({n: v.clone() for n, v in own.state_dict().items()})
    return models


def equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


def same_lines(ours, theirs, *without):
    keys = {"global_accuracy", "local_accuracy", "client_examples", "bytes_up"}
    for mine, other in zip(ours.history, theirs.history, strict=True):
        for key in keys - set(without):
            assert mine[key] == other[key], key


def is_fedavg(name, options, fedavg=None, **settings):
    """Hold a run against FedAvg: the global model, accuracies, work and bytes."""
    ours, _ = finished(name, options, **settings)
    theirs, _ = finished("fedavg", fedavg, **settings)
    equal(ours.state.weights, theirs.state.weights)
    same_lines(ours, theirs)


def is_local(name, options, **settings):
    """Hold the clients' own models against those of clients that train alone."""
    ours, sides = finished(name, options, **settings)
    theirs, alone = finished("local", **settings)
    made = (REGISTRY.strategy(*which)[0] for which in ((name, options), ("local", {})))
    for mine, other in zip(
        own_models(next(made), ours, sides),
        own_models(next(made), theirs, alone),
        strict=True,
    ):
        equal(mine, other)
    return ours, theirs


# Layers


@pytest.mark.parametrize("model", ["cnn", "mlp", "resnet18", "mobilenet", "vit"])
def test_the_last_layer_is_the_classifier(model):
    net = testing.toy_federation(models=[model]).build_spec(ModelSpec(model), 0)
    layers = entries_by_layer(net)
    assert layers[-1] == head_entries(net)
    assert [n for layer in layers for n in layer] == list(net.state_dict())


def test_a_normalisation_belongs_to_the_layer_before():
    net = testing.toy_federation().build_spec(ModelSpec("cnn"), 0)
    first = entries_by_layer(net)[0]
    assert len(entries_by_layer(net)) == LAYERS
    assert [n.split(".")[-1] for n in first] == [
        "weight",
        "weight",
        "bias",
        "running_mean",
        "running_var",
        "num_batches_tracked",
    ]


@pytest.mark.parametrize("name", ["fedper", "lgfedavg", "fedrep", "fedala"])
def test_more_layers_than_there_are_is_an_error(name):
    with pytest.raises(ConfigError, match=r"found 6, expected at most 5.*has 5 layers"):
        finished(name, {"layers": 6})


# FedPer


@pytest.mark.parametrize("participation", [1.0, 2])
def test_fedper_without_personal_layers_is_fedavg(participation):
    is_fedavg("fedper", {"layers": 0}, participation=participation)


@pytest.mark.parametrize("participation", [1.0, 2])
def test_fedper_of_personal_layers_alone_is_local(participation):
    options = {"layers": LAYERS}
    ours, theirs = is_local("fedper", options, participation=participation)
    same_lines(ours, theirs)
    assert ours.metrics["bytes_up"] == 0


def test_fedper_sends_all_but_the_classifier():
    ours, _ = finished("fedper")
    assert ours.metrics["bytes_up"] == ours.metrics["bytes_down"] == 9 * (MODEL - HEAD)
    assert not {n for n in ours.state.weights if n.startswith("classifier")}


# LG-FedAvg


@pytest.mark.parametrize("participation", [1.0, 2])
def test_lgfedavg_of_global_layers_alone_is_fedavg(participation):
    is_fedavg("lgfedavg", {"layers": LAYERS}, participation=participation)


@pytest.mark.parametrize("participation", [1.0, 2])
def test_lgfedavg_without_global_layers_is_local(participation):
    ours, theirs = is_local("lgfedavg", {"layers": 0}, participation=participation)
    same_lines(ours, theirs)
    assert ours.metrics["bytes_up"] == 0


def test_lgfedavg_sends_the_classifier():
    ours, sides = finished("lgfedavg")
    assert ours.metrics["bytes_up"] == ours.metrics["bytes_down"] == 9 * HEAD
    own = [sides.memories.recall(k)["private"] for k in range(3)]
    assert not torch.equal(own[0]["body.0.weight"], own[1]["body.0.weight"])


def test_lgfedavg_of_two_architectures_shares_the_head_alone():
    specs = [ModelSpec("cnn"), ModelSpec("mlp", {"features": 64})]
    federation = testing.toy_federation(models=specs)
    sides = Sides(federation, testing.toy_protocol(2), 3)
    strategy, _ = REGISTRY.strategy("lgfedavg", {})
    result = Run(strategy, sides, "lg").execute(None, 0, lambda _: None)
    assert result.metrics["bytes_up"] == result.metrics["bytes_down"] == 6 * HEAD
    ours = own_models(strategy, result, sides)

    # The same by a loop of its own: whole models train, and their heads are averaged.
    nets = [federation.build_spec(federation.client_models[k], 3) for k in range(3)]
    sizes = torch.tensor([len(client) for client in federation.clients]).double()
    head = {n: v.clone() for n, v in nets[0].classifier.state_dict().items()}
    for t in range(2):
        heads = []
        for k, net in enumerate(nets):
            net.classifier.load_state_dict(head)
            with torch_stream(3, "client", t, k):
                train(net, federation.clients[k], sides.protocol.training)
            heads.append(
                {n: v.double() for n, v in net.classifier.state_dict().items()}
            )
        shares = (sizes / sizes.sum()).tolist()
        head = {
            n: sum(w * one[n] for w, one in zip(shares, heads, strict=True)).float()
            for n in head
        }
    for net, mine in zip(nets, ours, strict=True):
        net.classifier.load_state_dict(head)
        for name, value in net.state_dict().items():
            torch.testing.assert_close(mine[name], value, atol=1e-6, rtol=0)
    assert "body.0.weight" in ours[0]
    assert ours[0].keys() != ours[1].keys() == nets[1].state_dict().keys()


@pytest.mark.parametrize(
    ("layers", "models", "sentence"),
    [
        (1, [{}, {"features": 32}], r"the same last layer, but mlp has classifier.weight "
         r"\[3, 200\].*mlp\[features=32\] classifier.weight \[3, 32\]"),
        (2, [{}, {"hidden": (100, 200)}], "the same last 2 layers"),
    ],
)  # fmt: skip
def test_lgfedavg_refuses_models_whose_global_layers_differ(layers, models, sentence):
    strategy, _ = REGISTRY.strategy("lgfedavg", {"layers": layers})
    specs = [ModelSpec("mlp", options) for options in models]
    federation = testing.toy_federation(models=specs)
    with pytest.raises(NotApplicableError, match=sentence):
        simulate(strategy, federation, testing.toy_protocol(2), 3)


# FedRep


@pytest.mark.parametrize("participation", [1.0, 2])
def test_fedrep_without_a_head_is_fedavg(participation):
    uniform = {"weights": "uniform"}
    is_fedavg("fedrep", {"layers": 0}, uniform, participation=participation)


@pytest.mark.parametrize("participation", [1.0, 2])
def test_fedrep_without_a_body_is_local(participation):
    options = {"layers": LAYERS}
    ours, theirs = is_local("fedrep", options, participation=participation)
    same_lines(ours, theirs)


@pytest.mark.parametrize(("name", "times"), [("fedrep", 2), ("fedrep-paper", 11)])
def test_fedreps_work_on_the_head_is_counted(name, times):
    ours, sides = finished(name, rounds=1)
    fedavg, _ = finished("fedavg", rounds=1)
    assert ours.metrics["client_examples"] == times * fedavg.metrics["client_examples"]
    assert ours.metrics["bytes_up"] == ours.metrics["bytes_down"] == 3 * (MODEL - HEAD)
    assert all(p.requires_grad for p in sides.server().model.parameters())


def test_work_on_a_head_is_counted_as_the_run_counts():
    """3 times 5 steps, and 3 times 2 epochs."""
    steps = TrainingConfig(local_steps=5)
    epochs = TrainingConfig(local_epochs=2)
    assert repeated(steps, 3) == TrainingConfig(local_steps=15)
    assert repeated(epochs, 3) == TrainingConfig(local_epochs=6)


# Ditto


@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_dittos_global_model_is_fedavgs(lam):
    ours, _ = finished("ditto", {"lam": lam}, participation=2)
    fedavg, _ = finished("fedavg", participation=2)
    equal(ours.state.weights, fedavg.state.weights)
    same_lines(ours, fedavg, "local_accuracy", "client_examples")
    assert ours.metrics["client_examples"] == 2 * fedavg.metrics["client_examples"]
    assert ours.metrics["train_loss"] == fedavg.metrics["train_loss"]


@pytest.mark.parametrize("participation", [1.0, 2])
def test_dittos_own_models_are_those_of_local_without_lambda(participation):
    ours, theirs = is_local("ditto", {"lam": 0.0}, participation=participation)
    same_lines(ours, theirs, "global_accuracy", "client_examples", "bytes_up")


def test_dittos_own_models_end_nearer_to_the_global_one_the_larger_lambda():
    def distance(lam):
        strategy, _ = REGISTRY.strategy("ditto", {"lam": lam})
        result, sides = finished("ditto", {"lam": lam}, rounds=6)
        there = result.state.weights["classifier.weight"]
        own = own_models(strategy, result, sides)
        return sum(float((m["classifier.weight"] - there).norm()) for m in own)

    assert distance(10.0) < 0.7 * distance(1.0) < 0.7 * distance(0.0)


# APFL


def test_a_mixture_by_hand():
    """A quarter of 4 and three quarters of 2; buffers are the client's own."""
    own = {"w": torch.tensor([4.0, -1.0]), "seen": torch.tensor(7)}
    ours = mixture(own, {"w": torch.tensor([2.0, 3.0])}, torch.tensor(0.25))
    assert ours["w"].tolist() == [2.5, 2.0]
    assert ours["seen"].item() == 7


@pytest.mark.parametrize(
    ("alpha", "gradient", "expected"),
    [(0.5, 2.0, 0.28), (0.5, -7.0, 1.0), (0.5, 9.0, 0.0), (0.0, -1.0, 0.1)],
)
def test_a_step_of_alpha_by_hand(alpha, gradient, expected):
    """alpha - 0.1 (gradient + 0.4 alpha), within 0 and 1."""
    moved = next_alpha(torch.tensor(alpha), torch.tensor(gradient), lr=0.1, decay=0.4)
    assert moved.item() == pytest.approx(expected)


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_apfls_global_model_is_fedavgs(alpha):
    clip = TrainingConfig(local_steps=2, batch_size=8, lr=0.05, clip_norm=0.5)
    settings = {"participation": 2, "training": clip}
    ours, _ = finished("apfl", {"alpha": alpha}, **settings)
    fedavg, _ = finished("fedavg", **settings)
    equal(ours.state.weights, fedavg.state.weights)
    same_lines(ours, fedavg, "local_accuracy", "client_examples")
    assert ours.metrics["client_examples"] == 2 * fedavg.metrics["client_examples"]
    assert ours.metrics["train_loss"] == fedavg.metrics["train_loss"]


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_apfl_of_own_weights_alone_is_local(clip_norm):
    clip = TrainingConfig(local_steps=2, batch_size=8, lr=0.05, clip_norm=clip_norm)
    options = {"alpha": 1.0, "adapts": "never"}
    ours, theirs = is_local("apfl", options, participation=2, training=clip)
    same_lines(ours, theirs, "global_accuracy", "client_examples", "bytes_up")


def test_apfl_of_global_weights_alone_predicts_with_them():
    options = {"alpha": 0.0, "adapts": "never"}
    ours, _ = finished("apfl", options, model="cnn-plain")
    fedavg, _ = finished("fedavg", model="cnn-plain")
    same_lines(ours, fedavg, "client_examples")


def test_apfls_share_is_each_clients_own_and_lasts():
    _, sides = finished("apfl", {"adapts": "step"}, rounds=4)
    shares = [sides.memories.recall(k)["alpha"] for k in range(3)]
    assert len(set(shares)) == 3
    assert 0.5 not in shares


# FedALA


def test_a_local_aggregation_by_hand():
    """8 + (4 - 8) W for W = 0, 1/4, 1: own, between, the global one."""
    own, of_all = {"w": torch.full((3,), 8.0)}, {"w": torch.full((3,), 4.0)}
    taken = {"w": torch.tensor([0.0, 0.25, 1.0])}
    assert aggregated(own, of_all, taken)["w"].tolist() == [8.0, 7.0, 4.0]


def test_what_is_taken_of_all_or_nothing_is_exact():
    own, of_all = {"w": torch.randn(50)}, {"w": torch.randn(50)}
    for share, source in ((0.0, own), (1.0, of_all)):
        taken = {"w": torch.full((50,), share)}
        assert torch.equal(aggregated(own, of_all, taken)["w"], source["w"])


def test_a_step_of_the_weights_by_hand():
    """W - 0.5 gradient, within 0 and 1."""
    taken, gradient = torch.tensor([0.5, 0.5, 0.5]), torch.tensor([0.4, -3.0, 2.0])
    expected = torch.tensor([0.3, 1.0, 0.0])
    torch.testing.assert_close(next_taken(taken, gradient, 0.5), expected)


def test_the_first_training_ends_when_losses_are_steady_or_many():
    """[1, 1.2]: mean 1.1, spread 0.1; a loss more than the window is asked for."""
    config = FedALAConfig(start_window=2, start_spread=0.11, start_passes=5)
    assert not config.converged([1.0, 1.2])
    assert config.converged([9.0, 1.0, 1.2])
    assert not config.converged([9.0, 1.0, 1.3])
    assert config.converged([9.0, 1.0, 9.0, 1.0, 9.0])


def test_a_share_of_the_images_is_drawn():
    data = testing.toy_federation().clients[0]
    parts = [part_of(data, 0.8).indices.tolist() for _ in range(2)]
    assert [len(part) for part in parts] == [int(0.8 * len(data))] * 2
    assert parts[0] != parts[1]
    assert set(parts[0]) < set(data.indices.tolist())
    assert len(part_of(data, 0.001)) == 1


@pytest.mark.parametrize("participation", [1.0, 2])
def test_fedala_without_upper_layers_is_fedavg(participation):
    is_fedavg("fedala", {"layers": 0}, participation=participation)


def test_fedalas_first_round_is_fedavgs():
    ours, _ = finished("fedala", rounds=1)
    fedavg, _ = finished("fedavg", rounds=1)
    equal(ours.state.weights, fedavg.state.weights)


@pytest.mark.parametrize(("drop_last", "images"), [("never", 6), ("always", 4)])
def test_fedalas_weights_are_trained_on_the_batches_that_training_keeps(
    drop_last, images
):
    """6 of 8 images, in batches of 4; in four passes, one, and one to be measured."""
    options = {"start_window": 2, "start_passes": 4, "start_spread": 0.0}
    training = {"local_steps": 2, "batch_size": 4, "lr": 0.1, "drop_last": drop_last}
    same = {"training": training, "evaluation": {"every": 3}}
    ours, fedavg = (
        finished(*one, **same)[0] for one in (("fedala", options), ["fedavg"])
    )
    extra = ours.metrics["client_examples"] - fedavg.metrics["client_examples"]
    assert extra == 3 * (4 + 1 + 1) * images


def test_fedalas_work_on_its_weights_is_counted():
    """6 of 8 images, in all passes but that of the first round."""
    options = {"start_window": 2, "start_passes": 4, "start_spread": 0.0}
    ours, _ = finished("fedala", options, evaluation={"every": 3})
    fedavg, _ = finished("fedavg", evaluation={"every": 3})
    clients = testing.toy_federation().clients
    once = sum(int(0.8 * len(data)) for data in clients)
    measuring = once  # one pass when the last round is measured
    rounds = 4 * once + once
    extra = ours.metrics["client_examples"] - fedavg.metrics["client_examples"]
    assert extra == rounds + measuring
    assert ours.metrics["personal_examples"] == measuring
    assert ours.metrics["bytes_up"] == fedavg.metrics["bytes_up"]
