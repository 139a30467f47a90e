"""docs/tuning.md: what it shows is what happens."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from fedkd.cli import main
from fedkd.plugins.registry import load_registry
from fedkd.suite.grid import grid
from fedkd.suite.overrides import Overrides, load_overridden
from fedkd.suite.search import SearchConfig

PAGE = (Path(__file__).parents[1] / "docs" / "tuning.md").read_text("utf-8")


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tuned.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    return tmp_path


def test_its_suite_is_tuned(here, capsys):
    small = ["rounds=1", "clients=2", "seeds=0", "models=mlp", "search.trials=2"]
    small += ["training={local_steps: 1, batch_size: 4, lr: 0.01}"]
    (command,) = (line for line in blocks("sh")[0].splitlines() if "--out" in line)
    options = [word for one in small for word in ("--set", one)]
    words = [
        *shlex.split(command)[1:],
        *options,
        "--jobs",
        "1",
        "--plain",
        "--no-plots",
    ]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert re.search(
        r"fedprox, digits, .*: training.lr .*, strategy.mu .*best of 2", said
    )
    assert "It took 6 runs: " in said
    for name in ("chosen.json", "search/results.csv"):
        assert Path("runs/tuned", name).is_file()


def test_other_commands_of_it_are_plans(here, capsys):
    plans = [x for b in blocks("sh") for x in b.splitlines() if "--dry-run" in x]
    assert len(plans) == 3
    for line in plans[1:]:
        suite, *words = shlex.split(line)[2:-1]
        sets = words[1::2]
        registry = load_registry()
        cells = grid(
            load_overridden(suite, Overrides(assignments=sets), registry), registry
        )
        assert len({cell.config_hash for cell in cells}) == len(cells)
    assert main(shlex.split(plans[0])[1:]) == 0
    assert "A search comes first: at most 18 runs." in capsys.readouterr().out


@pytest.mark.parametrize("block", blocks("yaml")[1:])
def test_pieces_of_suites_are_right(here, block):
    whole = yaml.safe_load(blocks("yaml")[0])
    Path("piece.yaml").write_text(
        yaml.safe_dump({**whole, **yaml.safe_load(block)}), encoding="utf-8"
    )
    registry = load_registry()
    assert grid(load_overridden("piece.yaml", Overrides(), registry), registry)


def test_every_key_of_a_search_is_on_the_page():
    for key in SearchConfig.model_fields.keys() - {"space"}:
        assert f"| `{key}` |" in PAGE
