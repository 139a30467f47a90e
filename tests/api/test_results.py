"""What a bench from Python leaves: data frames, tables, figures, and what is shown."""

import json
import re
import shutil
import sys
from dataclasses import replace

import pytest

import fedkd
from fedkd.api.notebook import Bar, Figures, Silent, view_of
from fedkd.cli import main
from fedkd.errors import ConfigError, FedKDError
from fedkd.harness.live.progress import Progress
from fedkd.plugins.registry import load_registry
from fedkd.report.results import COLUMNS, write_results
from fedkd.suite.grid import grid
from fedkd.suite.suite import build_suite, read_suite

SUITE = {
    "name": "shown",
    "rounds": 2,
    "clients": 3,
    "seeds": [0, 1],
    "datasets": [{"name": "digits", "fraction": 0.2}],
    "partitions": ["iid"],
    "models": ["linear"],
    "metrics": ["macro_f1"],
    "training": {"local_steps": 2, "batch_size": 16, "lr": 0.05},
    "strategies": ["fedavg", "local"],
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    home = tmp_path_factory.mktemp("shown")
    return fedkd.bench(SUITE, out=home, progress=False)


def test_a_frame_has_a_row_a_run_and_one_a_round(results):
    pandas = pytest.importorskip("pandas", reason="needs the extra 'report'")
    frame = results.frame()
    assert list(frame.columns) == [*COLUMNS, "global_macro_f1", "local_macro_f1"]
    assert list(frame["strategy"]) == ["fedavg", "local"] * 2
    assert list(frame["seed"]) == [0, 0, 1, 1]
    assert frame["global_accuracy"].dtype == float
    rounds = results.frame("round")
    assert len(rounds) == 8
    last = rounds[rounds["round"] == 2]
    wanted = [run.metrics["global_accuracy"] for run in results]
    assert list(last["global_accuracy"]) == wanted
    assert isinstance(rounds, pandas.DataFrame)
    with pytest.raises(ConfigError, match="frame: found 'day', expected"):
        results.frame("day")


def test_a_frame_of_rounds_tells_the_points_of_a_grid_apart(tmp_path):
    pytest.importorskip("pandas", reason="needs the extra 'report'")
    training = {**SUITE["training"], "lr": [0.05, 0.2]}
    grid = {**SUITE, "training": training, "seeds": 0, "strategies": ["fedavg"]}
    found = fedkd.bench(grid, out=tmp_path, progress=False).frame("round")
    assert list(found["training.lr"]) == ["0.05"] * 2 + ["0.2"] * 2
    assert set(found["suite"]) == {SUITE["name"]}


def test_without_pandas_a_sentence_names_the_extra(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(FedKDError, match=r"pip install 'fedkd\[report\]'"):
        results.frame()


def test_the_table_is_the_page_that_the_command_writes(results):
    page = results.table()
    wanted = (results.folders[0] / "table.md").read_text("utf-8")
    # Seconds are rounded in results.csv.
    for one, other in zip(page.splitlines(), wanted.splitlines(), strict=True):
        assert one == other or one.startswith(("| fedavg ", "| local "))
    assert page.partition("## Costs")[0] == wanted.partition("## Costs")[0]
    assert page._repr_markdown_() == page


def test_a_folder_is_loaded_as_it_was_left_and_several_are_joined(results, tmp_path):
    again = fedkd.load(results.folders[0])
    assert again.rows == results.rows
    more = fedkd.bench({**SUITE, "seeds": [2]}, out=tmp_path, progress=False)
    both = fedkd.load(results.folders[0], tmp_path)
    assert len(both) == 6
    assert repr(both.run(strategy="local", seed=2)) == repr(more.runs[1])
    with pytest.raises(ConfigError, match="plot: found several results folders"):
        both.plot()
    with pytest.raises(ConfigError, match=r"^plot: found 3, expected one path"):
        both.plot(3)
    with pytest.raises(ConfigError, match=r"has no results\.csv|is no folder"):
        fedkd.load(tmp_path / "none")
    with pytest.raises(ConfigError, match="found no folder"):
        fedkd.load()


def test_one_run_is_picked_by_its_columns(results):
    assert results.run(strategy="local", seed=1).row.seed == 1
    with pytest.raises(
        ConfigError, match=r"run\(seed=1\): found 2 runs of 4, expected"
    ):
        results.run(seed=1)
    with pytest.raises(ConfigError, match=r"others\. strategy here: fedavg, local\.$"):
        results.run(strategy="fedavgm")
    with pytest.raises(ConfigError, match="found 'sed', expected columns"):
        results.run(sed=1)


def test_one_run_is_picked_by_an_axis_of_the_grid(tmp_path):
    made = fedkd.bench(
        {
            **SUITE,
            "strategies": ["fedavg"],
            "seeds": 0,
            "training": {"local_steps": 1, "lr": [0.1, 0.2]},
        },
        out=tmp_path,
        progress=False,
    )
    assert len(made) == 2
    for asked in (0.2, "0.2"):
        run = made.run(**{"training.lr": asked})
        assert dict(run.row.axes) == {"training.lr": "0.2"}
    with pytest.raises(ConfigError, match=r"training\.lr here: 0\.1, 0\.2\.$"):
        made.run(**{"training.lr": 0.3})


def test_a_notebook_is_shown_the_table_of_a_terminal(results):
    page = results._repr_html_()
    text = re.sub("<[^>]+>", "", page)
    mean = results.frame().groupby("strategy")["global_accuracy"].mean()["fedavg"]
    assert f"{mean:.2f}" in text
    assert "local †" in text
    assert page.startswith("<pre")


def test_figures_are_shown_from_the_page_itself(tmp_path):
    files = (tmp_path / "a.png", tmp_path / "b.svg")
    files[0].write_bytes(b"\x89PNG")
    figures = Figures(files, ("c.png is not drawn.",))
    page = figures._repr_html_()
    assert 'src="data:image/png;base64,iVBORw=="' in page
    assert page.count("<img") == 1
    assert "<p>c.png is not drawn.</p>" in page
    assert repr(figures) == f"Figures(2 figures in {tmp_path}, 1 not drawn)"


class Shell:
    """Stands for IPython with a kernel; remembers what was displayed."""

    kernel = object()

    def __init__(self):
        self.shown = []

    def get_ipython(self):
        return self

    def HTML(self, text):
        return text

    def display(self, text, display_id):
        self.update(text)
        return self

    def update(self, text):
        self.shown.append(text)


@pytest.fixture
def shell(monkeypatch):
    shell = Shell()
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", shell)
    return shell


def test_a_bar_counts_the_rounds_of_all_cells(shell, results):
    cells = grid(build_suite(*read_suite(SUITE)), load_registry(quiet=True))
    now = [0.0]
    bar = Bar(Progress(cells, results.rows[:1], clock=lambda: now[0]))
    assert 'value="2" max="8"' in shell.shown[-1]
    bar.started(cells[1])
    bar.round(cells[1], {"round": 1, "global_accuracy": 50.0})
    assert len(shell.shown) == 1  # twice a second is enough
    now[0] = 1.0
    bar.round(cells[1], {"round": 2, "global_accuracy": 50.0})
    assert 'value="4" max="8"' in shell.shown[-1]
    bar.finished(cells[1], results.rows[1])
    bar.close()
    assert "4 of 8 rounds" in shell.shown[-1]
    assert "2 done, 2 waiting" in shell.shown[-1]


def test_what_shows_a_bench_hangs_on_where_it_is_called(shell, monkeypatch):
    assert isinstance(view_of([], [], shown=True), Bar)
    assert isinstance(view_of([], [], shown=False), Silent)
    monkeypatch.setitem(sys.modules, "IPython", None)
    assert not isinstance(view_of([], [], shown=True), Bar | Silent)


def test_a_comparison_says_what_the_command_says(results, tmp_path, capsys):
    folder = results.folders[0]
    worse = [
        replace(row, global_accuracy=row.global_accuracy - 3 - row.seed / 10)
        if row.strategy == "fedavg"
        else row
        for row in results.rows
    ]
    write_results(worse, tmp_path / "results.csv")
    shutil.copy(folder / "suite.yaml", tmp_path)
    judged = fedkd.load(tmp_path)
    changes = judged.compare(folder, threshold=2)
    assert changes.has_failed
    places = [str(folder), str(tmp_path), "--threshold", "2", "--format"]
    assert main(["compare", *places, "json"]) == 1
    assert json.loads(capsys.readouterr().out) == json.loads(
        json.dumps(changes.plain())
    )
    assert main(["compare", *places, "markdown"]) == 1
    assert capsys.readouterr().out == changes.table()
    assert repr(changes).startswith("Changes(4 values compared: 3 equal, 1 too few")
    assert "fedavg" in changes._repr_html_()
    # The other way round nothing is lost; results are taken as their folder is.
    back = results.compare(judged, level=0.9)
    assert not back.has_failed
    first = back.comparison.changes[0]
    assert (first.level, round(first.difference, 2)) == (0.9, 3.05)


def test_a_comparison_refuses_what_the_command_refuses(results, tmp_path):
    with pytest.raises(
        ConfigError, match="holds no results; expected a results folder"
    ):
        results.compare(tmp_path)
    write_results([replace(results.rows[0], strategy="other")], tmp_path / "x.csv")
    with pytest.raises(ConfigError, match=r"x.csv and .* have no cell in common"):
        results.compare(tmp_path / "x.csv")
    nan, inf = float("nan"), float("inf")
    for odd in (
        {"threshold": -1},
        {"level": 1},
        {"threshold": nan},
        {"threshold": inf},
    ):
        with pytest.raises(ConfigError, match="compare: found threshold="):
            results.compare(results, **odd)
