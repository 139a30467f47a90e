"""The references: every client alone, the ensemble, and all data in one place."""

import torch

from fedkd import testing
from fedkd.algorithms.central import Central
from fedkd.algorithms.ensemble import Ensemble
from fedkd.algorithms.fedavg import FedAvg
from fedkd.algorithms.local import Local
from fedkd.metrics.base import Predictions
from fedkd.metrics.classification import Accuracy
from fedkd.simulation.evaluate import predictions
from fedkd.simulation.requirements import arranged
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import simulate

MIXED = ("cnn", "mlp")


def run(strategy, models=("cnn",), rounds=3, **changes):
    federation = testing.toy_federation(models=models)
    protocol = testing.toy_protocol(rounds, **changes)
    federation, protocol = arranged(strategy, federation, protocol)
    return simulate(strategy, federation, protocol, 0), federation, protocol


def test_nothing_crosses_when_every_client_is_alone():
    result, _, _ = run(Local(), MIXED)
    assert result.metrics["bytes_up"] == result.metrics["bytes_down"] == 0


def test_a_client_alone_goes_on_from_its_own_model():
    federation = testing.toy_federation(clients=1)
    alone = simulate(Local(), federation, testing.toy_protocol(3, clients=1), 0)
    averaged = simulate(FedAvg(), federation, testing.toy_protocol(3, clients=1), 0)
    # One client's average is that client.
    for key in ("global_accuracy", "local_accuracy", "train_loss"):
        assert alone.metrics[key] == averaged.metrics[key]


def test_the_ensemble_is_the_mean_of_models_trained_alone():
    result, federation, protocol = run(Ensemble(), MIXED)
    server = Sides(federation, protocol, 0).server()
    models = [server.client_model(k, w) for k, w in result.state.models.items()]
    x = federation.data.normalise(federation.data.x_test)
    with torch.no_grad():
        mean = torch.stack([model(x) for model in models]).mean(0)
    said = Predictions.of([mean], federation.data.y_test)
    assert result.metrics["global_accuracy"] == Accuracy().of_test_set(said)


def test_the_members_of_the_ensemble_are_the_clients_that_train_alone():
    together, _, _ = run(Ensemble(), MIXED)
    alone, federation, protocol = run(Local(), MIXED)
    server = Sides(federation, protocol, 0).server()
    models = [server.client_model(k, w) for k, w in together.state.models.items()]
    said = [predictions(model, federation.data, 100) for model in models]
    accuracies = [Accuracy().of_test_set(each) for each in said]
    mean = sum(accuracies) / len(accuracies)
    assert alone.metrics["global_accuracy"] == mean


def test_the_ensemble_keeps_the_last_model_of_clients_that_sit_out():
    result, _, _ = run(Ensemble(), rounds=6, participation=1)
    assert set(result.state.models) == {0, 1, 2}


def test_central_training_has_all_the_data_and_the_work_of_a_round():
    result, federation, protocol = run(Central(), participation=2)
    whole = testing.toy_federation()
    assert len(federation) == 1
    assert len(federation.clients[0]) == sum(len(c) for c in whole.clients)
    # 2 clients x 2 steps x 8 images x 3 rounds.
    assert protocol.training.local_steps == 4
    assert result.metrics["client_examples"] == 96


def test_central_training_keeps_epochs():
    training = {"local_epochs": 2, "batch_size": 8}
    _, _, protocol = run(Central(), training=training)
    assert protocol.training.local_epochs == 2
    assert protocol.training.local_steps is None


def test_central_training_needs_no_single_architecture():
    result, federation, _ = run(Central(), MIXED)
    assert [spec.name for spec in federation.specs] == ["cnn"]
    assert result.metrics["global_accuracy"] is not None


def test_pooled_data_is_each_image_once_and_in_order():
    federation = testing.toy_federation().pooled()
    own = federation.clients[0].indices
    assert own.tolist() == sorted(set(own.tolist()))
    assert federation.test_shards[0].tolist() == list(range(36))
