"""The heat map of a split in the terminal: cells, shades, legend, many classes."""

import io
import re

import numpy as np
import pytest
from rich.console import Console

from fedkd import cli
from fedkd.commands.heat_map import SHADES, print_heat_map, shade_starts
from fedkd.partition.counts import read_table


def drawn(counts, width=100, colour=True):
    """Return the lines that are drawn; with their colours or without."""
    system = "256" if colour else None
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        color_system=system,
        highlight=False,
        _environ={},
    )
    print_heat_map(console, np.asarray(counts, np.int64), "the split")
    return console.file.getvalue().splitlines()


def colours(line):
    """Return the background of each coloured cell of a line."""
    return re.findall(r"48;5;(\d+)m", line)


def test_each_cell_has_its_number_and_nobody_a_point():
    lines = drawn([[5, 0, 7], [0, 120, 3]], colour=False)
    assert [line.rstrip() for line in lines] == [
        "the split:",
        "client  samples     0    1    2",
        "     0       12     5    ·    7",
        "     1      123     ·  120    3",
        "Samples:  1-2  3-4  5-10  11-24  25-54  55-120",
    ]


def test_darker_is_more():
    lines = drawn([[1, 3, 10, 0], [20, 50, 120, 120]])
    shades = [re.search(r"color\((\d+)\)$", shade)[1] for shade in SHADES]
    assert colours(lines[2]) == shades[:3]
    assert colours(lines[3]) == [*shades[3:], shades[5]]
    assert colours(lines[4]) == shades


def test_shades_begin_at_powers_of_the_largest_number():
    assert shade_starts(10**6 - 1) == [1, 10, 100, 1000, 10_000, 100_000]
    assert shade_starts(1) == [1, 2, 2, 2, 2, 2]


def test_the_legend_has_only_shades_that_can_occur():
    assert drawn([[1, 1]], colour=False)[-1].rstrip() == "Samples:  1"


@pytest.mark.parametrize("width", [40, 80, 200, 1000])
@pytest.mark.parametrize("classes", [2, 20, 21, 100, 200])
def test_no_line_is_wider_than_the_terminal(width, classes):
    counts = np.random.default_rng(0).integers(0, 500, (4, classes))
    lines = drawn(counts, width, colour=False)
    assert max(map(len, lines[1:6])) <= width


def test_two_hundred_classes_share_cells_that_say_so():
    counts = np.zeros((2, 200), np.int64)
    counts[0, 0] = counts[1, 199] = 9
    lines = drawn(counts, 80)
    assert lines[-1] == "A cell holds 4 classes."
    assert len(colours(lines[2])) == len(colours(lines[3])) == 1
    before, after = (line.partition("48;5;")[0] for line in lines[2:4])
    assert len(before) < len(after)


def test_no_samples_at_all_are_drawn():
    assert len(drawn([[0, 0]], colour=False)) == 4


@pytest.fixture
def fedkd(monkeypatch, capsys):
    """Run ``fedkd partition ARGUMENTS`` in an environment; returns what it prints."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments, **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert cli.main(["partition", *map(str, arguments)]) == 0
        return capsys.readouterr().out

    return run


def test_without_a_terminal_there_are_no_colours(fedkd):
    assert "\x1b" not in fedkd()


def test_a_terminal_gets_colours(fedkd):
    shown = fedkd(FORCE_COLOR="1")
    assert len(colours(shown)) == 35  # with those of the legend
    assert "Classes: 0 0, 1 1, " in shown
    assert "Hash: " in shown


def test_colours_can_be_declined(fedkd):
    assert not colours(fedkd(FORCE_COLOR="1", NO_COLOR="1"))


@pytest.mark.parametrize("terminal", [{}, {"FORCE_COLOR": "1", "NO_COLOR": "1"}])
def test_the_title_names_the_part_of_the_data(fedkd, terminal):
    shown = fedkd("--set", "dataset.fraction=0.5", **terminal)
    assert "digits[fraction=0.5], dirichlet alpha=0.1" in shown


def test_a_picture_and_a_table_of_the_same_split_are_written(fedkd, tmp_path):
    csv, png = tmp_path / "split.csv", tmp_path / "split.png"
    shown = fedkd("--csv", csv, "--png", png)
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    again = fedkd("--partition", f"counts:{csv}")
    rows = [line.split()[2:] for line in shown.splitlines()[2:12]]
    assert rows == [line.split()[2:] for line in again.splitlines()[2:12]]
    written = read_table(csv, 10).tolist()
    assert [[int(n.replace("-", "0")) for n in row] for row in rows] == written
