"""docs/own-data.md: what it shows is what happens."""

import re
import shlex
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedkd.cli import main
from fedkd.report.results import read_results

PAGE = Path(__file__).resolve().parents[1] / "docs" / "own-data.md"
QUICK = """\
rounds: 1
clients: 2
seeds: [0]
datasets: [digits]
partitions: [iid]
models: [mlp]
training: {local_steps: 1, batch_size: 4, lr: 0.05}
strategies: [fedavg]
"""


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


def commands():
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert all(line.startswith("fedkd ") for line in lines)
    return lines


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with everything that the page speaks of, and ``quick`` made quicker."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDKD_DATA", str(tmp_path / "root"))
    rng = np.random.default_rng(0)
    for half, number in (("train", 12), ("test", 4)):
        for name in ("cat", "dog"):
            Path("pets", half, name).mkdir(parents=True)
            for i in range(number):
                pixels = rng.integers(0, 256, (20, 20, 3), np.uint8)
                Image.fromarray(pixels).save(Path("pets", half, name, f"{i}.png"))
    Path("scans").mkdir()
    for half, number in (("train", 60), ("test", 20)):
        x = rng.integers(0, 256, (number, 16, 16), np.uint8)
        np.save(f"scans/{half}-x.npy", x)
        np.save(f"scans/{half}-y.npy", np.arange(number) % 2)
    arrays, plugin = blocks("python")
    exec(compile(arrays, str(PAGE), "exec"), vars(types.ModuleType("example")))
    Path("stamps.py").write_text(plugin, encoding="utf-8")
    Path("mine.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    Path("quick.yaml").write_text(QUICK, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_page_works(here, command, capsys):
    words = shlex.split(command)[1:]
    if words[0] == "bench":
        words[1] = words[1].replace("quick", "quick.yaml")
        words += ["--plain", "--no-plots", "--jobs", "1", "--out", "out"]
    if "counts:split.csv" in command:
        (before,) = [c for c in commands() if "--csv split.csv" in c]
        assert main(shlex.split(before)[1:]) == 0
    assert main(words) == 0, capsys.readouterr().err
    if words[0] == "bench":
        assert {row.status for row in read_results(Path("out/results.csv"))} == {"done"}


def test_the_suite_of_the_page_runs(here, capsys):
    words = ["bench", "mine.yaml", "--plain", "--no-plots", "--jobs", "1"]
    assert main([*words, "--out", "out"]) == 0, capsys.readouterr().err
    assert [row.dataset for row in read_results(Path("out/results.csv"))] == [
        "folder[path=pets,resolution=32,pad=4,flip=True]",
        "folder[path=mine.npz]",
    ]


def test_the_plug_in_of_the_page_notices_changes_and_damage(here, capsys):
    words = ["bench", "smoke", "--plugin", "stamps.py", "--datasets", "stamps:scans"]
    words += ["--strategies", "fedavg", "--plain", "--no-plots", "--jobs", "1"]
    words += ["--out", "out", "--set", "dataset.negative=true"]
    assert main([*words, "--set", "dataset.fraction=0.5"]) == 0
    (first,) = read_results(Path("out/results.csv"))
    assert first.dataset == "stamps[fraction=0.5,path=scans,negative=True]"
    assert main(words) == 0
    (first,) = read_results(Path("out/results.csv"))
    np.save("scans/test-y.npy", (np.arange(20) + 1) % 2)
    assert main(words) == 0
    (other,) = read_results(Path("out/results.csv"))
    assert other.config_hash != first.config_hash
    Path("scans/test-x.npy").unlink()
    capsys.readouterr()
    assert main(words) == 1
    assert "stamps: scans/test-x.npy is not there" in capsys.readouterr().err
