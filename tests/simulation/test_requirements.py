"""What a run must be before it starts: folder, seed, verbs, what a strategy needs."""

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
from torch import nn

from fedkd import Requires, testing
from fedkd.base.signatures import check_verbs
from fedkd.errors import ConfigError, ContractError, NotApplicableError
from fedkd.party import ModelSpec
from fedkd.plugins.options import made, resolve
from fedkd.plugins.registry import load_registry
from fedkd.simulation.federation import Federation
from fedkd.simulation.requirements import fitted, reason_to_skip
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import simulate
from fedkd.strategy import Strategy

REGISTRY = load_registry(quiet=True)
BUILT_IN = sorted(REGISTRY.entries("strategies"))
HALF = ModelSpec("cnn", {"width": 0.5})
trained = []


@dataclass(frozen=True)
class Nothing:
    pass


class Idle(Strategy):
    """Does nothing, and writes down that its verbs were called."""

    def init(self, server):
        trained.append("init")
        return Nothing()

    def broadcast(self, state, client_id, round):
        return state

    def local(self, down, client):
        return down

    def aggregate(self, state, ups, server, round):
        return state

    def predictors(self, state, server):
        return {"global": server.load(server.initial)}


def run(strategy, **options):
    world = (testing.toy_federation(), testing.toy_protocol(1))
    return simulate(strategy, *world, **{"seed": 0, **options})


@pytest.fixture(autouse=True)
def _nothing_trained():
    trained.clear()


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_the_folder_of_a_run_is_made_with_those_above_it(tmp_path, kind):
    folder = tmp_path / "runs" / "first"
    result = run(Idle(), folder=kind(folder))
    (line,) = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line) == json.loads(json.dumps(result.metrics))
    assert run(Idle(), folder=kind(folder)).history == ()


@pytest.mark.parametrize("beside", ["taken", "taken/below"])
def test_a_folder_that_is_a_file_is_refused(tmp_path, beside):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigError, match=r"taken.*is a file; give another folder"):
        run(Idle(), folder=tmp_path / beside)


@pytest.mark.parametrize("given", ["seed", "checkpoint_every"])
@pytest.mark.parametrize("odd", [-1, 1.0, "0", True, None])
def test_a_number_of_another_form_is_refused_and_leaves_no_folder(tmp_path, given, odd):
    with pytest.raises(
        ConfigError, match=f"{given}: found {odd!r}, expected a whole numb"
    ):
        run(Idle(), folder=tmp_path / "run", **{given: odd})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"strategy": "fedavg"},
            "strategy: found 'fedavg', expected a strategy, as fedkd.",
        ),
        ({"strategy": Idle}, "strategy: found <class .*, expected a strategy"),
        ({"federation": None}, "federation: found None, expected a fedkd.Federation"),
        (
            {"protocol": {"rounds": 1}},
            "protocol: found {'rounds': 1}, expected a fedkd.Pr",
        ),
        ({"executor": 3}, "executor: found 3, expected its name, or its class"),
        ({"executor": None}, "executor: found None, expected its name, or its class"),
        (
            {"metrics": ["ece"]},
            r"metrics: found \['ece'\], expected a mapping of labels",
        ),
        (
            {"metrics": {"ece": "ece"}},
            "metrics.ece: found 'ece', expected a metric, as",
        ),
        ({"folder": 3}, "folder: found 3, expected a path"),
    ],
)
def test_what_is_no_part_of_a_run_is_told_in_words(given, said):
    whole = {
        "strategy": Idle(),
        "federation": testing.toy_federation(),
        "protocol": testing.toy_protocol(1),
        "seed": 0,
    }
    with pytest.raises(ConfigError, match=f"^{said}"):
        simulate(**{**whole, **given})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ModelSpec(3), "model: found 3, expected the name of a registered one"),
        (
            lambda: ModelSpec("cnn", 3),
            "model cnn: found 3, expected a mapping of options",
        ),
        (
            lambda: load_registry(3),
            "plug-in files: found 3, expected a path of a Python",
        ),
        (
            lambda: load_registry([3]),
            "plug-in files: found 3, expected a path of a Python",
        ),
        (lambda: load_registry("none.py"), "--plugin .*none.py: there is no such file"),
        (
            lambda: load_registry().model(3),
            "models: found 3, expected a name, as a text",
        ),
        (
            lambda: load_registry().strategy(["a"]),
            r"strategies: found \['a'\], expected a",
        ),
    ],
)
def test_what_is_no_name_and_no_path_is_told_in_words(make, said):
    with pytest.raises(ConfigError, match=f"^{said}"):
        make()


def test_a_model_has_the_options_that_numbers_of_numpy_are():
    assert ModelSpec("cnn", {"width": np.float32(0.5)}).key == 'cnn{"width": 0.5}'


def test_a_seed_of_numpy_is_the_number_that_it_is():
    plain, numpy = run(Idle(), seed=3), run(Idle(), seed=np.int64(3))
    assert numpy.metrics["global_accuracy"] == plain.metrics["global_accuracy"]


class NoClient(Idle):
    def local(self, down):
        return down


class OneMore(Idle):
    def aggregate(self, state, ups, server, round, extra):
        return state


class KeywordsOnly(Idle):
    def init(self, *, server):
        return Nothing()


class WrongPersonal(Idle):
    def personal(self, client: object) -> None:
        return None


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            NoClient,
            r"toy: NoClient\.local\(down\) cannot be called with \(down, client\): too "
            r"many positional arguments\. Write it as local\(self, down, client\) "
            r"\(line \d+ of test_requirements\.py\)\.",
        ),
        (
            OneMore,
            r"missing a required.*Write it as aggregate\(self, state, ups, server",
        ),
        (
            KeywordsOnly,
            r"KeywordsOnly\.init\(\*, server\).*Write it as init\(self, server",
        ),
        (
            WrongPersonal,
            r"personal\(client\).*Write it as personal\(self, state, client\)",
        ),
    ],
)
def test_a_verb_that_cannot_be_called_is_refused_before_anything_runs(kind, message):
    with pytest.raises(ContractError, match=message):
        run(kind(), name="toy")
    assert trained == []


class OtherNames(Idle):
    def broadcast(self, state, k, _round, more=None):
        return state

    @staticmethod
    def local(down, client):
        return down

    @classmethod
    def aggregate(cls, *everything, **rest):
        return everything[0]


def test_names_defaults_and_the_kind_of_method_are_the_authors_business():
    run(OtherNames())
    assert trained == ["init"]


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_verbs_of_what_is_built_in_can_be_called(name):
    found = REGISTRY.resolve("strategies", name)
    check_verbs(getattr(found, "strategy", found), Strategy, name)


def test_a_plug_in_with_a_wrong_verb_is_named_before_a_run(tmp_path):
    path = tmp_path / "damp.py"
    path.write_text(
        "import fedkd\n"
        "class Damp(fedkd.Strategy):\n"
        "    def init(self, server): return None\n"
        "    def broadcast(self, state, client_id): return None\n"
        "    def local(self, down, client): return None\n"
        "    def aggregate(self, state, ups, server, round): return None\n"
        "    def predictors(self, state, server): return {}\n"
        "@fedkd.hookimpl\n"
        "def fedkd_register_strategies(register):\n"
        "    register('damp', ':Damp', summary='Damps.')\n",
        encoding="utf-8",
    )
    with pytest.raises(
        ContractError, match=r"'damp' of damp\.py.*Damp\.broadcast\(state"
    ):
        load_registry([path]).strategy("damp")


def test_an_unknown_name_comes_with_how_to_load_ones_own():
    with pytest.raises(ConfigError, match=r"unknown strategy 'damp'.*--plugin FILE"):
        REGISTRY.strategy("damp")


@pytest.mark.parametrize(
    ("needs", "models", "reason"),
    [
        (
            {"one_architecture": True},
            ("cnn", HALF),
            "needs one architecture, but the models are cnn, cnn[width=0.5].",
        ),
        (
            {"nested_widths": True},
            (HALF, "mlp"),
            "needs one family at nested widths, but the models are cnn[width=0.5], mlp.",
        ),
        (
            {"batch_norm": True},
            (ModelSpec("mlp", {"hidden": [8]}),),
            "needs batch normalisation, but mlp[hidden=[8]] has none.",
        ),
        (
            {"equal_feature_size": True},
            ("cnn", ModelSpec("mlp", {"hidden": [8]})),
            "needs features of one size, but they are cnn: 64, mlp[hidden=[8]]: 8; give "
            "every model the option features, say features: 64.",
        ),
    ],
)
def test_a_reason_has_the_labels_of_tables(needs, models, reason):
    federation = testing.toy_federation(models=models)
    assert reason_to_skip(Requires(**needs), federation, "average") == reason


def test_a_need_that_is_not_met_is_an_error_of_its_own_that_holds_the_reason():
    class Picky(Idle):
        requires = Requires(one_architecture=True)

    world = (testing.toy_federation(models=("cnn", HALF)), testing.toy_protocol(1))
    with pytest.raises(NotApplicableError) as refusal:
        simulate(Picky(), *world, seed=0, name="picky")
    reason = "needs one architecture, but the models are cnn, cnn[width=0.5]."
    assert (refusal.value.reason, str(refusal.value)) == (reason, f"picky {reason}")
    assert trained == []


class Building(Idle):
    """Says that it will build a generator of no size."""

    requires = Requires(builds=(ModelSpec("dcgan-generator", {"width": 0}),))


def test_a_model_that_cannot_be_built_is_known_before_the_first_round():
    trained.clear()
    with pytest.raises(
        NotApplicableError, match=r"will build dcgan-generator\[width=0\]"
    ):
        simulate(Building(), testing.toy_federation(), testing.toy_protocol(), 0)
    assert not trained


def test_batches_of_one_are_refused_where_a_channel_has_one_value():
    deep = testing.toy_federation(models=(ModelSpec("vgg11", {"width": 0.1}),))
    protocol = testing.toy_protocol()
    one = protocol.training.model_copy(update={"batch_size": 1})
    protocol = protocol.model_copy(update={"training": one})
    with pytest.raises(ConfigError, match=r"training\.batch_size: found 1.*vgg11"):
        simulate(Idle(), deep, protocol, 0)


@pytest.mark.parametrize("name", ["dense", "dfrd", "fedftg", "mosaic"])
def test_strategies_with_generators_declare_them(name):
    strategy = made(
        REGISTRY, "strategies", resolve(REGISTRY, "strategies", name, {}, "")
    )
    assert "generator" in strategy.requires.builds[0].name


def plain_net(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))


def one_piece_world():
    toy = testing.toy_federation()
    shards = [client.indices.numpy() for client in toy.clients]
    models = {"plain-net": plain_net}
    return Federation(
        toy.data,
        shards,
        [shard.numpy() for shard in toy.test_shards],
        [ModelSpec("plain-net")],
        lambda name: models.get(name) or REGISTRY.model(name),
        public=toy.public,
    )


@pytest.mark.filterwarnings("ignore:the model has no batch normalisation")
def test_of_models_of_one_piece_a_strategy_of_features_is_not_applicable():
    """As a bench finds it out before anything is trained."""
    refused = set()
    for name in BUILT_IN:
        strategy, _ = REGISTRY.strategy(name, {})
        try:
            world = fitted(strategy, one_piece_world(), protocol_of(strategy), 0, name)
            Sides(*world, 0).start(strategy, name)
        except NotApplicableError as error:
            if "made of features and a head, but" in error.reason:
                refused.add(name)
    assert {"moon", "fedkd-wu", "fedproto", "fedgen", "ccvr"} <= refused
    assert not {"fedavg", "fedprox", "local", "fedbn", "fml"} & refused


def protocol_of(strategy):
    return testing.toy_protocol(3, buffers=strategy.requires.buffers[0])
