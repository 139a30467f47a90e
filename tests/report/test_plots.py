"""Pictures: the files that are drawn, and the numbers that are drawn in them."""

import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from fedkd.api.results import load
from fedkd.base.folders import ResultsFolder
from fedkd.cli import main
from fedkd.errors import DataError
from fedkd.metrics.classification import Loss
from fedkd.metrics.fairness import WorstClient
from fedkd.metrics.targets import RoundsTo
from fedkd.report import curves as curves_module
from fedkd.report import figures
from fedkd.report.curves import Curve, draw_curves, named
from fedkd.report.figures import DPI, image_grid, partition_heat_map
from fedkd.report.grouping import GLOBAL
from fedkd.report.looks import look
from fedkd.report.plots import curve_of, draw_all, read_counts, read_gallery
from fedkd.report.results import Row, write_results

PNG = b"\x89PNG\r\n\x1a\n"


def metrics(index, accuracy, sent=1_000_000):
    return {
        "round": index,
        "global_accuracy": accuracy,
        "bytes_up": index * sent,
        "bytes_down": index * sent,
        "client_examples": index * 100,
    }


def run(out, strategy="fedavg", seed=0, status="done", alpha=0.1, images=False):
    name = f"{strategy}-{alpha}-s{seed}"
    folder = out / "runs" / name
    folder.mkdir(parents=True)
    lines = [metrics(i, 50.0 + i) for i in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(m) + "\n" for m in lines))
    (folder / "counts.csv").write_text("client,cat,dog\n0,5,0\n1,2,3\n")
    if images:
        save_file({"client 0": np.zeros((2, 1, 8, 8), np.uint8)}, folder / GALLERY)
    return Row(
        "quick", strategy, "digits", "dirichlet", alpha, "cnn", 2, 3, seed, status,
        global_accuracy=53.0, run_id=name,
    )  # fmt: skip


GALLERY = "gallery.safetensors"


def drawn(out, rows, **options):
    write_results(rows, out / "results.csv")
    return sorted(path.name for path in draw_all(ResultsFolder(out), **options).files)


def size_of(path):
    data = path.read_bytes()
    assert data.startswith(PNG)
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_a_bench_has_curves_its_partition_and_its_generators(tmp_path):
    rows = [run(tmp_path, seed=s) for s in (0, 1)]
    rows += [run(tmp_path, "mosaic", s, images=True) for s in (0, 1)]
    assert drawn(tmp_path, rows) == [
        "accuracy-digits-dirichlet0.1-cnn.png",
        "generators-mosaic-digits-dirichlet0.1-cnn-s0.png",
        "partition-digits-dirichlet0.1-cnn-s0.png",
    ]
    for path in (tmp_path / "plots").iterdir():
        width, height = size_of(path)
        assert width > 200
        assert height > 100


def test_every_setting_has_pictures_of_its_own(tmp_path):
    rows = [run(tmp_path, alpha=alpha) for alpha in (0.1, 1.0, None)]
    names = drawn(tmp_path, rows)
    assert [name for name in names if name.startswith("accuracy")] == [
        "accuracy-digits-dirichlet-cnn.png",
        "accuracy-digits-dirichlet0.1-cnn.png",
        "accuracy-digits-dirichlet1-cnn.png",
    ]


def test_runs_that_are_not_done_are_not_drawn(tmp_path):
    assert drawn(tmp_path, [run(tmp_path, status="diverged")]) == []


def test_runs_that_left_no_files_have_no_pictures(tmp_path):
    one = run(tmp_path)
    for path in (tmp_path / "runs" / one.run_id).iterdir():
        path.unlink()
    assert drawn(tmp_path, [one]) == []


@pytest.mark.parametrize("door", ["command", "python"])
def test_runs_of_several_folders_are_drawn_together_and_a_joined_one_once(
    tmp_path, monkeypatch, door
):
    shown = {}
    monkeypatch.setattr(
        "fedkd.report.plots.draw_curves",
        lambda curves, column, path, title: shown.update(
            {curve.label: len(curve.values) for curve in curves}
        ),
    )
    joined = replace(run(tmp_path / "b"), run_id="again", metrics={"m": 1.0})
    (home,) = (tmp_path / "b" / "runs").iterdir()
    home.rename(home.with_name(joined.run_id))
    there = {
        "a": [run(tmp_path / "a", seed=s) for s in (0, 1)],
        "b": [joined, run(tmp_path / "b", "mosaic")],
    }
    for name, found in there.items():
        write_results(found, tmp_path / name / "results.csv")
    folders = [str(tmp_path / name) for name in there]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there is no suite
        if door == "python":
            load(*folders).plot(tmp_path)
        else:
            main(["report", *folders, "--plots", "--out", str(tmp_path / "t.txt")])
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == [
        "partition-digits-dirichlet0.1-cnn-s0.png"
    ]
    assert shown == {"fedavg": 2, "mosaic": 1}


def test_equal_results_give_equal_pictures(tmp_path):
    for name in ("a", "b"):
        drawn(tmp_path / name, [run(tmp_path / name)])
    name = "plots/accuracy-digits-dirichlet0.1-cnn.png"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_curve_holds_the_rounds_that_every_seed_measured():
    first = [metrics(1, 10.0), metrics(2, None), metrics(3, 30.0), metrics(4, 40.0)]
    second = [metrics(1, 20.0), metrics(2, 25.0), metrics(3, 50.0, sent=3_000_000)]
    curve = curve_of("a", [first, second])
    assert curve.rounds.tolist() == [1, 3]
    assert curve.values.tolist() == [[10, 30], [20, 50]]
    assert curve.examples.tolist() == [100, 300]
    assert curve.megabytes.tolist() == [2, 12]
    assert curve.final == 40


def test_runs_without_measurements_have_no_curve():
    assert curve_of("a", [[metrics(1, None)], [metrics(1, 1.0)]]) is None
    assert curve_of("a", [[]]) is None


LOSS, LOCAL_LOSS = Loss().columns("loss")


def measured(index, **values):
    return {**metrics(index, 50.0), **values}


def test_the_curve_of_a_metric_holds_its_values_and_skips_runs_without_it():
    asked = [measured(1, global_loss=2.0), measured(2, global_loss=[1.0, None, 3.0])]
    curve = curve_of("a", [asked, [metrics(1, 50.0)]], LOSS)
    assert curve.values.tolist() == [[2.0, 2.0]]
    assert curve_of("a", [[metrics(1, 50.0)]], LOSS) is None


def test_each_metric_of_rounds_has_a_picture_but_local_means(tmp_path):
    one = run(tmp_path)
    values = {"global_loss": 1.0, "local_loss": 1.0, "worst_client": 3.0, "to": 2}
    lines = [json.dumps(measured(i, **values)) + "\n" for i in (1, 2)]
    (tmp_path / "runs" / one.run_id / "metrics.jsonl").write_text("".join(lines))
    worst = WorstClient().columns("worst_client")
    to = RoundsTo(RoundsTo.Config(target=1)).columns("to")
    columns = [LOSS, LOCAL_LOSS, *worst, *to]
    assert drawn(tmp_path, [one], columns=columns) == [
        "accuracy-digits-dirichlet0.1-cnn.png",
        "global-loss-digits-dirichlet0.1-cnn.png",
        "partition-digits-dirichlet0.1-cnn-s0.png",
        "worst-client-digits-dirichlet0.1-cnn.png",
    ]


def test_the_legend_begins_with_the_best(tmp_path, monkeypatch):
    named = []
    monkeypatch.setattr(
        curves_module,
        "_draw_curve",
        lambda axis, x, curve, part: named.append(curve.label),
    )
    curves = [curve("low", 1), curve("high", 2)]
    for column in (GLOBAL, LOSS):
        draw_curves(curves, column, tmp_path / "x.png", "two")
    assert named == [*["high", "low"] * 3, *["low", "high"] * 3]


def test_the_legend_shows_an_end_as_tables_do_but_for_percent(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(
        "matplotlib.figure.Figure.legend",
        lambda figure, handles, names, **how: said.extend(names),
    )
    for column in (GLOBAL, LOSS):
        draw_curves([curve("a", 0.034)], column, tmp_path / "x.png", "two")
    assert said == ["a  0.0", "a  0.034"]


def curve(label, ends, **changes):
    x = np.linspace(ends / 5, ends, 5)
    values = {"values": np.tile(x, (2, 1)), "rounds": x, "examples": x} | changes
    return Curve(label, megabytes=x, **values)


def test_with_a_clock_there_are_curves_over_simulated_time(tmp_path):
    def lines(of, *times):
        every = [metrics(i, 50.0 + i) for i in (1, 2, 3)]
        return [{**m, of: t} for m, t in zip(every, times, strict=True)]

    name = "simulated_seconds"
    timed = curve_of("a", [lines(name, 0.0, 4.0, 5.0), lines(name, 1.0, 6.0, 9.0)])
    assert timed.against("simulated").tolist() == [0.5, 5.0, 7.0]
    assert timed.against("seconds") is None
    wall = curve_of("b", [lines("seconds", 1.0, 2.0, 3.0)])
    assert wall.against("simulated") is None
    assert wall.against("seconds").tolist() == [1.0, 2.0, 3.0]
    some = curve_of("c", [lines(name, 1.0, None, 2.0)])
    assert some.against("simulated") is None
    widths = []
    for curves in ([wall], [wall, timed]):
        draw_curves(curves, GLOBAL, tmp_path / "x.png", "t")
        widths.append(size_of(tmp_path / "x.png")[0])
    assert widths[1] - widths[0] == pytest.approx(4 * DPI, abs=DPI)


@pytest.mark.parametrize("ends", [(1, 1), (1, 1000), (1, 1_000_000)])
def test_curves_of_any_ratio_of_costs_can_be_drawn(tmp_path, ends):
    curves = [curve(f"s{i}", end, look=look(i)) for i, end in enumerate(ends)]
    draw_curves(curves, GLOBAL, tmp_path / "x.png", "costs $ of _any_ {size}")
    assert size_of(tmp_path / "x.png")[0] > 10 * DPI


def test_forty_curves_can_be_drawn(tmp_path):
    curves = [curve(f"strategy-{i}", 10, look=look(i, i == 3)) for i in range(40)]
    draw_curves(curves, GLOBAL, tmp_path / "x.png", "many")
    assert size_of(tmp_path / "x.png")[0] > 10 * DPI


def texts_in_heat_map(monkeypatch, tmp_path, counts):
    from matplotlib.axes import Axes

    found = []
    original = Axes.text

    def spy(self, x, y, s, **options):
        found.append(s)
        return original(self, x, y, s, **options)

    monkeypatch.setattr(Axes, "text", spy)
    names = [str(i) for i in range(np.shape(counts)[1])]
    partition_heat_map(counts, names, tmp_path / "x.png", "split")
    return found


def test_numbers_are_in_the_cells_where_they_fit(monkeypatch, tmp_path):
    found = texts_in_heat_map(monkeypatch, tmp_path, [[5, 0], [2, 3]])
    assert found == ["5", "·", "2", "3"]


def test_numbers_are_left_out_where_they_do_not_fit(monkeypatch, tmp_path):
    assert texts_in_heat_map(monkeypatch, tmp_path, np.ones((100, 200), int)) == []


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (500, 10), (10, 200)])
def test_a_table_of_any_size_and_without_images_can_be_drawn(tmp_path, shape):
    names = [f"a class with name {i}" for i in range(shape[1])]
    partition_heat_map(np.zeros(shape, int), names, tmp_path / "x.png", "empty")
    assert max(size_of(tmp_path / "x.png")) < 15 * DPI


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_bytes_numbers_and_tensors_can_be_drawn(tmp_path, channels):
    import torch

    shape = (20, channels, 8, 8)
    images = {
        "bytes": np.full(shape, 255, np.uint8),
        "numbers": np.full(shape, 2.0),
        "tensor": torch.full((1, channels, 4, 4), float("nan")),
    }
    image_grid(images, tmp_path / "x.png", "a title that is longer than the picture")
    assert size_of(tmp_path / "x.png")[0] > 100


def test_a_table_of_counts_is_read(tmp_path):
    (tmp_path / "c.csv").write_text('client,cat,"dog, big"\n0,5,0\n1,2,3\n')
    counts, classes = read_counts(tmp_path / "c.csv")
    assert counts.tolist() == [[5, 0], [2, 3]]
    assert classes == ("cat", "dog, big")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r":1: expected the header"),
        ("client,cat\n", r":1: expected the header"),
        ("who,cat\n0,1\n", r":1: expected the header"),
        ("client,cat\n0,1\n1,-2\n", r":3: expected a client and 1 whole numbers"),
        ("client,cat\n0,1,2\n", r":2: expected a client and 1 whole numbers"),
    ],
)
def test_a_damaged_table_of_counts_is_an_error(tmp_path, text, message):
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_counts(tmp_path / "c.csv")


def test_a_gallery_is_read_in_the_order_people_count(tmp_path):
    names = ["client 10", "client 9", "all"]
    images = {name: np.zeros((1, 1, 2, 2), np.uint8) for name in names}
    save_file(images, tmp_path / GALLERY)
    assert [*read_gallery(tmp_path / GALLERY)] == ["all", "client 9", "client 10"]


def test_a_damaged_gallery_is_an_error(tmp_path):
    (tmp_path / GALLERY).write_bytes(b"no tensors")
    with pytest.raises(DataError, match="not a gallery"):
        read_gallery(tmp_path / GALLERY)


def test_the_backend_of_a_notebook_is_not_asked_for(tmp_path):
    code = (
        "from pathlib import Path\n"
        "from fedkd.report.figures import partition_heat_map\n"
        "partition_heat_map([[1, 2]], ['a', 'b'], Path('x.png'), 'x')\n"
    )
    told = {**os.environ, "MPLBACKEND": "module://no_such_backend"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=told, check=True)
    assert (tmp_path / "x.png").is_file()


@pytest.mark.parametrize("name", ["猫", "\udcff", "😀", "caf\u00e9", "x\x07"])
def test_class_names_of_any_letters_are_drawn_without_a_warning(tmp_path, name):
    path = tmp_path / "x.png"
    figures.partition_heat_map([[1, 2]], [name, "b"], path, name)
    assert path.is_file()


def test_letters_that_no_font_has_are_escaped():
    assert figures.drawable("a\udcff") == "a<dcff>"


def test_damaged_files_are_a_sentence_each_and_the_others_are_drawn(tmp_path):
    row = run(tmp_path, "fedavg")
    folder = ResultsFolder(tmp_path).run(row.run_id)
    folder.counts.write_bytes(b"client,caf\xe9\n0,1\n")
    folder.gallery.write_bytes(b"no tensors")
    write_results([row], tmp_path / "results.csv")
    drawn = draw_all(ResultsFolder(tmp_path))
    assert [path.name for path in drawn.files] == [
        "accuracy-digits-dirichlet0.1-cnn.png"
    ]
    counts, gallery = drawn.failed
    assert counts.startswith(f"{folder.counts}: ")
    assert "utf-8" in counts
    assert gallery.startswith(f"{folder.gallery}: not a gallery")
    assert all(line.endswith("; it is not drawn.") for line in drawn.failed)


def test_curves_of_who_has_no_global_model_have_a_sign(tmp_path, monkeypatch):
    drawn_with = []
    monkeypatch.setattr(
        "fedkd.report.plots.draw_curves",
        lambda curves, column, path, title: drawn_with.append(
            ([named(curve) for curve in curves], title)
        ),
    )
    found = [run(tmp_path), replace(run(tmp_path, "fedbn"), global_of="clients")]
    drawn(tmp_path, found)
    ((labels, title),) = drawn_with
    assert labels == ["fedavg", "fedbn ‡"]
    assert title.endswith(" — ‡ no global model")
