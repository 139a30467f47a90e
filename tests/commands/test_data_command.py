"""``fedkd data``: what it lists, checks and prepares, and its exit codes."""

import io
import json
import sys

import numpy as np
import published
import pytest
from rich.console import Console

from fedkd import cli
from fedkd.commands.data.progress import Lines, shown
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
    assert {"cifar10", "digits", "folder", "food101", "svhn"} <= found.keys()
    assert found["digits"]["status"] == "built in"
    assert found["folder"]["status"] == "needs path"
    assert found["tiny-imagenet"]["status"] == "missing"
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
    assert f"else {tmp_path}/cache/fedkd." in out
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
    assert found["mnist"] == {
        "name": "mnist",
        "status": "missing",
        "error": None,
        "prepared": [],
    }
    assert found["digits"] == {
        "name": "digits",
        "status": "ok",
        "error": None,
        "train": 1437,
        "test": 360,
        "classes": 10,
        "shape": [1, 8, 8],
        "prepared": [],
    }


def test_checking_a_set_that_is_missing_is_an_error(fedkd, tmp_path):
    code, out, err = fedkd("check", "mnist", "digits", "--data-root", tmp_path)
    assert code == 1
    assert f"mnist: 4 of 4 files are not in {tmp_path}: " in err
    assert "digits  ok       1437   360   10       1x8x8" in out
    assert "mnist   missing" in out


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


@pytest.fixture
def food(tmp_path):
    """A data root with a small FOOD101 in the published format."""
    published.write_food101(tmp_path / "root", classes=published.DISHES[:3])
    return tmp_path / "root"


PARTIAL = ("--set", "partial=true")


def variants(fedkd, root):
    found = listed(fedkd, "--data-root", root)["food101"]["prepared"]
    return [(one["options"], one["status"], one["bytes"] > 0) for one in found]


def test_preparing_writes_files_that_are_listed_with_their_options(fedkd, food):
    code, out, err = fedkd("prepare", "food101", *PARTIAL, "--data-root", food)
    assert code == 0
    assert "food101  ok      6      3     3        3x32x32" in out
    assert err.splitlines() == [
        "food101: train: 0 of 6 images (0 %)",
        "food101: train: 6 of 6 images (100 %)",
        "food101: test: 0 of 3 images (0 %)",
        "food101: test: 3 of 3 images (100 %)",
    ]
    large = ("--set", "resolution=64")
    assert fedkd("prepare", "food101", *PARTIAL, *large, "--data-root", food)[0] == 0
    assert sorted(variants(fedkd, food), key=str) == [
        ({"partial": True}, "ready", True),
        ({"resolution": 64, "partial": True}, "ready", True),
    ]
    _, out, _ = fedkd("list", "--data-root", food)
    assert "resolution=64 partial=true: 0.1 MB" in out


def test_preparing_again_draws_nothing_and_reads_nothing(fedkd, food):
    arguments = ("prepare", "food101", *PARTIAL, "--data-root", food)
    fedkd(*arguments)
    code, out, err = fedkd(*arguments)
    assert (code, err) == (0, "")
    assert "food101  ok" in out


def test_preparing_reports_as_json(fedkd, food):
    code, out, _ = fedkd(
        "prepare", "food101", *PARTIAL, "--data-root", food, "--format", "json"
    )
    assert code == 0
    assert json.loads(out) == {
        "root": str(food),
        "datasets": [
            {
                "name": "food101",
                "status": "ok",
                "error": None,
                "train": 6,
                "test": 3,
                "classes": 3,
                "shape": [3, 32, 32],
            }
        ],
    }


def test_an_option_of_a_bench_can_be_pasted(fedkd, food):
    option = ("--set", "dataset.partial=true")
    assert fedkd("prepare", "food101", *option, "--data-root", food)[0] == 0


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("resolution", "expected option=value, such as resolution=64"),
        ("resolution=48", "resolution"),
        ("resolutoin=64", "resolutoin"),
    ],
)
def test_a_wrong_option_is_said_before_anything_is_fetched(
    fedkd, food, option, problem
):
    code, _, err = fedkd("prepare", "food101", "--set", option, "--data-root", food)
    assert code == 2
    assert problem in err
    assert not (food / "prepared").exists()


def test_an_interrupted_preparation_says_that_it_goes_on(fedkd, food, monkeypatch):
    def interrupt(self, split, done, number):
        if done:
            raise KeyboardInterrupt

    arguments = ("prepare", "food101", *PARTIAL, "--data-root", food)
    with monkeypatch.context() as patch:
        patch.setattr(Lines, "__call__", interrupt)
        code, out, err = fedkd(*arguments)
    assert (code, out) == (130, "")
    assert err.splitlines() == [
        "fedkd: interrupted; 'fedkd data prepare food101' goes on where it stopped."
    ]
    assert variants(fedkd, food) == [({}, "unfinished", True)]
    assert fedkd("check", "food101", *PARTIAL, "--data-root", food)[0] == 0
    code, _, err = fedkd(*arguments)
    assert code == 0
    assert err.splitlines()[0] == "food101: train: 6 of 6 images (100 %)"


def test_a_data_root_that_cannot_be_written_to_is_one_sentence(fedkd, food):
    (food / "prepared").write_text("in the way")
    code, _, err = fedkd("prepare", "food101", *PARTIAL, "--data-root", food)
    assert code == 1
    assert err.count("\n") == 1
    assert "food101: its prepared images could not be written" in err


def test_checking_verifies_prepared_files(fedkd, food):
    fedkd("prepare", "food101", *PARTIAL, "--data-root", food)
    arguments = ("check", "food101", *PARTIAL, "--data-root", food)
    code, out, _ = fedkd(*arguments)
    assert code == 0
    assert "partial=true: ok" in out
    (path,) = food.glob("prepared/*/train.safetensors")
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)
    code, out, err = fedkd(*arguments)
    assert code == 1
    assert "partial=true: damaged" in out
    assert f"fedkd: food101: {path} is damaged: found SHA-256" in err
    fedkd("prepare", "food101", *PARTIAL, "--data-root", food)
    assert fedkd(*arguments)[0] == 0


def test_a_prepared_file_that_was_cut_is_damaged(fedkd, food):
    fedkd("prepare", "food101", *PARTIAL, "--data-root", food)
    (path,) = food.glob("prepared/*/test.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    assert variants(fedkd, food) == [({}, "damaged", True)]
    code, _, err = fedkd("check", "--data-root", food)
    assert code == 1
    assert f"{path.parent} holds no whole prepared files. Remove it" in err
    assert "holds 6 of 75,750 training" in err


def test_prepared_files_of_other_source_files_are_outdated_not_damaged(fedkd, food):
    fedkd("prepare", "food101", *PARTIAL, "--data-root", food)
    text = food / "food-101" / "meta" / "train.txt"
    (food / "food-101" / "meta" / "classes.txt").write_text(
        "\n".join(published.DISHES[:3])
    )
    assert text.exists()
    code, out, _ = fedkd("check", "food101", *PARTIAL, "--data-root", food)
    assert code == 0
    assert "partial=true: outdated" in out


def test_a_set_whose_source_files_are_gone_is_prepared(fedkd, food):
    fedkd("prepare", "food101", *PARTIAL, "--data-root", food)
    (food / "food-101").rename(food / "elsewhere")
    code, out, err = fedkd("check", "food101", *PARTIAL, "--data-root", food)
    assert (code, err) == (0, "")
    assert "food101  prepared  6      3     3        3x32x32  partial=true: ok" in out


def test_checking_without_a_name_takes_no_options(fedkd):
    code, _, err = fedkd("check", *PARTIAL)
    assert code == 2
    assert "found no NAME" in err


def test_own_images_are_prepared_by_their_path(fedkd, tmp_path):
    for half, number in (("train", 4), ("test", 2)):
        for label in range(2):
            folder = tmp_path / "pics" / half / f"class{label}"
            folder.mkdir(parents=True)
            for i in range(number):
                pixels = published.picture(label, i)
                (folder / f"{i}.jpg").write_bytes(published.jpeg(pixels))
    name = f"folder:{tmp_path / 'pics'}"
    code, out, _ = fedkd("prepare", name, "--data-root", tmp_path)
    assert code == 0
    assert "ok      8      4     2        3x32x32" in out
    code, out, _ = fedkd("check", name, "--data-root", tmp_path)
    assert code == 0
    assert f"path={tmp_path / 'pics'}: ok" in out
    assert fedkd("check", "--data-root", tmp_path)[0] == 0


def arrays_at(path, dtype=np.uint8):
    x, y = np.arange(6 * 4 * 4).reshape(6, 4, 4).astype(dtype), np.arange(6) % 3
    np.savez(path, x_train=x, y_train=y, x_test=x + 1, y_test=y)
    return f"folder:{path}"


def test_a_check_of_own_images_says_nothing_of_others_prepared_files(fedkd, tmp_path):
    one, two = (arrays_at(tmp_path / f"{name}.npz") for name in ("one", "two"))
    assert fedkd("prepare", one, two, "--data-root", tmp_path)[0] == 0
    code, out, _ = fedkd("check", one, "--data-root", tmp_path)
    assert (code, out.count("path="), "one.npz: ok" in out) == (0, 1, True)
    code, out, _ = fedkd("check", "folder:gone.npz", "--data-root", tmp_path)
    assert (code, out.count("path=")) == (1, 0)
    assert fedkd("check", "--data-root", tmp_path)[1].count("path=") == 2


def test_what_cannot_be_read_leaves_no_folder_of_prepared_files(fedkd, tmp_path):
    bad = arrays_at(tmp_path / "bad.npz", np.float32)
    assert fedkd("prepare", bad, "--data-root", tmp_path)[0] == 1
    assert list((tmp_path / "prepared").iterdir()) == []
    arrays_at(tmp_path / "bad.npz")
    assert fedkd("prepare", bad, "--data-root", tmp_path)[0] == 0
    (folder,) = (tmp_path / "prepared").iterdir()
    assert {path.name for path in folder.iterdir()} >= {
        "lock", "test.safetensors", "train.safetensors",
    }  # fmt: skip


def test_a_terminal_gets_a_bar():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with shown("toy", console) as show:
        show("train", 0, 2000)
        show("train", 2000, 2000)
    text = console.file.getvalue()
    assert "toy train" in text
    assert "2000/2000" in text
    assert "━" in text


def test_plain_lines_come_now_and_then(capsys):
    now = [0.0]
    console = Console(file=io.StringIO(), width=200)
    lines = Lines("folder:one:two", console, clock=lambda: now[0])
    for second in range(12):
        now[0] = second
        lines("train", 100 * second, 1200)
    assert console.file.getvalue().splitlines() == [
        "folder:one:two: train: 0 of 1,200 images (0 %)",
        "folder:one:two: train: 500 of 1,200 images (41 %)",
        "folder:one:two: train: 1,000 of 1,200 images (83 %)",
    ]


def test_a_part_of_a_published_set_is_called_so(fedkd, tmp_path):
    from scipy.io import savemat

    for half, number in (("train", 5), ("test", 4)):
        x = np.zeros((32, 32, 3, number), np.uint8)
        y = np.ones((number, 1), np.uint8)
        savemat(tmp_path / f"{half}_32x32.mat", {"X": x, "y": y})
    for name in ("images/pizza", "meta"):
        (tmp_path / "food-101" / name).mkdir(parents=True)
    for name in ("train/n01/images", "val/images"):
        (tmp_path / "tiny-imagenet-200" / name).mkdir(parents=True)
    for name in ("wnids.txt", "words.txt", "val/val_annotations.txt"):
        (tmp_path / "tiny-imagenet-200" / name).touch()
    found = listed(fedkd, "--data-root", tmp_path)
    for name in ("svhn", "food101", "tiny-imagenet"):
        assert found[name]["status"] == "part", name
    (tmp_path / "test_32x32.mat").write_bytes(b"no matlab")
    assert listed(fedkd, "--data-root", tmp_path)["svhn"]["status"] == "damaged"
