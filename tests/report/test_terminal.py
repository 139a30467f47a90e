"""Tables in a terminal: no name and no number is cut, however narrow it is."""

import io

import pytest
from rich.console import Console
from rich.text import Text

from fedkd.report.results import Row
from fedkd.report.terminal import Whole, table_rich

LONG = (
    "mosaic-origin-rolling-with-a-label-that-somebody-chose-to-be-very-long-indeed-x1"
)


def row(label, seed, accuracy, **changes):
    values = {
        "suite": "quick", "strategy": label, "dataset": "digits",
        "partition": "dirichlet", "alpha": 0.1, "models": "cnn", "clients": 10,
        "rounds": 20, "seed": seed, "status": "done", "global_accuracy": accuracy,
        "split_hash": f"split{seed}", "global_of": "model",
    } | changes  # fmt: skip
    name = f"{label}-{values['dataset']}-{values['partition']}-{seed}"
    return Row(**values, run_id=name)


def shown(rows, width=80, **options):
    console = Console(file=io.StringIO(), width=width)
    console.print(table_rich(rows, **options))
    return console.file.getvalue()


def test_settings_without_room_follow_below_with_the_strategies_again():
    datasets = [f"dataset-number-{i}" for i in range(6)]
    rows = [
        row(label, seed, 50.0 + i + seed, dataset=name)
        for label in ("fedavg", "mosaic-origin-rolling")
        for i, name in enumerate(datasets)
        for seed in (0, 1)
    ]
    text = shown(rows, title="quick")
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for i, name in enumerate(datasets):
        assert name in text
        assert text.count(f"{50.5 + i:.2f} ± 0.71") == 2
    assert text.count("mosaic-origin-rolling │") == text.count("━┓") == 3
    assert "quick (goes on)" in text


def test_a_table_that_has_room_is_one():
    rows = [row("fedavg", 0, 50.0, dataset=name) for name in ("a", "b", "c")]
    assert shown(rows).count("━┓") == 1


@pytest.mark.parametrize("width", [30, 80])
def test_a_name_that_is_longer_than_a_line_goes_on_in_the_next(width):
    text = shown([row(LONG, 0, 50.0)], width)
    assert "…" not in text
    cells = [line.split("│")[1].strip() for line in text.splitlines() if "│" in line]
    assert "".join(cells).replace(" ", "") == LONG


def test_titles_are_whole_whatever_is_in_them():
    title = (
        "a-suite [bold] of-a-name-that-is-longer-than-a-line " + 3 * "and-more-of-it "
    )
    text = shown([row("a", 0, 1.0)], title=title)
    assert "…" not in text
    start = text.partition("┏")[0]
    assert " ".join(start.split()) == title.strip()


def test_letters_of_two_places_do_not_push_a_name_out():
    label = "\N{CJK UNIFIED IDEOGRAPH-732B}" * 60
    text = shown([row(label, 0, 50.0), row("b", 0, 40.0)])
    cells = [line.split("│")[1].strip() for line in text.splitlines() if "│" in line]
    assert "".join(cells[:-1]) == label
    assert text.count("50.00") == 1


def test_options_in_brackets_stand_as_they_are():
    assert "digits[fraction=0.5]," in shown(
        [row("a", 0, 1.0, dataset="digits[fraction=0.5]")]
    )


def test_who_has_no_global_model_has_a_sign_and_a_footnote():
    rows = [row("fedavg", 0, 50.0), row("fedbn", 0, 60.0, global_of="clients")]
    text = shown(rows)
    assert "│ fedbn ‡ " in text
    assert "‡ has no global model: its value here is the mean over" in text


def test_different_splits_are_told_above_the_table():
    rows = [row("fedavg", 0, 50.0), row("b", 0, 60.0, split_hash="other")]
    text = " ".join(shown(rows).split())
    assert text.startswith("WARNING: runs of one seed saw different data splits")
    assert "digits, dirichlet 0.1, seed 0. Their differences are not paired" in text
    assert "so nothing is paired" in text


def test_bold_and_underlined_are_seen_where_text_has_no_styles():
    rows = [
        row(label, seed, value + 10 * seed + seed * seed * place / 10)
        for place, (label, value) in enumerate({"a": 70, "b": 60, "c": 50}.items())
        for seed in range(3)
    ]
    text = shown(rows)
    assert "Bold is best and underlined second" in text
    assert " **80.00 ± 10.00** │" in text
    assert " <u>70.17 ± 10.20</u> │" in text
    assert len({len(line) for line in text.splitlines() if "│" in line}) == 1
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    console.print(table_rich(rows))
    styled = console.file.getvalue()
    assert "\x1b[1m" in styled
    assert "**" not in styled
    assert "<u>" not in styled
    page = Console(file=io.StringIO(), width=80, record=True)
    page.print(table_rich(rows))
    assert "**" not in page.export_html()


def test_no_results_are_one_line():
    assert shown([]) == "There are no results yet.\n"


LINE = ("mosaic-with-a-label", "83.33 ± 16.67", "+16.67 [-4.13, +37.46]", "unclear")


@pytest.mark.parametrize("width", [120, 64, 50, 30])
def test_no_number_and_no_header_of_a_whole_table_breaks(width):
    body = [[Text(text) for text in LINE]]
    console = Console(file=io.StringIO(), width=width)
    console.print(Whole(("strategy", "before", "change", "verdict"), body, (1, 2)))
    text = console.file.getvalue()
    words = text.replace(";", " ").split()
    assert max(map(len, text.splitlines())) <= width
    assert {"83.33", "16.67", "+16.67", "[-4.13,", "+37.46]"} <= {*words}
    assert {"strategy", "before", "change", "verdict"} <= {*words}
    assert ("━" in text) == (width > 30)
    assert ("mosaic-with-a-label" in words) == (width != 50)
