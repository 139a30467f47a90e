"""What benchmarks/engine.py and scale.py may be asked, and how check.py shows it."""

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    before = set(sys.modules)
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if name in {"asked", "engine", "scale", "check"}:
            del sys.modules[name]


def test_works_repeats_and_contestants_come_by_position(script):
    read = script("engine").arguments
    given = read(["W1,MANY", "3", "bare channels-last,serial"])
    assert given.works == ["W1", "MANY"]
    assert given.repeats == 3
    assert given.contestants == ["bare channels-last", "serial"]


def test_without_arguments_all_contestants_do_the_three_works(script):
    engine = script("engine")
    given = engine.arguments([])
    assert (given.works, given.repeats) == (["W1", "W2", "W3"], 9)
    assert given.contestants == list(engine.CONTESTANTS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["W9"], "argument works: found 'W9', expected some of: W1, W2"),
        (["W1", "0"], "argument repeats: found '0', expected a whole number from 1"),
        (
            ["W1", "1", "fast"],
            "argument contestants: found 'fast', expected some of: bare",
        ),
    ],
)
def test_what_is_unknown_is_an_error_that_lists_what_is_known(
    script, words, message, capsys
):
    with pytest.raises(SystemExit) as stop:
        script("engine").arguments(words)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_help_explains_what_the_first_round_s_time_is(script, capsys):
    with pytest.raises(SystemExit):
        script("engine").arguments(["--help"])
    assert "'first one after' is the time from the start of" in capsys.readouterr().out


def test_scale_refuses_words(script, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scale.py", "many"])
    with pytest.raises(SystemExit) as stop:
        script("scale").main()
    assert stop.value.code == 2
    assert "argument repeats: found 'many'" in capsys.readouterr().err


def test_the_columns_of_the_check_have_headings(script, capsys):
    recorded = {"a": {"ratio": 2.0}}
    script("check").show({"a": 1.9, "b": 0.5}, recorded)
    assert capsys.readouterr().out.splitlines() == [
        "       measured  recorded  least allowed  benchmark",
        "ok        1.900     2.000          1.400  a",
        "new       0.500                           b",
    ]
