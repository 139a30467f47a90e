"""Where an error was raised, in which verb and line, and requests to exit."""

import json
import sys

import pytest

from fedkd.errors import ContractError, place_of, raised_in


def boom():
    raise ValueError("no")


def test_an_error_keeps_its_class_and_is_told_where_it_was_raised():
    with (
        pytest.raises(ValueError, match="no") as caught,
        raised_in("x.local (client 3)"),
    ):
        boom()
    assert str(caught.value) == "no"
    line = boom.__code__.co_firstlineno + 1
    assert (
        place_of(caught.value) == f"x.local (client 3), line {line} of test_errors.py"
    )


def test_the_innermost_place_stays():
    with (
        pytest.raises(ValueError, match="no") as caught,
        raised_in("outer"),
        raised_in("inner"),
    ):
        boom()
    assert place_of(caught.value).startswith("inner, line ")
    assert len(caught.value.__notes__) == 1


def parse():
    return json.loads("{")


def test_the_line_is_that_of_whoever_called_a_library():
    with pytest.raises(ValueError, match="Expecting") as caught, raised_in("x"):
        parse()
    line = parse.__code__.co_firstlineno + 1
    assert place_of(caught.value) == f"x, line {line} of test_errors.py"


def test_a_request_to_exit_is_an_error_that_says_where():
    with (
        pytest.raises(ContractError, match=r"^x.local \(client 3\), line \d+ of test_"),
        raised_in("x.local (client 3)"),
    ):
        sys.exit(3)


def test_what_ends_the_program_passes():
    with pytest.raises(KeyboardInterrupt), raised_in("x"):
        raise KeyboardInterrupt
    assert not place_of(KeyboardInterrupt())
