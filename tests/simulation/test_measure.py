"""What is measured in a run: by which metrics, of which models, in which lines."""

import json

import pytest
import torch
from torch import nn

from fedkd import testing
from fedkd.algorithms.fedavg import FedAvg
from fedkd.algorithms.mosaic.strategy import Mosaic
from fedkd.errors import ConfigError, ContractError, DivergedError
from fedkd.metrics.classification import ClassAccuracy, Loss, MacroF1
from fedkd.metrics.fairness import TrainedAccuracy, WorstClient
from fedkd.metrics.targets import RoundsTo
from fedkd.plugins.registry import load_registry
from fedkd.simulation import measure as measurement
from fedkd.simulation.evaluate import predictions
from fedkd.simulation.executors import Choice
from fedkd.simulation.federation import Federation
from fedkd.simulation.simulator import simulate

REGISTRY = load_registry()
EVERY = {
    "loss": Loss(),
    "macro_f1": MacroF1(),
    "class_accuracy": ClassAccuracy(),
    "worst_client": WorstClient(),
    "rounds_to": RoundsTo(RoundsTo.Config(target=1)),
}


def run(name="fedavg", rounds=2, metrics=None, folder=None, **protocol):
    strategy, _ = REGISTRY.strategy(name, {})
    setting = testing.toy_protocol(rounds, **protocol)
    world = testing.toy_federation()
    return simulate(strategy, world, setting, 0, folder=folder, metrics=metrics)


def test_metrics_change_nothing_but_what_is_measured():
    plain, measured = run(), run(metrics=EVERY)
    for old, new in zip(plain.history, measured.history, strict=True):
        assert old.keys() < new.keys()
        for key in old.keys() - {"seconds", "clients"}:
            assert old[key] == new[key]
    for name, value in plain.state.weights.items():
        assert torch.equal(value, measured.state.weights[name])


def test_a_line_has_every_metric_and_the_accuracy_of_each_client(tmp_path):
    run(metrics=EVERY, folder=tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    line = json.loads(lines[-1])
    by_client = line["local_accuracy_by_client"]
    assert list(by_client) == ["0", "1", "2"]
    assert line["local_accuracy"] == sum(by_client.values()) / 3
    assert line["worst_client"] == min(by_client.values())
    assert len(line["global_class_accuracy"]) == testing.toy_images().num_classes
    assert line["global_loss"] > 0
    assert 0 <= line["local_macro_f1"] <= 100
    assert line["rounds_to"] == 1


def test_rounds_that_are_not_measured_say_so():
    result = run(rounds=3, metrics=EVERY, evaluation={"every": 2, "batch_size": 10})
    first = result.history[0]
    keys = ["global_accuracy", "local_loss", "worst_client", "local_accuracy_by_client"]
    assert [first[key] for key in keys] == [None] * 4
    assert result.history[1]["rounds_to"] == 2


@pytest.fixture
def passes(monkeypatch):
    """The number of forward passes over a test set, in a list."""
    seen = []

    def counted(model, data, batch_size, indices=None):
        seen.append(len(data.y_test) if indices is None else len(indices))
        return predictions(model, data, batch_size, indices)

    monkeypatch.setattr(measurement, "predictions", counted)
    return seen


def test_one_pass_of_the_global_model_serves_all_metrics_and_all_clients(passes):
    run(rounds=1, metrics=EVERY)
    assert passes == [len(testing.toy_images().y_test)]


def test_without_a_global_model_each_client_passes_once_over_the_whole_set(passes):
    result = run("fedbn", rounds=1, metrics=EVERY)
    assert passes == [len(testing.toy_images().y_test)] * 3
    assert result.metrics["global_loss"] > 0


@pytest.mark.parametrize(
    ("name", "buffers", "of"),
    [
        ("fedavg", "average", "model"),
        ("fedavg", "local", "clients"),
        ("fedbn", "average", "clients"),
        ("local", "average", "clients"),
        ("ditto", "average", "model"),
    ],
)
def test_a_line_says_whether_there_is_a_global_model(name, buffers, of):
    result = run(name, buffers=buffers, evaluation={"every": 2})
    assert [line["global_of"] for line in result.history] == [None, of]


def test_a_run_that_goes_on_counts_the_rounds_of_before(tmp_path):
    metrics = {"rounds_to": RoundsTo(RoundsTo.Config(target=1))}
    first = run(rounds=1, metrics=metrics, folder=tmp_path)
    assert first.metrics["rounds_to"] == 1
    again = run(rounds=1, metrics=metrics, folder=tmp_path)
    assert again.history == ()
    assert again.metrics["rounds_to"] == 1


def test_metrics_that_do_not_fit_together_stop_a_run_before_it_starts(tmp_path):
    metric = RoundsTo(RoundsTo.Config(target=1, of="global_loss"))
    with pytest.raises(ConfigError, match="reads 'global_loss', which this run does"):
        run(metrics={"rounds_to": metric}, folder=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_run_does_not_go_on_measuring_what_its_first_rounds_lack(tmp_path):
    federation, folder = testing.toy_federation(), tmp_path / "run"
    simulate(FedAvg(), federation, testing.toy_protocol(1), 0, folder=folder)
    with pytest.raises(ConfigError, match="measured without global_f1, local_f1"):
        simulate(
            FedAvg(),
            federation,
            testing.toy_protocol(1),
            0,
            folder=folder,
            metrics={"f1": MacroF1()},
        )


class Offers(FedAvg):
    """Offers to be measured what it is told to."""

    def __init__(self, offer=None, own=None):
        super().__init__()
        self._offer, self._own = offer, own

    def predictors(self, state, server):
        plain = super().predictors(state, server)
        return plain if self._offer is None else self._offer(state, server)

    def personal(self, state, client):
        return None if self._own is None else self._own(state, client)


class Pair(nn.Module):
    def forward(self, x):
        return x, x


def two_for_three(state, party):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (
            Offers(lambda state, server: state.weights),
            r"offers.predictors \(round 1\) returned an object of class Tensor as "
            r".* a torch.nn.Module\. Return",
        ),
        (
            Offers(lambda state, server: server.load(state.weights)),
            r"offers.predictors \(round 1\) returned an object of class \w+; expected a "
            r"mapping of names",
        ),
        (
            Offers(lambda state, server: {"global": two_for_three(state, server)}),
            r"model gives \[36, 2\] for 36 images; expected logits \[36, 3\]",
        ),
        (
            Offers(own=lambda state, client: state.weights),
            r"offers.personal \(client 0, round 1\) returned an object of class dict",
        ),
        (
            Offers(own=two_for_three),
            r"model gives \[12, 2\] for 12 images; expected logits \[12, 3\]",
        ),
        (
            Offers(own=lambda state, client: Pair()),
            r"model gives tuple for 12 images; expected logits \[12, 3\]",
        ),
    ],
    ids=["weights", "a model", "logits", "own weights", "own logits", "a pair"],
)
def test_what_cannot_be_measured_is_told_by_verb_and_what_was_expected(strategy, words):
    with pytest.raises(ContractError, match=words):
        simulate(strategy, testing.toy_federation(), testing.toy_protocol(1), 0)


def test_a_model_that_diverged_names_the_rates_of_the_strategys_own_stages():
    class Bad(Mosaic):
        def predictors(self, state, server):
            return {"global": Nan()}

    amounts = {"steps": 1, "batch_size": 8}
    stages = {"generator": {"width": 2, **amounts}, "distil": amounts}
    short = Mosaic.Config(teacher={"steps": 1, "samples_per_client": 8}, **stages)
    with pytest.raises(
        DivergedError, match=r"own are .*generator\.lr.*distil\.lr"
    ) as e:
        simulate(Bad(short), testing.toy_federation(), testing.toy_protocol(1), 0)
    assert "the clients' is training.lr, beside training.clip_norm" in str(e.value)
    (note,) = e.value.__notes__
    assert note.startswith("in bad.predictors (round 1), model 'global'")


def test_what_diverged_is_named_by_what_was_logged_of_it():
    class Bad(FedAvg):
        def aggregate(self, state, ups, server, round):
            server.log("generator_loss", float("nan"))
            return super().aggregate(state, ups, server, round)

        def predictors(self, state, server):
            return {"global": Nan()}

    words = (
        r"not finite: generator_loss\. Lower training\.lr or set training\.clip_norm"
    )
    with pytest.raises(DivergedError, match=words):
        simulate(Bad(), testing.toy_federation(), testing.toy_protocol(1), 0)


class Nan(nn.Module):
    def forward(self, x):
        return x.new_full((len(x), 3), float("nan"))


def federation(tests):
    """Return the toy federation with other test shards."""
    toy = testing.toy_federation()
    shards = [client.indices.numpy() for client in toy.clients]
    return Federation(toy.data, shards, tests, toy.client_models, toy._factory)


@pytest.mark.parametrize("name", ["fedavg", "fedbn", "local"])
def test_a_client_without_test_images_has_no_accuracy_and_is_left_out(name):
    strategy, _ = REGISTRY.strategy(name, {})
    tests = [range(12), [], range(12, 36)]
    world = federation(
        [torch.tensor(t, dtype=torch.long).numpy() for t in map(list, tests)]
    )
    with pytest.warns(RuntimeWarning, match="that client 1 has: local accuracy is not"):
        result = simulate(strategy, world, testing.toy_protocol(1), 0, metrics=EVERY)
    line = result.metrics
    by_client = line["local_accuracy_by_client"]
    assert by_client[1] is None
    assert line["local_accuracy"] == (by_client[0] + by_client[2]) / 2
    assert line["worst_client"] == min(by_client[0], by_client[2])


@pytest.mark.filterwarnings("ignore:no test image")
def test_where_no_client_has_test_images_nothing_local_is_defined():
    none = torch.zeros(0, dtype=torch.long).numpy()
    metrics = EVERY | {"trained": TrainedAccuracy()}
    world = federation([none] * 3)
    line = simulate(
        FedAvg(), world, testing.toy_protocol(1), 0, metrics=metrics
    ).metrics
    for key in ("local_accuracy", "local_loss", "worst_client", "trained"):
        assert line[key] is None, key
    assert line["global_accuracy"] > 0


class Constant(FedAvg):
    """Client k leaves a model that always says class k."""

    def local(self, down, client):
        update = super().local(down, client)
        with torch.no_grad():
            for parameter in client.model.parameters():
                parameter.zero_()
            list(client.model.parameters())[-1][client.id] = 1
        return update


@pytest.mark.parametrize("executor", ["serial", Choice("processes", 2)])
def test_trained_models_are_measured_on_their_shards_and_weighted_by_n_k(executor):
    labels = testing.toy_images().y_test
    # Right by client: 6 of 8, 2 of 4, 0 of 5. Training images: 8, 8, 8 less some.
    of = [torch.where(labels == c)[0] for c in range(3)]
    tests = [
        torch.cat([of[0][:6], of[1][:2]]),
        torch.cat([of[1][:2], of[2][:2]]),
        of[0][:5],
    ]
    toy = testing.toy_federation()
    shards = [c.indices.numpy() for c in toy.clients]
    shards = [shards[0], shards[1][:4], shards[2][:2]]
    n = [len(s) for s in shards]
    world = Federation(
        toy.data, shards, [t.numpy() for t in tests], toy.client_models, toy._factory
    )
    result = simulate(
        Constant(),
        world,
        testing.toy_protocol(2, evaluation={"every": 2}),
        0,
        metrics={"trained_accuracy": TrainedAccuracy()},
        executor=executor,
    )
    first, last = result.history
    assert first["trained_accuracy"] is None
    assert "trained_accuracy" not in first["clients"][0]
    by_client = [row["trained_accuracy"] for row in last["clients"].values()]
    assert by_client == [75.0, 50.0, 0.0]
    expected = (75.0 * n[0] + 50.0 * n[1]) / sum(n)
    assert last["trained_accuracy"] == pytest.approx(expected, abs=1e-9)
    assert last["trained_accuracy"] != sum(by_client) / 3


class Rests(FedAvg):
    """In the second round nobody trains, and in the third client 0 does not."""

    def train(self, client, sent):
        done = client.memory["turns"] = client.memory.get("turns", 0) + 1
        if done != 2 and (done, client.id) != (3, 0):
            super().train(client, sent)


@pytest.mark.parametrize("executor", ["serial", Choice("processes", 2)])
def test_a_model_that_nobody_has_trained_in_its_turn_counts_as_no_trained_one(executor):
    metrics = {"trained_accuracy": TrainedAccuracy()}
    federation, protocol = testing.toy_federation(), testing.toy_protocol(3)
    result = simulate(
        Rests(), federation, protocol, 0, metrics=metrics, executor=executor
    )
    first, second, last = result.history
    assert None not in [row["trained_accuracy"] for row in first["clients"].values()]
    assert [r["trained_accuracy"] for r in second["clients"].values()] == [None] * 3
    assert second["trained_accuracy"] is None
    by_client = [row["trained_accuracy"] for row in last["clients"].values()]
    assert by_client[0] is None
    n = [len(client.indices) for client in federation.clients]
    weighted = n[1] * by_client[1] + n[2] * by_client[2]
    assert last["trained_accuracy"] == pytest.approx(weighted / (n[1] + n[2]))


def test_measuring_trained_models_changes_no_bit():
    plain = run()
    asked = run(metrics={"trained_accuracy": TrainedAccuracy()})
    for name, value in plain.state.weights.items():
        assert torch.equal(value, asked.state.weights[name])
    assert plain.metrics["bytes_up"] == asked.metrics["bytes_up"]
