"""FedFTG, loss by loss and step by step."""

import pytest
import torch

from fedkd import testing
from fedkd.algorithms.datafree import Painter
from fedkd.algorithms.fedftg.config import (
    DistilConfig,
    FedFTGConfig,
    GeneratorConfig,
)
from fedkd.algorithms.fedftg.losses import (
    class_loss,
    discrepancy,
    official_class_loss,
    official_discrepancy,
    official_student_loss,
)
from fedkd.algorithms.fedftg.server import FineTuning
from fedkd.algorithms.fedftg.strategy import FedFTG
from fedkd.errors import ConfigError
from fedkd.ops.averaging import class_weights
from fedkd.ops.ensembles import LogitEnsemble
from fedkd.ops.optimisers import Adam, Sgd
from fedkd.plugins.registry import load_registry
from fedkd.simulation.requirements import reason_to_skip
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
TAU = class_weights(COUNTS)[:, LABELS]
VARIANTS = ("paper", "official", "lightfed")
TINY = {
    "generator": {"width": 2, "latent_size": 4},
    "distil": {"steps": 2, "global_steps": 2, "batch_size": 8},
}


def exactly(value):
    return pytest.approx(value, rel=1e-12)


def test_the_class_loss_weighs_every_image_by_the_clients_share():
    assert class_loss(CLIENTS, LABELS, TAU).item() == exactly(1.033345203541139)


@pytest.mark.parametrize(
    ("direction", "expected"),
    [("local_global", 0.5358833392073612), ("global_local", 0.5409310642795528)],
)
def test_the_discrepancy_has_two_directions(direction, expected):
    got = discrepancy(STUDENT, CLIENTS, TAU, direction=direction)
    assert got.item() == exactly(expected)


def test_lightfeds_discrepancy_is_divided_by_the_classes():
    got = discrepancy(STUDENT, CLIENTS, TAU, direction="global_local") / 3
    assert got.item() == exactly(0.18031035475985094)


def test_temperature_divides_the_logits_and_multiplies_nothing():
    got = discrepancy(4 * STUDENT, 4 * CLIENTS, TAU, temperature=4.0)
    assert got.item() == exactly(0.5409310642795528)


def test_the_official_losses_are_those_of_the_fixture():
    gaps = [official_discrepancy(STUDENT, CLIENTS[k], TAU[k]) for k in (0, 1)]
    assert -sum(gaps).item() == exactly(-0.9166666666666667)
    classes = [official_class_loss(CLIENTS[k], LABELS, TAU[k]) for k in (0, 1)]
    assert sum(classes).item() == exactly(0.8755053632996743)
    student = official_student_loss(STUDENT, CLIENTS, TAU)
    assert student.item() == exactly(0.44735440456970904)


def test_the_official_discrepancy_detaches_the_client():
    client = CLIENTS[0].clone().requires_grad_()
    student = STUDENT.clone().requires_grad_()
    official_discrepancy(student, client, TAU[0]).backward()
    assert client.grad is None
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize("direction", ["local_global", "global_local"])
def test_equal_models_have_no_discrepancy_and_no_gradient(direction):
    student = STUDENT.clone().requires_grad_()
    clients = torch.stack([STUDENT, STUDENT])
    loss = discrepancy(student, clients, TAU, direction=direction)
    loss.backward()
    assert loss.item() == 0
    assert student.grad.abs().max() < 1e-15


def test_a_client_without_a_class_has_no_weight_for_it():
    assert TAU.tolist() == [[0.75, 1.0], [0.25, 0.0]]
    wild = CLIENTS.clone()
    wild[1, 1] = torch.tensor([9.0, -50.0, 3.0])
    for loss in (
        lambda logits: class_loss(logits, LABELS, TAU),
        lambda logits: discrepancy(STUDENT, logits, TAU),
        lambda logits: official_student_loss(STUDENT, logits, TAU),
    ):
        assert loss(wild).item() == exactly(loss(CLIENTS).item())


def work(variant="paper", counts=None, clients=2, **options):
    """Return the server's work on toy models, and the server."""
    federation = testing.toy_federation(clients)
    server = Sides(federation, testing.toy_protocol(clients=clients), 0).server()
    config = FedFTGConfig(
        variant=variant,
        generator=GeneratorConfig(
            width=2, latent_size=4, **options.pop("generator", {})
        ),
        distil=DistilConfig(
            steps=2, global_steps=2, batch_size=8, **options.pop("distil", {})
        ),
    )
    torch.manual_seed(0)
    generator = server.build("upsampling-generator", latent_size=4, width=2)
    members = [server.client_model(k) for k in range(clients)]
    for k, member in enumerate(members):
        with torch.no_grad():
            member.classifier.weight.add_(torch.randn(3, 64) * (k + 1) / 10)
    counts = COUNTS[:clients] if counts is None else counts
    student = server.load(server.initial)
    painter = Painter(generator, server.images, "as_is")
    teachers = LogitEnsemble(members)
    return FineTuning(student, teachers, counts, painter, config, server), server


@pytest.mark.parametrize("variant", VARIANTS)
def test_both_sides_learn_and_the_clients_do_not(variant):
    stage, server = work(variant)
    before = [read_weights(m) for m in (stage.student, stage.painter, stage.teachers)]
    stage.run(0)
    after = [read_weights(m) for m in (stage.student, stage.painter, stage.teachers)]
    changed = [
        any(not torch.equal(one[name], two[name]) for name in one)
        for one, two in zip(before, after, strict=True)
    ]
    assert changed == [True, True, False]
    terms = {"class", "diversity", "discrepancy"}
    logged = {f"{term}_{what}" for term in terms for what in ("loss", "share")}
    assert set(server.logged) == {*logged, "student_loss"}
    shares = sum(float(server.logged[f"{term}_share"]) for term in terms)
    assert shares == pytest.approx(1)


@pytest.mark.parametrize(("variant", "turns"), [("paper", 1), ("official", 2)])
def test_the_official_generator_steps_once_for_each_client(variant, turns):
    stage, server = work(variant)
    stage.run(0)
    assert server.examples == 2 * 8 * (turns + 2)


def test_the_students_statistics_stay_those_of_the_clients():
    stage, _ = work()
    before = {n: v.clone() for n, v in stage.student.named_buffers()}
    stage.run(0)
    for name, value in stage.student.named_buffers():
        assert torch.equal(value, before[name]), name


def test_the_generator_searches_for_disagreement():
    stage, _ = work(generator={"class_weight": 0.0, "diversity_weight": 0.0})
    z, labels = torch.randn(32, 4), torch.arange(32) % 3
    adam = Adam(lr=1e-2).start(stage.painter.parameters())
    stage.painter.train()
    first = stage.generator_loss(z, labels).item()
    for _ in range(20):
        stage.search(z, labels, adam)
    assert stage.generator_loss(z, labels).item() < first < 0


def test_the_student_learns_what_the_clients_say():
    stage, _ = work()
    z, labels = torch.randn(32, 4), torch.arange(32) % 3
    sgd = Sgd(lr=0.05).start(stage.student.parameters())
    stage.learn(z, labels, sgd)
    first = stage._lessons[0].item()
    for _ in range(60):
        stage.learn(z, labels, sgd)
    assert stage._lessons[-1].item() < 0.75 * first


def test_the_generator_learns_nothing_from_the_student_of_lightfed():
    """Its global model is detached, so equal logits of the clients give no gradient."""
    stage, _ = work("lightfed", generator={"class_weight": 0.0, "diversity_weight": 0})
    for member in stage.teachers.members:
        torch.nn.init.zeros_(member.classifier.weight)
    z, labels = torch.randn(8, 4), torch.arange(8) % 3
    stage.generator_loss(z, labels).backward()
    assert all(p.grad.abs().max() == 0 for p in stage.painter.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("counts", [[[30, 0, 10], [10, 0, 0]], [[0, 0, 1], [0, 0, 0]]])
def test_classes_and_clients_without_images_give_finite_numbers(variant, counts):
    counts = torch.tensor(counts)
    stage, server = work(variant, counts)
    stage.run(0)
    numbers = [*server.logged.values()]
    numbers += [v.sum().item() for v in read_weights(stage.student).values()]
    assert torch.isfinite(torch.tensor(numbers)).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_collapsed_generator_gives_finite_numbers(variant):
    stage, server = work(variant)
    with torch.no_grad():
        for parameter in stage.painter.parameters():
            parameter.zero_()
    stage.run(0)
    assert torch.isfinite(torch.tensor([*server.logged.values()])).all()
    for value in read_weights(stage.painter).values():
        assert torch.isfinite(value).all()


def test_rates_fall_by_the_round():
    outcomes = []
    for round, options in ((0, {"lr_decay": 0.5}), (300, {"lr_decay": 0.5})):
        stage, _ = work(distil=options)
        before = read_weights(stage.student)
        torch.manual_seed(0)
        stage.run(round)
        after = read_weights(stage.student)
        outcomes.append(all(torch.equal(before[n], after[n]) for n in before))
    assert outcomes == [False, True]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_keeps_its_generator_and_sends_label_counts_of_four_bytes(variant):
    strategy, _ = REGISTRY.strategy("fedftg", {"variant": variant, **TINY})
    federation = testing.toy_federation()
    result = simulate(strategy, federation, testing.toy_protocol(2), 0)
    size = sum(v.numel() * v.element_size() for v in result.state.weights.values())
    assert result.metrics["bytes_up"] == 2 * 3 * (size + 3 * 4)
    assert result.metrics["bytes_down"] == 2 * 3 * size
    assert all(torch.isfinite(v).all() for v in result.state.generator.values())


def test_the_generator_of_a_round_is_that_of_the_round_before():
    strategy, _ = REGISTRY.strategy(
        "fedftg", {**TINY, "generator": {**TINY["generator"], "lr": 1e-30}}
    )
    sides = Sides(testing.toy_federation(), testing.toy_protocol(), 0)
    server = sides.server()
    state = strategy.init(server)
    turn = Round(0, 3, (0, 1, 2))
    ups = {}
    for k in turn.clients:
        client = sides.client(k, sides.protocol.training)
        ups[k] = strategy.local(strategy.broadcast(state, k, turn), client)
    after = strategy.aggregate(state, ups, server, turn)
    names = [n for n, _ in strategy._painter(server).generator.named_parameters()]
    for name in names:
        torch.testing.assert_close(after.generator[name], state.generator[name])
    steps = after.generator["layers.0.num_batches_tracked"]
    assert steps == 2


def test_a_gallery_has_an_image_of_each_class():
    strategy, _ = REGISTRY.strategy("fedftg", TINY)
    sides = Sides(testing.toy_federation(), testing.toy_protocol(), 0)
    state = strategy.init(sides.server())
    (images,) = strategy.gallery(state, sides.server()).values()
    assert images.shape == (3, 1, 8, 8)
    still = FedFTG(FedFTGConfig(distil=DistilConfig(steps=0)))
    server = sides.server()
    assert still.gallery(still.init(server), server) == {}


def test_the_presets_have_the_released_amounts():
    for name in ("fedftg-paper", "fedftg-official"):
        strategy, _ = REGISTRY.strategy(name, {})
        how = strategy.config.distil
        assert (how.steps, how.global_steps, how.batch_size, how.lr) == (10, 5, 50, 0.1)
        search = strategy.config.generator
        assert (search.width, search.lr, search.discrepancy_weight) == (64, 0.01, 1)
        assert strategy.config.variant == name.removeprefix("fedftg-")
    strategy, _ = REGISTRY.strategy("fedftg-lightfed", {})
    how, search = strategy.config.distil, strategy.config.generator
    assert (how.steps, search.steps, how.global_steps) == (200, 20, 2)
    assert (how.batch_size, how.lr, how.temperature) == (64, 0.01, 10)


def test_different_architectures_are_skipped_with_the_reason():
    strategy, _ = REGISTRY.strategy("fedftg", {})
    federation = testing.toy_federation(models=("cnn", "mlp"))
    reason = reason_to_skip(strategy.requires, federation, "average")
    assert "one architecture" in reason


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"variant": "official", "distil": {"temperature": 2.0}},
            "distil.temperature: found 2 with variant: official",
        ),
        (
            {"variant": "lightfed", "distil": {"direction": "global_local"}},
            "distil.direction: found global_local with variant: lightfed",
        ),
        ({"generator": {"merge": "mul"}}, "generator.merge: found mul with the"),
    ],
)
def test_options_that_would_have_no_effect_are_refused(options, words):
    with pytest.raises(ConfigError) as caught:
        REGISTRY.strategy("fedftg", options)
    assert words in str(caught.value)
