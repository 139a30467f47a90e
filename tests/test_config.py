"""Options are what was written: nothing is converted to a number or a truth value."""

import pytest

from fedkd.config import Config, build
from fedkd.errors import ConfigError


class Options(Config):
    whole: int = 1
    number: float = 1.0
    switch: bool = False
    several: tuple[float, ...] = ()
    either: float | int = 1.0
    maybe: int | None = None


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [("whole", True, "a whole number"), ("whole", "010", "a whole number"),
     ("whole", 2.0, "a whole number"), ("number", "1", "a number"),
     ("number", True, "a number"), ("switch", 1, "true or false"),
     ("switch", "yes", "true or false"), ("several", [1, "2"], "a number, found '2'"),
     ("either", True, "a number"), ("either", "1", "a number"),
     ("maybe", "3", "a whole number"), ("maybe", False, "a whole number")],
)  # fmt: skip
def test_what_is_no_number_is_not_made_one(option, value, expected):
    with pytest.raises(
        ConfigError, match=rf"^here\.{option}: found .*Expected "
    ) as one:
        build(Options, {option: value}, "here")
    assert f"Expected {expected}." in str(one.value).replace("whole number, ", "")


@pytest.mark.parametrize(
    ("option", "value"),
    [("whole", 2), ("number", 2), ("switch", True), ("several", [1, 2.5]),
     ("either", 1), ("either", 0.5), ("maybe", None)],
)  # fmt: skip
def test_what_is_a_number_is_taken(option, value):
    taken = getattr(build(Options, {option: value}, "here"), option)
    assert list(taken) == value if option == "several" else taken == value
