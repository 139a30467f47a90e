"""The registry: who may register what, and what happens when it goes wrong."""

import sys
from pathlib import Path

import pytest

import fedkd
from fedkd.errors import ConfigError, ContractError, PluginError
from fedkd.plugins import loader
from fedkd.plugins.registry import load_registry, merged

HOOK = "import fedkd\n\n@fedkd.hookimpl\n"
STRATEGY = """
from fedkd import Config, Preset, Strategy

class Options(Config):
    rate: float = 0.5
    inner: dict[str, int] = {}

class Still(Strategy[int, int, int]):
    Config = Options
    def init(self, server): return 0
    def broadcast(self, state, client_id, round): return state
    def local(self, down, client): return down
    def aggregate(self, state, ups, server, round): return state
    def predictors(self, state, server): return {}

class Unfinished(Strategy[int, int, int]):
    def init(self, server): return 0

PRESET = Preset(Still, {"rate": 0.25, "inner": {"a": 1, "b": 2}})
"""


@pytest.fixture(autouse=True)
def _no_plugins_but_those_of_the_test(monkeypatch):
    for name in ("FEDKD_DISABLE_PLUGINS", "FEDKD_STRICT_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(loader, "BUILTINS", ())


@pytest.fixture
def plugin(tmp_path):
    """Write a plug-in file; returns its path."""

    def write(body, name="mine.py"):
        path = tmp_path / name
        path.write_text(body)
        return path

    return write


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a distribution with one module and one entry point of group fedkd."""

    def write(distribution, module, body, version="1.2", target=None):
        site = tmp_path / distribution
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        )
        point = f"[fedkd]\npoint = {target or module}\n"
        (info / "entry_points.txt").write_text(point)
        (site / f"{module}.py").write_text(body)
        monkeypatch.syspath_prepend(str(site))
        # Forgotten at the end, so that no test sees a module of another.
        monkeypatch.delitem(sys.modules, module, raising=False)

    return write


def registering(*calls, kind="strategies"):
    lines = "\n".join(f"    register({call})" for call in calls)
    return f"{HOOK}def fedkd_register_{kind}(register):\n{lines}\n"


def statuses(registry):
    return {plugin.name: plugin.status for plugin in registry.plugins}


def test_an_unknown_attribute_of_the_package_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Stratgy'"):
        fedkd.Stratgy  # noqa: B018


def test_built_in_strategies_enter_through_the_hook(monkeypatch):
    monkeypatch.setattr(loader, "BUILTINS", ("fedkd.algorithms",))
    entry = load_registry().entries("strategies")["fedavg"]
    assert (entry.owner, entry.version) == ("fedkd", fedkd.__version__)
    assert entry.target == "fedkd.algorithms.fedavg:FedAvg"


def test_a_missing_built_in_is_reported_and_not_fatal(monkeypatch, capsys):
    monkeypatch.setattr(loader, "BUILTINS", ("fedkd.nowhere", "fedkd.algorithms"))
    registry = load_registry()
    assert statuses(registry) == {"fedkd.nowhere": "broken", "fedkd.algorithms": "ok"}
    assert capsys.readouterr().err == (
        f"fedkd: plug-in 'fedkd.nowhere' of fedkd {fedkd.__version__} is broken: "
        "ModuleNotFoundError: No module named 'fedkd.nowhere'\n"
    )


def test_an_installed_plug_in_is_found_with_distribution_and_version(install):
    install("some-dist", "mod_found", registering("'one', ':Thing'"))
    registry = load_registry()
    entry = registry.entries("strategies")["one"]
    assert (entry.owner, entry.version) == ("some-dist", "1.2")
    assert entry.target == "mod_found:Thing"
    (status,) = registry.plugins
    assert status.name == "point"
    assert status.hooks == ("fedkd_register_strategies",)
    assert (status.status, status.error) == ("ok", None)


def test_entries_come_in_alphabetical_order(plugin):
    body = registering("'b', 'm:B'", "'c', 'm:C'", "'a', 'm:A'", kind="datasets")
    assert list(load_registry([plugin(body)]).entries("datasets")) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("def broken(:", "SyntaxError"),
        ("x = 1", "implements no hook"),
        (HOOK + "def fedkd_register_models(registre): pass", "registre"),
        (registering("'one', 'm:A'", "1 / 0"), "ZeroDivisionError"),
        (registering("'one'"), "TypeError"),
    ],
)
def test_a_broken_plug_in_is_one_line_and_leaves_no_trace(
    body, reason, install, plugin, capsys
):
    install("broken-dist", "mod_broken", body)
    good = plugin(registering("'two', 'm:B'"))
    registry = load_registry([good])
    assert statuses(registry) == {"point": "broken", "mine.py": "ok"}
    assert list(registry.entries("strategies")) == ["two"]
    assert len(registry.hook.fedkd_register_strategies.get_hookimpls()) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("fedkd: plug-in 'point' of broken-dist 1.2 is broken: ")
    assert reason in error
    assert "Traceback" in registry.plugins[0].traceback


def test_an_entry_point_to_a_class_is_refused(install):
    body = "class Plugin: pass"
    install("class-dist", "mod_class", body, target="mod_class:Plugin")
    assert "is a class; point to a module" in load_registry().plugins[0].error


def test_a_misspelt_hook_is_named_and_the_others_work(plugin, capsys):
    body = registering("'one', 'm:A'")
    body += "\n@fedkd.hookimpl\ndef fedkd_round_endet(run): pass\n"
    registry = load_registry([plugin(body)])
    assert list(registry.entries("strategies")) == ["one"]
    assert statuses(registry) == {"mine.py": "partly"}
    error = capsys.readouterr().err
    assert "unknown hook 'fedkd_round_endet'" in error
    assert "Did you mean 'fedkd_round_ended'?" in error


def test_an_unknown_hook_marked_optional_is_no_problem(plugin):
    body = registering("'one', 'm:A'")
    body += "\n@fedkd.hookimpl(optionalhook=True)\ndef fedkd_of_tomorrow(run): pass\n"
    registry = load_registry([plugin(body)])
    assert statuses(registry) == {"mine.py": "ok"}
    assert registry.plugins[0].hooks == ("fedkd_register_strategies",)


@pytest.mark.parametrize(
    "name", ["Mosaic", "mosaic_code", "-a", "a-", "a--b", "", "a b", "ä", "a\n"]
)
def test_a_name_that_is_not_lower_case_with_hyphens_is_refused(name, plugin):
    body = registering(f"{name!r}, 'm:A'", "'fine-2', 'm:B'")
    registry = load_registry([plugin(body)], quiet=True)
    assert list(registry.entries("strategies")) == ["fine-2"]
    assert f"strategy name {name!r} is not" in registry.plugins[0].error


@pytest.mark.parametrize("name", ["macro-f1", "F1", "_f1", "f1_", "macro__f1", ""])
def test_a_metrics_name_has_underscores_as_its_columns_have(name, plugin):
    body = registering(f"{name!r}, 'm:A'", "'macro_f1', 'm:B'", kind="metrics")
    registry = load_registry([plugin(body)], quiet=True)
    assert list(registry.entries("metrics")) == ["macro_f1"]
    near = {"macro-f1": "macro_f1", "F1": "f1"}.get(name, "")
    error = registry.plugins[0].error
    assert f"words joined by underscores; write it like '{near}" in error


@pytest.mark.parametrize("target", ["module", "module:", ":", "a/b:C", "m:A:B", 7])
def test_a_target_that_is_not_module_and_attribute_is_refused(target, plugin):
    registry = load_registry([plugin(registering(f"'one', {target!r}"))], quiet=True)
    assert list(registry.entries("strategies")) == []
    assert "'package.module:attribute'" in registry.plugins[0].error


def test_a_model_of_unknown_kind_is_refused_and_classifier_is_the_default(plugin):
    body = registering(
        "'one', 'm:A', kind='generater'",
        "'two', 'm:B'",
        "'three', 'm:C', kind='generator'",
        kind="models",
    )
    registry = load_registry([plugin(body)], quiet=True)
    kinds = {name: e.kind for name, e in registry.entries("models").items()}
    assert kinds == {"two": "classifier", "three": "generator"}
    assert "Did you mean 'generator'?" in registry.plugins[0].error


def test_a_name_claimed_twice_names_both_owners_and_harms_no_other_name(
    install, plugin, capsys
):
    install("first-dist", "mod_first", registering("'same', 'm:A'"))
    second = plugin(registering("'same', 'm:B'", "'own', 'fedkd.data.dataset:Dataset'"))
    registry = load_registry([second])
    assert registry.entries("strategies")["same"].target == "m:A"
    assert "own" in registry.entries("strategies")
    assert statuses(registry) == {"point": "ok", "mine.py": "partly"}
    line = capsys.readouterr().err
    assert "'same' is already registered by first-dist (m:A)" in line
    with pytest.raises(PluginError) as caught:
        registry.strategy("same")
    assert str(caught.value) == (
        "strategy 'same' is claimed by first-dist and by mine.py; uninstall one of "
        "them or name it in FEDKD_DISABLE_PLUGINS."
    )


def test_disabling_one_owner_settles_a_disputed_name(install, plugin, monkeypatch):
    install("rival-dist", "mod_rival", registering("'same', 'm:A'"))
    monkeypatch.setenv("FEDKD_DISABLE_PLUGINS", "rival-dist")
    registry = load_registry([plugin(registering("'same', 'm:B'"))])
    assert registry.entries("strategies")["same"].owner == "mine.py"
    assert registry.entries("strategies")["same"].rivals == ()


def test_one_name_may_stand_for_things_of_two_kinds(plugin):
    body = registering("'same', 'm:A'") + registering("'same', 'm:B'", kind="models")
    registry = load_registry([plugin(body)])
    assert statuses(registry) == {"mine.py": "ok"}


def test_a_disabled_plug_in_is_not_imported(install, monkeypatch, capsys):
    install("off-dist", "mod_off", "raise RuntimeError")
    monkeypatch.setenv("FEDKD_DISABLE_PLUGINS", " point ,")
    registry = load_registry()
    assert statuses(registry) == {"point": "disabled"}
    assert "mod_off" not in sys.modules
    assert capsys.readouterr().err == ""


def test_an_unknown_name_among_the_disabled_is_reported(monkeypatch, capsys):
    monkeypatch.setenv("FEDKD_DISABLE_PLUGINS", "nobody")
    load_registry()
    assert "names unknown plug-ins: nobody" in capsys.readouterr().err


def test_strict_mode_makes_a_broken_plug_in_fatal(plugin, monkeypatch):
    monkeypatch.setenv("FEDKD_STRICT_PLUGINS", "1")
    with pytest.raises(PluginError, match=r"'bad\.py' of bad\.py .* is broken: Key"):
        load_registry([plugin("raise KeyError('x')", "bad.py")])
    assert load_registry([plugin(registering("'one', 'm:A'"))]).plugins


def test_quiet_keeps_problems_from_stderr(plugin, capsys):
    load_registry([plugin("1 / 0")], quiet=True)
    assert capsys.readouterr().err == ""


def test_a_plug_in_file_that_does_not_exist_is_a_config_error():
    with pytest.raises(ConfigError, match=r"nope\.py: there is no such file"):
        load_registry(["nope.py"])


def test_a_plug_in_file_is_versioned_by_its_content(plugin):
    body = registering("'one', ':Still'") + STRATEGY
    first = load_registry([plugin(body)]).entries("strategies")["one"]
    second = load_registry([plugin(body + "\n# changed")]).entries("strategies")["one"]
    assert first.owner == second.owner == "mine.py"
    assert first.version.startswith("sha256:")
    assert first.version != second.version


def test_a_file_given_twice_is_loaded_once(plugin):
    path = plugin(registering("'one', 'm:A'"))
    registry = load_registry([path, str(path)])
    assert statuses(registry) == {"mine.py": "ok"}


def test_two_files_of_one_name_are_a_problem_of_the_second(plugin, tmp_path):
    (tmp_path / "sub").mkdir()
    first = plugin(registering("'one', 'm:A'"))
    second = plugin(registering("'two', 'm:A'"), "sub/mine.py")
    registry = load_registry([first, second], quiet=True)
    assert [p.status for p in registry.plugins] == ["ok", "broken"]
    assert "rename one" in registry.plugins[1].error


def test_a_file_that_was_changed_is_loaded_anew(plugin):
    load_registry([plugin(registering("'one', 'm:A'"))])
    registry = load_registry([plugin(registering("'other-name', 'm:A'"))])
    assert list(registry.entries("strategies")) == ["other-name"]


def test_an_unknown_name_gets_a_suggestion_the_list_and_the_command(plugin):
    registry = load_registry([plugin(registering("'mosaic', 'm:A'", "'dense', 'm:B'"))])
    with pytest.raises(ConfigError) as caught:
        registry.resolve("strategies", "mosiac")
    assert str(caught.value) == (
        "unknown strategy 'mosiac'. Did you mean 'mosaic'? Known: dense, mosaic "
        "(run 'fedkd list strategies'). One of your own comes with --plugin FILE "
        "(docs/plugins.md)."
    )


def test_an_unknown_name_points_to_the_broken_plug_ins(plugin):
    registry = load_registry([plugin("1 / 0")], quiet=True)
    with pytest.raises(ConfigError, match=r"Broken plug-ins: mine\.py"):
        registry.resolve("models", "cnn")


@pytest.mark.parametrize(
    ("kind", "target", "reason"),
    [
        ("strategies", ":Nobody", "AttributeError"),
        ("strategies", "no_such_module:A", "No module named 'no_such_module'"),
        ("strategies", ":exploding.now", "ZeroDivisionError"),
    ],
)
def test_a_target_that_cannot_be_loaded_names_its_owner(kind, target, reason, plugin):
    extra = "\nclass E:\n    now = property(lambda self: 1 / 0)\nexploding = E()\n"
    registry = load_registry([plugin(registering(f"'one', {target!r}") + extra)])
    with pytest.raises(PluginError) as caught:
        registry.resolve(kind, "one")
    message = str(caught.value)
    assert message.startswith("strategy 'one' of mine.py sha256:")
    assert reason in message


@pytest.mark.parametrize(
    ("kind", "target", "reason"),
    [
        (
            "strategies",
            "fedkd.data.dataset:Dataset",
            "expected a subclass of fedkd.Strategy",
        ),
        ("strategies", "math:pi", "is of type float; expected a subclass"),
        ("strategies", ":Unfinished", "lacks aggregate, broadcast, local, predictors"),
        ("datasets", ":Still", "is the class Still; expected a subclass of fedkd.Data"),
        ("partitioners", ":Still", "expected a subclass of fedkd.Partitioner"),
        ("metrics", ":Still", "expected a subclass of fedkd.Metric"),
        ("metrics", "fedkd.metrics.base:Metric", "Metric implements nothing; impl"),
        ("models", "math:pi", "expected a callable"),
        ("executors", ":Still", "expected a subclass of fedkd.Executor"),
        (
            "executors",
            "fedkd.simulation.executors:Serial",
            "Serial.name is 'serial'; expected 'one'",
        ),
    ],
)
def test_a_target_of_the_wrong_type_breaks_the_contract(kind, target, reason, plugin):
    body = registering(f"'one', {target!r}", kind=kind) + STRATEGY
    registry = load_registry([plugin(body)])
    with pytest.raises(ContractError, match=r"'one' of mine\.py") as caught:
        registry.resolve(kind, "one")
    assert reason in str(caught.value)


def test_a_strategy_is_built_from_options(plugin):
    registry = load_registry([plugin(registering("'one', ':Still'") + STRATEGY)])
    strategy, config = registry.strategy("one", {"rate": 0.75})
    assert strategy.config is config
    assert config.rate == 0.75
    assert registry.strategy("one")[1].rate == 0.5


def test_the_users_options_go_on_top_of_those_of_a_preset(plugin):
    registry = load_registry([plugin(registering("'one', ':PRESET'") + STRATEGY)])
    assert registry.strategy("one")[1].rate == 0.25
    config = registry.strategy("one", {"inner": {"b": 5}})[1]
    assert (config.rate, config.inner) == (0.25, {"a": 1, "b": 5})


def test_a_metric_is_built_from_options(plugin):
    body = registering("'to', 'fedkd.metrics.targets:RoundsTo'", kind="metrics")
    registry = load_registry([plugin(body)])
    metric, config = registry.metric("to", {"target": 80})
    assert metric.config is config
    assert (config.target, config.of) == (80, "global_accuracy")
    with pytest.raises(ConfigError, match=r"^metrics\.to\.target: this key is missing"):
        registry.metric("to")


def test_a_wrong_option_is_named_with_its_path(plugin):
    registry = load_registry([plugin(registering("'one', ':Still'") + STRATEGY)])
    with pytest.raises(ConfigError, match=r"^strategies\.one\.raet: unknown key\. Did"):
        registry.strategy("one", {"raet": 1})


def test_a_model_of_another_kind_than_asked_for_is_an_error(plugin):
    body = registering(
        "'gan', ':net', kind='generator'", "'net', ':net'", kind="models"
    )
    body += "def net(image_shape, num_classes): return num_classes\n"
    registry = load_registry([plugin(body)])
    assert registry.model("net", "classifier")((1, 8, 8), 10) == 10
    with pytest.raises(ConfigError, match=r"'gan' is a generator; expected a classif"):
        registry.model("gan", "classifier")


def test_merging_options_leaves_both_sides_alone():
    below, above = {"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"y": 5}, "c": {"z": 0}}
    assert merged(below, above) == {"a": {"x": 1, "y": 5}, "b": 3, "c": {"z": 0}}
    assert below == {"a": {"x": 1, "y": 2}, "b": 3}
    assert above == {"a": {"y": 5}, "c": {"z": 0}}


def test_observers_are_told_and_a_failing_one_is_reported_once(plugin, capsys):
    told = "import fedkd\nseen = []\n@fedkd.hookimpl\n"
    good = plugin(told + "def fedkd_round_ended(metrics): seen.append(metrics)\n")
    bad = plugin(HOOK + "def fedkd_round_ended(run): raise OSError('full')\n", "bad.py")
    registry = load_registry([good, bad])
    run = fedkd.RunInfo("s", "fedavg", "d", "p", None, "m", 2, 2, 0, run_id="id")
    for index in (1, 2):
        registry.notify("fedkd_round_ended", run=run, metrics={"round": index})
    assert sys.modules["fedkd_plugin_mine"].seen == [{"round": 1}, {"round": 2}]
    assert capsys.readouterr().err == (
        "fedkd: fedkd_round_ended of plug-in bad.py failed; runs go on: OSError: full "
        "(line 4 of bad.py)\n"
    )


def test_suites_are_listed_by_the_first_line_of_their_description(
    tmp_path, monkeypatch
):
    (tmp_path / "small.yaml").write_text("description: |\n  One line.\n  Two.\n")
    (tmp_path / "bare.yaml").write_text("rounds: 1\n")
    (tmp_path / "notes.txt").write_text("no suite")
    monkeypatch.setattr("importlib.resources.files", lambda _: Path(tmp_path))
    assert load_registry().suites() == {"bare": "", "small": "One line."}


def test_a_plugin_file_sees_the_modules_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "its_neighbour.py").write_text("NAME = 'x'\n")
    text = "import fedkd\nfrom its_neighbour import NAME\n@fedkd.hookimpl\n"
    text += "def fedkd_register_strategies(register): pass\n"
    (tmp_path / "with_neighbour.py").write_text(text)
    registry = load_registry([str(tmp_path / "with_neighbour.py")])
    (status,) = [s for s in registry.plugins if s.name == "with_neighbour.py"]
    assert (status.status, status.error) == ("ok", None)
