"""Settings in which a method is FedAvg give FedAvg's bits."""

import pytest
import torch

from fedkd import testing
from fedkd.party import ModelSpec
from fedkd.plugins.registry import load_registry
from fedkd.simulation.simulator import simulate

REGISTRY = load_registry()
CASES = {
    "fedprox at mu 0": ("fedprox", {"mu": 0.0}, "cnn"),
    "fedrs at alpha 1": ("fedrs", {"alpha": 1.0}, "cnn"),
    "fedrs mosaic at alpha 1": ("fedrs", {"variant": "mosaic", "alpha": 1.0}, "cnn"),
    "fedbn without BatchNorm": ("fedbn", {}, "cnn-plain"),
    "fedftg without server steps": ("fedftg", {"distil": {"steps": 0}}, "cnn"),
    "dfrd without server steps": ("dfrd", {"distil": {"steps": 0}}, "cnn"),
    "fedgen without server steps": ("fedgen", {"generator": {"steps": 0}}, "cnn"),
    "mosaic without its extra stages": (
        "mosaic",
        {"distil": {"steps": 0}, "finetune_lr": None},
        "cnn",
    ),
    "mosaic-code without its extra stages": (
        "mosaic-code",
        {"distil": {"steps": 0}, "finetune_lr": None},
        "cnn",
    ),
    "mosaic-origin without its extra stages": (
        "mosaic-origin",
        {"distil": {"steps": 0}, "finetune_lr": None},
        "cnn",
    ),
}


CASES["mosaic-features without its round of features"] = (
    "mosaic-features",
    {"distil": {"steps": 0}},
    "cnn",
)


def last_state(name, options, model, **protocol):
    strategy, _ = REGISTRY.strategy(name, options)
    federation = testing.toy_federation(models=[ModelSpec(model)])
    return simulate(strategy, federation, testing.toy_protocol(4, **protocol), seed=3)


@pytest.mark.filterwarnings("ignore:the model has no batch normalisation")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("participation", [1.0, 2])
def test_it_is_fedavg_bit_for_bit(case, participation):
    name, options, model = CASES[case]
    ours = last_state(name, options, model, participation=participation)
    fedavg = last_state("fedavg", {}, model, participation=participation)
    assert ours.state.weights.keys() == fedavg.state.weights.keys()
    for entry, value in fedavg.state.weights.items():
        assert torch.equal(ours.state.weights[entry], value), entry
    for mine, theirs in zip(ours.history, fedavg.history, strict=True):
        assert mine["global_accuracy"] == theirs["global_accuracy"]
        assert mine["client_examples"] == theirs["client_examples"]


def test_fedbn_says_where_it_is_fedavg():
    with pytest.warns(RuntimeWarning, match="no layer stays at the clients"):
        last_state("fedbn", {}, "cnn-plain")


@pytest.mark.parametrize(
    ("name", "options"),
    [("fedprox", {"mu": 0.1}), ("fedrs", {"alpha": 0.5}), ("fedbn", {})],
)
def test_it_is_not_fedavg_otherwise(name, options):
    ours = last_state(name, options, "cnn").state.weights
    fedavg = last_state("fedavg", {}, "cnn").state.weights
    assert any(not torch.equal(ours[entry], fedavg[entry]) for entry in ours)


def test_one_client_is_local_training_bit_for_bit():
    from fedkd.base.randomness import torch_stream
    from fedkd.ops.training import train
    from fedkd.simulation.sides import Sides

    federation = testing.toy_federation(clients=1)
    protocol = testing.toy_protocol(1, clients=1)
    strategy, _ = REGISTRY.strategy("fedavg", {})
    state = simulate(strategy, federation, protocol, seed=5).state
    client = Sides(federation, protocol, 5).client(0, protocol.training)
    client.load(client.initial)
    with torch_stream(5, "client", 0, 0):
        train(client.model, client.data, protocol.training)
    for name, value in client.model.state_dict().items():
        assert torch.equal(state.weights[name], value), name


def test_one_full_batch_step_at_equal_sizes_is_central_gradient_descent():
    import torch.nn.functional as F

    from fedkd.ops.training import TrainingConfig

    federation = testing.toy_federation(models=["mlp"])
    training = TrainingConfig(local_steps=1, batch_size=999, lr=0.1, weight_decay=0)
    sizes = [len(c) for c in federation.clients]
    assert len(set(sizes)) == 1
    protocol = testing.toy_protocol(1).model_copy(update={"training": training})
    strategy, _ = REGISTRY.strategy("fedavg", {})
    got = simulate(strategy, federation, protocol, seed=0).state.weights
    model = federation.build_spec(federation.server_model, 0)
    chosen = torch.cat([c.indices for c in federation.clients])
    x = federation.data.normalise(federation.data.x_train[chosen])
    F.cross_entropy(model(x), federation.data.y_train[chosen]).backward()
    for name, p in model.named_parameters():
        expected = p.detach() - 0.1 * p.grad
        torch.testing.assert_close(got[name], expected, atol=1e-6, rtol=1e-5)


def test_a_vanishing_learning_rate_changes_only_batchnorm_buffers():
    from fedkd.ops.training import TrainingConfig

    federation = testing.toy_federation()
    training = TrainingConfig(local_steps=1, batch_size=8, lr=1e-30)
    protocol = testing.toy_protocol(1).model_copy(update={"training": training})
    strategy, _ = REGISTRY.strategy("fedavg", {})
    got = simulate(strategy, federation, protocol, seed=0).state.weights
    model = federation.build_spec(federation.server_model, 0)
    buffers = {name for name, _ in model.named_buffers()}
    for name, value in model.state_dict().items():
        if name not in buffers:
            torch.testing.assert_close(got[name], value, atol=1e-7, rtol=0)
    assert any(not torch.equal(got[n], model.get_buffer(n)) for n in buffers)
