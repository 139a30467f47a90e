"""CCVR: the last round replayed by hand, what it leaves alone, and what it refuses."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch.nn import functional

from fedkd import ModelSpec, load_registry, simulate, testing
from fedkd.algorithms.ensemble import Ensemble
from fedkd.algorithms.fedavg import FedAvg
from fedkd.algorithms.fedbn import FedBN
from fedkd.base.randomness import torch_stream
from fedkd.calibration import Calibration, calibrate, calibrated
from fedkd.errors import ConfigError, FedKDError, NotApplicableError
from fedkd.ops.gaussians import draw, moments, pooled
from fedkd.ops.heads import train_head
from fedkd.simulation.executors.base import Serial
from fedkd.strategy import read_weights

SEED, ROUNDS = 3, 3
SHORT = {"per_class": 20, "steps": 30, "batch_size": 16}


def ccvr(**options):
    return load_registry().strategy("ccvr", {"calibrate": {**SHORT, **options}})[0]


def run(strategy, rounds=ROUNDS, **changes):
    federation = testing.toy_federation(3)
    return simulate(strategy, federation, testing.toy_protocol(rounds, **changes), SEED)


def told(strategy, **changes):
    """The state at the end and the metrics of every round, by number."""
    metrics = {}
    protocol = testing.toy_protocol(ROUNDS, **changes)

    def note(one):
        metrics[one["round"]] = one

    state = simulate(
        strategy, testing.toy_federation(3), protocol, SEED, on_round=note
    ).state
    return state, metrics


def trained():
    """The global model of FedAvg after the rounds that a calibrated run trains."""
    return run(FedAvg(), ROUNDS - 1).state.weights


def features_of(weights, client):
    federation = testing.toy_federation(3)
    model = federation.build_spec(ModelSpec("cnn"), SEED)
    model.load_state_dict(dict(weights))
    data = federation.data
    chosen = federation.clients[client].indices
    mean, std = torch.tensor(data.mean), torch.tensor(data.std)
    x = (data.x_train[chosen] / 255 - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        return model.eval().features(x.float()).double().numpy(), data.y_train[chosen]


def test_the_last_round_is_that_of_the_paper_replayed_with_numpy():
    """Eqs. 3 to 5 on all features in one place, the same draws, SGD written out."""
    before = trained()
    parts = [features_of(before, k) for k in range(3)]
    x = np.concatenate([features for features, _ in parts])
    y = np.concatenate([labels.numpy() for _, labels in parts])
    assert x.min() >= 0, "the features of this model come from a ReLU"
    virtual, labels = [], []
    with torch_stream(SEED, "server", ROUNDS - 1):
        noise = torch.randn(3, 20, x.shape[1], dtype=torch.float64).numpy()
        for c in range(3):
            variances, axes = np.linalg.eigh(np.cov(x[y == c].T))
            root = axes @ np.diag(np.sqrt(variances.clip(min=0))) @ axes.T
            virtual.append((x[y == c].mean(0) + noise[c] @ root).clip(min=0))
            labels += [c] * 20
        orders = [torch.randperm(60) for _ in range(8)]
    virtual = np.concatenate(virtual)
    w = before["classifier.weight"].double().numpy()
    b = before["classifier.bias"].double().numpy()
    velocity_w, velocity_b = np.zeros_like(w), np.zeros_like(b)
    batches = [chosen.numpy() for order in orders for chosen in order.split(16)][:30]
    for chosen in batches:
        logits = virtual[chosen] @ w.T + b
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        p[np.arange(len(chosen)), np.array(labels)[chosen]] -= 1
        velocity_w = 0.9 * velocity_w + p.T @ virtual[chosen] / len(chosen)
        velocity_b = 0.9 * velocity_b + p.mean(0)
        w = w - 0.01 * velocity_w
        b = b - 0.01 * velocity_b
    after = run(ccvr()).state.calibrated
    np.testing.assert_allclose(after["classifier.bias"], b, atol=1e-5)
    np.testing.assert_allclose(after["classifier.weight"], w, atol=1e-5)


def test_only_the_last_layer_changes_and_the_rest_is_fedavgs():
    before, state = trained(), run(ccvr()).state
    changed = [n for n, v in state.calibrated.items() if not torch.equal(v, before[n])]
    assert changed == ["classifier.weight", "classifier.bias"]
    assert all(torch.equal(state.trained[n], v) for n, v in before.items())


def test_no_step_leaves_the_model_as_it_was():
    state, metrics = told(ccvr(steps=0))
    before = trained()
    assert all(torch.equal(v, before[n]) for n, v in state.calibrated.items())
    last = metrics[ROUNDS]
    assert last["global_accuracy"] == last["measured"]["uncalibrated"]


def test_both_models_are_measured_and_the_round_before_is_too():
    _, metrics = told(ccvr(), evaluation={"every": 10})
    before = metrics[ROUNDS]["measured"]["uncalibrated"]
    assert before == metrics[ROUNDS - 1]["global_accuracy"]
    assert 0 < before <= 100


def test_a_client_sends_counts_means_and_half_a_covariance_of_its_classes():
    """Two of three classes, 64 features: 2 x (8 + 8 + 4 x 64 + 4 x 64 x 65 / 2) bytes."""
    _, metrics = told(ccvr())
    sent = 2 * (8 + 8 + 4 * 64 + 4 * 64 * 65 // 2)
    for client in metrics[ROUNDS]["clients"].values():
        assert client["bytes_up"] == sent
        assert client["bytes_down"] == metrics[1]["clients"][0]["bytes_down"]
        assert client["examples"] == 0


def test_any_strategy_takes_calibrate_beside_its_options():
    strategy, config = load_registry().strategy(
        "fedprox", {"mu": 0.5, "calibrate": {"steps": 7}}
    )
    assert (config.mu, config.calibrate.steps) == (0.5, 7)
    assert strategy.method.config.mu == 0.5
    with pytest.raises(ConfigError, match=r"calibrate.*stepps"):
        load_registry().strategy("fedprox", {"calibrate": {"stepps": 7}})


def test_a_method_sees_a_run_that_is_one_round_shorter():
    totals = set()

    class Nosy(FedAvg):
        def milestone(self, state, round):
            totals.add((round.index, round.total))
            return False

    run(calibrated(Nosy)(), evaluation={"every": 10})
    assert totals == {(0, 2)}


def test_one_round_is_too_few():
    with pytest.raises(FedKDError, match=r"needs 2 rounds, and the run has 1; give"):
        run(ccvr(), 1)


def test_what_has_no_global_model_cannot_be_calibrated():
    with pytest.raises(
        NotApplicableError, match=r"FedBN .*, but has no global model\."
    ):
        run(calibrated(FedBN)())
    with pytest.raises(NotApplicableError, match=r"Ensemble .* has a LogitEnsemble\."):
        run(calibrated(Ensemble)())


def test_what_cannot_be_calibrated_is_called_by_its_own_name():
    options = {"average": "median", "calibrate": {}}
    strategy, _ = load_registry().strategy("fedbn", options)
    with pytest.raises(NotApplicableError, match=r"^FedBN with calibration needs"):
        run(strategy)


def test_where_buffers_stay_at_clients_the_policy_is_named():
    said = r"has no global model; under the run's buffer policy 'local' the stat.* stay"
    with pytest.raises(NotApplicableError, match=said):
        run(ccvr(), buffers="local")


def quiet(strategy, *silent, rounds=ROUNDS):
    """Run where nobody answers in some rounds; return the state and the last metrics."""

    class Quiet(Serial):
        name = "quiet"

        def answers(self, orders):
            every = super().answers(orders)
            return () if orders.round.index in silent else every

    world, protocol = testing.toy_federation(3), testing.toy_protocol(rounds)
    result = simulate(strategy, world, protocol, SEED, executor=Quiet)
    return result.state, result.metrics


def same(weights, others):
    return all(torch.equal(value, others[n]) for n, value in weights.items())


def test_what_is_calibrated_is_the_last_model_that_there_is():
    """Nobody answers in the method's last round; in any of its rounds; in the last."""
    once, _ = quiet(FedAvg(), rounds=1)
    state, metrics = quiet(ccvr(), 1)
    assert same(state.trained, once.weights)
    assert not same(state.calibrated, once.weights)
    first = testing.toy_federation(3).build_spec(ModelSpec("cnn"), SEED).state_dict()
    state, _ = quiet(ccvr(), 0, 1)
    assert same(state.trained, first)
    assert not same(state.calibrated, first)
    state, metrics = quiet(ccvr(), 0, 1, 2)
    assert state.calibrated is None
    assert 0 <= metrics["global_accuracy"] <= 100
    state, metrics = quiet(ccvr(), 2)
    assert same(state.trained, trained())
    assert (state.calibrated, metrics["measured"]) == (None, {})


def test_it_travels_to_another_process():
    again = pickle.loads(pickle.dumps(ccvr(steps=5)))
    assert again.how.steps == 5
    assert isinstance(again.method, FedAvg)
    assert calibrated(FedAvg) is calibrated(FedAvg)


@pytest.mark.parametrize("participation", [1, 2, 1.0])
def test_all_clients_are_asked_in_the_last_round(participation):
    federation = testing.toy_federation(3)
    protocol = testing.toy_protocol(ROUNDS, participation=participation)
    lines = simulate(ccvr(), federation, protocol, SEED).history
    usual = protocol.clients_per_round()
    assert [len(line["clients"]) for line in lines] == [usual, usual, 3]
    plain = simulate(FedAvg(), federation, protocol, SEED).history
    assert [list(line["clients"]) for line in lines[:2]] == [
        list(line["clients"]) for line in plain[:2]
    ]


def features_and_moments():
    torch.manual_seed(0)
    model = testing.toy_federation(3).build_spec(ModelSpec("cnn"), SEED)
    centres = torch.randn(3, model.feature_size).relu() * 3
    labels = torch.arange(3).repeat(40)
    x = (centres[labels] + 0.3 * torch.randn(120, model.feature_size)).relu()
    return model, x, labels


def test_a_class_that_no_answer_is_of_keeps_its_row():
    model, x, labels = features_and_moments()
    before = read_weights(model)
    known = pooled([moments([(x[labels != 1], labels[labels != 1])], 3)], 3)
    number = calibrate(model, known, Calibration(weight_decay=0.0))
    assert number > 0
    after = read_weights(model)
    for n in ("classifier.weight", "classifier.bias"):
        assert torch.equal(after[n][1], before[n][1])
        assert not torch.equal(after[n][0], before[n][0])
        assert not torch.equal(after[n][2], before[n][2])
    two = model.head(x)[labels != 1][:, [0, 2]].argmax(1)
    assert ((two == 1) == (labels[labels != 1] == 2)).all()


def test_with_all_classes_known_the_softmax_is_that_of_all_bit_for_bit():
    model, x, labels = features_and_moments()
    other, how = copy.deepcopy(model), Calibration()
    known = pooled([moments([(x, labels)], 3)], 3)
    torch.manual_seed(1)
    calibrate(model, known, how)
    torch.manual_seed(1)
    train_head(other, *draw(known, how.per_class), how)
    theirs = other.state_dict()
    assert all(torch.equal(w, theirs[n]) for n, w in model.state_dict().items())


def test_calibration_learns_classes_that_the_head_has_forgotten():
    model, x, labels = features_and_moments()
    with torch.no_grad():
        model.classifier.weight[2] = 0
        model.classifier.bias[2] = -20
    known = pooled([moments([(x, labels)], 3)], 3)
    calibrate(model, known, Calibration())
    loss = functional.cross_entropy(model.head(x), labels)
    assert (model.head(x).argmax(1) == labels).all()
    assert loss < 0.1


def test_statistics_that_measuring_would_replace_are_refused():
    with pytest.raises(NotApplicableError, match=r"policies average, local; .*reestim"):
        run(ccvr(), buffers="reestimate")
