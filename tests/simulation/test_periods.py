"""Temporal drift: in each period of a run, clients have another part of their images."""

import numpy as np
import pytest

from fedkd import testing
from fedkd.algorithms.fedavg import FedAvg
from fedkd.errors import ConfigError
from fedkd.plugins.registry import load_registry
from fedkd.simulation import measure
from fedkd.simulation.federation import Federation
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import simulate
from fedkd.strategy import Round

REGISTRY = load_registry()


def drifting(parts=2, shards=None):
    """Return the toy federation whose clients' images are cut into parts."""
    usual = testing.toy_federation()
    whole = [c.indices.numpy() for c in usual.clients] if shards is None else shards
    periods = [np.array_split(shard, parts) for shard in whole] if parts else None
    return Federation(
        usual.data,
        whole,
        [shard.numpy() for shard in usual.test_shards],
        usual.client_models,
        usual._factory,
        periods=periods,
    )


def told(result):
    """Return the losses and accuracies of a run's rounds."""
    keys = ("global_accuracy", "train_loss")
    return [line[key] for line in result.history for key in keys]


def run(federation, rounds=4, folder=None, strategy="fedavg", **options):
    protocol = options.pop("protocol", testing.toy_protocol(rounds))
    method = REGISTRY.strategy(strategy, {})[0]
    return simulate(method, federation, protocol, seed=0, folder=folder, **options)


def test_periods_are_of_equal_length_but_for_rounding():
    federation = drifting(3)
    parts = federation.periods[1]
    for total, expected in ((3, [0, 1, 2]), (7, [0, 0, 0, 1, 1, 2, 2]), (1, [0])):
        seen = [federation.data_in(1, Round(i, total, (0,))) for i in range(total)]
        assert [parts.index(data) for data in seen] == expected


def test_without_periods_a_client_has_all_of_its_images():
    federation = drifting(0)
    assert federation.data_in(2, Round(1, 2, (0,))) is federation.clients[2]


class Watching(FedAvg):
    """Notes what images clients have when they train and when they are measured."""

    def local(self, down, client):
        self.seen.append(("local", client.id, client.data.indices.tolist()))
        return super().local(down, client)

    def personal(self, state, client):
        self.seen.append(("personal", client.id, client.data.indices.tolist()))


def test_a_client_trains_and_is_measured_with_the_images_of_the_period():
    federation, watching = drifting(2), Watching()
    watching.seen = []
    simulate(watching, federation, testing.toy_protocol(2), seed=0)
    expected = [
        (verb, k, federation.periods[k][period].indices.tolist())
        for period in range(2)
        for verb in ("local", "personal")
        for k in range(3)
    ]
    assert watching.seen == expected


def test_the_first_period_is_a_run_on_that_part_alone():
    federation = drifting(2)
    first = [parts[0].indices.numpy() for parts in federation.periods]
    alone = run(drifting(0, first))
    found = run(federation)
    for one, other in zip(found.history[:2], alone.history[:2], strict=True):
        for key in ("global_accuracy", "train_loss", "client_examples"):
            assert one[key] == other[key]
    assert found.history[2]["train_loss"] != alone.history[2]["train_loss"]


def test_one_period_is_a_run_without_drift_bit_for_bit():
    assert told(run(drifting(1))) == told(run(testing.toy_federation()))


@pytest.mark.parametrize("executor", ["stacked", "processes"])
def test_executors_agree_on_the_periods(executor):
    one = run(drifting(2))
    other = run(drifting(2), executor=REGISTRY.executor(executor))
    assert told(other) == pytest.approx(told(one), abs=1e-5)


def test_a_run_that_was_stopped_in_one_period_goes_on_in_the_next(tmp_path):
    def stop(metrics):
        if metrics["round"] == 2:
            raise KeyboardInterrupt

    once = run(drifting(2))
    with pytest.raises(KeyboardInterrupt):
        run(drifting(2), folder=tmp_path, checkpoint_every=1, on_round=stop)
    rest = run(drifting(2), folder=tmp_path, checkpoint_every=1)
    assert len(rest.history) == 2
    assert rest.metrics["global_accuracy"] == once.metrics["global_accuracy"]
    assert rest.metrics["train_loss"] == once.metrics["train_loss"]


def test_no_run_goes_on_from_the_checkpoint_of_other_periods(tmp_path):
    run(drifting(2), rounds=2, folder=tmp_path)
    turned = drifting(2)
    turned.periods = [parts[::-1] for parts in turned.periods]
    for other in (drifting(3), turned):
        with pytest.raises(ConfigError, match="another run, which differs in: split"):
            run(other, rounds=2, folder=tmp_path)


def test_statistics_are_measured_again_on_the_images_of_the_period(monkeypatch):
    given = []
    renew = measure.reestimated

    def noted(model, clients, batch_size):
        given.append([client.indices.tolist() for client in clients])
        return renew(model, clients, batch_size)

    monkeypatch.setattr(measure, "reestimated", noted)
    federation = drifting(2)
    run(federation, protocol=testing.toy_protocol(2, buffers="reestimate"))
    assert given == [
        [parts[period].indices.tolist() for parts in federation.periods]
        for period in range(2)
    ]


def test_a_side_without_a_round_has_all_images():
    federation, protocol = drifting(2), testing.toy_protocol(2)
    client = Sides(federation, protocol, 0).client(0, protocol.training)
    assert client.data is federation.clients[0]
