"""What a run is called, in every place alike."""

from dataclasses import fields

import fedkd
from fedkd.base.runname import RunName, with_alpha
from fedkd.report.results import COLUMNS, Row

NAME = RunName("quick", "fedavg", "digits", "dirichlet", 0.1, "cnn", 10, 30, 4)


def test_the_title_of_a_run_tells_it_from_the_others_of_its_suite():
    assert NAME.title == "fedavg, digits, dirichlet 0.1, cnn, seed 4"


def test_alpha_is_written_without_needless_digits_and_only_where_there_is_one():
    assert with_alpha("dirichlet", 1.0) == "dirichlet 1"
    assert with_alpha("dirichlet", 0.05, "-a") == "dirichlet-a0.05"
    assert with_alpha("iid", None) == "iid"


def test_rows_and_what_observers_are_told_begin_with_the_name_of_the_run():
    # Axes are columns of their own, in files that have some.
    names = tuple(one.name for one in fields(RunName) if one.name != "axes")
    assert COLUMNS[: len(names)] == names
    row = Row(**vars(NAME), status="done")
    run = fedkd.RunInfo(**vars(NAME), run_id="id")
    assert (row.title, run.title) == (NAME.title, NAME.title)
    assert (run.suite, run.strategy, run.dataset, run.seed) == (
        "quick", "fedavg", "digits", 4,
    )  # fmt: skip
