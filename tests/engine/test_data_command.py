"""``fedkd data``: what it lists, checks and fetches, and its exit codes."""

import json
import sys

import pytest

from fedkd import cli
from fedkd.datasets.cifar10 import CIFAR10
from fedkd.datasets.mnist import MNIST
from fedkd.errors import DataError

PLUGIN = """
import fedkd
from fedkd.errors import DataError
from fedkd.testing import toy_images

@fedkd.hookimpl
def fedkd_register_datasets(register):
    register("toy", ":Toy", summary="A toy.")
    register("toy-absent", "no_such_module:Toy")
    register("toy-bug", ":Bug")

class Toy(fedkd.Dataset):
    files = {"toy.bin": 4, "more.bin": 2}

    def load(self, root):
        if (root / "toy.bin").read_bytes() != b"good":
            raise DataError("toy.bin is damaged.")
        return toy_images()

    def prepare(self, root):
        root.mkdir(exist_ok=True)
        (root / "toy.bin").write_bytes(b"good")
        (root / "more.bin").write_bytes(b"ok")

class Bug(fedkd.Dataset):
    def load(self, root):
        return 1 / 0
"""


@pytest.fixture
def fedkd(tmp_path, monkeypatch, capsys):
    """Run ``fedkd data ARGUMENTS``; returns exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.delenv("FEDKD_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*arguments):
        code = cli.main(["data", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def toys(tmp_path):
    path = tmp_path / "toys.py"
    path.write_text(PLUGIN)
    return path


def listed(fedkd, *arguments):
    code, out, _ = fedkd("list", "--format", "json", *arguments)
    assert code == 0
    return {record["name"]: record for record in json.loads(out)["datasets"]}


def test_every_built_in_set_is_listed(fedkd, tmp_path):
    found = listed(fedkd, "--data-root", tmp_path)
    assert list(found) == ["cifar10", "cifar100", "digits", "fashion-mnist", "mnist"]
    assert found["digits"]["status"] == "built in"
    assert found["mnist"]["status"] == "missing"
    assert found["mnist"]["folder"] == str(tmp_path)
    assert found["mnist"]["bytes"] == 54_950_048


def test_sizes_tell_whole_damaged_and_incomplete_sets_apart(fedkd, tmp_path, toys):
    def status():
        found = listed(fedkd, "--data-root", tmp_path, "--plugin", toys)
        return found["toy"]["status"]

    assert status() == "missing"
    (tmp_path / "toy.bin").write_bytes(b"good")
    assert status() == "incomplete"
    (tmp_path / "more.bin").write_bytes(b"ok")
    assert status() == "ready"
    (tmp_path / "more.bin").write_bytes(b"long")
    assert status() == "damaged"


def test_a_table_says_where_data_is_sought_and_what_to_do(fedkd, tmp_path):
    code, out, _ = fedkd("list")
    assert code == 0
    assert f"then {tmp_path}/cache/fedkd." in out
    assert "'fedkd data prepare NAME' fetches what is missing" in out
    line = next(line for line in out.splitlines() if "cifar10 " in line)
    assert line.split()[:4] == ["cifar10", "missing", "186.2", "MB"]


def test_a_set_that_cannot_be_imported_does_not_hide_the_others(fedkd, tmp_path, toys):
    code, out, err = fedkd("list", "--data-root", tmp_path, "--plugin", toys)
    assert code == 0
    assert "toy-absent     broken" in out
    assert "digits" in out
    assert "No module named 'no_such_module'" in err


def test_checking_without_a_name_leaves_out_what_is_not_here(fedkd, tmp_path):
    code, out, err = fedkd("check", "--data-root", tmp_path, "--format", "json")
    assert (code, err) == (0, "")
    found = {record["name"]: record for record in json.loads(out)["datasets"]}
    assert found["mnist"] == {"name": "mnist", "status": "missing", "error": None}
    assert found["digits"] == {
        "name": "digits",
        "status": "ok",
        "error": None,
        "train": 1437,
        "test": 360,
        "classes": 10,
        "shape": [1, 8, 8],
    }


def test_checking_a_set_that_is_missing_is_an_error(fedkd, tmp_path):
    code, out, err = fedkd("check", "mnist", "digits", "--data-root", tmp_path)
    assert code == 1
    assert f"mnist: 4 of 4 files are not in {tmp_path}: " in err
    assert "digits  ok      1437   360   10       1x8x8" in out


def test_a_damaged_set_is_found_without_naming_it(fedkd, tmp_path, toys):
    (tmp_path / "toy.bin").write_bytes(b"evil")
    code, _, err = fedkd("check", "--data-root", tmp_path, "--plugin", toys)
    assert code == 1
    assert "fedkd: toy.bin is damaged." in err


def test_a_bug_in_a_plug_in_is_named_with_its_set(fedkd, tmp_path, toys):
    code, _, err = fedkd("check", "toy-bug", "--data-root", tmp_path, "--plugin", toys)
    assert code == 1
    assert "data set 'toy-bug' of toys.py" in err
    assert "ZeroDivisionError" in err


@pytest.mark.parametrize("verb", ["check", "prepare"])
def test_an_unknown_name_gets_a_suggestion(fedkd, verb):
    code, _, err = fedkd(verb, "cifar1O")
    assert code == 2
    assert "unknown data set 'cifar1O'. Did you mean 'cifar10'?" in err


def test_preparing_fetches_and_checks(fedkd, tmp_path, toys):
    root = tmp_path / "new"
    code, out, _ = fedkd("prepare", "toy", "--data-root", root, "--plugin", toys)
    assert code == 0
    assert "toy   ok      36     36    3        1x8x8" in out
    assert (root / "toy.bin").read_bytes() == b"good"


def test_a_set_that_cannot_be_fetched_does_not_stop_the_others(
    fedkd, tmp_path, monkeypatch
):
    def fail(self, root):
        raise DataError(f"{self.name} could not be downloaded: no network.")

    monkeypatch.setattr(MNIST, "prepare", fail)
    monkeypatch.setattr(CIFAR10, "prepare", fail)
    names = ["mnist", "digits", "cifar10"]
    code, out, err = fedkd("prepare", *names, "--data-root", tmp_path)
    assert code == 1
    assert "digits   ok" in out
    assert err.splitlines() == [
        "fedkd: mnist could not be downloaded: no network.",
        "fedkd: cifar10 could not be downloaded: no network.",
    ]


def test_preparing_needs_a_name(fedkd):
    code, _, err = fedkd("prepare")
    assert code == 2
    assert "Missing argument" in err
