"""Numbers of NumPy become plain ones; all else stays."""

import numpy as np
import pytest

from fedkd.base.numbers import plain_numbers


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
