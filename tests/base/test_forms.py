"""What a caller gives in other forms: told in words, and NumPy's numbers taken."""

import numpy as np
import pytest

from fedkd.base.forms import plain_numbers, require, whole_number
from fedkd.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.array(2), 2),
        (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        ({np.int64(1): (np.float64(0.25), [np.uint8(7)])}, {1: (0.25, [7])}),
        (np.array([{"a": np.int64(1)}, None], dtype=object), [{"a": 1}, None]),
    ],
)
def test_numbers_of_numpy_are_those_of_python(given, plain):
    found = plain_numbers(given)
    assert found == plain
    assert repr(found) == repr(plain), "equal, and of the same kinds"


@pytest.mark.parametrize(
    "value", [1, "a", None, {1, 2}, range(2), np.longdouble(1), np]
)
def test_all_else_stays_what_it_is(value):
    assert plain_numbers(value) is value


@pytest.mark.parametrize("given", [2, np.int64(2), np.uint8(2)])
def test_a_whole_number_is_one_of_python(given):
    assert type(whole_number(given, "x", least=2)) is int
    assert whole_number(given, "x", least=2) == 2


@pytest.mark.parametrize("given", [1, 2.0, "2", True, None, np.float64(2), [2]])
def test_what_is_no_whole_number_is_told_in_words(given):
    with pytest.raises(ConfigError) as told:
        whole_number(given, "x", least=2)
    assert str(told.value) == f"x: found {given!r}, expected a whole number from 2 on."


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(
        ConfigError, match=r"^x: found '0{90,200}.*, expected a number\.$"
    ):
        require("0" * 10_000, (int,), "x", "a number")


def test_a_truth_value_is_no_number():
    with pytest.raises(ConfigError, match="found True, expected a number"):
        require(True, (int,), "x", "a number")
