"""``import fedkd`` is the one face: all that pages, examples and authors need."""

import ast
import re
import subprocess
import sys

import pytest
from house import ROOT

import fedkd

DEEP = ("fedkd.ops", "fedkd.algorithms", "fedkd.robust")
"""Packages that pages and examples import from, beside ``fedkd`` itself."""
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
EXAMPLES = sorted(ROOT.glob("tests/plugins/*/src/**/*.py"))


def imported_for_checkers():
    """Return the names that ``fedkd/__init__.py`` imports for type checkers."""
    tree = ast.parse((ROOT / "fedkd" / "__init__.py").read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {
        f"{node.module}:{alias.name}" for node in block.body for alias in node.names
    }


def deep_imports(text):
    """Return the modules inside ``fedkd`` that a text imports from, but allowed ones."""
    modules = re.findall(r"^\s*(?:from|import) (fedkd\.[\w.]+)", text, re.MULTILINE)
    return [m for m in modules if not any(f"{m}.".startswith(f"{p}.") for p in DEEP)]


@pytest.mark.parametrize("name", fedkd.__all__)
def test_every_public_name_is_there(name):
    assert getattr(fedkd, name) is not None


def test_type_checkers_see_the_same_names_at_the_same_homes():
    names = set(fedkd.__all__) - {"__version__", "testing"}
    lazy = {f"fedkd.{fedkd._HOME_OF[name]}:{name}" for name in names}
    assert imported_for_checkers() == lazy | {"fedkd:testing"}


def test_the_face_is_instant():
    code = "import fedkd, sys; assert 'torch' not in sys.modules; dir(fedkd)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_imports_from_the_face(path):
    assert deep_imports(path.read_text("utf-8")) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_imports_from_the_face(path):
    assert deep_imports(path.read_text("utf-8")) == []
