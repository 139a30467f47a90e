"""What is measured in a run: by which metrics, of which models, in which lines."""

import json

import pytest
import torch

from fedkd import testing
from fedkd.algorithms.fedavg import FedAvg
from fedkd.errors import ConfigError
from fedkd.metrics.classification import ClassAccuracy, Loss, MacroF1
from fedkd.metrics.fairness import WorstClient
from fedkd.metrics.targets import RoundsTo
from fedkd.plugins.registry import load_registry
from fedkd.simulation import measure as measurement
from fedkd.simulation.evaluate import predictions
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
