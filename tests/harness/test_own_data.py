"""``fedkd bench`` on the images of the user: named in short, run again when they change."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedkd.cli import main
from fedkd.report.results import read_results

SUITE = """\
rounds: 1
clients: 2
seeds: [0]
datasets: {datasets}
partitions: {partitions}
models: [mlp]
training: {{local_steps: 1, batch_size: 4, lr: 0.05}}
strategies: [fedavg]
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with ``pets`` (folder of images) and ``mine.npz`` in it."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for half, number in (("train", 6), ("test", 2)):
        for name in ("cat", "dog"):
            folder = Path("pets", half, name)
            folder.mkdir(parents=True)
            for i in range(number):
                pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    x = rng.integers(0, 256, (16, 8, 8), np.uint8)
    write_npz(x)
    return tmp_path


def write_npz(x):
    y = np.arange(16) % 2
    np.savez("mine.npz", x_train=x[:12], y_train=y[:12], x_test=x[12:], y_test=y[12:])


@pytest.fixture
def bench(here, capsys):
    """Run a suite on data sets and partitions; returns exit code, rows and output."""

    def run(*arguments, datasets="[digits]", partitions="[iid]"):
        text = SUITE.format(datasets=datasets, partitions=partitions)
        Path("mine.yaml").write_text(text)
        common = ["--out", "out", "--plain", "--no-plots", "--jobs", "1"]
        root = ["--data-root", str(here / "root")]
        code = main(["bench", "mine.yaml", *common, *root, *arguments])
        found = capsys.readouterr()
        path = Path("out/results.csv")
        rows = read_results(path) if path.is_file() else []
        return code, rows, found.out + found.err

    return run


def test_a_folder_and_an_npz_are_named_on_the_command_line(bench):
    code, rows, said = bench("--datasets", "folder:pets,folder:mine.npz")
    assert code == 0, said
    assert [(row.dataset, row.status) for row in rows] == [
        ("folder[path=pets]", "done"),
        ("folder[path=mine.npz]", "done"),
    ]
    header = Path("out/table.md").read_text()
    assert "folder[path=pets]" in header
    assert "folder[path=mine.npz]" in header


def test_the_short_form_and_the_long_one_are_the_same_run(bench):
    code, first, said = bench(datasets="['folder:pets']")
    assert code == 0, said
    code, again, said = bench(datasets="[{name: folder, path: pets}]")
    assert code == 0
    assert "was done already" in said
    assert again == first


def test_options_stand_beside_the_short_form(bench):
    wanted = "[{name: 'folder:pets', resolution: 4, per_class: 3}]"
    code, rows, said = bench(datasets=wanted)
    assert code == 0, said
    assert rows[0].dataset == "folder[per_class=3,path=pets,resolution=4]"
    code, rows, _ = bench("--set", "dataset.per_class=2", datasets="['folder:pets']")
    assert rows[0].dataset == "folder[per_class=2,path=pets]"


def test_an_option_is_set_of_what_the_command_line_names(bench):
    wanted = ["--datasets", "folder:pets", "--set", "dataset.resolution=4"]
    code, rows, said = bench(*wanted)
    assert code == 0, said
    assert [row.dataset for row in rows] == ["folder[path=pets,resolution=4]"]


def test_an_option_may_be_of_a_set_that_is_left_out(bench):
    suite = "[digits, {name: 'folder:pets', resolution: 4}]"
    wanted = ["--datasets", "digits", "--set", "dataset.resolution=8"]
    code, rows, said = bench(*wanted, datasets=suite)
    assert code == 0, said
    assert [row.dataset for row in rows] == ["digits"]


def test_a_folder_of_the_suite_is_picked_with_its_options(bench):
    wanted = "[digits, {name: 'folder:pets', per_class: 3}]"
    _, rows, _ = bench("--datasets", "folder:pets", datasets=wanted)
    assert [row.dataset for row in rows] == ["folder[per_class=3,path=pets]"]


def test_a_changed_image_is_another_run_and_a_copied_one_is_not(bench):
    _, (first,), _ = bench(datasets="['folder:pets']")
    image = Path("pets/train/cat/0.png")
    shutil.copyfile(image, "copy.png")
    image.unlink()
    shutil.copyfile("copy.png", image)
    _, (same,), said = bench(datasets="['folder:pets']")
    assert "was done already" in said
    assert same == first
    shutil.copyfile("pets/train/dog/0.png", image)
    code, (other,), said = bench(datasets="['folder:pets']")
    assert code == 0
    assert "were done already" not in said
    assert other.config_hash != first.config_hash


def test_a_changed_npz_is_another_run(bench):
    _, (first,), _ = bench(datasets="['folder:mine.npz']")
    write_npz(np.random.default_rng(1).integers(0, 256, (16, 8, 8), np.uint8))
    _, (other,), said = bench(datasets="['folder:mine.npz']")
    assert other.status == "done", said
    assert other.config_hash != first.config_hash


def test_a_changed_table_of_counts_is_another_run(bench):
    Path("split.csv").write_text("client,cat,dog\n0,4,2\n1,1,3\n")
    wanted = {"datasets": "['folder:pets']", "partitions": "['counts:split.csv']"}
    code, (first,), said = bench(**wanted)
    assert code == 0, said
    assert first.partition == "counts[file=split.csv]"
    Path("split.csv").write_text("client,cat,dog\n0,4,2\n1,2,3\n")
    _, (other,), _ = bench(**wanted)
    assert other.config_hash != first.config_hash
    assert other.split_hash != first.split_hash


@pytest.mark.parametrize(
    ("spoil", "at_fault"),
    [
        (lambda: Path("pets/train/dog/3.png").write_bytes(b"x"), "train/dog/3.png"),
        (
            lambda: shutil.rmtree("pets/test/cat") or Path("pets/test/cat").mkdir(),
            "cat",
        ),
        (lambda: shutil.rmtree("pets"), "pets is not there"),
    ],
    ids=["image", "class", "folder"],
)
@pytest.mark.parametrize("prepared", [False, True])
def test_what_is_wrong_is_a_row_that_names_the_file(bench, spoil, at_fault, prepared):
    if prepared:
        assert bench(datasets="['folder:pets']")[0] == 0
    spoil()
    code, rows, said = bench(datasets="[digits, 'folder:pets']")
    assert code == 1
    assert {row.dataset: row.status for row in rows} == {
        "digits": "done",
        "folder[path=pets]": "failed",
    }
    reason = rows[1].reason
    assert reason.startswith("folder: ")
    assert at_fault in reason
    assert reason in said


def test_a_name_that_takes_no_value_is_refused(bench):
    code, _, said = bench("--datasets", "digits:here")
    assert code == 2
    assert (
        "--datasets: found 'digits:here', expected 'digits': it takes nothing" in said
    )
    assert "comma" not in said


def test_a_dry_run_shows_names_with_their_options(bench, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, _, said = bench("--dry-run", datasets="['folder:pets']")
    assert code == 0
    assert "folder[path=pets]" in said


def test_what_is_odd_of_the_data_is_on_the_terminal_in_the_log_and_on_the_page(bench):
    shutil.rmtree("pets/test/dog")
    Path("pets/train/cat/notes.txt").touch()
    code, rows, output = bench(datasets='["folder:pets"]')
    assert code == 0
    notes = [
        "Left out of pets: 1 file (1 of other kinds than images: .txt).",
        "There are no test images of dog, so accuracy says nothing of it.",
    ]
    log = Path("out/runs", rows[0].run_id, "log").read_text()
    page = Path("out/table.md").read_text()
    for note in notes:
        assert (
            output.count(note) == log.count(f" data: {note}") == page.count(note) == 1
        )
    assert f"- folder[path=pets]: {notes[0]}" in page
    assert "UserWarning" not in output + log


def test_a_warning_of_a_plug_in_that_loads_is_one_sentence(bench):
    Path("mine.py").write_text(
        "import warnings, fedkd\n"
        "from fedkd.data.dataset import Dataset\n"
        "from fedkd.testing.toys import toy_images\n"
        "class Mine(Dataset):\n"
        '    """Mine."""\n'
        "    def load(self, root):\n"
        "        warnings.warn('Two images\\nare blurred.')\n"
        "        return toy_images()\n"
        "@fedkd.hookimpl\n"
        "def fedkd_register_datasets(register): register('mine', ':Mine')\n"
    )
    code, _, output = bench("--plugin", "mine.py", datasets="[mine]")
    assert code == 0
    assert output.count("fedkd: mine: Two images are blurred.") == 1
    assert "- mine: Two images are blurred." in Path("out/table.md").read_text()
    assert "UserWarning" not in output


def test_a_run_is_the_same_however_its_files_are_named(bench, here):
    table = here / "split.csv"
    table.write_text("client,1,0\n0,2,1\n1,1,2\n")
    _, (first,), _ = bench(
        datasets='["folder:pets"]', partitions='["counts:split.csv"]'
    )
    _, (again,), _ = bench(
        datasets=f'["folder:{here}/pets/"]', partitions=f'["counts:{table}"]'
    )
    assert again.run_id == first.run_id


def test_class_folders_of_any_bytes_are_benched_to_the_end(here, capsys):
    for half in ("train", "test"):
        for name, other in (("cat", b"caf\xe9"), ("dog", b"\xff\xfe")):
            os.rename(
                f"pets/{half}/{name}", os.path.join(b"pets", half.encode(), other)
            )
    Path("mine.yaml").write_text(
        SUITE.format(datasets="['folder:pets']", partitions="[iid]")
    )
    given = [
        "--out",
        "out",
        "--plain",
        "--jobs",
        "1",
        "--data-root",
        str(here / "root"),
    ]
    assert main(["bench", "mine.yaml", *given]) == 0
    assert "warning" not in capsys.readouterr().err
    assert read_results(Path("out/results.csv"))[0].status == "done"
    assert "| fedavg" in Path("out/table.md").read_text(encoding="utf-8")
    (counts,) = Path("out/runs").glob("*/counts.csv")
    header = counts.read_text(encoding="utf-8").splitlines()[0]
    assert "caf\\xe9" in header
    assert "\\xff\\xfe" in header
    assert len(list(Path("out/plots").glob("partition-*.png"))) == 1
