"""FedBN: what stays at the clients, and what does not."""

import pytest
import torch

from fedkd import testing
from fedkd.ops.averaging import batch_norm_entries
from fedkd.party import ModelSpec
from fedkd.plugins.registry import load_registry
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import Run, simulate
from fedkd.strategy import Round

REGISTRY = load_registry()


def finished(rounds=3, model="cnn", **protocol):
    strategy, _ = REGISTRY.strategy("fedbn", {})
    federation = testing.toy_federation(models=[ModelSpec(model)])
    sides = Sides(federation, testing.toy_protocol(rounds, **protocol), 0)
    result = Run(strategy, sides, "fedbn").execute(None, 0, lambda _: None)
    return strategy, sides, result


def test_the_server_never_holds_a_batchnorm_entry():
    _, sides, result = finished()
    kept = batch_norm_entries(sides.server().model)
    assert kept
    assert not kept & result.state.weights.keys()


def test_clients_with_different_data_have_different_batchnorm():
    _, sides, _ = finished()
    own = [sides.memories.recall(k)["private"] for k in range(3)]
    for name, value in own[0].items():
        if value.is_floating_point():
            assert not torch.equal(value, own[1][name])


def test_download_and_upload_change_no_batchnorm_tensor():
    from fedkd.algorithms.averaging import recall, report
    from fedkd.algorithms.fedbn import stays_local

    strategy, sides, result = finished()
    client = sides.client(1, sides.protocol.training)
    before = {n: v.clone() for n, v in client.memory["private"].items()}
    down = strategy.broadcast(result.state, 1, Round(3, 4, (1,)))
    recall(down.weights, client, stays_local(client))
    report(client, stays_local(client))
    for name, value in before.items():
        assert torch.equal(client.memory["private"][name], value)


def test_a_client_that_sat_out_keeps_its_batchnorm_and_gets_the_other_weights():
    strategy, sides, result = finished(rounds=4, participation=1)
    last = set(result.history[-1]["clients"])
    idle = next(k for k in range(3) if k not in last)
    client = sides.client(idle, sides.protocol.training)
    own = dict(client.memory.get("private", {}))
    model = strategy.personal(result.state, client)
    for name, value in model.state_dict().items():
        source = own if name in own else {**client.initial, **result.state.weights}
        assert torch.equal(value, source[name]), name


def test_group_normalisation_is_averaged():
    spec = ModelSpec("cnn", {"norm": "group"})
    strategy, _ = REGISTRY.strategy("fedbn", {})
    federation = testing.toy_federation(models=[spec])
    with pytest.warns(RuntimeWarning, match="no batch normalisation"):
        result = simulate(strategy, federation, testing.toy_protocol(2), seed=0)
    model = federation.build_spec(spec, 0)
    assert result.state.weights.keys() == model.state_dict().keys()


def test_the_global_accuracy_is_the_mean_over_the_clients_own_models():
    from fedkd.metrics.classification import Accuracy
    from fedkd.simulation.evaluate import predictions

    strategy, sides, result = finished()
    data = sides.federation.data
    own = []
    for k in range(3):
        client = sides.client(k, sides.protocol.training)
        said = predictions(strategy.personal(result.state, client), data, 99)
        own.append(Accuracy().of_test_set(said))
    assert result.metrics["global_accuracy"] == sum(own) / 3
