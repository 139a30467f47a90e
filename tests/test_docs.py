"""What is built in is documented, and what is generated is fresh."""

import ast
import importlib
import importlib.util
import itertools
import re
import sys
import types
from pathlib import Path

import click
import pytest
import torch
from pydantic import BaseModel

from fedkd import hookspecs, simulate, testing
from fedkd.cli import COMMANDS, main
from fedkd.hookspecs import GROUP
from fedkd.plugins.cards import KEYS, method_keys
from fedkd.plugins.registry import load_registry
from fedkd.report.results import COLUMNS, STATUSES
from fedkd.strategy import Preset, Strategy

ROOT = Path(__file__).resolve().parents[1]
AUTHORS = "docs/write-an-algorithm.md"
GENERATED = {"docs/reference.md", "algorithms/README.md"}
PAGES = {
    str(path.relative_to(ROOT)): path.read_text("utf-8")
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "algorithms" / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    )
    if path.is_file()
}
WRITTEN = "\n".join(text for name, text in PAGES.items() if name not in GENERATED)
REFERENCE = PAGES.get("docs/reference.md", "")
REGISTRY = load_registry(quiet=True)
HOOKS = [name for name in dir(hookspecs) if name.startswith("fedkd_")]
KINDS = ("strategies", "datasets", "partitioners", "models", "executors", "metrics")


def _generator():
    path = ROOT / "docs" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def entries(*kinds):
    """Return what fedkd itself registers."""
    return [
        pytest.param(entry, id=f"{kind}-{entry.name}")
        for kind in kinds
        for entry in REGISTRY.entries(kind).values()
        if entry.owner == GROUP
    ]


def commands():
    """Return every command with its path: ``fedkd data check``."""
    found = {}
    for name, (module, _) in COMMANDS.items():
        command = importlib.import_module(f"fedkd.commands.{module}").command
        found[f"fedkd {name}"] = command
        for inner, nested in getattr(command, "commands", {}).items():
            found[f"fedkd {name} {inner}"] = nested
    return found


def class_of(entry):
    found = entry.resolve()
    return found.strategy if isinstance(found, Preset) else found


def configs():
    """Return every configuration class there is."""
    for kind in ("strategies", "datasets", "models", "partitioners", "metrics"):
        for entry in REGISTRY.entries(kind).values():
            class_of(entry)
    for name in ("suite.suite", "simulation.protocol", "ops.training"):
        importlib.import_module(f"fedkd.{name}")
    todo, found = [BaseModel], set()
    while todo:
        for cls in todo.pop().__subclasses__():
            todo.append(cls)
            if cls.__module__.startswith("fedkd."):
                found.add(cls)
    return sorted(found, key=lambda cls: (cls.__module__, cls.__qualname__))


def is_named(name, text):
    """Say whether a name stands alone in a text, not as a part of a longer one."""
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) is not None


@pytest.mark.parametrize("entry", entries("strategies"))
def test_a_strategys_module_says_paper_algorithm_code_and_deviations(entry):
    keys = method_keys(class_of(entry))
    assert [key for key in KEYS if not keys.get(key)] == []
    text = " ".join(keys.values())
    assert "://" not in text, "repositories are named github.com/owner/name"
    assert re.findall(r"arxiv\S*", text, re.IGNORECASE) == re.findall(
        r"arXiv:\d{4}\.\d{5}\S*", text
    )


@pytest.mark.parametrize("entry", entries("strategies"))
def test_a_preset_says_how_it_departs(entry):
    found = entry.resolve()
    if isinstance(found, Preset):
        assert found.doc
        assert found.deviations


@pytest.mark.parametrize("entry", entries(*KINDS))
def test_what_is_registered_has_a_summary_of_one_line(entry):
    assert entry.summary.endswith(".")
    assert len(entry.summary) <= 80


@pytest.mark.parametrize("config", configs(), ids=lambda c: c.__qualname__)
def test_every_field_of_a_configuration_says_what_it_is(config):
    silent = [n for n, f in config.model_fields.items() if not f.description]
    assert silent == [], f"write a string under the field in {config.__module__}"


@pytest.mark.parametrize("entry", entries("strategies"))
def test_payload_fields_say_what_they_are(entry):
    """What is communicated must be readable before any code is."""
    module = importlib.import_module(class_of(entry).__module__)
    tree = ast.parse(Path(module.__file__).read_text("utf-8"))
    payloads = [
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and any("dataclass" in ast.unparse(d) for d in node.decorator_list)
    ]
    silent = [
        f"{cls.name}.{ast.unparse(field.target)}"
        for cls in payloads
        for field, after in itertools.zip_longest(cls.body, cls.body[1:])
        if isinstance(field, ast.AnnAssign) and not isinstance(after, ast.Expr)
    ]
    assert silent == []


@pytest.mark.parametrize("entry", entries(*KINDS))
def test_what_is_built_in_is_mentioned_in_the_written_pages(entry):
    assert is_named(f"`{entry.name}`", WRITTEN)


@pytest.mark.parametrize("name", sorted(REGISTRY.suites()))
def test_a_suite_is_mentioned_in_the_written_pages(name):
    assert is_named(f"`{name}`", WRITTEN)


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_is_explained_on_the_page_of_plug_ins(hook):
    assert f"`{hook}" in PAGES["docs/plugins.md"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_mentioned_in_the_readme(name):
    assert f"fedkd {name}" in PAGES["README.md"]


@pytest.mark.parametrize("path", commands())
def test_a_command_and_its_options_are_in_the_reference(path):
    section = REFERENCE.partition(f"\n### {path}\n")[2].partition("\n#")[0]
    options = [
        name
        for parameter in commands()[path].params
        if isinstance(parameter, click.Option) and parameter.name != "plugin_files"
        for name in (*parameter.opts, *parameter.secondary_opts)
    ]
    assert section
    assert [name for name in options if not is_named(name, section)] == []


@pytest.mark.parametrize("verb", sorted(Strategy.__abstractmethods__))
def test_a_verb_is_explained_to_authors(verb):
    assert f"`{verb}" in PAGES[AUTHORS]


@pytest.mark.parametrize("name", [*COLUMNS, *STATUSES])
def test_a_column_of_the_results_is_explained(name):
    assert f"`{name}`" in PAGES["docs/files-and-columns.md"]


@pytest.mark.parametrize(
    "name",
    ["FEDKD_DATA", "FEDKD_DEBUG", "FEDKD_DISABLE_PLUGINS", "FEDKD_STRICT_PLUGINS"],
)
def test_an_environment_variable_is_documented(name):
    assert name in WRITTEN


def test_generated_pages_are_fresh():
    assert _generator().stale() == [], "run 'make docs'"


def test_no_generated_page_ends_a_sentence_twice_or_prints_options_as_prose():
    for name in GENERATED:
        text = PAGES[name]
        assert not re.search(r"[^.]\.\.$", text, re.MULTILINE), name
        assert "(default 500)" not in text


def test_a_changed_page_is_noticed(tmp_path, monkeypatch):
    generator = _generator()
    pages = generator.pages()
    assert "docs/reference.md" in pages
    monkeypatch.setattr(generator, "pages", lambda: pages)  # making them takes seconds
    for path, text in pages.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    assert generator.stale(tmp_path) == []
    (tmp_path / "docs/reference.md").write_text("old", encoding="utf-8")
    assert generator.stale(tmp_path) == ["docs/reference.md"]


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)", PAGES[page])
    local = [t for t in targets if "://" not in t]
    missing = [t for t in local if not (ROOT / page).parent.joinpath(t).exists()]
    assert missing == []


@pytest.mark.parametrize("page", ["README.md", AUTHORS, "docs/plugins.md"])
def test_the_python_examples_of_a_page_run(page, tmp_path, monkeypatch, capsys):
    """All blocks of a page in turn, in one module, as a reader would type them."""
    blocks = re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL)
    module = types.ModuleType("example")
    # Dataclasses, and states that are read back, look their module up.
    monkeypatch.setitem(sys.modules, "example", module)
    monkeypatch.chdir(tmp_path)
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), vars(module))
    # What a comment says of a run is what the run gives.
    told = re.findall(r"^# (FinishedRun.*)$", "\n".join(blocks), re.MULTILINE)
    assert set(told) <= set(capsys.readouterr().out.splitlines())


def on_the_page(name):
    """Return the plug-in of one file on the page for authors that registers a name."""
    blocks = re.findall(r"```python\n(.*?)```", PAGES[AUTHORS], re.DOTALL)
    (whole,) = [block for block in blocks if f'register("{name}"' in block]
    return whole


def test_the_strategy_on_the_page_for_authors_is_a_plug_in(tmp_path, monkeypatch):
    suite = re.search(r"```yaml\n(.*?)```", PAGES[AUTHORS], re.DOTALL)[1]
    (tmp_path / "my_fedavgm.py").write_text(on_the_page("my-fedavgm"), encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(suite, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    shown = ["show", "my-fedavgm", "--plugin", "my_fedavgm.py"]
    assert main(shown) == 0
    assert main(["bench", "mine.yaml", "--plugin", "my_fedavgm.py", "--dry-run"]) == 0


@pytest.mark.parametrize(
    ("name", "lines", "built_in", "options"),
    [
        ("my-fedavgm", 40, "fedavgm", {}),
        ("my-scaffold", 60, "scaffold", {"weights": "examples"}),
    ],
)
def test_a_short_plug_in_on_the_page_does_what_the_built_in_one_does(
    name, lines, built_in, options, tmp_path
):
    text = on_the_page(name)
    assert len([line for line in text.splitlines() if line.strip()]) < lines
    path = tmp_path / f"{name.replace('-', '_')}.py"
    path.write_text(text, encoding="utf-8")
    own, _ = load_registry([path], strict=True).strategy(name)
    other, _ = REGISTRY.strategy(built_in, options)
    training = testing.toy_protocol().training.model_copy(update={"weight_decay": 0.0})
    world = testing.toy_federation(), testing.toy_protocol(3, training=training)
    mine, theirs = (simulate(each, *world, seed=0).state for each in (own, other))
    for entry, value in theirs.weights.items():
        torch.testing.assert_close(mine.weights[entry], value, rtol=1e-5, atol=1e-6)


def test_no_page_clones_into_a_folder_that_would_hide_the_package():
    clones = re.findall(r"git clone <this repository>(.*)", "\n".join(PAGES.values()))
    assert clones
    assert {text.split()[0] for text in clones} == {"fedkd-src"}


def test_pages_name_no_folder_of_one_machine():
    for page, text in PAGES.items():
        assert not re.search(r"/(home|root|Users|work|tmp)/", text), page
