"""DFRD, loss by loss and round by round."""

import pytest
import torch
from pydantic import ValidationError

from fedkd import testing
from fedkd.algorithms.datafree import Painter
from fedkd.algorithms.dfrd.config import DFRDConfig, DistilConfig, GeneratorConfig
from fedkd.algorithms.dfrd.losses import (
    dfdg_transferability_loss,
    distillation_loss,
    fidelity_loss,
    transferability_loss,
    useful_side,
)
from fedkd.algorithms.dfrd.server import Distillation
from fedkd.algorithms.dfrd.strategy import DFRD, Broadcast, Update, counting_loss
from fedkd.errors import ConfigError
from fedkd.ops.averaging import class_weights
from fedkd.ops.ensembles import LogitEnsemble, weighted_logits
from fedkd.ops.optimisers import Sgd
from fedkd.ops.training import TrainingConfig
from fedkd.plugins.registry import load_registry
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import simulate
from fedkd.strategy import Round, read_weights

REGISTRY = load_registry()
CLIENTS = torch.tensor(
    [[[2, 0, -1], [0, 1, 0]], [[0, 1, 0], [1, 0, 2]]], dtype=torch.float64
)
STUDENT = torch.tensor([[0, 1, 0], [0.5, 0, 1]], dtype=torch.float64)
LABELS = torch.tensor([0, 2])
COUNTS = torch.tensor([[30, 0, 10], [10, 20, 0]])
ENSEMBLE = torch.tensor([[1.5, 0.25, -0.75], [0, 1, 0]], dtype=torch.float64)
VARIANTS = ("paper", "dfdg")
TINY = {
    "generator": {"width": 2, "latent_size": 4, "steps": 2},
    "distil": {"steps": 2, "global_steps": 2, "batch_size": 8},
}


def exactly(value):
    return pytest.approx(value, rel=1e-12)


def test_the_ensemble_weighs_clients_by_their_share_of_the_class():
    weights = class_weights(COUNTS)[:, LABELS].double()
    assert weighted_logits(CLIENTS, weights, per="image").tolist() == ENSEMBLE.tolist()


def test_fidelity_is_that_of_the_fixture():
    assert fidelity_loss(ENSEMBLE, LABELS).item() == exactly(0.9410586616696376)


def test_the_useful_side_is_where_only_the_ensemble_is_right():
    assert useful_side(ENSEMBLE, STUDENT, LABELS).tolist() == [True, False]


def test_transferability_is_that_of_the_fixture_in_both_forms():
    paper = transferability_loss(ENSEMBLE, STUDENT, LABELS)
    assert paper.item() == exactly(-0.2936314360573616)
    dfdg = dfdg_transferability_loss(ENSEMBLE, STUDENT, LABELS, 10.0)
    assert dfdg.item() == exactly(-0.005666214000759284)


def test_distillation_is_the_mean_divergence_without_a_square_of_the_temperature():
    rows = (0.5872628721147232, 0.3870295050498844)
    assert distillation_loss(ENSEMBLE, STUDENT).item() == exactly(sum(rows) / 2)
    warm = distillation_loss(4 * ENSEMBLE, 4 * STUDENT, 4.0)
    assert warm.item() == exactly(sum(rows) / 2)


@pytest.mark.parametrize("rule", [transferability_loss, dfdg_transferability_loss])
def test_an_empty_selection_gives_zero_and_a_finite_gradient(rule):
    ensemble = ENSEMBLE.clone().requires_grad_()
    loss = rule(ensemble, ensemble.detach(), LABELS)
    loss.backward()
    assert loss.item() == 0
    assert ensemble.grad.abs().max() == 0


def test_dfdg_detaches_the_global_model_and_the_paper_does_not():
    moved = []
    for rule in (transferability_loss, dfdg_transferability_loss):
        student = STUDENT.clone().requires_grad_()
        ensemble = ENSEMBLE.clone().requires_grad_()
        rule(ensemble, student, LABELS).backward()
        moved.append(student.grad is not None)
    assert moved == [True, False]


def work(variant="paper", counts=COUNTS, averaged=False, generator=None, distil=None):
    """Return the server's work on toy models, and the server."""
    protocol = testing.toy_protocol(clients=2)
    server = Sides(testing.toy_federation(2), protocol, 0).server()
    config = DFRDConfig(
        variant=variant,
        generator=GeneratorConfig(**TINY["generator"] | (generator or {})),
        distil=DistilConfig(**TINY["distil"] | (distil or {})),
    )
    torch.manual_seed(0)
    members = [server.client_model(k) for k in (0, 1)]
    for k, member in enumerate(members):
        with torch.no_grad():
            member.classifier.weight.add_(torch.randn(3, 64) * (k + 1) / 10)
    painters = [
        Painter(
            server.build("acgan-generator", latent_size=4, width=2),
            server.images,
            "classifier",
        )
        for _ in range(2)
    ]
    return Distillation(
        server.load(server.initial),
        LogitEnsemble(members),
        counts,
        painters[0],
        config,
        server,
        averaged=painters[1] if averaged else None,
    ), server


@pytest.mark.parametrize("variant", VARIANTS)
def test_both_sides_learn_and_clients_and_statistics_stay(variant):
    stage, server = work(variant, averaged=True)
    parts = (stage.student, stage.painter, stage.teachers, stage.averaged)
    before = [read_weights(part) for part in parts]
    buffers = {n: v.clone() for n, v in stage.student.named_buffers()}
    stage.run()
    after = [read_weights(part) for part in parts]
    changed = [
        any(not torch.equal(one[name], two[name]) for name in one)
        for one, two in zip(before, after, strict=True)
    ]
    assert changed == [True, True, False, False]
    assert all(torch.equal(v, buffers[n]) for n, v in stage.student.named_buffers())
    assert set(server.logged) == {
        "fidelity_loss",
        "transferability_loss",
        "diversity_loss",
        "student_loss",
        "fidelity_share",
        "transferability_share",
        "diversity_share",
    }
    shares = [v for name, v in server.logged.items() if name.endswith("_share")]
    assert sum(map(float, shares)) == pytest.approx(1)


def test_work_is_counted_with_the_averaged_generators_images():
    for averaged, lessons in ((False, 1), (True, 2)):
        stage, server = work(averaged=averaged)
        stage.run()
        assert server.examples == 2 * 8 * (2 + 2 * lessons)


def test_an_averaged_generator_of_weight_zero_changes_no_bit():
    students = []
    for averaged in (False, True):
        stage, _ = work(averaged=averaged, distil={"ema_weight": 0.0})
        torch.manual_seed(1)
        stage.run()
        students.append(read_weights(stage.student))
    assert all(
        torch.equal(students[0][name], students[1][name]) for name in students[0]
    )


def test_the_student_learns_what_the_clients_say():
    stage, _ = work(distil={"lr": 0.02, "global_steps": 60})
    for member in stage.teachers.members:
        torch.nn.init.constant_(member.classifier.bias[:1], 2.0)
    x, labels = torch.randn(30, 1, 8, 8), torch.arange(30) % 3
    _, sgd = stage._optimisers()
    stage.learn([(1.0, x, stage.ensemble(x, labels).detach())], sgd)
    losses = stage._lessons
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("counts", [[[30, 0, 10], [10, 0, 0]], [[0, 0, 1], [0, 0, 0]]])
def test_empty_classes_and_constant_images_give_finite_numbers(
    variant, counts, constant
):
    counts = torch.tensor(counts)
    stage, server = work(variant, counts, averaged=True)
    if constant:
        for parameter in stage.painter.parameters():
            torch.nn.init.zeros_(parameter)
    stage.run()
    learnt = [
        *read_weights(stage.student).values(),
        *read_weights(stage.painter).values(),
    ]
    assert all(torch.isfinite(value).all() for value in learnt)
    assert torch.isfinite(torch.tensor([*server.logged.values()])).all()


def test_dynamic_counts_are_of_the_labels_trained_on():
    counts = torch.zeros(3, dtype=torch.int32)
    loss = counting_loss(counts)
    loss(torch.zeros(3, 3), torch.tensor([0, 2, 2]))
    loss(torch.zeros(1, 3), torch.tensor([0]))
    assert counts.tolist() == [2, 0, 2]


@pytest.mark.parametrize("images", [1, 2])
def test_dynamic_counts_of_three_steps_are_three_of_each_image(images):
    """A batch holds a client's only image twice; the image counts once."""
    sides = Sides(testing.toy_federation(), testing.toy_protocol(), 0)
    client = sides.client(0, TrainingConfig(local_steps=3, lr=0.1))
    client.data = client.data.subset(torch.arange(len(client.data)) < images)
    update = DFRD(DFRDConfig()).local(Broadcast(None), client)
    assert torch.equal(update.label_counts, 3 * client.data.label_counts().int())


def run(options, models=("cnn",), rounds=2, name="dfrd", **changes):
    strategy, _ = REGISTRY.strategy(name, options)
    federation = testing.toy_federation(models=models)
    protocol = testing.toy_protocol(rounds, **changes)
    return simulate(strategy, federation, protocol, 0)


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


@pytest.mark.parametrize("counts", ["dynamic", "static"])
def test_without_server_steps_it_is_fedavg_bit_for_bit(counts):
    still = run({"counts": counts, "distil": {"steps": 0}})
    assert same(still.state.weights, run({}, name="fedavg").state.weights)
    assert still.state.generator is still.state.averaged is None


def test_a_run_keeps_its_generators_and_sends_label_counts_of_four_bytes():
    result = run(TINY)
    size = sum(v.numel() * v.element_size() for v in result.state.weights.values())
    assert result.metrics["bytes_down"] == 2 * 3 * size
    assert result.metrics["bytes_up"] == 2 * 3 * (size + 3 * 4)
    assert not same(result.state.generator, result.state.averaged)


def test_at_decay_zero_the_averaged_generator_is_the_generator():
    options = {**TINY, "distil": {**TINY["distil"], "ema_decay": 0.0}}
    state = run(options).state
    for name, value in state.generator.items():
        torch.testing.assert_close(state.averaged[name], value)


def test_the_averaged_generator_has_no_part_in_the_first_round():
    without = {**TINY, "distil": {**TINY["distil"], "ema_weight": 0.0}}
    assert same(run(TINY, rounds=1).state.weights, run(without, rounds=1).state.weights)
    assert not same(run(TINY).state.weights, run(without).state.weights)


def test_the_preset_of_dfdg_distils_into_the_model_of_the_round_before():
    result = run(TINY, rounds=1, name="dfrd-dfdg")
    average = run({}, rounds=1, name="fedavg").state.weights
    initial = testing.toy_federation()
    start = initial.build_spec(initial.server_model, 0).state_dict()
    # Statistics of BatchNorm are new in any case: they are learned on generated images.
    parameters = [
        (n, v)
        for n, v in result.state.weights.items()
        if n.endswith(("weight", "bias"))
    ]
    moved, away = (
        sum((v - o[n]).abs().sum().item() for n, v in parameters)
        for o in (start, average)
    )
    assert moved < away


def test_of_several_architectures_the_server_s_is_averaged(monkeypatch):
    """Before the distillation; a round without it goes on from the model before."""
    monkeypatch.setattr(Distillation, "run", lambda stage: None)
    federation = testing.toy_federation(models=("cnn", "mlp"))
    server = Sides(federation, testing.toy_protocol(), 0).server()
    ups = {}
    for k in range(3):
        model = server.client_model(k)
        torch.nn.init.constant_(next(model.parameters()), k + 1.0)
        ups[k] = Update(read_weights(model), torch.tensor([1, 1, 1]), 1 + k)
    turn = Round(0, 2, (0, 1, 2))
    for start, value in (("auto", (1 * 1 + 3 * 3) / 4), ("previous", None)):
        strategy = DFRD(DFRDConfig(start=start))
        first = strategy.init(server)
        state = strategy.aggregate(first, ups, server, turn)
        name = next(iter(dict(server.model.named_parameters())))
        if value is None:
            assert same(state.weights, first.weights)
        else:
            assert (state.weights[name] == value).all()
        later = strategy.aggregate(state, {1: ups[1]}, server, turn)
        assert same(later.weights, state.weights)
        assert state.averages == later.averages == (start == "auto")


def test_different_architectures_are_distilled():
    result = run(TINY, ("cnn", "mlp"))
    assert result.metrics["global_accuracy"] is not None


def test_the_average_of_different_architectures_is_refused():
    for options in ({"start": "average"}, {"distil": {"steps": 0}}):
        with pytest.raises(ConfigError, match="needs one architecture"):
            run(options, ("cnn", "mlp"))


@pytest.mark.parametrize(
    "options",
    [
        {"start": "previous", "distil": {"steps": 0}},
        {"distil": {"batch_size": 1}},
        {"distil": {"ema_decay": 1.0}},
        {"distil": {"ema_weight": 0.0, "ema_decay": 0.9}},
        {"generator": {"merge": "plus"}},
    ],
)
def test_settings_that_cannot_work_are_refused(options):
    with pytest.raises(ValidationError):
        DFRDConfig(**options)


def test_a_gallery_has_an_image_of_each_class_from_both_generators():
    strategy, _ = REGISTRY.strategy("dfrd", TINY)
    federation, protocol = testing.toy_federation(), testing.toy_protocol()
    server = Sides(federation, protocol, 0).server()
    state = strategy.init(server)
    assert list(strategy.gallery(state, server)) == ["generator"]
    rows = strategy.gallery(run(TINY, rounds=1).state, server)
    assert [v.shape for v in rows.values()] == [(3, 1, 8, 8)] * 2


def test_the_preset_has_the_amounts_of_dfdg():
    strategy, _ = REGISTRY.strategy("dfrd-dfdg", {})
    how, search = strategy.config.distil, strategy.config.generator
    assert (how.steps, search.steps, how.global_steps) == (200, 20, 2)
    assert (how.lr, how.momentum, how.weight_decay) == (0.01, 0.9, 1e-4)
    assert (how.temperature, search.lr, search.width) == (10, 2e-4, 64)
    assert how.ema_weight == 0


def test_the_averaged_generators_images_weigh_alpha():
    stage, _ = work(averaged=True, distil={"ema_weight": 0.25})
    z, labels = torch.randn(8, 4), torch.arange(8) % 3
    lessons = stage.lessons(z, labels)
    assert [weight for weight, _, _ in lessons] == [1.0, 0.25]
    stage.learn(lessons, Sgd(lr=1e-30).start(stage.student.parameters()))
    taught = [p.grad.clone() for p in stage.student.parameters()]
    stage.student.zero_grad()
    for weight, x, logits in lessons:
        temperature = stage.config.distil.temperature
        (weight * distillation_loss(logits, stage.student(x), temperature)).backward()
    for p, gradient in zip(stage.student.parameters(), taught, strict=True):
        torch.testing.assert_close(p.grad, gradient)
