"""``fedkd partition``: what it prints and writes, and that it is the bench's split."""

import json
import sys
from pathlib import Path

import pytest
import torch

from fedkd import cli
from fedkd.commands.partition import options_of
from fedkd.errors import ConfigError
from fedkd.harness.builder import RunBuilder
from fedkd.partition.counts import read_table
from fedkd.plugins.options import resolve
from fedkd.plugins.registry import load_registry

MANY = """
import dataclasses, fedkd
from fedkd.testing import toy_images

@fedkd.hookimpl
def fedkd_register_datasets(register):
    register("many", ":Many")

class Many(fedkd.Dataset):
    def load(self, root):
        return toy_images(classes=25, per_class=20)
"""


WRITTEN = [
    *("--plugin", Path(__file__).parents[1] / "plugins" / "toy_plugin.py"),
    *("--dataset", "toy-written"),
]
"""The arguments that name a data set of three writers."""


@pytest.fixture
def fedkd(monkeypatch, capsys):
    """Run ``fedkd partition ARGUMENTS``; returns exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def run(*arguments):
        code = cli.main(["partition", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def record(fedkd, *arguments):
    code, out, err = fedkd("--format", "json", *arguments)
    assert (code, err) == (0, "")
    return json.loads(out)


def test_the_split_is_that_of_a_run_of_the_bench(fedkd, tmp_path):
    registry = load_registry()
    digits = resolve(registry, "datasets", "digits", {}, "a test")
    split = resolve(registry, "partitioners", "dirichlet", {"alpha": 0.5}, "a test")
    builder = RunBuilder(registry, tmp_path, torch.device("cpu"))
    found = record(fedkd, "--clients", 7, "--seed", 3, "--set", "alpha=0.5")
    assert found["hash"] == builder.split(digits, split, 7, 3).hash


def test_without_options_it_shows_ten_clients_of_the_digits(fedkd):
    found = record(fedkd)
    assert sum(found["sizes"]) == 1437
    assert len(found["counts"]) == 10
    assert found["classes"] == list("0123456789")
    assert found["partition"]["options"]["alpha"] == 0.1


def test_the_table_has_a_row_for_each_client(fedkd):
    code, out, _ = fedkd(
        "--partition", "shards", "--clients", 3, "--set", "per_client=1"
    )
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "digits, shards per_client=1, 3 clients, seed 0:"
    assert lines[1].split() == ["client", "samples", *"0123456789"]
    assert sorted(line.split()[1] for line in lines[2:5]) == ["479", "479", "479"]
    assert "-" in lines[2].split()
    assert "Samples a client: 479 to 479, mean 479.0; classes a client: " in out
    assert lines[-1].startswith("Hash: ")
    assert len(lines[-1]) == len("Hash: ") + 16


def test_alpha_is_shown_also_when_it_is_the_default(fedkd):
    assert fedkd()[1].startswith("digits, dirichlet alpha=0.1, 10 clients, seed 0:")


def test_repairs_are_told(fedkd):
    out = fedkd("--clients", 100, "--set", "alpha=0.01")[1]
    assert "\nNote: repaired: client " in out


def test_many_classes_are_summed_up(fedkd, tmp_path):
    plugin = tmp_path / "many.py"
    plugin.write_text(MANY)
    options = ["--dataset", "many", "--partition", "classes", "--set", "per_client=2"]
    code, out, _ = fedkd(*options, "--clients", 20, "--plugin", plugin)
    assert code == 0
    header = "  client  samples  classes  largest classes"
    assert out.splitlines()[1] == header
    assert "Classes: " not in out


def test_a_written_table_is_what_the_partitioner_counts_reads(fedkd, tmp_path):
    path = tmp_path / "new" / "split.csv"
    first = record(fedkd, "--csv", path)
    assert path.read_text().splitlines()[0] == "client,0,1,2,3,4,5,6,7,8,9"
    assert read_table(path, 10).tolist() == first["counts"]
    again = record(fedkd, "--partition", "counts", "--set", f"file={path}")
    assert again["counts"] == first["counts"]


@pytest.mark.parametrize("name", ["split.png", "SPLIT.PNG"])
def test_a_heat_map_is_drawn(fedkd, tmp_path, name):
    path = tmp_path / name
    assert fedkd("--png", path)[0] == 0
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_options_are_yaml_values():
    texts = ["alpha=0.5", "partition.seed = 3", "rng=legacy", "file=a=b.csv"]
    assert options_of([*texts, "dataset.fraction=0.1"]) == {
        "partition": {"alpha": 0.5, "seed": 3, "rng": "legacy", "file": "a=b.csv"},
        "dataset": {"fraction": 0.1},
    }


@pytest.mark.parametrize("text", ["alpha", "=3", "partition.=3", "dataset.=3", ""])
def test_an_assignment_without_name_or_value_is_refused(text):
    with pytest.raises(ConfigError, match=r"expected option=value, such as alpha=0\.1"):
        options_of([text])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--set", "alhpa=1"],
            "--partition dirichlet: alhpa: unknown key. Did you mean",
        ),
        (["--set", "alpha=0"], "--partition dirichlet: alpha: found 0."),
        (["--partition", "dirichlte"], "unknown partitioner 'dirichlte'. Did you mean"),
        (["--dataset", "digit"], "unknown data set 'digit'. Did you mean 'digits'?"),
        (["--clients", "144"], "144 clients with 10 samples each, or more, need 1440"),
        (["--png", "x.pdf"], "expected a name that ends in .png"),
        (["--clients", "0"], "0 is not in the range x>=1"),
        (["--partition", "counts"], "expected 'counts:FILE'"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_code_2(fedkd, arguments, message):
    code, out, err = fedkd(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_missing_data_is_exit_code_1(fedkd, tmp_path):
    code, _, err = fedkd("--dataset", "mnist", "--data-root", tmp_path)
    assert code == 1
    assert "fedkd data prepare mnist" in err


def test_the_groups_of_clients_are_shown(fedkd):
    _, out, _ = fedkd(*WRITTEN, "--partition", "natural", "--clients", 3)
    assert "Groups, by client: 0 anna, 1 ben, 2 cy.\n" in out
    _, out, _ = fedkd(*WRITTEN, "--partition", "iid", "--clients", 2)
    assert "Groups, by client: 0 3 of them, 1 3 of them.\n" in out
    _, out, _ = fedkd(*WRITTEN, "--partition", "iid", "--clients", 30)
    assert "Groups: 3; a client has samples of " in out


def test_the_record_has_the_groups_of_clients(fedkd):
    found = record(
        fedkd, *WRITTEN, "--partition", "groups", "--clients", 4, "--set", "min_size=1"
    )
    assert found["groups"] == [["anna"], ["ben"], ["cy"], ["anna"]]


def test_a_data_set_without_groups_has_none_in_its_record(fedkd):
    assert "groups" not in record(fedkd)


def test_natural_on_a_data_set_without_groups_says_what_helps(fedkd):
    code, _, err = fedkd("--partition", "natural")
    assert code == 2
    assert "natural: found a data set without groups" in err
