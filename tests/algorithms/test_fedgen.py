"""FedGen, loss by loss and round by round."""

import math

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from fedkd import testing
from fedkd.algorithms.fedgen.config import FedGenConfig, GeneratorConfig
from fedkd.algorithms.fedgen.server import (
    batch_loss,
    draw_noise,
    generator_loss,
    regularised,
    train_generator,
)
from fedkd.algorithms.fedgen.strategy import FedGen
from fedkd.errors import ConfigError
from fedkd.ops.averaging import class_weights
from fedkd.ops.sampling import label_batches
from fedkd.party import ModelSpec
from fedkd.plugins.registry import load_registry
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import simulate
from fedkd.strategy import Round, read_weights

REGISTRY = load_registry()
HEADS = torch.tensor(
    [[[2, 0, -1], [0, 1, 0]], [[0, 1, 0], [1, 0, 2]]], dtype=torch.float64
)
WHOLE = torch.tensor([[0, 1, 0], [0.5, 0, 1]], dtype=torch.float64)
LABELS = torch.tensor([0, 2])
COUNTS = torch.tensor([[30, 0, 10], [10, 20, 0]])
TAU = class_weights(COUNTS)[:, LABELS]
QUICK = {"steps": 3, "hidden": 8, "batch_size": 8, "lr": 0.01}


def exactly(value):
    return pytest.approx(value, rel=1e-12)


def test_the_generators_loss_weighs_every_head_by_its_share():
    got = generator_loss(HEADS, None, LABELS, TAU, GeneratorConfig())
    assert got.item() == exactly(1.033345203541139)
    half = generator_loss(HEADS, None, LABELS, TAU, GeneratorConfig(teacher_weight=0.5))
    assert half.item() == exactly(1.033345203541139 / 2)


def test_the_students_term_is_minus_the_divergence_of_the_weighted_ensemble():
    config = GeneratorConfig(teacher_weight=0.0, student_weight=1.0)
    got = generator_loss(HEADS, WHOLE, LABELS, TAU, config)
    rows = (0.5872628721147232, 0.3870295050498844)
    assert got.item() == exactly(-sum(rows) / 2)


def test_the_released_terms_are_a_product_of_means_and_a_mean_over_entries():
    """A class's weight reaches all features there, and divergences shrink by C."""
    config = GeneratorConfig(released_terms=True)
    got = generator_loss(HEADS, None, LABELS, TAU, config)
    # mean_b CE is 1.2413 and 0.9796 of the two heads, mean_b tau_b 7/8 and 1/8 of them.
    assert got.item() == exactly(0.8755053632996743)
    config = GeneratorConfig(
        released_terms=True, teacher_weight=0.0, student_weight=1.0
    )
    got = generator_loss(HEADS, WHOLE, LABELS, TAU, config)
    rows = (0.5872628721147232, 0.3870295050498844)
    assert got.item() == exactly(-sum(rows) / 2 / 3)


class Fixed(torch.nn.Module):
    def __init__(self, features):
        super().__init__()
        self.features = features

    def forward(self, noise, labels):
        return self.features


def test_features_that_are_alike_cost_the_weight_of_diversity():
    config = GeneratorConfig(diversity_weight=2.0)
    heads = [lambda _, k=k: HEADS[k] for k in (0, 1)]
    alike = Fixed(torch.ones(2, 4))
    got = batch_loss(alike, heads, lambda _: WHOLE, LABELS, TAU, config)
    assert got.item() == exactly(1.033345203541139 + 2)


def test_a_global_head_is_not_asked_without_its_weight():
    def never(features):
        raise AssertionError("asked")

    heads = [lambda _, k=k: HEADS[k] for k in (0, 1)]
    batch_loss(Fixed(WHOLE), heads, never, LABELS, TAU, GeneratorConfig())


def clients_loss(config, decay=1.0, batch_size=4):
    """Return the loss of a client whose head gives (1, 0, 0) and generator ones."""
    told = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    return regularised(
        lambda features: told.expand(len(features), 3),
        lambda noise, labels: torch.ones(len(labels), 2),
        torch.tensor([0]),
        config,
        decay=decay,
        batch_size=batch_size,
    )


def test_a_client_learns_labels_and_agreement():
    """CE + a d (B_g/B) ln(1 + 2/e) + b d KL((1, 0, 0) || (0, 0, 0)), by hand."""
    config = FedGenConfig(label_weight=3.0, agreement_weight=2.0, batch_size=8)
    loss = clients_loss(config, decay=0.5)
    logits = torch.zeros(2, 3, dtype=torch.float64)
    p = math.e / (math.e + 2)
    entropy = -(p * math.log(p) + (1 - p) * math.log((1 - p) / 2))
    plain = math.log(3)
    labels = 3.0 * 0.5 * (8 / 4) * -math.log(p)
    agreement = 2.0 * 0.5 * (math.log(3) - entropy)
    assert loss(logits, torch.tensor([0, 1])).item() == exactly(
        plain + labels + agreement
    )


def test_without_weights_a_client_draws_nothing():
    config = FedGenConfig(label_weight=0.0, agreement_weight=0.0)
    before = torch.get_rng_state()
    logits = torch.zeros(2, 3, dtype=torch.float64)
    got = clients_loss(config)(logits, torch.tensor([0, 1]))
    assert got.item() == exactly(math.log(3))
    assert torch.equal(torch.get_rng_state(), before)


def test_noise_is_uniform_or_normal():
    labels = torch.zeros(500, dtype=torch.long)
    uniform = draw_noise(labels, GeneratorConfig())
    assert uniform.min() >= 0
    assert uniform.max() <= 1
    assert draw_noise(labels, GeneratorConfig(noise="normal")).min() < -1


def test_the_rate_falls_by_the_round_and_the_moments_go_on():
    """Of one parameter: torch's Adam, restarted with its state at 0.01 * 0.5^3."""
    server = Sides(testing.toy_federation(2), testing.toy_protocol(clients=2), 0)
    server = server.server()
    config = GeneratorConfig(**{**QUICK, "steps": 1}, lr_decay=0.5)
    heads = [torch.nn.Linear(4, 3).requires_grad_(False) for _ in range(3)]
    ours = server.build("feature-generator", feature_size=4, hidden=8)
    theirs = server.build("feature-generator", feature_size=4, hidden=8)
    theirs.load_state_dict(ours.state_dict())
    adam = torch.optim.Adam(theirs.train().parameters(), 0.01, weight_decay=1e-2)
    tau = class_weights(COUNTS).float()
    moments = {}
    for round in (0, 3):
        torch.manual_seed(round)
        moments = train_generator(
            ours,
            heads[:2],
            heads[2],
            COUNTS,
            config=config,
            round=round,
            moments=moments,
            server=server,
        )
        torch.manual_seed(round)
        (labels,) = label_batches(COUNTS.sum(0), 1, 8, "uniform")
        loss = batch_loss(theirs, heads[:2], heads[2], labels, tau[:, labels], config)
        adam.param_groups[0]["lr"] = 0.01 * 0.5**round
        adam.zero_grad()
        loss.backward()
        adam.step()
        assert same(ours.state_dict(), theirs.state_dict())
    assert moments["0.step"] == 2


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("counts", [[[30, 0, 10], [10, 0, 0]], [[0, 0, 1], [0, 0, 0]]])
def test_empty_classes_and_a_constant_generator_give_finite_numbers(counts, constant):
    server = Sides(testing.toy_federation(2), testing.toy_protocol(clients=2), 0)
    server = server.server()
    config = GeneratorConfig(**QUICK, student_weight=1.0)
    generator = server.build("feature-generator", feature_size=4, hidden=8)
    if constant:
        for parameter in generator.parameters():
            torch.nn.init.zeros_(parameter)
    heads = [torch.nn.Linear(4, 3).requires_grad_(False) for _ in range(3)]
    moments = train_generator(
        generator,
        heads[:2],
        heads[2],
        torch.tensor(counts),
        config=config,
        round=0,
        moments={},
        server=server,
    )
    learnt = [*moments.values(), *read_weights(generator).values()]
    assert all(torch.isfinite(value).all() for value in learnt)
    assert torch.isfinite(torch.tensor(server.logged["generator_loss"]))


def run(options, models=("cnn",), rounds=2, **changes):
    strategy, _ = REGISTRY.strategy("fedgen", options)
    federation = testing.toy_federation(models=models)
    return simulate(strategy, federation, testing.toy_protocol(rounds, **changes), 0)


def same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize(
    "options",
    [
        {"generator": {"steps": 0}},
        {"label_weight": 0, "agreement_weight": 0, "generator": QUICK},
    ],
)
def test_without_a_generator_or_its_terms_it_is_fedavg_bit_for_bit(options):
    strategy, _ = REGISTRY.strategy("fedavg", {})
    protocol = testing.toy_protocol(2)
    fedavg = simulate(strategy, testing.toy_federation(), protocol, 0)
    assert same(fedavg.state.weights, run(options).state.weights)


def test_guidance_starts_in_the_second_round():
    plain = {"generator": {"steps": 0}}
    guided = {"generator": QUICK}
    assert same(run(plain, rounds=1).state.weights, run(guided, rounds=1).state.weights)
    assert not same(run(plain).state.weights, run(guided).state.weights)


def test_the_generator_learns_and_its_moments_last():
    one, two = (run({"generator": QUICK}, rounds=n).state for n in (1, 2))
    assert not same(one.generator, two.generator)
    assert one.moments["0.step"] == 3
    assert two.moments["0.step"] == 6


def test_clients_get_the_generator_that_was_trained():
    strategy = FedGen(FedGenConfig(generator=GeneratorConfig(**QUICK)))
    state = run({"generator": QUICK}, rounds=1).state
    down = strategy.broadcast(state, 0, Round(1, 3, (0, 1, 2)))
    assert same(down.generator, state.generator)
    assert down.classes == (0, 1, 2)


def test_different_architectures_share_their_heads():
    models = [ModelSpec("cnn", {"width": w, "features": 16}) for w in (1.0, 0.5)]
    result = run({"generator": QUICK}, models)
    assert not result.state.whole
    assert set(result.state.weights) == {"0", "1"}
    assert result.metrics["global_accuracy"] is not None


def test_sharing_models_of_different_architectures_is_refused():
    with pytest.raises(ConfigError, match="needs one architecture"):
        run({"share": "model"}, ("cnn", "mlp"))


@pytest.mark.parametrize(
    "generator", [{"batch_size": 1}, {"lr": 0}, {"noise": "cauchy"}, {"latent_size": 0}]
)
def test_settings_that_cannot_work_are_refused(generator):
    with pytest.raises(ValidationError):
        FedGenConfig(generator=generator)


def test_cross_entropy_is_that_of_torch():
    logits = torch.randn(4, 3, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0])
    config = FedGenConfig(label_weight=0.0, agreement_weight=0.0)
    assert clients_loss(config)(logits, labels) == F.cross_entropy(logits, labels)


def test_the_terms_fade_by_the_round():
    strategy = FedGen(FedGenConfig(fading=0.5, generator=GeneratorConfig(**QUICK)))
    state = run({"generator": QUICK}, rounds=1).state
    sides = Sides(testing.toy_federation(), testing.toy_protocol(), 0)
    client = sides.client(0, sides.protocol.training)
    logits, labels = torch.randn(8, 3), torch.arange(8) % 3
    extra = []
    for index in (1, 3):
        down = strategy.broadcast(state, 0, Round(index, 4, (0, 1, 2)))
        torch.manual_seed(0)
        loss = strategy._loss(down, client)(logits, labels)
        extra.append((loss - F.cross_entropy(logits, labels)).item())
    assert extra[0] == pytest.approx(4 * extra[1], rel=1e-4)


@pytest.mark.parametrize("name", ["fedgen-code", "fedgen-published"])
def test_the_presets_have_the_released_weights(name):
    strategy, _ = REGISTRY.strategy(name, {})
    config = strategy.config
    assert config.label_weight == config.agreement_weight == 10
    assert (config.fading, config.generator.steps) == (0.98, 50)
    released = name == "fedgen-code"
    assert config.generator.released_terms == released
    assert config.generator.nonnegative != released


@pytest.mark.parametrize(
    ("name", "models", "never"),
    [
        ("fedgen", ("cnn",), True),
        ("fedgen", [ModelSpec("cnn", {"features": 16})], False),
        ("fedgen", ("cnn", ModelSpec("mlp", {"features": 64})), False),
        ("fedgen", (ModelSpec("mlp", {"features": 64}), "cnn"), False),
        ("fedgen-code", ("cnn",), False),
    ],
)
def test_features_are_generated_with_the_signs_that_models_give_them(
    name, models, never
):
    strategy, _ = REGISTRY.strategy(name, {"generator": QUICK})
    federation = testing.toy_federation(models=models)
    result = simulate(strategy, federation, testing.toy_protocol(1), 0)
    down = strategy.broadcast(result.state, 0, Round(1, 2, (0, 1, 2)))
    client = Sides(federation, testing.toy_protocol(), 0).client(
        0, testing.toy_protocol().training
    )
    seen = []
    head = client.model.head
    client.model.head = lambda features: (seen.append(features), head(features))[1]
    strategy._loss(down, client)(torch.zeros(9, 3), torch.arange(9) % 3)
    made = torch.cat(seen)
    assert bool((made < 0).any()) != never
    assert bool((made > 0).any())
