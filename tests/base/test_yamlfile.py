"""YAML values of two meanings are refused by key and line."""

import pytest

from fedkd.base.yamlfile import dump, parse
from fedkd.errors import ConfigError


@pytest.mark.parametrize(
    "written",
    ["yes", "No", "on", "OFF", "y", "1:30", "190:20:30", "010", "-07", "00", "0o10",
     "0x1F", "0b11", "1_000", "1_0.5", "2024-01-01", "2024-01-01 10:00:00"],
)  # fmt: skip
def test_a_value_of_two_meanings_is_refused_by_key_and_line(written):
    with pytest.raises(ConfigError) as caught:
        parse(f"a: 1\nb: {{c: [2, {written}]}}\n", "x.yaml")
    assert str(caught.value).startswith(f"x.yaml: line 2: b.c: found {written}, which")


@pytest.mark.parametrize(
    ("written", "value"),
    [("0", 0), ("-3", -3), ("0.50", 0.5), ("1e3", 1000.0), ("true", True), ("~", None),
     ("'010'", "010"), ('"yes"', "yes"), ("folder:a", "folder:a"), ("0-4", "0-4")],
)  # fmt: skip
def test_a_value_of_one_meaning_is_read(written, value):
    read = parse(f"a: {written}", "x.yaml")["a"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    "text",
    ["010", "yes", "1:30", "0x1F", "1_000", "2024-01-01", "0bdca42c1a0ce0eb", "0b12"],
)
def test_what_is_written_is_read_again(text):
    assert parse(dump({"a": text}), "x.yaml") == {"a": text}
