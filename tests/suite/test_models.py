"""What a suite can say of models: mixes, a server of its own, nested widths."""

import json

import pytest

from fedkd.base import yamlfile
from fedkd.errors import ConfigError
from fedkd.party import ModelSpec
from fedkd.plugins.options import resolve
from fedkd.plugins.registry import load_registry
from fedkd.report.description import mix_text, protocol_lines
from fedkd.suite.grid import grid
from fedkd.suite.models import models_of
from fedkd.suite.suite import load_suite

SUITE = """
rounds: 1
clients: 10
seeds: [0]
datasets: [digits]
partitions: [iid]
training: {{local_steps: 1}}
strategies: [fedavg]
models: {models}
"""


KEYS = {
    "cnn{}",
    'cnn{"width": 0.25}',
    'cnn{"width": 0.5}',
    'mobilenet{"width": 0.125}',
    "mlp{}",
    "resnet18{}",
    'resnet18{"width": 0.125}',
    'vgg11{"width": 0.25}',
    'vit{"depth": 3, "dim": 64, "heads": 2}',
}
"""Names of the streams of initial weights of all packaged suites: not to be changed."""


@pytest.fixture
def cells(tmp_path):
    def make(models):
        path = tmp_path / "some.yaml"
        path.write_text(SUITE.format(models=models), encoding="utf-8")
        suite = load_suite(str(path))
        assert load_again(tmp_path, suite).plain() == suite.plain()
        return grid(suite, load_registry())

    return make


def load_again(folder, suite):
    path = folder / "again.yaml"
    path.write_text(yamlfile.dump(suite.plain()), encoding="utf-8")
    return load_suite(str(path))


def widths(cell):
    return [model["options"]["width"] for model in cell.config["models"]]


def test_the_streams_of_initial_weights_of_packaged_suites_are_what_they_were():
    registry = load_registry()
    every = [c.config for s in registry.suites() for c in grid(load_suite(s), registry)]
    models = [m for config in every for m in config["models"]]
    models += [config["server_model"] for config in every if "server_model" in config]
    keys = set()
    for model in models:
        options = json.loads(json.dumps(model["options"]))
        again = resolve(registry, "models", model["name"], options, "models")
        assert json.dumps(again.options) == json.dumps(options)
        keys.add(ModelSpec(again.name, again.changed).key)
    assert keys == KEYS


@pytest.mark.parametrize(
    ("entry", "options", "key"),
    [
        ("{name: cnn, width: 1}", {"width": 1}, "cnn{}"),
        ("{name: cnn, width: 0.5}", {"width": 0.5}, 'cnn{"width": 0.5}'),
        (
            "{name: cnn, channels: [8, 16]}",
            {"channels": [8, 16], "features": None, "hidden": 64},
            'cnn{"channels": [8, 16]}',
        ),
        ("{name: mlp, hidden: []}", {"hidden": [], "width": 1.0}, 'mlp{"hidden": []}'),
    ],
)
def test_options_stand_in_a_configuration_as_they_were_written(
    cells, entry, options, key
):
    (model,) = cells(f"[{entry}]")[0].config["models"]
    chosen = {name: model["options"][name] for name in options}
    assert json.dumps(chosen) == json.dumps(options)
    again = resolve(
        load_registry(), "models", model["name"], model["options"], "models"
    )
    assert ModelSpec(again.name, again.changed).key == key


def test_one_model_is_as_it_always_was(cells):
    (cell,) = cells("[cnn]")
    assert cell.run.models == "cnn"
    assert [m["name"] for m in cell.config["models"]] == ["cnn"]
    assert "server_model" not in cell.config


def test_a_server_may_have_a_model_of_its_own(cells):
    (cell,) = cells("[{clients: [cnn, mlp], server: resnet18}]")
    assert cell.run.models == "cnn+mlp>resnet18"
    assert [m["name"] for m in cell.config["models"]] == ["cnn", "mlp"]
    assert cell.config["server_model"]["name"] == "resnet18"


def test_a_server_with_the_first_model_is_no_server_of_its_own(cells):
    (cell,) = cells("[{clients: [cnn, mlp], server: cnn}]")
    assert "server_model" not in cell.config


def test_widths_make_nested_models_and_a_whole_server(cells):
    (cell,) = cells("[{name: cnn, widths: [0.5, 0.25]}]")
    assert cell.run.models == "cnn[widths=0.5,0.25]"
    assert widths(cell) == [0.5, 0.25]
    assert cell.config["server_model"]["options"]["width"] == 1.0


def test_the_published_rule_gives_every_client_its_width(cells):
    (cell,) = cells("[{name: cnn, widths: {rho: 5, sigma: 4}}]")
    expected = [1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.0625, 0.0625, 0.0625]
    assert widths(cell) == expected
    assert cell.run.models == "cnn[widths=rho5,sigma4]"
    assert "server_model" not in cell.config


def test_the_rule_may_leave_nobody_with_the_whole_model(cells):
    (cell,) = cells("[{name: cnn, widths: {rho: 10, sigma: 4}}]")
    assert widths(cell) == [0.5, 0.25, 0.125] + [0.0625] * 7
    assert cell.config["server_model"]["options"]["width"] == 1.0


def test_a_packaged_mix_stands_for_its_models(cells):
    (cell,) = cells("[mix-5]")
    assert cell.run.models == "mix-5"
    assert len({m["name"] for m in cell.config["models"]}) == 5


def test_an_option_beside_a_packaged_mix_is_one_of_each_of_its_models(cells):
    (cell,) = cells("[{name: mix-5, features: 64}]")
    assert cell.run.models == "mix-5[features=64]"
    options = [model["options"] for model in cell.config["models"]]
    assert [o["features"] for o in options] == [64] * 5
    assert {o["width"] for o in options if "width" in o} == {1.0, 0.125, 0.25}


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ("[{name: cnn, widths: 0.5}]", "models.cnn.widths: found 0.5, expected a list"),
        ("[{name: cnn, widths: []}]", "models.cnn.widths: found []"),
        ("[{name: cnn, widths: {rho: 5}}]", "found the keys ['rho'], expected rho and"),
        ("[{name: cnn, widths: {rho: x, sigma: 4}}]", "widths.rho: found 'x'"),
        ("[{name: mlp, widths: {rho: 1, sigma: -1}}]", "widths.sigma: found -1"),
        ("[{clients: cnn, servre: mlp}]", "unknown key 'servre'; a mix has"),
        ("[{clients: [], server: cnn}]", "models: found [], expected at least one"),
        ("[{name: mix-5, width: 0.5}]", "models.mix-5.width: the packaged mix has one"),
        ("[{name: mix-5, feature: 64}]", "models.mix-5.feature"),
        ("[{name: mix-2, hidden: 64}]", "models.mix-2.hidden"),
        ("[{clients: cnn, server: dcgan-generator}]", "is a generator, expected"),
    ],
)
def test_a_wrong_mix_is_named(cells, models, words):
    with pytest.raises(ConfigError, match="some") as caught:
        cells(models)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("models", "clients", "text"),
    [
        (
            "[[cnn, {name: cnn, width: 0.5}, mlp]]",
            5,
            "clients 0, 3: cnn; 1, 4: cnn[width=0.5]; 2: mlp; server: cnn",
        ),
        (
            "[[cnn, mlp, vit]]",
            2,
            "clients 0: cnn; 1: mlp; server: cnn; no client has: vit",
        ),
        (
            "[[cnn, mlp, cnn]]",
            100,
            "clients i with i mod 3 = 0, 2: cnn; 1: mlp; server: cnn",
        ),
        (
            f"[[{', '.join(['cnn', 'mlp'] * 25)}]]",
            50,
            f"clients {', '.join(str(k) for k in range(0, 40, 2))}, … (25 in all): cnn; "
            f"{', '.join(str(k) for k in range(1, 41, 2))}, … (25 in all): mlp; "
            "server: cnn",
        ),
        ("[{clients: [mlp], server: cnn}]", 2, "clients 0, 1: mlp; server: cnn"),
        (
            "[{clients: [{name: cnn, widths: {rho: 5, sigma: 4}}]}]",
            100,
            "clients 0-18: cnn; 19-38: cnn[width=0.5]; 39-58: cnn[width=0.25]; "
            "59-78: cnn[width=0.125]; 79-99: cnn[width=0.0625]; server: cnn",
        ),
    ],
)
def test_a_page_says_which_clients_have_which_model(tmp_path, models, clients, text):
    path = tmp_path / "some.yaml"
    path.write_text(SUITE.format(models=models), encoding="utf-8")
    suite = load_suite(str(path)).model_copy(update={"clients": clients})
    registry = load_registry()
    mix = models_of(registry, suite.models[0], clients, "")
    assert mix_text(mix, clients) == text
    assert f"Models {mix.shown}: {text}." in protocol_lines(suite, registry)


def test_a_page_says_nothing_of_a_single_model(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text(SUITE.format(models="[cnn]"), encoding="utf-8")
    lines = protocol_lines(load_suite(str(path)), load_registry())
    assert not [line for line in lines if line.startswith("Models")]


def test_widths_beside_a_mix_say_where_widths_belong(cells):
    expected = (
        r"models\.mix-2\.widths: widths go beside one model, and 'mix-2' is a mix\. List "
        r"its models one by one.*: "
    )
    with pytest.raises(ConfigError, match=expected):
        cells("[{name: mix-2, widths: [1, 0.5]}]")


def test_names_joined_by_commas_are_no_list_and_the_message_writes_one():
    from fedkd.suite.overrides import Overrides, load_overridden

    wishes = Overrides(assignments=["models=cnn,mlp,vit"])
    with pytest.raises(ConfigError) as error:
        load_overridden("quick", wishes, load_registry())
    assert "found 'cnn,mlp,vit', expected one name" in str(error.value)
    assert "--set 'models=[[cnn, mlp, vit]]'" in str(error.value)
    wishes = Overrides(assignments=["models=[[cnn, mlp, vit]]"])
    (mix,) = load_overridden("quick", wishes, load_registry()).models
    assert [entry.name for entry in mix.clients] == ["cnn", "mlp", "vit"]
