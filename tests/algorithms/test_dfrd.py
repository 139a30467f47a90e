"""DFRD, loss by loss and step by step."""

import pytest
import torch

from fedkd import testing
from fedkd.algorithms.datafree import Painter, Teachers
from fedkd.algorithms.dfrd import DFRD, counting_loss
from fedkd.algorithms.dfrd_config import DFRDConfig, DistilConfig, GeneratorConfig
from fedkd.algorithms.dfrd_losses import (
    dfdg_transferability_loss,
    distillation_loss,
    fidelity_loss,
    transferability_loss,
    useful_side,
)
from fedkd.algorithms.dfrd_server import Distillation
from fedkd.errors import ConfigError
from fedkd.ops.averaging import class_weights
from fedkd.ops.distillation import kl_rows
from fedkd.ops.ensembles import weighted_logits
from fedkd.parties import Parties
from fedkd.registry import load_registry
from fedkd.simulator import simulate
from fedkd.strategy import Round, read_weights

REGISTRY = load_registry()
CLIENTS = torch.tensor(
    [[[2, 0, -1], [0, 1, 0]], [[0, 1, 0], [1, 0, 2]]], dtype=torch.float64
)
STUDENT = torch.tensor([[0, 1, 0], [0.5, 0, 1]], dtype=torch.float64)
LABELS = torch.tensor([0, 2])
COUNTS = torch.tensor([[30, 0, 10], [10, 20, 0]])
TAU = class_weights(COUNTS)[:, LABELS]
ENSEMBLE = torch.tensor([[1.5, 0.25, -0.75], [0, 1, 0]], dtype=torch.float64)
VARIANTS = ("paper", "dfdg")
TINY = {
    "generator": {"width": 2, "latent_size": 4, "steps": 2},
    "distil": {"steps": 2, "batch_size": 8},
}


def exactly(value):
    return pytest.approx(value, rel=1e-12)


def test_the_ensemble_weighs_logits_by_the_clients_share_of_the_class():
    got = weighted_logits(CLIENTS, TAU, per="image")
    torch.testing.assert_close(got, ENSEMBLE, rtol=1e-12, atol=0)


def test_fidelity_is_the_ensembles_cross_entropy():
    assert fidelity_loss(ENSEMBLE, LABELS).item() == exactly(0.9410586616696376)


def test_the_useful_side_is_where_the_ensemble_alone_is_right():
    assert useful_side(ENSEMBLE, STUDENT, LABELS).tolist() == [True, False]
    right = torch.tensor([[9.0, 0, 0], [0, 0, 9]], dtype=torch.float64)
    wrong = right.flip(1)
    for ensemble, student, expected in (
        (right, wrong, [True, True]),
        (wrong, right, [False, False]),
        (right, right, [False, False]),
        (wrong, wrong, [False, False]),
    ):
        assert useful_side(ensemble, student, LABELS).tolist() == expected


def test_transferability_is_over_all_images():
    got = transferability_loss(ENSEMBLE, STUDENT, LABELS)
    assert got.item() == exactly(-0.2936314360573616)
    assert got.item() == exactly(-0.5872628721147232 / 2)


def test_dfdgs_transferability_is_swapped_and_over_the_selection():
    got = dfdg_transferability_loss(ENSEMBLE, STUDENT, LABELS, 10.0)
    assert got.item() == exactly(-0.005666214000759284)
    got = dfdg_transferability_loss(ENSEMBLE, STUDENT, LABELS)
    assert got.item() == exactly(-0.5523593908367308)


def test_the_global_models_lesson_goes_from_the_ensemble_to_it():
    got = distillation_loss(ENSEMBLE, STUDENT)
    assert got.item() == exactly((0.5872628721147232 + 0.3870295050498844) / 2)


def test_temperature_divides_the_logits_and_multiplies_nothing():
    for loss in (
        lambda k: transferability_loss(k * ENSEMBLE, k * STUDENT, LABELS, k),
        lambda k: dfdg_transferability_loss(k * ENSEMBLE, k * STUDENT, LABELS, k),
        lambda k: distillation_loss(k * ENSEMBLE, k * STUDENT, k),
    ):
        assert loss(4.0).item() == exactly(loss(1.0).item())


@pytest.mark.parametrize("rule", [transferability_loss, dfdg_transferability_loss])
def test_an_empty_selection_gives_zero_and_no_gradient(rule):
    ensemble = STUDENT.clone().requires_grad_()
    loss = rule(ensemble, STUDENT, LABELS)
    loss.backward()
    assert loss.item() == 0
    assert ensemble.grad.abs().max() == 0


def test_only_the_papers_generator_learns_through_the_global_model():
    grads = []
    for rule in (transferability_loss, dfdg_transferability_loss):
        student = STUDENT.clone().requires_grad_()
        rule(ENSEMBLE.clone().requires_grad_(), student, LABELS).backward()
        grads.append(student.grad)
    assert grads[0].abs().sum() > 0
    assert grads[1] is None


def test_labels_are_counted_as_they_are_trained_on():
    counts = torch.zeros(4, dtype=torch.int32)
    loss = counting_loss(counts)
    logits = torch.randn(3, 4)
    first = loss(logits, torch.tensor([0, 2, 2]))
    loss(logits, torch.tensor([3, 2, 2]))
    assert counts.tolist() == [1, 0, 4, 1]
    plain = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 2, 2]))
    assert first.item() == plain.item()


def work(variant="paper", counts=None, averaged=False, **options):
    """Return the server's work on toy models, and the server."""
    server = Parties(testing.toy_federation(2), testing.toy_protocol(clients=2), 0)
    server = server.server()
    how = GeneratorConfig(
        **{"width": 2, "latent_size": 4, "steps": 2, **options.pop("generator", {})}
    )
    distil = {"steps": 2, "batch_size": 8, **options.pop("distil", {})}
    config = DFRDConfig(
        variant=variant, generator=how, distil=DistilConfig(**distil), **options
    )
    torch.manual_seed(0)
    painters = [
        Painter(
            server.build("acgan-generator", latent_size=4, width=2, merge=how.merge),
            server.images,
            how.output,
        )
        for _ in range(2)
    ]
    members = [server.client_model(k) for k in range(2)]
    for k, member in enumerate(members):
        with torch.no_grad():
            member.classifier.weight.add_(torch.randn(3, 64) * (k + 1) / 10)
    teachers = Teachers(members, COUNTS if counts is None else counts)
    student = server.load(server.initial)
    before = painters[1] if averaged else None
    return Distillation(student, teachers, painters[0], before, config, server), server


@pytest.mark.parametrize("variant", VARIANTS)
def test_both_sides_learn_and_the_clients_and_the_averaged_generator_do_not(variant):
    stage, server = work(variant, averaged=True)
    parts = (stage.student, stage.painter, stage.teachers, stage.averaged)
    before = [read_weights(m) for m in parts]
    stage.run(COUNTS.sum(0))
    after = [read_weights(m) for m in parts]
    changed = [
        any(not torch.equal(one[name], two[name]) for name in one)
        for one, two in zip(before, after, strict=True)
    ]
    assert changed == [True, True, False, False]
    names = {"fidelity_loss", "transferability_loss", "diversity_loss", "student_loss"}
    assert set(server.logged) == names


def test_the_averaged_generators_images_are_counted_and_weigh_alpha():
    z, labels = torch.randn(8, 4), torch.arange(8) % 3
    plain, _ = work()
    assert len(plain.lessons(z, labels, COUNTS.sum(0))) == 1
    both, server = work(averaged=True, distil={"ema_weight": 0.25})
    lessons = both.lessons(z, labels, COUNTS.sum(0))
    assert [weight for weight, _, _ in lessons] == [1.0, 0.25]
    sgd = torch.optim.SGD(both.student.parameters(), 0.0)
    both.learn(lessons, sgd)
    gradient = [p.grad.clone() for p in both.student.parameters()]
    sgd.zero_grad()
    for weight, x, logits in lessons:
        rows = kl_rows(logits, both.student(x))
        (weight * rows.mean()).backward()
    for p, expected in zip(both.student.parameters(), gradient, strict=True):
        torch.testing.assert_close(p.grad, expected)
    assert server.examples == 2 * 16


def test_with_alpha_zero_the_averaged_generator_has_no_part():
    outcomes = []
    for averaged in (False, True):
        stage, _ = work(averaged=averaged, distil={"ema_weight": 0.0})
        torch.manual_seed(1)
        stage.run(COUNTS.sum(0))
        outcomes.append(read_weights(stage.student))
    assert all(torch.equal(v, outcomes[1][n]) for n, v in outcomes[0].items())


def test_the_generators_loss_is_the_weighted_sum_of_its_terms():
    stage, server = work(
        generator={"transferability_weight": 3.0, "diversity_weight": 0.5}
    )
    z, labels = torch.randn(8, 4), torch.arange(8) % 3
    total = stage.generator_loss(z, labels)
    parts = {name: values[-1] for name, values in stage._losses.items()}
    expected = (
        parts["fidelity_loss"]
        + 3 * parts["transferability_loss"]
        + 0.5 * parts["diversity_loss"]
    )
    torch.testing.assert_close(total.detach(), expected)


@pytest.mark.parametrize(("variant", "metric"), [("paper", "norms"), ("dfdg", "l2")])
def test_diversity_looks_at_noise_and_label_together(variant, metric):
    from fedkd.ops.diversity import diversity_loss

    stage, _ = work(variant)
    z, labels = torch.randn(8, 4), torch.arange(8) % 3
    stage.generator_loss(z, labels)
    h = stage.painter.merge(z, labels)
    torch.testing.assert_close(h, z * stage.painter.generator.embedding(labels))
    expected = diversity_loss(h, stage.painter.decode(h), metric)
    torch.testing.assert_close(stage._losses["diversity_loss"][0], expected.detach())


def test_the_students_statistics_stay_those_of_the_clients():
    stage, _ = work()
    before = {n: v.clone() for n, v in stage.student.named_buffers()}
    stage.run(COUNTS.sum(0))
    for name, value in stage.student.named_buffers():
        assert torch.equal(value, before[name]), name


def test_the_generator_learns_what_the_ensemble_is_sure_of():
    stage, _ = work(
        generator={"transferability_weight": 0, "diversity_weight": 0, "steps": 20}
    )
    z, labels = torch.randn(32, 4), torch.arange(32) % 3
    adam = torch.optim.Adam(stage.painter.parameters(), 1e-2)
    stage.painter.train()
    first = stage.generator_loss(z, labels).item()
    stage.explore(z, labels, adam)
    assert stage.generator_loss(z, labels).item() < first


def test_the_student_learns_what_the_ensemble_says():
    stage, _ = work()
    z, labels = torch.randn(32, 4), torch.arange(32) % 3
    sgd = torch.optim.SGD(stage.student.parameters(), 0.05)
    lessons = stage.lessons(z, labels, COUNTS.sum(0))
    for _ in range(20):
        stage.learn(lessons, sgd)
    losses = stage._losses["student_loss"]
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("counts", [[[30, 0, 10], [10, 0, 0]], [[0, 0, 1], [0, 0, 0]]])
def test_classes_and_clients_without_images_give_finite_numbers(variant, counts):
    counts = torch.tensor(counts)
    stage, server = work(variant, counts, averaged=True)
    stage.run(counts.sum(0))
    found = [*server.logged.values()]
    found += [v.sum().item() for v in read_weights(stage.student).values()]
    assert torch.isfinite(torch.tensor(found)).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_collapsed_generator_gives_finite_numbers(variant):
    stage, server = work(variant)
    with torch.no_grad():
        for parameter in stage.painter.parameters():
            parameter.zero_()
    stage.run(COUNTS.sum(0))
    assert torch.isfinite(torch.tensor([*server.logged.values()])).all()
    for value in read_weights(stage.painter).values():
        assert torch.isfinite(value).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_student_that_agrees_everywhere_gives_finite_numbers(variant):
    """No image is on the useful side in any step: DFDG's mean would be 0 / 0."""
    stage, server = work(variant, counts=torch.tensor([[5, 5, 5], [0, 0, 0]]))
    member = stage.teachers.members[0]
    stage.student.load_state_dict(member.state_dict())
    stage.run(torch.tensor([5, 5, 5]))
    assert server.logged["transferability_loss"] == 0
    assert abs(server.logged["student_loss"]) < 1e-6
    for value in read_weights(stage.painter).values():
        assert torch.isfinite(value).all()


def one_round(options, rounds=1, models=("cnn",)):
    """Return the strategy, its server and the states after each round."""
    strategy, _ = REGISTRY.strategy("dfrd", options)
    parties = Parties(testing.toy_federation(models=models), testing.toy_protocol(), 0)
    server = parties.server()
    states, sent = [strategy.init(server)], []
    for index in range(rounds):
        turn, ups = Round(index, rounds, (0, 1, 2)), {}
        for k in turn.clients:
            client = parties.client(k, parties.protocol.training)
            ups[k] = strategy.local(strategy.broadcast(states[-1], k, turn), client)
        sent.append(ups)
        states.append(strategy.aggregate(states[-1], ups, server, turn))
    return strategy, server, states, sent


def test_the_averaged_generator_moves_once_a_round_from_the_initial_weights():
    changes = {"distil": {**TINY["distil"], "ema_decay": 0.25}}
    _, _, states, _ = one_round({**TINY, **changes}, rounds=2)
    assert states[0].averaged is None
    expected = states[0].generator
    for state in states[1:]:
        for name, value in state.averaged.items():
            if value.is_floating_point():
                expected_value = 0.25 * expected[name] + 0.75 * state.generator[name]
                torch.testing.assert_close(value, expected_value)
        expected = state.averaged


def test_with_lambda_zero_the_averaged_generator_is_the_current_one():
    changes = {"distil": {**TINY["distil"], "ema_decay": 0.0}}
    _, _, states, _ = one_round({**TINY, **changes})
    for name, value in states[1].generator.items():
        assert torch.equal(states[1].averaged[name], value), name


def test_dynamic_counts_are_of_the_round_and_static_ones_of_all_images():
    _, _, _, sent = one_round({**TINY, "counts": "dynamic"})
    for up in sent[0].values():
        assert up.label_counts.sum() == 2 * 8
    _, _, _, sent = one_round({**TINY, "counts": "static"})
    for up in sent[0].values():
        assert up.label_counts.sum() == up.examples
    for k, up in sent[0].items():
        assert up.label_counts[k] == 0


def test_other_architectures_keep_their_own_models_and_teach():
    mixed = ("cnn", "cnn", "mlp")
    strategy, server, states, sent = one_round(TINY, rounds=2, models=mixed)
    assert states[0].receivers == (0, 1)
    assert strategy.broadcast(states[1], 2, Round(1, 2, (0, 1, 2))).weights is None
    assert sent[1][2].weights.keys() != sent[1][0].weights.keys()
    # Nothing is averaged: buffers stay, parameters learn.
    names = [name for name, _ in server.model.named_buffers()]
    for name in names:
        assert torch.equal(states[2].weights[name], server.initial[name]), name
    changed = [
        not torch.equal(value, server.initial[name])
        for name, value in states[1].weights.items()
        if name not in names
    ]
    assert any(changed)


def test_a_client_of_another_architecture_goes_on_from_its_own_model():
    federation = testing.toy_federation(models=("cnn", "cnn", "mlp"))
    mixed, _ = REGISTRY.strategy("dfrd", TINY)
    alone, _ = REGISTRY.strategy("local", {})
    ours = simulate(mixed, federation, testing.toy_protocol(3), 0)
    theirs = simulate(alone, federation, testing.toy_protocol(3), 0)
    losses = [
        [line["clients"][k]["train_loss"] for line in result.history]
        for result in (ours, theirs)
        for k in (2, 0)
    ]
    assert losses[0] == losses[2]
    assert losses[1] != losses[3]


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ({}, False),
        ({"start": "previous"}, False),
        ({"start": "average"}, True),
        ({"distil": {"steps": 0}}, True),
    ],
)
def test_one_architecture_is_needed_where_weights_are_averaged(options, needed):
    strategy, _ = REGISTRY.strategy("dfrd", options)
    assert strategy.requires.one_architecture is needed


def test_nothing_to_learn_is_refused():
    with pytest.raises(ConfigError, match=r"distil\.steps above 0"):
        REGISTRY.strategy("dfrd", {"start": "previous", "distil": {"steps": 0}})


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_sends_models_and_label_counts_of_four_bytes(variant):
    strategy, _ = REGISTRY.strategy("dfrd", {"variant": variant, **TINY})
    result = simulate(strategy, testing.toy_federation(), testing.toy_protocol(2), 0)
    size = sum(v.numel() * v.element_size() for v in result.state.weights.values())
    assert result.metrics["bytes_up"] == 2 * 3 * (size + 3 * 4)
    assert result.metrics["bytes_down"] == 2 * 3 * size
    assert all(torch.isfinite(v).all() for v in result.state.generator.values())


def test_a_gallery_has_an_image_of_each_class_from_both_generators():
    strategy, server, states, _ = one_round(TINY)
    assert set(strategy.gallery(states[0], server)) == {"generator"}
    drawn = strategy.gallery(states[1], server)
    assert set(drawn) == {"generator", "averaged generator"}
    assert all(images.shape == (3, 1, 8, 8) for images in drawn.values())
    still = DFRD(DFRDConfig(distil=DistilConfig(steps=0)))
    assert still.gallery(still.init(server), server) == {}
