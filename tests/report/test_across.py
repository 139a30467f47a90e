"""How methods stand over several data sets, worked out by hand."""

import sys
from pathlib import Path

import pytest

from fedkd.report.results import Row
from fedkd.report.summary import summarise

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def across():
    sys.path.insert(0, str(BENCHMARKS))
    from across import across

    yield across
    sys.path.remove(str(BENCHMARKS))


def _rows(label, dataset, *accuracies, of="model"):
    name = {"suite": "s", "partition": "iid", "alpha": None, "models": "cnn"}
    return [
        Row(
            strategy=label, dataset=dataset, clients=2, rounds=1, seed=seed,
            status="done", global_accuracy=accuracy, local_accuracy=accuracy,
            run_id=f"{label}-{dataset}-{seed}", global_of=of, **name,
        )
        for seed, accuracy in enumerate(accuracies)
    ]  # fmt: skip


def test_it_says_how_often_and_how_far_methods_are_above(across):
    rows = [
        *_rows("fedavg", "mnist", 50.0, 60.0),
        *_rows("b", "mnist", 51.0, 64.0),  # +1, +4: mean +2.50
        *_rows("own", "mnist", 90.0, 90.0, of="clients"),
        *_rows("central", "mnist", 99.0),
        *_rows("fedavg", "svhn", 30.0),
        *_rows("b", "svhn", 29.0, 70.0),  # -1; nobody else has seed 1
        *_rows("fedavg", "digits", 40.0),  # b was not run
    ]
    table = summarise(rows, {"central"})
    text = across(rows, table, ["fedavg", "b"])
    lines = [[x.strip() for x in line.split("|")[1:-1]] for line in text.splitlines()]
    assert lines[0] == ["strategy", "above fedavg", "above b"]
    assert lines[2:4] == [
        ["fedavg", "-", "1 of 2: -0.75 (-2.50 to +1.00)"],
        ["b", "1 of 2: +0.75 (-1.00 to +2.50)", "-"],
    ]
    assert "own" not in text
    assert "central" not in text


def test_it_says_in_words_on_how_many_settings_methods_are_separated(across):
    rows = [
        *_rows("fedavg", "mnist", 50.0, 60.0, 55.0),
        *_rows("b", "mnist", 51.0, 61.1, 56.0),  # +1.0, +1.1, +1.0
        *_rows("c", "mnist", 40.0, 50.0, 45.1),  # -10.0, -10.0, -9.9
        *_rows("fedavg", "svhn", 50.0, 60.0, 55.0),
        *_rows("b", "svhn", 60.0, 50.0, 55.0),  # +10, -10, 0
        *_rows("c", "svhn", 20.0),  # one seed: no interval
        *_rows("fedavg", "digits", 40.0, 40.0),
        *_rows("b", "digits", 90.0, 90.0),  # two seeds
    ]
    lines = across(rows, summarise(rows), ["fedavg", "c"]).splitlines()
    assert "of the settings in which any method has an interval" in lines[-4]
    assert lines[-2] == (
        "- separated above `fedavg`: `b` on 1 of 2; below it: `c` on 1 of 1; on no "
        "setting: nobody; without an interval: `c` on 1 of 2. Of 3 comparisons at 95 %, "
        "0.15 would leave 0 by chance alone if nothing differed."
    )
    assert lines[-1] == (
        "- separated above `c`: `fedavg` on 1 of 1, `b` on 1 of 1; below it: nobody; on "
        "no setting: nobody. Of 2 comparisons at 95 %, 0.1 would leave 0 by chance alone "
        "if nothing differed."
    )


def test_with_too_few_seeds_there_are_no_words(across):
    rows = [
        *_rows("fedavg", "mnist", 50.0),
        *_rows("b", "mnist", 51.0),
        *_rows("fedavg", "svhn", 50.0),
        *_rows("b", "svhn", 51.0),
    ]
    assert "In words" not in across(rows, summarise(rows), ["fedavg"])


def test_who_has_no_global_model_on_one_set_is_told_of_the_others(across):
    rows = [
        *_rows("fedavg", "mnist", 50.0),
        *_rows("b", "mnist", 51.0),
        *_rows("fedavg", "svhn", 50.0),
        *_rows("b", "svhn", 90.0, of="clients"),
    ]
    text = across(rows, summarise(rows), ["fedavg"])
    assert "1 of 1: +1.00 (+1.00 to +1.00)" in text


def test_of_one_data_set_there_is_nothing_to_say(across):
    rows = _rows("fedavg", "mnist", 50.0) + _rows("b", "mnist", 51.0)
    assert across(rows, summarise(rows, set()), ["fedavg"]) == ""
