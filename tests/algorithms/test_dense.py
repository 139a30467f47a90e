"""DENSE: one upload, images from the ensemble, distillation."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedkd import testing
from fedkd.algorithms.averaging import Update
from fedkd.algorithms.dense.config import DenseConfig, SynthesisConfig
from fedkd.algorithms.dense.server import Distillation, GeneratorLoss, Plain
from fedkd.algorithms.dense.strategy import Dense, State
from fedkd.config import build
from fedkd.data.images import Augmentation, ImageInfo
from fedkd.errors import ConfigError
from fedkd.models.dense_generator import Generator
from fedkd.ops.ensembles import LogitEnsemble
from fedkd.ops.synthesis import Lens, adversarial_divergence
from fedkd.party import ModelSpec
from fedkd.plugins.registry import load_registry
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import simulate
from fedkd.strategy import Round

REGISTRY = load_registry()
SHORT = {
    "synthesis": {"epochs": 2, "generator_steps": 2, "batch_size": 8, "width": 2},
    "distil": {"steps": 2, "batch_size": 8},
}
# Mean 0 and deviation 1: images are what classifiers see.
PLAIN = Lens(
    ImageInfo((1, 2, 2), 3, (0.0,), (1.0,)), torch.device("cpu"), augment=False
)
UNSEEN = torch.zeros(2, 1, 2, 2)


class Constant(nn.Module):
    """Gives fixed logits whatever it is shown."""

    def __init__(self, rows):
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(rows, dtype=torch.float64))

    def forward(self, x):
        return self.rows + 0 * x.sum()


MEMBERS = [
    Constant([[2.0, 0, -1], [0, 1, 0]]),
    Constant([[0.0, 1, 0], [1, 0, 2]]),
]
STUDENT = Constant([[0.0, 1, 0], [0.5, 0, 1]])
LABELS = torch.tensor([0, 2])


def config(**changes):
    synthesis = {**SHORT["synthesis"], **changes}
    return build(DenseConfig, {**SHORT, "synthesis": synthesis}, "dense")


def both_sides(models=("cnn",), data=None):
    federation = testing.toy_federation(models=models, data=data)
    sides = Sides(federation, testing.toy_protocol(), 0)
    return sides.server(), sides


def run(options, rounds=1, models=("cnn",), name="dense", seed=3, **protocol):
    strategy, _ = REGISTRY.strategy(name, options)
    federation = testing.toy_federation(models=models)
    return simulate(
        strategy, federation, testing.toy_protocol(rounds, **protocol), seed=seed
    )


def loss_of(members, student, images=UNSEEN, labels=LABELS, **weights):
    off = {"label_weight": 0, "inversion_weight": 0, "adversarial_weight": 0}
    how = SynthesisConfig.model_construct(
        **{**SynthesisConfig().model_dump(), **off, **weights}
    )
    return GeneratorLoss(student, LogitEnsemble(members), how, Plain(), PLAIN)(
        images, labels
    )


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"label_weight": 1}, 0.6992536873771857),
        ({"adversarial_weight": 1}, -0.13356909474729609),
        ({"label_weight": 2, "adversarial_weight": 0.5}, 1.3317228273807234),
        ({"adversarial_weight": 1, "adversarial_mask": False}, -0.14503270012464106),
    ],
)
def test_generator_losses_are_those_of_the_fixture(weights, expected):
    loss = loss_of(MEMBERS, STUDENT, **weights).item()
    assert loss == pytest.approx(expected, rel=1e-12)


def batch_norm():
    return nn.BatchNorm2d(1).double().eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("over", "members", "expected"),
    [
        ("mean", [batch_norm()], 7.75),
        ("mean", [batch_norm(), batch_norm()], 7.75),
        ("sum", [batch_norm(), batch_norm()], 15.5),
        ("mean", [batch_norm(), nn.Identity()], 3.875),
    ],
)
def test_the_inversion_loss_is_a_mean_or_a_sum_over_clients(over, members, expected):
    x = torch.arange(8.0, dtype=torch.float64).reshape(2, 1, 2, 2)
    loss = loss_of(members, STUDENT, x, inversion_weight=1, inversion_over_clients=over)
    # The two maps have mean 3.5 and variance 5.25 against 0 and 1.
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("layers", "clients", "expected"),
    [
        ("sum", "mean", (7.75 + 3 * 7.75) / 3),
        ("mean", "mean", 2 * 7.75 / 3),
        ("sum", "sum", 7.75 + 3 * 7.75),
        ("mean", "sum", 2 * 7.75),
    ],
)
def test_the_inversion_loss_is_a_mean_or_a_sum_over_layers(layers, clients, expected):
    deep = nn.Sequential(*(batch_norm() for _ in range(3)))
    for layer in deep:
        # Hands on what it gets, so that all three layers see the same map.
        layer.eps = 0.0
    x = torch.arange(8.0, dtype=torch.float64).reshape(2, 1, 2, 2)
    loss = loss_of(
        [batch_norm(), deep, nn.Identity()],
        STUDENT,
        x,
        inversion_weight=1,
        inversion_over_layers=layers,
        inversion_over_clients=clients,
    )
    # Of the three clients, one has a layer, one three, and one none.
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_the_inversion_loss_is_positive_with_trained_clients():
    server, _ = both_sides()
    members = [server.client_model(k) for k in range(3)]
    lens = Lens(server.images, server.device, augment=True)
    how = SynthesisConfig(label_weight=0, adversarial_weight=0)
    loss = GeneratorLoss(server.model, LogitEnsemble(members), how, Plain(), lens)
    x = torch.rand(8, 1, 8, 8, requires_grad=True)
    value = loss(x, torch.zeros(8, dtype=torch.long))
    assert value > 0
    assert torch.autograd.grad(value, x)[0].abs().sum() > 0
    assert set(loss.terms.report()) == {"inversion_loss", "inversion_share"}


def test_without_batch_norm_the_inversion_loss_is_zero_and_says_so():
    with pytest.warns(RuntimeWarning, match="L_BN is 0"):
        result = run(SHORT, models=[ModelSpec("cnn-plain")])
    assert "inversion_loss" not in result.metrics["logged"]
    with pytest.warns(RuntimeWarning, match="L_BN is 0"):
        value = loss_of(MEMBERS, STUDENT, inversion_weight=1)
    assert value.item() == 0


def test_without_its_weight_a_missing_inversion_loss_is_no_surprise():
    options = {**SHORT, "synthesis": {**SHORT["synthesis"], "inversion_weight": 0.0}}
    run(options, models=[ModelSpec("cnn-plain")])


def test_identical_models_have_no_adversarial_loss():
    server, _ = both_sides()
    members = [server.client_model(k) for k in range(3)]
    student = server.load(server.initial).eval()
    x = torch.randn(16, 1, 8, 8)
    teacher = LogitEnsemble(members[:1])(x)
    assert adversarial_divergence(teacher, student(x), masked=False).item() == 0
    # The mean of three equal numbers may differ in the last bit, but not its class.
    assert adversarial_divergence(LogitEnsemble(members)(x), student(x)).item() == 0


@pytest.mark.parametrize("clients", [1, 3])
def test_a_stage_on_identical_models_has_no_adversarial_loss_and_stays_finite(clients):
    """No image is disagreed on: the set of the loss is empty in every step."""
    server, _ = both_sides()
    members = [server.client_model(0) for _ in range(clients)]
    student = server.load(server.initial)
    logged = []
    server.log = lambda name, value: logged.append((name, float(value)))
    work = Distillation(student, members, config(epochs=1), Plain(), server)
    work.run()
    terms = dict(logged)
    assert terms["adversarial_loss"] == 0
    assert terms["inversion_loss"] > 0
    assert all(v.isfinite().all() for v in student.state_dict().values())


def test_one_client_is_its_own_ensemble():
    federation = testing.toy_federation(clients=1)
    strategy, _ = REGISTRY.strategy("dense", SHORT)
    protocol = testing.toy_protocol(1, clients=1)
    state = simulate(strategy, federation, protocol, seed=0).state
    server = Sides(federation, protocol, 0).server()
    ensemble = strategy.predictors(state, server)["ensemble"]
    x = torch.randn(5, 1, 8, 8)
    alone = server.client_model(0, state.stage.models[0])
    assert torch.equal(ensemble(x), alone(x))


def test_the_first_message_is_empty_and_one_model_comes_up():
    result = run(SHORT)
    size = sum(v.numel() * v.element_size() for v in result.state.weights.values())
    assert result.metrics["bytes_down"] == 0
    assert result.metrics["bytes_up"] == 3 * size
    assert set(result.metrics["measured"]) == {"ensemble"}


def test_the_student_may_have_an_architecture_of_its_own():
    federation = testing.toy_federation(models=("cnn", "mlp"))
    strategy, _ = REGISTRY.strategy("dense", {**SHORT, "start": "average"})
    result = simulate(strategy, federation, testing.toy_protocol(3), seed=0)
    assert result.state.receivers == (0, 2)
    rows = [line["clients"] for line in result.history]
    # The student goes to clients of its architecture only, from round 2 on.
    assert [[rows[r][k]["bytes_down"] > 0 for k in range(3)] for r in range(3)] == [
        [False, False, False],
        [True, False, True],
        [True, False, True],
    ]


def test_a_client_of_another_architecture_goes_on_from_its_own_model():
    federation = testing.toy_federation(models=("cnn", "mlp"))
    protocol = testing.toy_protocol(2)
    sides = Sides(federation, protocol, 0)
    strategy, _ = REGISTRY.strategy("dense", SHORT)
    state = strategy.init(sides.server())
    for k, keeps in ((0, False), (1, True)):
        down = strategy.broadcast(state, k, Round(0, 2, (0, 1, 2)))
        client = sides.client(k, protocol.training)
        up = strategy.local(down, client)
        assert ("model" in client.memory) == keeps
    down = strategy.broadcast(state, 1, Round(1, 2, (0, 1, 2)))
    client = sides.client(1, protocol.training, client.memory)
    still = client.training.model_copy(update={"lr": 1e-30, "weight_decay": 0.0})
    client.training = still
    again = strategy.local(down, client)
    assert not down.keep
    for entry, value in up.weights.items():
        torch.testing.assert_close(again.weights[entry], value)


def test_a_client_of_the_same_architecture_starts_from_the_student():
    federation = testing.toy_federation()
    protocol = testing.toy_protocol(2)
    sides = Sides(federation, protocol, 0)
    strategy, _ = REGISTRY.strategy("dense", SHORT)
    client = sides.client(0, protocol.training)
    student = {
        n: v + 1 if v.is_floating_point() else v for n, v in client.initial.items()
    }
    state = State(student, (0, 1, 2))
    client.training = client.training.model_copy(
        update={"lr": 1e-30, "weight_decay": 0.0}
    )
    up = strategy.local(strategy.broadcast(state, 0, Round(1, 2, (0, 1, 2))), client)
    for name, _ in client.model.named_parameters():
        torch.testing.assert_close(up.weights[name], student[name])


def test_architectures_are_told_apart_by_their_spec():
    narrow = ModelSpec("cnn", {"width": 0.5})
    server, _ = both_sides(
        [ModelSpec("cnn"), narrow, ModelSpec("cnn", {"norm": "group"})]
    )
    state = Dense().init(server)
    assert state.receivers == (0,)
    assert Dense().broadcast(state, 0, Round(1, 3, (0,))).weights is state.weights
    assert Dense().broadcast(state, 1, Round(1, 3, (0,))).weights is None


@pytest.mark.parametrize("participation", [1.0, 2])
def test_without_synthesis_and_from_the_average_it_is_fedavg(participation):
    options = {"start": "average", "synthesis": {"epochs": 0}}
    ours = run(options, rounds=3, participation=participation)
    fedavg = run({}, rounds=3, name="fedavg", participation=participation)
    for entry, value in fedavg.state.weights.items():
        assert torch.equal(ours.state.weights[entry], value), entry
    assert ours.state.stage is None


def test_the_student_starts_from_itself_or_from_the_average():
    none = {"epochs": 0}
    server, _ = both_sides()
    initial = run({"synthesis": none}, seed=0).state.weights
    for entry, value in server.initial.items():
        assert torch.equal(initial[entry], value)
    average = run({"start": "average", "synthesis": none}, seed=0).state.weights
    assert any(not torch.equal(average[n], initial[n]) for n in initial)


def test_mixed_architectures_have_no_average_to_start_from():
    state = run(
        {"start": "average", "synthesis": {"epochs": 0}}, models=("cnn", "mlp"), seed=0
    ).state
    server, _ = both_sides(("cnn", "mlp"))
    for entry, value in server.initial.items():
        assert torch.equal(state.weights[entry], value)


def test_whether_there_is_an_average_does_not_depend_on_who_takes_part():
    options = {"start": "average", "synthesis": {"epochs": 0}}
    strategy, _ = REGISTRY.strategy("dense", options)
    server, _ = both_sides(("cnn", "mlp"))
    state = strategy.init(server)
    moved = {
        n: v + 1 if v.is_floating_point() else v for n, v in server.initial.items()
    }
    alike = {k: Update(moved, examples=1) for k in state.receivers}
    after = strategy.aggregate(state, alike, server, Round(0, 1, state.receivers))
    for entry, value in server.initial.items():
        assert torch.equal(after.weights[entry], value), entry


def test_distillation_brings_the_student_towards_the_ensemble():
    server, sides = both_sides()
    members = []
    for k in range(3):
        client = sides.client(k, sides.protocol.training)
        client.load(client.initial)
        client.train(
            training=client.training.model_copy(update={"local_steps": 40, "lr": 0.2})
        )
        members.append(server.client_model(k, client.model.state_dict()))
    student = server.load(server.initial)
    long = build(
        DenseConfig,
        {
            "synthesis": {
                "epochs": 4,
                "generator_steps": 5,
                "batch_size": 32,
                "width": 4,
            },
            "distil": {"steps": 30, "batch_size": 32, "lr": 0.05},
        },
        "dense",
    )
    torch.manual_seed(0)
    work = Distillation(student, members, long, Plain(), server)

    def gap():
        data = sides.federation.data
        x = data.normalise(data.x_test)
        with torch.no_grad():
            wanted, answers = work.ensemble(x), student.eval()(x)
        return F.kl_div(
            answers.log_softmax(1),
            wanted.log_softmax(1),
            log_target=True,
            reduction="batchmean",
        ).item()

    before = gap()
    work.run()
    assert gap() < 0.8 * before
    # 4 * 5 * 32 images in the search and 4 * 30 * 32 in distillation.
    assert server.examples == 640 + 3840


def test_clients_models_do_not_change_on_the_server():
    server, _ = both_sides()
    members = [server.client_model(k) for k in range(3)]
    before = [{n: v.clone() for n, v in m.state_dict().items()} for m in members]
    Distillation(server.load(server.initial), members, config(), Plain(), server).run()
    for member, old in zip(members, before, strict=True):
        assert not member.training
        for entry, value in member.state_dict().items():
            assert torch.equal(value, old[entry]), entry


def test_the_student_leaves_its_statistics_alone_while_images_are_made():
    server, _ = both_sides()
    members = [server.client_model(k) for k in range(3)]
    for first, moves in ((False, False), (True, True)):
        student = server.load(server.initial)
        how = config(first_in_train_mode=first)
        work = Distillation(student, members, how, Plain(), server)
        work.make_images(Generator.build((1, 8, 8), 3, width=2), 0)
        changed = [
            n
            for n, v in student.state_dict().items()
            if not torch.equal(v, server.initial[n])
        ]
        assert bool(changed) == moves
        assert all("running" in n or "tracked" in n for n in changed)


def test_labels_are_in_order_and_of_every_class():
    server, _ = both_sides()
    members = [server.client_model(0)]
    how = config(batch_size=64)
    work = Distillation(server.load(server.initial), members, how, Plain(), server)
    images, labels = work.make_images(Generator.build((1, 8, 8), 3, width=2), 0)
    assert labels.tolist() == sorted(labels.tolist())
    assert set(labels.tolist()) == {0, 1, 2}
    assert images.shape == (64, 1, 8, 8)
    assert images.min() >= 0
    assert images.max() <= 1


def test_logits_are_kept_where_images_always_look_alike():
    kept = {}
    for name, augmentation in (("still", Augmentation()), ("moving", Augmentation(2))):
        data = testing.toy_images()
        data = type(data)(**{**vars(data), "augmentation": augmentation})
        server, _ = both_sides(data=data)
        members = [server.client_model(0), server.client_model(1)]
        student = server.load(server.initial)
        work = Distillation(student, members, config(epochs=1), Plain(), server)
        work.run()
        kept[name] = next(work.pool.batches(8, passes=1))
    assert len(kept["moving"]) == 2
    images, _, answers = kept["still"]
    with torch.no_grad():
        now = LogitEnsemble(members).each(
            Lens(server.images, server.device, augment=False)(images)
        )
    torch.testing.assert_close(answers.transpose(0, 1), now, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"reinitialise": True},
        {"pool_exact": False},
        {"pool_images": 8},
        {"adversarial_mask": True},
        {"adversarial_temperature": 3.0},
        {"inversion_over_clients": "sum"},
        {"inversion_over_layers": "sum"},
        {"inversion_weight": 0.0},
        {"adversarial_weight": 0.0},
        {"label_weight": 0.0},
        {"clip_norm": 0.01},
        {"first_in_train_mode": True},
    ],
)
def test_every_option_of_synthesis_changes_the_student(change):
    # The toy's models agree on nearly all images, and 8 bits hide small differences.
    longer = {
        **SHORT["synthesis"],
        "generator_steps": 4,
        "adversarial_mask": False,
        "pool_exact": True,
    }
    base = run({**SHORT, "synthesis": longer}).state.weights
    other = run({**SHORT, "synthesis": {**longer, **change}}).state.weights
    assert any(not torch.equal(base[n], other[n]) for n in base)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": None, "passes": 3},
        {"weight_decay": 0.1},
        {"cosine": True},
        {"clip_norm": 1e-4},
        {"temperature": 1.0},
        {"momentum": 0.0},
    ],
)
def test_every_option_of_distillation_changes_the_student(change):
    base = run(SHORT).state.weights
    other = run({**SHORT, "distil": {**SHORT["distil"], **change}}).state.weights
    assert any(not torch.equal(base[n], other[n]) for n in base)


def test_a_whole_pass_over_a_growing_pool_costs_more_each_epoch():
    options = {
        "synthesis": {**SHORT["synthesis"], "epochs": 3},
        "distil": {"steps": None, "passes": 1, "batch_size": 8},
    }
    # 3 * 2 * 8 images in the search and 8 + 16 + 24 in distillation.
    assert run(options).metrics["server_examples"] == 48 + 48


def test_a_class_that_no_client_has_leaves_all_finite():
    import numpy as np

    from fedkd.simulation.federation import Federation

    data = testing.toy_images()
    y = data.y_train.numpy()
    shards = [np.flatnonzero(y == 0), np.flatnonzero(y == 1)]
    tests = [np.arange(10), np.arange(10, 20)]
    federation = Federation(data, shards, tests, [ModelSpec("cnn")], REGISTRY.model)
    strategy, _ = REGISTRY.strategy("dense", SHORT)
    protocol = testing.toy_protocol(1, clients=2)
    result = simulate(strategy, federation, protocol, seed=0)
    assert all(v.isfinite().all() for v in result.state.weights.values())


def test_a_collapsed_generator_leaves_all_finite():
    class Grey(nn.Module):
        def __init__(self):
            super().__init__()
            self.level = nn.Parameter(torch.zeros(()))

        def forward(self, z):
            return (self.level + 0 * z[:, :1, None, None]).sigmoid().expand(-1, 1, 8, 8)

    server, _ = both_sides()
    members = [server.client_model(k) for k in range(3)]
    student = server.load(server.initial)
    work = Distillation(student, members, config(), Plain(), server)
    work._new_generator = Grey
    work.run()
    assert all(v.isfinite().all() for v in student.state_dict().values())


def test_the_gallery_shows_images_in_the_classifiers_range():
    result = run(SHORT)
    images = Dense().gallery(result.state, None)["synthetic"]
    assert images.shape == (8, 1, 8, 8)
    assert images.min() >= (0 - 0.3) / 0.25 - 1e-5
    assert images.max() <= (1 - 0.3) / 0.25 + 1e-5


@pytest.mark.parametrize(("name", "inversion"), [("dense-paper", 1), ("dense-code", 0)])
def test_the_presets_have_the_readmes_amounts(name, inversion):
    strategy, _ = REGISTRY.strategy(name, {})
    how, student = strategy.config.synthesis, strategy.config.distil
    assert (how.epochs, how.generator_steps, how.batch_size) == (200, 30, 256)
    assert (how.inversion_weight, how.adversarial_weight) == (inversion, 1)
    assert (how.lr, how.reinitialise, how.width) == (1e-3, True, 64)
    assert how.first_in_train_mode == (name == "dense-code")
    if inversion:
        assert how.inversion_over_layers == "sum"
    assert (student.passes, student.lr, student.temperature) == (1, 0.005, 20)
    assert (student.batch_size, student.momentum, student.cosine) == (256, 0.9, False)
    assert how.pool_images >= 200 * 256
    assert strategy.config.start == "initial"


def test_a_generator_without_any_loss_is_refused():
    wrong = {"label_weight": 0, "inversion_weight": 0, "adversarial_weight": 0}
    with pytest.raises(ConfigError, match="all three at 0"):
        config(**wrong)


def test_distillation_is_given_by_steps_or_by_passes():
    with pytest.raises(ConfigError, match="exactly one of steps and passes"):
        build(DenseConfig, {"distil": {"steps": 3, "passes": 1}}, "dense")


@pytest.mark.parametrize("side", [8, 16, 28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_generator_makes_images_of_every_size(side, channels):
    images = Generator.build((channels, side, side), 10, latent_size=5, width=2)(
        torch.randn(4, 5)
    )
    assert images.shape == (4, channels, side, side)
    assert images.min() >= 0
    assert images.max() <= 1


def test_the_generator_has_the_released_size_and_weights():
    torch.manual_seed(0)
    model = Generator.build((3, 32, 32), 10)
    assert sum(p.numel() for p in model.parameters()) == 2_328_899
    assert model.expand.weight.std().item() == pytest.approx(0.02, rel=0.01)
    assert not model.expand.bias.any()
