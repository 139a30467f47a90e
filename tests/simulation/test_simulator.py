"""The loop: sampling, streams, resuming, measuring, and what it refuses."""

import dataclasses
import json
from dataclasses import dataclass

import pytest
import torch

from fedkd import testing
from fedkd.base.randomness import numpy_stream, stream_seed, torch_stream
from fedkd.errors import ConfigError, ContractError, DivergedError
from fedkd.ops.training import TrainingConfig
from fedkd.party import ModelSpec
from fedkd.plugins.registry import load_registry
from fedkd.simulation.requirements import arranged
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import Run, simulate
from fedkd.simulation.store import checkpoint as store
from fedkd.strategy import Strategy, read_weights

REGISTRY = load_registry()


def fedavg(**options):
    return REGISTRY.strategy("fedavg", options)[0]


@dataclass(frozen=True)
class Count:
    samples: int


class Counting(Strategy):
    """The toy strategy of the contract's docstring."""

    def init(self, server):
        return Count(0)

    def broadcast(self, state, client_id, round):
        return state

    def local(self, down, client):
        return Count(len(client.data))

    def aggregate(self, state, ups, server, round):
        return Count(state.samples + sum(up.samples for up in ups.values()))

    def predictors(self, state, server):
        return {"global": server.load(server.initial)}


def test_the_counting_strategy_counts():
    federation = testing.toy_federation()
    result = simulate(Counting(), federation, testing.toy_protocol(2), seed=0)
    assert result.state.samples == 2 * sum(len(c) for c in federation.clients)
    assert result.metrics["bytes_up"] == 0


def test_streams_are_named_and_leave_the_generator_as_it_was():
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    with torch_stream(0, "client", 3, 1):
        first = torch.rand(3)
    assert torch.equal(torch.rand(2), expected)
    with torch_stream(0, "client", 3, 1):
        assert torch.equal(torch.rand(3), first)
    assert stream_seed(0, "client", 1) != stream_seed(0, "client", 2)
    assert stream_seed(0, "a") != stream_seed(1, "a")
    assert numpy_stream(4, "x").random() == numpy_stream(4, "x").random()


def test_all_strategies_see_the_same_clients_and_the_same_initial_weights():
    seen = []
    for name in ("fedavg", "fedprox"):
        strategy, _ = REGISTRY.strategy(name, {})
        sides = Sides(
            testing.toy_federation(6), testing.toy_protocol(5, 6, participation=2), 9
        )
        run = Run(strategy, sides, name)
        initial = strategy.init(sides.server()).weights
        seen.append(([run.sample(i).clients for i in range(5)], initial))
    assert seen[0][0] == seen[1][0]
    assert len(set(seen[0][0])) > 1
    for name, value in seen[0][1].items():
        assert torch.equal(value, seen[1][1][name])


@pytest.mark.parametrize(
    ("asked", "count"), [(1.0, 10), (0.25, 2), (0.01, 1), (3, 3), (1, 1)]
)
def test_participation_is_a_fraction_or_a_number(asked, count):
    protocol = testing.toy_protocol(1, 10, participation=asked)
    assert protocol.clients_per_round() == count


def test_more_clients_in_a_round_than_there_are_is_refused():
    with pytest.raises(ConfigError, match="found 11, which is 11 of 10 clients"):
        testing.toy_protocol(1, 10, participation=11).clients_per_round()


def test_a_payload_that_shares_memory_with_the_model_is_refused():
    class Aliasing(Counting):
        def local(self, down, client):
            from fedkd.algorithms.averaging import Update

            return Update(dict(client.model.state_dict()), 1)

    with pytest.raises(
        ContractError, match=r"aliasing.local \(client 0, round 1\) sent weights"
    ):
        simulate(Aliasing(), testing.toy_federation(), testing.toy_protocol(1), seed=0)


def test_a_strategy_that_offers_nothing_to_measure_is_refused():
    class Silent(Counting):
        def predictors(self, state, server):
            return {}

    with pytest.raises(ContractError, match="offers neither a 'global' predictor nor"):
        simulate(Silent(), testing.toy_federation(), testing.toy_protocol(1), seed=0)


def test_training_that_explodes_is_divergence_and_says_what_to_do():
    training = TrainingConfig(local_steps=40, batch_size=8, lr=1e9)
    protocol = testing.toy_protocol(3).model_copy(update={"training": training})
    federation = testing.toy_federation(models=["cnn-plain"])
    with pytest.raises(DivergedError, match="lower the"):
        simulate(fedavg(), federation, protocol, seed=0)


def test_clients_of_the_protocol_and_the_federation_must_agree():
    with pytest.raises(ConfigError, match="has 3 clients and the protocol 4"):
        simulate(
            fedavg(), testing.toy_federation(3), testing.toy_protocol(1, 4), seed=0
        )


def test_metrics_have_one_line_a_round_and_measure_in_their_rhythm(tmp_path):
    protocol = testing.toy_protocol(5, evaluation={"every": 2, "batch_size": 10})
    simulate(fedavg(), testing.toy_federation(), protocol, seed=0, folder=tmp_path)
    text = (tmp_path / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["round"] for line in lines] == [1, 2, 3, 4, 5]
    measured = [line["global_accuracy"] is not None for line in lines]
    assert measured == [False, True, False, True, True]


def test_a_damaged_checkpoint_starts_the_run_anew_with_the_same_bits(tmp_path):
    def run():
        return simulate(
            fedavg(),
            testing.toy_federation(),
            testing.toy_protocol(3),
            seed=0,
            folder=tmp_path,
            checkpoint_every=1,
        )

    first = run()
    for name in ("checkpoint", "checkpoint-before"):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(path.read_bytes()[:-10])
    with pytest.warns(RuntimeWarning, match="cannot be read; starts from round 1"):
        second = run()
    assert len(second.history) == 3
    assert first.metrics["global_accuracy"] == second.metrics["global_accuracy"]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_finished_run_is_not_run_again(tmp_path):
    world = (testing.toy_federation(), testing.toy_protocol(2))
    first = simulate(fedavg(), *world, seed=0, folder=tmp_path)
    again = simulate(fedavg(), *world, seed=0, folder=tmp_path)
    assert again.history == ()
    assert again.metrics == json.loads(json.dumps(first.metrics))


def other_split():
    found = testing.toy_federation()
    found.clients = found.clients[::-1]
    return found


def inverted():
    images = testing.toy_images()
    return dataclasses.replace(images, x_train=255 - images.x_train)


def flipped():
    images = testing.toy_images()
    how = dataclasses.replace(images.augmentation, flip=True)
    return dataclasses.replace(images, augmentation=how)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("seed", {"seed": 1}),
        ("protocol.rounds", {"protocol": testing.toy_protocol(3)}),
        ("strategy.weights", {"strategy": fedavg(weights="uniform")}),
        ("strategy", {"strategy": REGISTRY.strategy("fedprox", {})[0]}),
        ("split", {"federation": other_split()}),
        ("data set", {"federation": testing.toy_federation(data=inverted())}),
        ("data set", {"federation": testing.toy_federation(data=flipped())}),
        ("models", {"federation": testing.toy_federation(models=["mlp"])}),
    ],
)
def test_no_run_goes_on_from_another_ones_checkpoint(tmp_path, what, change):
    world = {
        "strategy": fedavg(),
        "federation": testing.toy_federation(),
        "protocol": testing.toy_protocol(2),
        "seed": 0,
        "folder": tmp_path,
    }
    simulate(**world)
    with pytest.raises(ConfigError, match=f"another run, which differs in: .*{what}"):
        simulate(**(world | change))


def test_a_checkpoint_of_a_version_with_other_options_is_gone_on_from(tmp_path):
    world = (fedavg(), testing.toy_federation(), testing.toy_protocol(2))
    first = simulate(*world, seed=0, folder=tmp_path)
    point = store.read(tmp_path / "checkpoint.safetensors")
    assert "strategy.weights" in point.identity
    for known in ({}, {**point.identity, "strategy.gone": "1"}):
        store.save(tmp_path, dataclasses.replace(point, identity=known), "fedavg")
        again = simulate(*world, seed=0, folder=tmp_path)
        assert again.history == ()
        assert again.metrics["global_accuracy"] == first.metrics["global_accuracy"]


def test_a_run_names_every_executor_that_has_worked_on_it(tmp_path):
    def run(executor, on_round):
        return simulate(
            fedavg(),
            testing.toy_federation(),
            testing.toy_protocol(2),
            seed=0,
            folder=tmp_path,
            checkpoint_every=1,
            executor=REGISTRY.executor(executor),
            on_round=on_round,
        )

    def stop(metrics):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("serial", stop)
    assert run("stacked", None).engine == "serial+stacked"
    assert run("graphs", None).engine == "serial+stacked"


def test_a_reference_that_pools_the_clients_needs_no_arrangement_by_its_caller():
    federation, protocol = testing.toy_federation(), testing.toy_protocol(2)
    central = REGISTRY.strategy("central", {})[0]
    found = simulate(central, federation, protocol, seed=0)
    pooled = simulate(central, *arranged(central, federation, protocol), seed=0)
    assert list(found.metrics["clients"]) == [0]
    assert found.metrics["global_accuracy"] == pooled.metrics["global_accuracy"]


def test_under_the_policy_local_buffers_stay_at_the_clients():
    protocol = testing.toy_protocol(3, buffers="local")
    federation = testing.toy_federation()
    sides = Sides(federation, protocol, 0)
    result = Run(fedavg(), sides, "fedavg").execute(None, 0, lambda _: None)
    model = federation.build_spec(federation.server_model, 0)
    for name, value in model.named_buffers():
        assert torch.equal(result.state.weights[name], value), "the server's changed"
        own = [sides.memories.recall(k)["private"][name] for k in range(3)]
        if value.is_floating_point():
            assert not torch.equal(own[0], own[1])
    shared = sum(v.numel() * 4 for v in model.parameters())
    assert result.history[0]["clients"][0]["bytes_up"] == shared


def test_under_the_policy_reestimate_statistics_are_those_of_the_clients_data():
    from fedkd.simulation.evaluate import reestimated

    federation = testing.toy_federation()
    model = federation.build_spec(federation.server_model, 0).eval()
    measured = reestimated(model, federation.clients, batch_size=1000).model
    norm = next(m for m in measured.modules() if isinstance(m, torch.nn.BatchNorm2d))
    first = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d))
    x = torch.cat([next(client.images(1000))[0] for client in federation.clients])
    pooled = first(x)
    torch.testing.assert_close(norm.running_mean, pooled.mean((0, 2, 3)))
    # Pooled: the variance between clients is in it.
    expected = pooled.var((0, 2, 3), unbiased=False)
    torch.testing.assert_close(norm.running_var, expected, atol=1e-5, rtol=1e-4)
    for (name, a), b in zip(
        model.named_parameters(), measured.parameters(), strict=True
    ):
        assert torch.equal(a, b), name
    plain = testing.toy_protocol(2)
    policy = testing.toy_protocol(2, buffers="reestimate")
    runs = [simulate(fedavg(), federation, p, seed=0) for p in (plain, policy)]
    assert runs[1].metrics["bytes_up"] > runs[0].metrics["bytes_up"]


def test_a_mixed_federation_gives_client_i_the_entry_i_mod_n():
    specs = [ModelSpec("cnn"), ModelSpec("mlp")]
    federation = testing.toy_federation(5, models=specs)
    names = [spec.name for spec in federation.client_models]
    assert names == ["cnn", "mlp", "cnn", "mlp", "cnn"]
    assert federation.server_model.name == "cnn"


def test_read_weights_is_a_copy():
    model = torch.nn.Linear(2, 2)
    weights = read_weights(model)
    with torch.no_grad():
        model.weight.zero_()
    assert weights["weight"].abs().sum() > 0
