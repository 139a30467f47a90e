"""What ``fedkd new`` writes works at once, under a name that was checked."""

import ast
import importlib.util
import os
import subprocess
import sys

import pytest
import yaml
from click.testing import CliRunner
from setuptools.config.pyprojecttoml import read_configuration

from fedkd.cli import main
from fedkd.commands import new
from fedkd.errors import ConfigError
from fedkd.plugins.registry import load_registry
from fedkd.plugins.writing import THINGS, new_plugin

NAMES = {thing: f"my-{thing}" for thing in THINGS} | {"metric": "my_metric"}
FILES = {
    "pyproject.toml",
    "README.md",
    ".github/workflows/test.yml",
    "src/fedkd_my_{}/__init__.py",
    "src/fedkd_my_{}/my_{}.py",
    "tests/test_my_{}.py",
}


def run(*arguments):
    result = CliRunner().invoke(new.command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A folder with a package of each kind."""
    folder = tmp_path_factory.mktemp("packages")
    for thing, name in NAMES.items():
        run(thing, name, "--into", str(folder))
    return folder


def test_a_package_has_code_tests_project_readme_and_continuous_integration(packages):
    for thing in THINGS:
        top = packages / f"fedkd-my-{thing}"
        written = {str(p.relative_to(top)) for p in top.rglob("*") if p.is_file()}
        assert written == {name.format(thing, thing) for name in FILES}
        texts = "".join(p.read_text() for p in top.rglob("*.*") if p.is_file())
        assert "$" not in texts.replace("$FEDKD_SOURCE", "")


def test_continuous_integration_installs_fedkd_from_its_repository_first(packages):
    for thing in THINGS:
        top = packages / f"fedkd-my-{thing}"
        job = yaml.safe_load((top / ".github/workflows/test.yml").read_text())
        steps = [step.get("run") for step in job["jobs"]["test"]["steps"]]
        assert job["jobs"]["test"]["env"]["FEDKD_SOURCE"].startswith("git+https://")
        installs = ['pip install "fedkd @ $FEDKD_SOURCE"', 'pip install -e ".[test]"']
        assert steps[2:4] == installs
        assert "FEDKD_SOURCE" in (top / "README.md").read_text()


def test_tests_of_a_package_name_nothing_of_the_example_but_its_class_at_the_top(
    packages,
):
    for thing in THINGS:
        path = packages / f"fedkd-my-{thing}" / "tests" / f"test_my_{thing}.py"
        tree = ast.parse(path.read_text())
        own = [n for n in tree.body if isinstance(n, ast.ImportFrom)]
        names = {a.name for n in own if n.module != "fedkd" for a in n.names}
        assert names == {f"My{thing.capitalize()}"}
        assert "replace the other tests by your own" in ast.get_docstring(tree)


@pytest.mark.thorough
def test_all_packages_pass_their_own_tests_and_a_linter(packages):
    """In one process for all of them, as their authors run it in each."""
    tops = sorted(str(p) for p in packages.iterdir())
    sources = os.pathsep.join(f"{top}/src" for top in tops)
    path = os.pathsep.join([sources, *filter(None, sys.path)])
    options = ["-q", "--import-mode=importlib", "-p", "no:cacheprovider"]
    options += [
        "-W",
        "error",
        "-c",
        f"{tops[0]}/pyproject.toml",
        "--rootdir",
        str(packages),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(f"{top}/tests" for top in tops)],
        check=False,
        capture_output=True,
        text=True,
        cwd=packages,
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = int(done.stdout.split(" passed")[0].split()[-1])
    assert passed > 60
    if importlib.util.find_spec("ruff"):
        ruff = [sys.executable, "-m", "ruff"]
        rules = ["check", "--isolated", "--no-cache", "--select", "E,F,UP,B", "."]
        for words in (rules, ["format", "--isolated", "--no-cache", "--check", "."]):
            done = subprocess.run(
                [*ruff, *words],
                check=False,
                capture_output=True,
                text=True,
                cwd=packages,
            )
            assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("thing", THINGS)
def test_once_installed_it_is_listed_with_its_owner(
    thing, packages, tmp_path, monkeypatch, capsys
):
    """What pip would write of its pyproject.toml stands in for an installation."""
    top = packages / f"fedkd-my-{thing}"
    project = read_configuration(top / "pyproject.toml", expand=False)["project"]
    known = tmp_path / f"fedkd_my_{thing}-{project['version']}.dist-info"
    known.mkdir()
    head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n"
    (known / "METADATA").write_text(head)
    ((group, points),) = project["entry-points"].items()
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (known / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(top / "src"))
    assert main(["list", THINGS[thing]]) == 0
    (line,) = [
        text
        for text in capsys.readouterr().out.splitlines()
        if text.split()[:1] == [NAMES[thing]]
    ]
    assert line.endswith(f"fedkd-my-{thing}")
    assert load_registry(strict=True).resolve(THINGS[thing], NAMES[thing])


@pytest.mark.parametrize("thing", THINGS)
def test_a_single_file_is_a_plug_in(thing, tmp_path):
    text = run(thing, NAMES[thing], "--file", "--into", str(tmp_path))
    (path,) = tmp_path.iterdir()
    assert path.name == f"my_{thing}.py"
    assert f"fedkd check {NAMES[thing]} --plugin {path}" in text
    entry = load_registry([path], strict=True).entry(THINGS[thing], NAMES[thing])
    assert entry.owner == path.name
    assert entry.resolve().__doc__
    assert main(["show", NAMES[thing], "--plugin", str(path)]) == 0


def test_a_written_model_passes_the_check_of_the_command_line(tmp_path):
    run("model", "my-model", "--file", "--into", str(tmp_path))
    assert main(["check", "my-model", "--plugin", str(tmp_path / "my_model.py")]) == 0


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "my_model.py").write_text("mine")
    with pytest.raises(
        ConfigError, match=r"my_model.py exists, and nothing is overwrit"
    ):
        run("model", "my-model", "--file", "--into", str(tmp_path))
    assert (tmp_path / "my_model.py").read_text() == "mine"
    (tmp_path / "fedkd-my-model").mkdir()
    with pytest.raises(
        ConfigError, match=r"fedkd-my-model exists, and nothing is over"
    ):
        run("model", "my-model", "--into", str(tmp_path))
    assert not list((tmp_path / "fedkd-my-model").iterdir())


@pytest.mark.parametrize(
    ("thing", "name", "sentence"),
    [
        ("strategy", "MyOwn", "'MyOwn' is not lower-case words joined by hyphens"),
        ("strategy", "my_own", "not lower-case words joined by hyphens"),
        ("metric", "my-own", "not lower-case words joined by underscores"),
        ("strategy", "../x", "not lower-case words"),
        (
            "strategy",
            "fedavg",
            "strategy 'fedavg' is already registered by fedkd. Choose",
        ),
        ("model", "3d", "would be the module '3d', which Python does not import"),
        (
            "dataset",
            "class",
            "would be the module 'class', which Python does not import",
        ),
        ("strategy", "client", "would be the class 'Client', a name that its module"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(thing, name, sentence):
    with pytest.raises(ConfigError, match=sentence):
        new_plugin(thing, name, load_registry(quiet=True))
