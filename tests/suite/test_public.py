"""Public data in a suite: read strictly, in the hash only where given, and in the bench."""

from pathlib import Path

import pytest
import yaml

from fedkd.cli import main
from fedkd.errors import ConfigError
from fedkd.plugins.registry import load_registry
from fedkd.suite.grid import grid
from fedkd.suite.overrides import Overrides, load_overridden

PLUGIN = Path(__file__).parents[1] / "plugins" / "toy_plugin.py"
TOY = {
    "rounds": 1,
    "clients": 3,
    "seeds": 0,
    "datasets": ["toy"],
    "partitions": ["iid"],
    "models": ["toy-linear"],
    "training": {"local_steps": 2, "batch_size": 8, "lr": 0.05},
    "strategies": ["fedavg"],
}


@pytest.fixture
def suite_of(tmp_path):
    registry = load_registry([PLUGIN])

    def make(*assignments, **values):
        path = tmp_path / "toy.yaml"
        path.write_text(yaml.safe_dump({**TOY, **values}), encoding="utf-8")
        suite = load_overridden(str(path), Overrides(assignments=assignments), registry)
        return suite, grid(suite, registry)

    return make


def test_it_is_in_the_hash_where_it_is_given_and_nowhere_else(suite_of):
    suite, (plain,) = suite_of()
    assert "public" not in plain.config
    assert "public" not in suite.plain()
    _, (shared,) = suite_of(public={"share": 0.25})
    assert shared.config["public"] == {"share": 0.25}
    assert shared.config_hash != plain.config_hash


def test_the_command_line_sets_it(suite_of):
    suite, _ = suite_of("public.share=0.5")
    assert suite.plain()["public"] == {"share": 0.5}
    suite, (cell,) = suite_of("public={dataset: digits, fraction: 0.5}")
    assert suite.public.plain() == {"dataset": "digits", "fraction": 0.5}
    assert cell.config["public"]["dataset"]["options"]["fraction"] == 0.5


@pytest.mark.parametrize(
    ("public", "words"),
    [
        ({}, "exactly one of share and dataset"),
        ({"share": 0.1, "dataset": "digits"}, "exactly one of share and dataset"),
        ({"share": 1.5}, r"public.share: found 1.5"),
        ({"shore": 0.1}, r"public.shore: unknown key"),
        ({"dataset": "toy"}, "the clients' own"),
        ({"dataset": "toy-mising"}, "unknown"),
    ],
)
def test_what_cannot_be_public_is_refused(suite_of, public, words):
    with pytest.raises(ConfigError, match=words):
        suite_of(public=public)


@pytest.mark.parametrize(
    ("public", "words"),
    [
        ("{share: 0.25}", "Public data: 25 % of the training images, held out before"),
        ("{dataset: digits}", "Public data: the training images of digits"),
    ],
)
def test_a_bench_says_what_is_public(tmp_path, monkeypatch, public, words):
    monkeypatch.chdir(tmp_path)
    Path("toy.yaml").write_text(yaml.safe_dump(TOY), encoding="utf-8")
    command = ["bench", "toy.yaml", "--plugin", str(PLUGIN), "--out", "out", "--plain"]
    command += ["--no-plots", "--jobs", "1", "--set", f"public={public}"]
    assert main(command) == 0
    assert words in Path("out/table.md").read_text("utf-8")
    (log,) = Path("out/runs").glob("*/log")
    note = "9 training images held out before the partition, as public data"
    assert (note in log.read_text("utf-8")) == ("share" in public)
