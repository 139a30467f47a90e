"""Options are what was written: nothing is converted to a number or a truth value."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

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


class Bounded(Config):
    positive: float = Field(1.0, gt=0, le=0.5e6)
    some: tuple[int, ...] = Field((1,), min_length=1, max_length=2)
    law: Literal["even", "odd"] = "even"
    most: Annotated[int, Field(ge=1)] | Literal["all"] = 1
    inner: Options = Options()
    by_name: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    text: str = Field("", max_length=3)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("positive", 0, "positive: found 0. Expected more than 0."),
     ("positive", 1e6, "positive: found 1000000.0. Expected 500000 or less."),
     ("positive", float("inf"), "positive: found inf. Expected a finite number."),
     ("positive", "x", "positive: found 'x'. Expected a number."),
     ("some", [], "some: found []. Expected 1 or more entries, not 0."),
     ("some", [1, 2, 3], "some: found [1, 2, 3]. Expected 2 or fewer entries, not 3."),
     ("some", [1, "x"], "some.1: found 'x'. Expected a whole number."),
     ("some", 1, "some: found 1. Expected a list."),
     ("law", "evn", "law: found 'evn'. Expected 'even' or 'odd'. Did you mean 'even'?"),
     ("most", 0, "most: found 0. Expected 1 or more or 'all'."),
     ("most", "x", "most: found 'x'. Expected a whole number or 'all'."),
     ("inner", 3, "inner: found 3. Expected a mapping of keys."),
     ("inner", {"whole": "x"}, "inner.whole: found 'x'. Expected a whole number."),
     ("inner", {"either": "x"}, "inner.either: found 'x'. Expected a number."),
     ("by_name", {"a": [1, "x"]}, "by_name.a.1: found 'x'. Expected a number."),
     ("text", 5, "text: found 5. Expected a text."),
     ("text", "abcd", "text: found 'abcd'. Expected a text of 3 or fewer characters.")],
)  # fmt: skip
def test_a_message_says_where_what_was_found_and_what_was_expected(option, value, said):
    with pytest.raises(ConfigError) as one:
        build(Bounded, {option: value}, "here")
    assert str(one.value) == f"here.{said}"


@pytest.mark.parametrize(
    ("option", "value"),
    [("whole", 2), ("number", 2), ("switch", True), ("several", [1, 2.5]),
     ("either", 1), ("either", 0.5), ("maybe", None)],
)  # fmt: skip
def test_what_is_a_number_is_taken(option, value):
    taken = getattr(build(Options, {option: value}, "here"), option)
    assert list(taken) == value if option == "several" else taken == value
