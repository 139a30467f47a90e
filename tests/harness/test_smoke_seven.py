"""The suite ``smoke-seven``: a run on each of the seven image benchmarks.

They are the real files, as far as they are there. Of SVHN and FOOD101 these may be parts;
without any, they are small ones in the exact formats of the published.
"""

import os
import shutil
from pathlib import Path

import published
import pytest

from fedkd.cli import main
from fedkd.report.results import read_results

REAL = {
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
    "tiny-imagenet": "tiny-imagenet-200",
}
"""Where the files of a set are under the data root."""
PARTS = ("train_32x32.mat", "test_32x32.mat", "food-101")
"""The files of the sets that may be parts."""
SEVEN = [*REAL, "svhn", "food101"]


@pytest.fixture
def root(tmp_path):
    """A data root with the two sets that are written here."""
    folder = tmp_path / "data"
    published.write_svhn(folder)
    published.write_food101(folder)
    yield folder
    # Half a gigabyte, which pytest would keep.
    shutil.rmtree(folder / "prepared", ignore_errors=True)


@pytest.fixture
def bench(root, tmp_path, monkeypatch, capsys):
    """Run the suite; returns exit code, rows by data set and what was said."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        common = ["--data-root", str(root), "--out", "out", "--plain", "--no-plots"]
        code = main(["bench", "smoke-seven", *common, "--jobs", "1", *arguments])
        rows = read_results(Path("out/results.csv"))
        return code, {row.dataset.partition("[")[0]: row for row in rows}, capsys

    return run


@pytest.mark.data
@pytest.mark.slow
def test_a_run_on_each_of_the_seven_is_done(bench, root, data_folder):
    missing = [n for n in REAL.values() if not (data_folder / n).is_dir()]
    if missing:
        pytest.skip(f"{data_folder} holds no {', '.join(missing)}")
    _use(root, data_folder, REAL.values())
    parts = [name for name in PARTS if (data_folder / name).exists()]
    _use(root, data_folder, parts)
    code, rows, _ = bench()
    assert {name: row.reason for name, row in rows.items() if row.reason} == {}
    assert code == 0
    assert set(rows) == set(SEVEN)
    assert {row.status for row in rows.values()} == {"done"}
    # Two clients of two steps of at most 16 images.
    assert all(0 < row.client_examples <= 64 for row in rows.values())
    assert rows["cifar10"].dataset == "cifar10[fraction=0.01,test_fraction=0.05]"
    table = Path("out/table.md").read_text()
    titles = [f"{row.dataset}, {row.partition} 0.5" for row in rows.values()]
    assert all(title in table for title in titles)
    assert "## Notes on the data" in table
    assert (
        "svhn[fraction=0.01,test_fraction=0.05,partial=True]: the files hold" in table
    )
    if len(parts) == len(PARTS):  # else they are those that are written here
        assert "8,001 of 73,257 published training images and 1,999 of 26,032" in table


def _use(root, folder, names):
    """Put links to real files in the place of those that were written."""
    for name in names:
        there = root / name
        if there.is_dir():
            shutil.rmtree(there)
        there.unlink(missing_ok=True)
        os.symlink(folder / name, there)


def test_sets_that_are_missing_fail_with_a_reason_and_the_others_are_done(bench, root):
    code, rows, capsys = bench()
    assert code == 1
    assert {n for n, row in rows.items() if row.status == "done"} == {"svhn", "food101"}
    said = capsys.readouterr().err
    for name in REAL:
        assert rows[name].status == "failed"
        assert rows[name].reason.startswith(f"{name}: ")
        assert f"fedkd data prepare {name} --data-root {root}" in rows[name].reason
        assert f"fedkd: {rows[name].reason} Its cells will fail" in said


def test_a_damaged_file_fails_its_own_run_only(bench, root):
    (root / "train_32x32.mat").write_bytes(b"no matlab")
    code, rows, _ = bench("--datasets", "svhn,food101")
    assert code == 1
    assert rows["svhn"].status == "failed"
    assert f"{root}/train_32x32.mat is damaged" in rows["svhn"].reason
    assert rows["food101"].status == "done"
