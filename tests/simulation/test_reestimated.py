"""BatchNorm statistics that are measured anew: each layer has those of its own input."""

import pytest
import torch
from torch import nn

from fedkd import ModelSpec, simulate, testing
from fedkd.algorithms.fedavg import FedAvg
from fedkd.simulation.evaluate import reestimated

DEEP = ModelSpec("resnet18", {"width": 0.125})


def layers_of(model):
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


def test_every_layer_of_a_deep_net_has_the_statistics_of_its_own_input():
    federation = testing.toy_federation(models=[DEEP])
    model = federation.build_spec(DEEP, 0)
    assert len(layers_of(model)) == 20
    with torch.no_grad():
        for layer in layers_of(model):
            # Far from what data gives, so that statistics upstream matter.
            layer.running_mean.fill_(0.3)
            layer.running_var.fill_(0.2)
    measured = reestimated(model, federation.clients, batch_size=16).model
    x = torch.cat([next(c.images(1000))[0] for c in federation.clients])
    inputs = {}
    handles = [
        layer.register_forward_pre_hook(lambda m, given: inputs.update({m: given[0]}))
        for layer in layers_of(measured)
    ]
    with torch.no_grad():
        predicted = measured(x)
    for handle in handles:
        handle.remove()
    for layer in layers_of(measured):
        values = inputs[layer]
        mean, var = values.mean((0, 2, 3)), values.var((0, 2, 3), unbiased=False)
        torch.testing.assert_close(layer.running_mean, mean, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(layer.running_var, var, atol=1e-4, rtol=1e-3)
    # So it is one train-mode pass over the pooled data as a single batch.
    with torch.no_grad():
        expected = model.train()(x)
    torch.testing.assert_close(predicted, expected, atol=1e-3, rtol=1e-3)


def test_the_model_itself_and_the_weights_stay():
    federation = testing.toy_federation(models=[DEEP])
    model = federation.build_spec(DEEP, 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measured = reestimated(model, federation.clients, 1000).model
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items())
    for (name, a), b in zip(
        model.named_parameters(), measured.parameters(), strict=True
    ):
        assert torch.equal(a, b), name


def test_moments_and_statistics_of_all_layers_are_counted():
    class Two(nn.Sequential):
        pass

    federation = testing.toy_federation()
    channels = federation.data.shape[0]
    model = Two(nn.BatchNorm2d(channels), nn.Conv2d(channels, 5, 1), nn.BatchNorm2d(5))
    renewed = reestimated(model, federation.clients, 1000)
    assert renewed.bytes_up == 8 * (1 + 2 * channels) + 8 * 11
    size = sum(v.numel() * v.element_size() for v in model.state_dict().values())
    assert renewed.bytes_down == size + 8 * channels


def test_a_model_without_statistics_costs_its_download_only():
    federation = testing.toy_federation(models=["mlp"])
    model = federation.build_spec(federation.server_model, 0)
    renewed = reestimated(model, federation.clients, 1000)
    size = 4 * sum(p.numel() for p in model.parameters())
    if not layers_of(model):
        assert (renewed.bytes_up, renewed.bytes_down) == (0, size)


def test_a_run_counts_them_for_every_client_of_the_round():
    federation = testing.toy_federation()
    plain, policy = (
        simulate(FedAvg(), federation, testing.toy_protocol(1, buffers=b), 0).metrics
        for b in ("average", "reestimate")
    )
    model = federation.build_spec(federation.server_model, 0)
    one = reestimated(model, federation.clients, 1000)
    assert policy["bytes_up"] - plain["bytes_up"] == 3 * one.bytes_up
    assert policy["bytes_down"] - plain["bytes_down"] == 3 * one.bytes_down


def test_with_nobody_there_it_is_measured_with_the_averages_and_that_is_a_warning(
    tmp_path, recwarn
):
    trace = tmp_path / "trace.csv"
    trace.write_text("client,first,last\n0,1,1\n1,1,1\n2,1,1\n")
    federation, faults = testing.toy_federation(), {"availability": str(trace)}
    protocols = {
        policy: testing.toy_protocol(2, buffers=policy, faults=faults)
        for policy in ("average", "reestimate")
    }
    plain = simulate(FedAvg(), federation, protocols["average"], 0).history
    with pytest.warns(RuntimeWarning, match="nobody re-estimates BatchNorm statistics"):
        renewed = simulate(FedAvg(), federation, protocols["reestimate"], 0).history
    without = testing.toy_federation(models=["linear"])  # has no such layer
    simulate(FedAvg(), without, protocols["reestimate"], 0)
    assert not [one for one in recwarn if "BatchNorm" in str(one.message)]
    accuracies = [line["global_accuracy"] for line in renewed]
    assert accuracies[1] == plain[1]["global_accuracy"] != accuracies[0]
    assert renewed[1]["bytes_up"] == renewed[0]["bytes_up"] > plain[1]["bytes_up"]
