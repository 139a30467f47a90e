"""The command line: help, list, show, plugins, and what a problem looks like."""

import json
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from fedkd import cli
from fedkd.commands import listing, plugins, show
from fedkd.errors import ConfigError
from fedkd.plugins import loader

PLUGIN = '''"""What it is.

Paper: Somebody, "A title that goes on
    and on".
Algorithm: 1.
Code: none.
Deviations:
    - the first,
      wrapped
    - the second
"""
from dataclasses import dataclass
from typing import Literal

import fedkd
from pydantic import Field


class Inner(fedkd.Config):
    """Inner options."""

    steps: int = Field(600, ge=1)
    """How many."""


class Options(fedkd.Config):
    """Options."""

    rate: float = Field(0.5, gt=0, le=1)
    """How fast;
    see Eq. (2)."""
    mode: Literal["a", "b"] | None = None
    inner: Inner = Inner()
    needed: str


@dataclass(frozen=True)
class Down:
    """All that the server sends."""

    size: int
    """How large."""


@dataclass(frozen=True)
class Up:
    weights: fedkd.Weights


class Method(fedkd.Strategy[int, Down, Up]):
    """A method."""

    Config = Options
    requires = fedkd.Requires(batch_norm=True, buffers=("local",))

    def __init__(self, config):
        super().__init__(config)
        if config.mode == "b":
            self.requires = fedkd.Requires(equal_feature_size=True)

    def init(self, server): return 0
    def broadcast(self, state, client_id, round): return state
    def local(self, down, client): return down
    def aggregate(self, state, ups, server, round): return state
    def predictors(self, state, server): return {}


QUICK = fedkd.Preset(
    Method,
    {"inner": {"steps": 5}, "mode": "b", "needed": "x"},
    deviations=("fewer steps",),
    doc="A quick one.",
)


class Width(fedkd.Config):
    width: float = Field(1.0, gt=0, le=1)
    """Share of the channels:
    from 0 to 1."""


class Model:
    """A model."""

    Config = Width

    def __init__(self, image_shape, num_classes, config): pass


@fedkd.hookimpl
def fedkd_register_strategies(register):
    register("method", ":Method", summary="A [bold] method.")
    register("quick-one", ":QUICK")
    register("both", ":Method")


@fedkd.hookimpl
def fedkd_register_models(register):
    register("both", ":Model", kind="generator")
'''


@pytest.fixture(autouse=True)
def _only_the_algorithms(monkeypatch):
    monkeypatch.setattr(loader, "BUILTINS", ("fedkd.algorithms",))
    monkeypatch.delenv("FEDKD_DEBUG", raising=False)
    monkeypatch.delenv("FEDKD_STRICT_PLUGINS", raising=False)
    monkeypatch.delenv("FEDKD_DISABLE_PLUGINS", raising=False)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def path(tmp_path):
    """A plug-in file with a strategy, a preset and a model."""
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    return str(file)


def python(*arguments, cwd, **environment):
    """Run Python in a fresh process, outside the checkout."""
    return subprocess.run(
        [sys.executable, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
    )


def run(command, *arguments):
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def card(path, name, *arguments):
    return json.loads(run(show.command, name, "--plugin", path, "--format", "json"))[0]


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["list", "--help"]])
def test_help_and_list_import_neither_torch_nor_pydantic(arguments, tmp_path):
    script = (
        "import sys, fedkd.cli\n"
        f"code = fedkd.cli.main({arguments!r})\n"
        "heavy = {'torch', 'torchvision', 'pydantic', 'numpy', 'matplotlib', 'rich'}\n"
        "sys.exit(code or ', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    done = python("-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mosaic" in done.stdout or "Usage" in done.stdout


def test_import_of_the_package_imports_nothing_heavy(tmp_path):
    script = (
        "import sys, fedkd; fedkd.hookimpl; fedkd.__version__\n"
        "sys.exit(', '.join({'torch', 'pydantic', 'numpy'} & set(sys.modules)) or 0)"
    )
    done = python("-c", script, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_command_of_the_group_has_a_help_line_of_its_own():
    text = run(cli.cli, "--help")
    for name, (_, line) in cli.COMMANDS.items():
        assert f"  {name}" in text
        assert line in " ".join(text.split())


def test_without_a_command_the_help_is_printed(capsys):
    assert cli.main([]) == 0
    assert capsys.readouterr().out.startswith("Usage: fedkd ")


def test_python_m_fedkd_prints_the_version(tmp_path):
    done = python("-m", "fedkd", "--version", cwd=tmp_path)
    assert done.stdout == "fedkd, version 0.1.0\n"


def test_list_prints_each_name_with_its_summary_on_a_line(path):
    lines = run(listing.command, "strategies", "--plugin", path).splitlines()
    assert lines[0] == "Strategies:"
    assert lines[1].split() == ["name", "summary", "owner"]
    names = [line.split()[0] for line in lines[2:]]
    assert names == sorted(names)
    assert {"fedavg", "mosaic-origin", "method", "quick-one"} < set(names)
    (line,) = [line for line in lines if line.split()[0] == "method"]
    assert "A [bold] method." in line
    assert line.endswith("mine.py")


def test_list_shows_owners_only_where_there_is_a_third_party(path):
    assert "owner" not in run(listing.command, "strategies").split()
    assert "owner" in run(listing.command, "strategies", "--plugin", path).split()


def test_list_as_json_has_every_kind(path):
    found = json.loads(run(listing.command, "--format", "json", "--plugin", path))
    kinds = ["strategies", "datasets", "models", "partitioners", "executors", "metrics"]
    kinds += ["observers", "suites"]
    assert list(found) == kinds
    (model,) = found["models"]
    assert model.pop("version").startswith("sha256:")
    assert model == {
        "name": "both",
        "kind": "generator",
        "summary": "",
        "owner": "mine.py",
        "target": "fedkd_plugin_mine:Model",
    }


def test_the_plug_in_option_works_before_and_after_the_command(path, tmp_path):
    other = tmp_path / "other.py"
    other.write_text(
        "import fedkd\n@fedkd.hookimpl\ndef fedkd_register_models(register):\n"
        "    register('late', 'm:A')\n"
    )
    before = ["--plugin", path, "list", "models", "--format", "json"]
    found = json.loads(run(cli.cli, *before, "--plugin", str(other)))
    assert [model["name"] for model in found["models"]] == ["both", "late"]


def test_the_card_of_a_strategy_holds_the_keys_of_its_module(path):
    found = card(path, "method")
    assert found["paper"] == 'Somebody, "A title that goes on and on".'
    assert found["algorithm"] == "1."
    assert found["deviations"] == "- the first, wrapped\n- the second"
    assert found["description"] == "What it is."


def test_the_card_of_a_strategy_says_what_it_needs_and_sends(path):
    found = card(path, "method")
    assert found["needs"] == [
        "batch normalisation in every model",
        "buffer policy local",
    ]
    assert found["sends"] == {
        "down": {
            "type": "Down",
            "description": "All that the server sends.",
            "fields": [{"name": "size", "type": "int", "description": "How large."}],
        },
        "up": {
            "type": "Up",
            "description": "",
            "fields": [
                {"name": "weights", "type": "Mapping[str, Tensor]", "description": ""}
            ],
        },
    }


def test_the_card_of_a_strategy_lists_its_options_with_nested_ones(path):
    options = {option["name"]: option for option in card(path, "method")["options"]}
    assert list(options) == ["rate", "mode", "inner.steps", "needed"]
    assert options["rate"] == {
        "name": "rate",
        "type": "float",
        "default": 0.5,
        "required": False,
        "constraints": ["> 0", "<= 1"],
        "description": "How fast; see Eq. (2).",
    }
    assert options["mode"]["type"] == "'a' | 'b' | None"
    assert options["needed"]["required"] is True


def test_the_card_of_a_preset_shows_what_it_changes(path):
    found = card(path, "quick-one")
    assert found["description"] == "A quick one."
    assert found["preset_of"] == "Method"
    assert found["preset_deviations"] == ["fewer steps"]
    changed = {o["name"]: o["preset"] for o in found["options"] if "preset" in o}
    assert changed == {"inner.steps": 5, "mode": "b", "needed": "x"}
    # What it needs depends on its options.
    assert found["needs"] == ["models with features of one size"]


def test_show_prints_all_things_of_a_name_or_the_kind_asked_for(path):
    both = run(show.command, "both", "--plugin", path)
    assert "both (strategy, mine.py" in both
    assert "both (generator, mine.py" in both
    one = run(show.command, "both", "--kind", "models", "--plugin", path)
    assert "strategy" not in one
    assert (
        "width = 1.0  [float, > 0, <= 1]\n      Share of the channels: from 0 to 1.\n"
        in one
    )


def test_show_as_text_is_wrapped_and_complete(path):
    text = run(show.command, "quick-one", "--plugin", path)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "inner.steps = 5  (preset; else 600)  [int, >= 1]" in text
    assert 'needed = "x"  (preset; else required)  [str]' in text
    assert "Needs: models with features of one size" in text
    assert (
        "Server sends: Down: All that the server sends.\n    size (int): How large."
        in text
    )


def test_show_of_an_unknown_name_suggests_one(path):
    with pytest.raises(ConfigError, match=r"'mosiac'\. Did you mean 'mosaic'\?"):
        run(show.command, "mosiac", "--plugin", path)


def test_show_of_a_suite_prints_its_file(tmp_path, monkeypatch):
    (tmp_path / "small.yaml").write_text("description: Few.\nrounds: 1\n")
    monkeypatch.setattr("importlib.resources.files", lambda _: tmp_path)
    text = run(show.command, "small")
    assert text == "small (suite)\n\ndescription: Few.\nrounds: 1\n"
    assert run(show.command, "small", "--kind", "suites") == text
    with pytest.raises(ConfigError, match=r"Did you mean 'small'\?"):
        run(show.command, "smal")


def test_plugins_tells_what_is_broken_and_where_with_v(path, tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("import nowhere_at_all\n")
    files = ["--plugin", path, "--plugin", str(bad)]
    short = run(plugins.command, *files)
    assert "No module named 'nowhere_at_all'" in short
    assert "Traceback" not in short
    assert 'bad.py", line 1' in run(plugins.command, *files, "-v")
    found = json.loads(run(plugins.command, *files, "--format", "json"))
    assert [(p["name"], p["status"]) for p in found] == [
        ("fedkd.algorithms", "ok"),
        ("mine.py", "ok"),
        ("bad.py", "broken"),
    ]
    assert found[1]["hooks"] == ["fedkd_register_models", "fedkd_register_strategies"]


def test_plugins_fails_in_strict_mode_and_still_prints(tmp_path, monkeypatch):
    bad = tmp_path / "bad.py"
    bad.write_text("1 / 0\n")
    monkeypatch.setenv("FEDKD_STRICT_PLUGINS", "1")
    result = CliRunner().invoke(plugins.command, ["--plugin", str(bad)])
    assert result.exit_code == 1
    assert "ZeroDivisionError" in result.stdout


def test_a_broken_plug_in_leaves_list_and_show_working(tmp_path, capsys):
    bad = tmp_path / "bad.py"
    bad.write_text("1 / 0\n")
    assert cli.main(["--plugin", str(bad), "list"]) == 0
    captured = capsys.readouterr()
    assert "mosaic-code" in captured.out
    assert captured.err.count("\n") == 1
    assert "'bad.py'" in captured.err


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["lst"], 2, "fedkd: unknown command 'lst'. Did you mean 'list'?"),
        (["list", "strategy"], 2, "fedkd: Invalid value for"),
        (["list", "--fromat", "json"], 2, "fedkd: No such option"),
        (["show", "nothing-like-it"], 2, "fedkd: nothing is registered as"),
        (["list", "--plugin", "nope.py"], 2, "fedkd: --plugin "),
    ],
)
def test_a_mistake_is_one_line_on_stderr(arguments, code, line, capsys):
    assert cli.main(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(line)
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("wrong."), 2, "fedkd: wrong.\n"),
        (KeyboardInterrupt(), 130, "fedkd: interrupted.\n"),
        (
            OSError(28, "No space left on device", "/x"),
            1,
            "fedkd: /x: No space left on device; free some space or choose another "
            "folder.\n",
        ),
        (OSError(5, "Input/output error"), 1, "fedkd: Input/output error.\n"),
    ],
)
def test_what_a_command_raises_becomes_a_line_and_an_exit_code(
    error, code, line, monkeypatch, capsys
):
    @click.command()
    def failing():
        raise error

    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda *_: failing)
    assert cli.main(["list"]) == code
    # click ends the line that the terminal's ^C is on.
    assert capsys.readouterr().err.lstrip("\n") == line


def test_debugging_adds_the_traceback(monkeypatch, capsys):
    monkeypatch.setenv("FEDKD_DEBUG", "1")
    assert cli.main(["show", "nothing-like-it"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_the_exit_code_of_a_command_is_that_of_the_program(monkeypatch):
    @click.command()
    @click.pass_context
    def failing(context):
        context.exit(3)

    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda *_: failing)
    assert cli.main(["list"]) == 3


@pytest.mark.parametrize(("debug", "traceback"), [("", False), ("1", True)])
def test_a_bug_shows_its_traceback_only_when_debugging(debug, traceback, tmp_path):
    script = (
        "import fedkd.cli as c\n"
        "c.LazyGroup.get_command = lambda *_: 1 / 0\n"
        "c.main(['list'])\n"
    )
    done = python("-c", script, cwd=tmp_path, FEDKD_DEBUG=debug)
    assert done.returncode == 1
    assert ("Traceback" in done.stderr) is traceback
    assert "ZeroDivisionError: division by zero" in done.stderr


def test_a_closed_pipe_is_quiet(tmp_path):
    done = subprocess.run(
        f"{sys.executable} -m fedkd list | true",
        check=False,
        shell=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert "Broken" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_suite_is_listed_by_its_first_sentence_and_no_paragraph():
    found = CliRunner().invoke(cli.cli, ["list", "suites"]).output
    (quick,) = [line for line in found.splitlines() if line.split()[:1] == ["quick"]]
    assert quick.endswith("at strong label skew.")
    assert "two cores" not in found
    assert listing.first_sentence("Does it run? 0.5 s. The rest.") == (
        "Does it run? 0.5 s."
    )


def test_what_the_suite_quick_says_of_itself_names_its_strategies():
    from fedkd.suite.suite import load_suite

    quick = load_suite("quick")
    said = quick.description.lower()
    assert [e.name for e in quick.strategies if e.name not in said] == []
