"""FedGen, loss by loss and step by step."""

import math

import pytest
import torch
import torch.nn.functional as F

from fedkd import testing
from fedkd.algorithms.fedgen import FedGen
from fedkd.algorithms.fedgen_config import CODE_OPTIONS, FedGenConfig, GeneratorConfig
from fedkd.algorithms.fedgen_server import (
    build_generator,
    draw_noise,
    generator_loss,
    load_moments,
    read_moments,
    regularised,
    train_generator,
)
from fedkd.ops.averaging import class_weights
from fedkd.ops.diversity import diversity_loss
from fedkd.parties import Parties
from fedkd.party import ModelSpec
from fedkd.registry import load_registry
from fedkd.requirements import reason_to_skip
from fedkd.simulator import simulate
from fedkd.strategy import Round, read_weights

REGISTRY = load_registry()
HEADS = torch.tensor(
    [[[2, 0, -1], [0, 1, 0]], [[0, 1, 0], [1, 0, 2]]], dtype=torch.float64
)
WHOLE = torch.tensor([[0, 1, 0], [0.5, 0, 1]], dtype=torch.float64)
LABELS = torch.tensor([0, 2])
COUNTS = torch.tensor([[30, 0, 10], [10, 20, 0]])
TAU = class_weights(COUNTS)[:, LABELS]
TINY = {"generator": {"steps": 2, "batch_size": 8, "hidden": 4, "latent_size": 3}}
MIXED = [ModelSpec(name, {"feature_size": 8}) for name in ("cnn", "cnn", "mlp")]


def exactly(value):
    return pytest.approx(value, rel=1e-12)


def test_the_generators_loss_weighs_every_head_by_the_clients_share():
    got = generator_loss(HEADS, None, LABELS, TAU, GeneratorConfig())
    assert got.item() == exactly(1.033345203541139)


def test_alpha_multiplies_the_clients_cross_entropy():
    config = GeneratorConfig(teacher_weight=0.5)
    got = generator_loss(HEADS, None, LABELS, TAU, config)
    assert got.item() == exactly(1.033345203541139 / 2)


def test_beta_drives_the_ensemble_and_the_global_head_apart():
    config = GeneratorConfig(student_weight=2.0)
    got = generator_loss(HEADS, WHOLE, LABELS, TAU, config)
    apart = (0.5872628721147232 + 0.3870295050498844) / 2
    assert got.item() == exactly(1.033345203541139 - 2 * apart)


def test_diversity_is_that_of_the_released_code():
    noise = torch.tensor([[0, 0], [1, 1]], dtype=torch.float64)
    features = torch.tensor([[0, 0, 0], [2, 2, 2]], dtype=torch.float64)
    got = diversity_loss(noise, features, "l1")
    assert got.item() == exactly(0.36787944117144233)


def client_loss(config, *, head=None, decay=1.0, batch_size=2):
    """Return the clients' loss with a generator that says (y, 1), whatever the noise."""

    class Told(torch.nn.Module):
        def forward(self, noise_BZ, labels_B):
            del noise_BZ
            ones = torch.ones(len(labels_B), dtype=torch.float64)
            return torch.stack([labels_B.double(), ones], dim=1)

    head = head or (lambda features: features @ HEAD)
    return regularised(
        head, Told(), torch.tensor([2]), config, decay=decay, batch_size=batch_size
    )


HEAD = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]], dtype=torch.float64)
LOGITS = WHOLE
PLAIN = F.cross_entropy(LOGITS, LABELS).item()


def test_a_clients_loss_is_the_sum_of_three_terms():
    # Generated features of y = 0 and 2 are (0, 1) and (2, 1): logits (0,1,0), (2,1,1).
    # The first is what the model says of its image, so that it adds nothing.
    log_p = [math.log(math.exp(z) / (math.e**2 + 2 * math.e)) for z in (2, 1, 1)]
    total = math.exp(0.5) + 1 + math.e
    log_q = [math.log(math.exp(z) / total) for z in (0.5, 0, 1)]
    agreement = sum(
        math.exp(p) * (p - q) for p, q in zip(log_p, log_q, strict=True)
    )
    label = -log_p[2]
    config = FedGenConfig(label_weight=3, agreement_weight=5, batch_size=6)
    got = client_loss(config, decay=0.5)(LOGITS, LABELS).item()
    # The mean over two images; B_g / B is 6 / 2.
    expected = PLAIN + 0.5 * 3 * (6 / 2) * label + 0.5 * 5 * agreement / 2
    assert got == exactly(expected)
    assert agreement == exactly(0.4081823512246867)


@pytest.mark.parametrize("off", ["label_weight", "agreement_weight"])
def test_a_term_of_weight_zero_is_not_computed(off):
    calls = []

    def head(features):
        calls.append(len(features))
        return features @ HEAD

    client_loss(FedGenConfig(**{off: 0.0}, batch_size=7), head=head)(LOGITS, LABELS)
    assert calls == ([2] if off == "label_weight" else [7])


def test_the_target_of_the_agreement_is_not_taught():
    weights = HEAD.clone().requires_grad_()
    config = FedGenConfig(label_weight=0, agreement_weight=1)
    loss = client_loss(config, head=lambda features: features @ weights)
    logits = LOGITS.clone().requires_grad_()
    loss(logits, LABELS).backward()
    assert weights.grad is None
    assert logits.grad.abs().sum() > 0


def test_the_head_is_taught_the_labels_of_generated_features():
    weights = HEAD.clone().requires_grad_()
    config = FedGenConfig(label_weight=1, agreement_weight=0)
    client_loss(config, head=lambda f: f @ weights)(LOGITS, LABELS).backward()
    assert weights.grad.abs().sum() > 0


def test_noise_is_uniform_as_in_the_released_code_or_normal():
    torch.manual_seed(0)
    uniform = draw_noise(4000, GeneratorConfig(latent_size=2))
    normal = draw_noise(4000, GeneratorConfig(latent_size=2, noise="normal"))
    assert 0 <= uniform.min() < 0.01
    assert 0.99 < uniform.max() <= 1
    assert abs(normal.mean()) < 0.05
    assert abs(normal.std() - 1) < 0.05


def test_adams_moments_last_over_rounds():
    """Two rounds of one step are one round of two steps."""
    layers = [torch.nn.Linear(2, 1) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    x = torch.randn(2, 5, 2)
    whole = torch.optim.Adam(layers[0].parameters(), 0.1)
    moments = {}
    for step in range(2):
        whole.zero_grad()
        layers[0](x[step]).square().mean().backward()
        whole.step()
        part = torch.optim.Adam(layers[1].parameters(), 0.1)
        load_moments(part, moments)
        part.zero_grad()
        layers[1](x[step]).square().mean().backward()
        part.step()
        moments = read_moments(part)
    assert torch.equal(layers[0].weight, layers[1].weight)


def train(counts, options=None, spoil=None):
    """Train a generator on toy heads; return it, its first state and the server."""
    parties = Parties(testing.toy_federation(2), testing.toy_protocol(clients=2), 0)
    server = parties.server()
    config = GeneratorConfig(**{**TINY["generator"], **(options or {})})
    torch.manual_seed(0)
    heads = [torch.nn.Linear(8, 3) for _ in range(2)]
    generator = build_generator(server, config, 8)
    if spoil is not None:
        spoil(generator)
    before = read_weights(generator)
    train_generator(
        generator,
        heads,
        torch.nn.Linear(8, 3),
        counts,
        config=config,
        round=0,
        moments={},
        server=server,
    )
    return generator, before, server


def test_the_generator_learns_what_the_heads_take_for_the_label():
    options = {"steps": 100, "lr": 0.05, "diversity_weight": 0.0, "batch_size": 32}
    generator, _, server = train(COUNTS, {**options, "latent_size": 3})
    assert server.examples == 100 * 32
    _, _, first = train(COUNTS, {**options, "steps": 1})
    assert server.logged["generator_loss"] < first.logged["generator_loss"]
    del generator


@pytest.mark.parametrize("counts", [[[30, 0, 10], [10, 0, 0]], [[0, 0, 1], [0, 0, 0]]])
@pytest.mark.parametrize("student_weight", [0.0, 1.0])
def test_classes_and_clients_without_images_give_finite_numbers(counts, student_weight):
    generator, _, server = train(
        torch.tensor(counts), {"student_weight": student_weight}
    )
    assert math.isfinite(server.logged["generator_loss"])
    assert all(torch.isfinite(v).all() for v in read_weights(generator).values())


def test_a_collapsed_generator_gives_finite_numbers():
    def collapse(generator):
        for parameter in generator.parameters():
            torch.nn.init.zeros_(parameter)

    generator, _, server = train(COUNTS, spoil=collapse)
    assert math.isfinite(server.logged["generator_loss"])
    assert all(torch.isfinite(v).all() for v in read_weights(generator).values())


def rounds_of(options, number=2, models=("cnn",), clients=(0, 1, 2)):
    """Return the strategy, the parties and the states and payloads of some rounds."""
    strategy, _ = REGISTRY.strategy("fedgen", options)
    parties = Parties(testing.toy_federation(models=models), testing.toy_protocol(), 0)
    server = parties.server()
    states, downs, all_ups = [strategy.init(server)], [], []
    for index in range(number):
        turn, ups = Round(index, number, clients), {}
        downs.append({k: strategy.broadcast(states[-1], k, turn) for k in clients})
        for k in clients:
            client = parties.client(k, parties.protocol.training)
            ups[k] = strategy.local(downs[-1][k], client)
        all_ups.append(ups)
        states.append(strategy.aggregate(states[-1], ups, server, turn))
    return strategy, server, states, downs, all_ups


def test_clients_get_the_generator_that_the_server_has_changed():
    _, _, states, downs, _ = rounds_of(TINY, 3)
    assert downs[0][0].generator is None
    for index in (1, 2):
        sent = downs[index][0].generator
        assert all(torch.equal(v, states[index].generator[n]) for n, v in sent.items())
    first, second = states[1].generator, states[2].generator
    assert any(not torch.equal(v, second[n]) for n, v in first.items())


def test_a_client_learns_of_all_classes_that_the_server_has_been_told_of():
    _, _, states, downs, _ = rounds_of(TINY, 2, clients=(1,))
    assert states[0].classes == ()
    assert downs[1][1].classes == (0, 2)


def test_the_terms_fade_by_the_round():
    strategy, _ = REGISTRY.strategy("fedgen", {**TINY, "fading": 0.5})
    parties = Parties(testing.toy_federation(), testing.toy_protocol(), 0)
    _, _, _, downs, _ = rounds_of(TINY, 2)
    client = parties.client(0, parties.protocol.training)
    logits, labels = torch.randn(8, 3), torch.arange(8) % 3
    plain = F.cross_entropy(logits, labels).item()
    extra = []
    for number in (1, 3):
        down = downs[1][0]
        down = type(down)(
            down.weights, down.whole, down.generator, down.classes, number
        )
        torch.manual_seed(0)
        extra.append(strategy._loss(down, client)(logits, labels).item() - plain)
    assert extra[0] == pytest.approx(4 * extra[1], rel=1e-4)


@pytest.mark.parametrize("share", ["auto", "model"])
def test_with_weights_zero_it_is_fedavg_bit_for_bit(share):
    options = {"label_weight": 0, "agreement_weight": 0, "share": share, **TINY}
    outcomes = []
    for name, chosen in (("fedgen", options), ("fedavg", {})):
        strategy, _ = REGISTRY.strategy(name, chosen)
        protocol = testing.toy_protocol(4, participation=2)
        outcomes.append(simulate(strategy, testing.toy_federation(), protocol, 0))
    ours, theirs = (outcome.state.weights for outcome in outcomes)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(v, theirs[n]) for n, v in ours.items())


def test_otherwise_it_is_not_fedavg():
    ours, _ = REGISTRY.strategy("fedgen", TINY)
    theirs, _ = REGISTRY.strategy("fedavg", {})
    one, two = (
        simulate(s, testing.toy_federation(), testing.toy_protocol(3), 0).state.weights
        for s in (ours, theirs)
    )
    assert any(not torch.equal(v, two[n]) for n, v in one.items())


def test_different_architectures_share_their_head_alone():
    strategy, _, states, _, ups = rounds_of(TINY, 2, MIXED)
    for up in ups[1].values():
        assert [v.shape for v in up.weights.values()] == [(3, 8), (3,)]
    shares = torch.tensor([float(u.label_counts.sum()) for u in ups[1].values()])
    mean = sum(
        share / shares.sum() * up.weights["0"]
        for share, up in zip(shares, ups[1].values(), strict=True)
    )
    torch.testing.assert_close(states[2].weights["0"], mean)
    assert not states[2].whole
    assert strategy.predictors(states[2], None) == {}


def test_a_client_keeps_its_features_where_heads_are_shared():
    federation = testing.toy_federation(models=MIXED)
    strategy, _ = REGISTRY.strategy("fedgen", TINY)
    result = simulate(strategy, federation, testing.toy_protocol(3), 0)
    rows = result.history[-1]["clients"]
    assert rows[0]["bytes_up"] == rows[2]["bytes_up"] == (3 * 8 + 3 + 3) * 4
    assert result.history[-1]["global_accuracy"] is not None
    assert result.state.generator is not None


def test_whole_models_of_different_architectures_are_refused_with_the_reason():
    strategy, _ = REGISTRY.strategy("fedgen", {"share": "model"})
    federation = testing.toy_federation(models=MIXED)
    reason = reason_to_skip(strategy.requires, federation, "average")
    assert "one architecture" in reason
    strategy, _ = REGISTRY.strategy("fedgen", {})
    assert reason_to_skip(strategy.requires, federation, "average") is None
    federation = testing.toy_federation(models=("cnn", "mlp"))
    assert "feature" in reason_to_skip(strategy.requires, federation, "average")


def test_traffic_is_the_model_the_generator_and_label_counts_of_four_bytes():
    strategy, _ = REGISTRY.strategy("fedgen", TINY)
    result = simulate(strategy, testing.toy_federation(), testing.toy_protocol(2), 0)
    size, of_generator = (
        sum(v.numel() * v.element_size() for v in weights.values())
        for weights in (result.state.weights, result.state.generator)
    )
    assert result.metrics["bytes_up"] == 2 * 3 * (size + 3 * 4)
    # In the first round there is no generator to send.
    least = 2 * 3 * size + 3 * of_generator
    assert least <= result.metrics["bytes_down"] < least + 2 * 3 * 64


def test_the_released_amounts_are_a_preset():
    strategy, _ = REGISTRY.strategy("fedgen-code", {})
    assert isinstance(strategy, FedGen)
    assert strategy.config == FedGenConfig.model_validate(CODE_OPTIONS)
    assert strategy.config.label_weight == strategy.config.agreement_weight == 10
