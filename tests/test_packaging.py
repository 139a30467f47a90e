"""What an installed fedkd is: its packages, its wheel, and nothing else beside it.

Mapping ``algorithms`` to ``fedkd.algorithms`` is easy to get half right: a package that
is not listed works in a checkout and is missing from the wheel without an error.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from setuptools.config.pyprojecttoml import read_configuration

import fedkd

ROOT = Path(__file__).resolve().parents[1]
PROJECT = read_configuration(ROOT / "pyproject.toml", expand=False)
SETUPTOOLS = PROJECT["tool"]["setuptools"]
MAPPING = SETUPTOOLS["package-dir"]
LINKS = {"algorithms", "datasets", "models", "suites", "reported"}
SOURCES = ("fedkd", "algorithms", "datasets", "models", "benchmarks")
OWN_FOLDERS = {"algorithms", "datasets", "models", "benchmarks", "tests", "docs"}


def folder_of(package):
    """Return the folder of a package, relative to the root."""
    if package in MAPPING:
        return MAPPING[package]
    around, _, name = package.rpartition(".")
    return f"{folder_of(around)}/{name}" if around else name


def run(*command, **options):
    """Run a command away from the checkout and return what it prints."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_folder_of_modules_is_a_listed_package():
    folders = {
        str(path.parent.relative_to(ROOT))
        for source in SOURCES
        for path in (ROOT / source).rglob("__init__.py")
        # The links hold what the mapped folders hold.
        if not any(parent.is_symlink() for parent in path.parents)
    }
    assert folders == {folder_of(package) for package in SETUPTOOLS["packages"]}


def test_every_module_is_in_a_folder_of_a_listed_package():
    listed = {ROOT / folder_of(package) for package in SETUPTOOLS["packages"]}
    for source in ("fedkd", "algorithms", "datasets", "models"):
        for path in (ROOT / source).rglob("*.py"):
            if not any(parent.is_symlink() for parent in path.parents):
                assert path.parent in listed, f"{path} is in no package"


@pytest.mark.parametrize("name", sorted(LINKS))
def test_a_link_in_the_package_shows_the_folder_that_is_mapped(name):
    """On a file system without links the mapping alone does, so the links may lack."""
    link = ROOT / "fedkd" / name
    if not link.is_symlink():
        pytest.skip("this checkout has no links")
    assert link.resolve() == (ROOT / folder_of(f"fedkd.{name}")).resolve()
    assert not link.readlink().is_absolute()


def test_no_folder_of_the_checkout_is_importable_from_elsewhere(tmp_path):
    script = (
        "import importlib.util, json, sys\n"
        "found = [n for n in sys.argv[1:] if importlib.util.find_spec(n)]\n"
        "places = [importlib.util.find_spec(n).origin or '' for n in found]\n"
        "print(json.dumps(places))"
    )
    places = run(sys.executable, "-c", script, *sorted(OWN_FOLDERS), cwd=tmp_path)
    # Another project's 'datasets' may be installed; ours must not be what is found.
    assert str(ROOT) not in places


def test_the_package_is_found_from_elsewhere_with_all_its_parts(tmp_path):
    names = ["fedkd.algorithms.fedavg", "fedkd.datasets.digits", "fedkd.models.cnn"]
    script = f"import {', '.join(names)}, fedkd; print(fedkd.__version__)"
    assert run(sys.executable, "-c", script, cwd=tmp_path) == f"{fedkd.__version__}\n"


def test_modules_have_one_name_whichever_way_they_are_reached():
    from fedkd.algorithms.fedavg import FedAvg
    from fedkd.plugins.registry import load_registry

    found = load_registry().resolve("strategies", "fedavg")
    assert found is FedAvg
    assert FedAvg.__module__ == "fedkd.algorithms.fedavg"
    assert not {"algorithms", "models"} & sys.modules.keys()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that is built from the sources alone, in a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    skipped = shutil.ignore_patterns("__pycache__")
    for name in SOURCES:
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=skipped)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    run(*pip, "--quiet", "--wheel-dir", folder / "dist", copy, cwd=folder)
    (found,) = (folder / "dist").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def contents(wheel):
    """The names of the files in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


install = pytest.mark.install


@install
def test_the_wheel_holds_every_module_once(contents):
    expected = {
        f"{package.replace('.', '/')}/{path.name}"
        for package in SETUPTOOLS["packages"]
        for path in (ROOT / folder_of(package)).glob("*.py")
    }
    assert {name for name in contents if name.endswith(".py")} == expected


@install
def test_the_wheel_holds_the_suites_and_the_mark_of_a_typed_package(contents):
    suites = {path.name for path in (ROOT / "benchmarks" / "suites").glob("*.yaml")}
    assert suites
    assert {f"fedkd/suites/{name}" for name in suites} <= contents
    papers = {path.name for path in (ROOT / "benchmarks" / "reported").glob("*.yaml")}
    assert papers
    assert {f"fedkd/reported/{name}" for name in papers} <= contents
    assert "fedkd/py.typed" in contents


@install
@pytest.mark.parametrize("package", ["plugins", "report/html"])
def test_the_wheel_holds_the_templates(contents, package):
    folder = f"fedkd/{package}/templates"
    templates = {path.name for path in (ROOT / folder).iterdir()}
    assert len(templates) > 2
    assert {f"{folder}/{name}" for name in templates} <= contents


@install
def test_the_wheel_holds_the_licence(contents):
    assert any(name.endswith("LICENSE") for name in contents)


@install
def test_nothing_but_fedkd_lands_in_site_packages(wheel, tmp_path):
    """A top-level ``datasets`` would shadow the package of that name by others."""
    target = tmp_path / "site-packages"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    run(*pip, "--target", target, wheel, cwd=tmp_path)
    found = {path.name for path in target.iterdir()} - {"bin"}
    assert found == {"fedkd", f"fedkd-{fedkd.__version__}.dist-info"}


@install
def test_an_installed_wheel_lists_what_is_built_in(wheel, tmp_path):
    """The archive on the path stands for an installation; from an unrelated folder."""
    target = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    script = (
        "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
        "import fedkd; assert fedkd.__file__.startswith(sys.path[0])\n"
        "from fedkd.cli import main; sys.exit(main(['list', 'strategies']))"
    )
    shown = run(sys.executable, "-c", script, target, cwd=tmp_path)
    assert "fedavg" in shown
    assert "mosaic-origin" in shown
