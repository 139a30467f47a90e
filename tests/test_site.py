"""The documentation site: its pages, their code, their links, and what leaves a client."""

import importlib.util
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

from fedkd.cli import main
from fedkd.plugins.registry import load_registry
from fedkd.report.results import read_results

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
NEEDED = ("mkdocs", "material", "mkdocstrings_handlers")
NEW = (
    "first-table",
    "read-a-table",
    "protocol",
    "write-a-distiller",
    "write-the-rest",
    "watch-a-run",
)


def blocks(page, kind):
    text = (DOCS / f"{page}.md").read_text("utf-8")
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


def module_of(name):
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(DOCS))


site, traffic = module_of("make_site"), module_of("traffic")


@pytest.fixture(scope="module")
def pages():
    return site.site_pages(traffic_of=["fedavg", "scaffold"])


@pytest.mark.parametrize("page", [p for p in NEW if blocks(p, "python")])
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    module = types.ModuleType("example")
    monkeypatch.setitem(sys.modules, "example", module)
    monkeypatch.chdir(tmp_path)
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), vars(module))


def test_the_observer_of_the_page_hears_of_every_round(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("marks.py").write_text(blocks("watch-a-run", "python")[0], encoding="utf-8")
    words = ["bench", "quick", "--plugin", "marks.py", "--observer", "marks"]
    words += ["--strategies", "fedavg", "--rounds", "2", "--seeds", "0", "--jobs", "1"]
    code = main([*words, "--plain", "--no-plots", "--out", "out"])
    said = capsys.readouterr()
    assert code == 0, said.err
    assert "fedavg: done after 0 and more rounds" in said.out
    (marks,) = Path("out/runs").glob("*/marks.txt")
    assert [line.split()[0] for line in marks.read_text().splitlines()] == ["1", "2"]


def test_the_things_of_the_page_are_one_plug_in(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = "\n\n".join(blocks("write-the-rest", "python"))
    Path("blobs.py").write_text(code, encoding="utf-8")
    Path("blobs.yaml").write_text(blocks("write-the-rest", "yaml")[0], encoding="utf-8")
    words = ["bench", "blobs.yaml", "--plugin", "blobs.py", "--plain", "--no-plots"]
    assert main([*words, "--jobs", "1", "--out", "out"]) == 0, capsys.readouterr().err
    assert "fedprox, seed 0: done" in capsys.readouterr().out
    rows = read_results(Path("out/results.csv"))
    assert [row.strategy for row in rows] == ["fedavg", "fedprox"]
    assert "client_gap" in Path("out/results.csv").read_text("utf-8")


def test_the_suite_of_the_first_table_is_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(blocks("first-table", "yaml")[0], encoding="utf-8")
    assert main(["bench", "mine.yaml", "--dry-run"]) == 0, capsys.readouterr().err
    assert "9 of 9 cells" in capsys.readouterr().out


def test_every_thing_has_a_card(pages):
    registry = load_registry(quiet=True)
    for kind in site.KINDS:
        for entry in site.built_in(registry, kind):
            text = pages[f"{kind}/{entry.name}.md"]
            assert text.startswith(f"# {entry.name}\n")
            assert f"]({entry.name}.md)" in pages[f"{kind}/index.md"]


def test_links_lead_to_pages_of_the_site(pages):
    lost = []
    for page, text in pages.items():
        for _, target in site.LINK.findall(site.FENCE.sub("", text)):
            path = target.partition("#")[0]
            place = os.path.normpath(Path(page).parent / path)
            is_of_one_strategy = path.endswith("traffic.md")
            if path and "://" not in path and not is_of_one_strategy:
                lost += [] if place in pages else [(page, target)]
    assert lost == []


def test_links_are_moved_and_code_is_left_alone():
    text = (
        "[a](../README.md#use) [b](../algorithms/README.md#fedavg) [c](plugins.md)\n"
        "[`d`](../algorithms/mosaic/__init__.py) [e](https://example.org/x.md)\n"
        "```\n[f](../README.md)\n```\n"
    )
    assert site.for_site(text, "docs/page.md") == (
        "[a](index.md#use) [b](strategies/fedavg.md) [c](plugins.md)\n"
        "`d` [e](https://example.org/x.md)\n"
        "```\n[f](../README.md)\n```\n"
    )


def test_a_stroke_in_the_code_of_a_table_is_not_escaped(pages):
    text = "| `a b\\|c` | ` \\| ` |\n"
    assert site.for_site(text, "docs/page.md") == "| `a b|c` | ` | ` |\n"
    assert not any("\\|" in page for page in pages.values())


def test_lists_stand_apart_and_inner_items_are_four_in():
    text = "words:\n- one\n  more\n  - inner\n- two\n"
    assert site.spaced(text) == "words:\n\n- one\n  more\n    - inner\n- two\n"


def test_every_page_in_docs_is_in_the_menu(pages):
    menu = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    named = set(re.findall(r": (\S+\.md)$", menu, re.MULTILINE))
    assert {path.name for path in DOCS.glob("*.md")} <= named
    assert named <= set(pages)


def test_every_public_name_is_in_the_reference(pages):
    for name in ("Strategy", "Client", "Server", "Config", "simulate", "Metric"):
        module = site.public_names()[name]
        assert f"\n::: {module}.{name}\n" in pages["api.md"]


def test_what_leaves_a_client_is_written_down():
    registry = load_registry(quiet=True)
    plain = traffic.ledger_of(registry, "fedavg", {})
    assert plain.most["client"] == plain.most["server"]
    sent = plain.fields["client", "weights"]
    assert sent.bytes == plain.most["client"]
    assert sent.rounds == {1, 2, 3}
    assert plain.fields["client", "examples"].shapes == "1 int"
    assert not plain.fields["client", "besides"].rounds
    ours = traffic.ledger_of(registry, "scaffold", {})
    variates = ours.fields["client", "besides"]
    assert 0 < variates.bytes < sent.bytes  # parameters only, and weights have buffers
    assert ours.most["client"] == sent.bytes + variates.bytes


def test_what_travelled_is_said_in_words():
    import torch

    values = [torch.zeros(2), torch.zeros(1, dtype=torch.int64), 3, "a"]
    assert traffic.in_words(values) == "2 tensors (float32, int64), 1 int, 1 str"


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in NEEDED),
    reason="needs the extra 'docs': 'make site' installs it, and builds the site",
)
def test_the_site_builds_strictly(pages, tmp_path):
    for path, text in pages.items():
        (tmp_path / "pages" / path).parent.mkdir(parents=True, exist_ok=True)
        # The sections of all other strategies are not on this page.
        whole = re.sub(r"traffic\.md#[\w-]+", "traffic.md", text)
        (tmp_path / "pages" / path).write_text(whole, encoding="utf-8")
    settings = (ROOT / "mkdocs.yml").read_text("utf-8")
    settings = settings.replace("build/pages", str(tmp_path / "pages"))
    settings = settings.replace("paths: [.]", f"paths: ['{ROOT}']")
    settings = settings.replace("docs/roles.py", str(DOCS / "roles.py"))
    (tmp_path / "mkdocs.yml").write_text(settings, encoding="utf-8")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", "site"]
    done = subprocess.run(
        words, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
