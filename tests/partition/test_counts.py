"""A split from a client x class table: what it reads and what it refuses."""

import numpy as np
import pytest

from fedkd.errors import ConfigError
from fedkd.partition.base import Partition
from fedkd.partition.counts import Counts, CountsConfig, read_table

LABELS = np.tile([0, 1, 2], 10)


@pytest.fixture
def table(tmp_path):
    """Write a table; returns its path."""

    def write(text):
        path = tmp_path / "table.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def split(path, clients=2, labels=LABELS):
    scheme = Counts(CountsConfig(file=str(path)))
    return scheme.split(labels, clients, 3, np.random.default_rng(0))


def test_clients_get_what_the_table_says(table):
    found = split(table("client,a,b,c\n0,3,0,10\n1,7,10,0\n"))
    assert found.counts.tolist() == [[3, 0, 10], [7, 10, 0]]
    assert found.notes == ()


def test_samples_that_no_row_asks_for_are_left_out_and_noted(table):
    found = split(table("client,a,b,c\n0,3,0,0\n1,0,4,0\n"))
    assert found.sizes.sum() == 7
    assert found.notes == ("left out: 23 of 30 samples are in no client's row",)


def test_a_written_table_is_read_back(table):
    first = Partition.of([[0, 3, 1], [2, 5, 4]], LABELS, 3)
    path = table(first.to_csv(["cat", "a, b", "dog"]))
    assert read_table(path, 3).tolist() == first.counts.tolist()


def test_columns_named_by_numbers_are_those_classes(table):
    assert read_table(table("client,2,0\n0,5,6\n"), 3).tolist() == [[6, 0, 5]]


def test_rows_may_be_in_any_order(table):
    text = "client,a,b,c\n1,0,0,4\n0,1,0,0\n"
    assert read_table(table(text), 3).tolist() == [[1, 0, 0], [0, 0, 4]]


def test_spaces_blank_lines_and_the_mark_of_excel_do_no_harm(table):
    text = "\ufeffclient, a, b, c\n\n 0, 1, 2, 3\n\n"
    assert read_table(table(text), 3).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("", 1, "found the header '', expected 'client,<class>,...'"),
        ("a,b,c\n0,1,2\n", 1, "found the header 'a,b,c'"),
        ("client\n0\n", 1, "found the header 'client'"),
        ("client,a,b\n0,1,2\n", 1, "found 2 classes, expected 3"),
        ("client,0,3\n0,1,2\n", 1, "expected each of 0 to 2 at most once"),
        ("client,0,0\n0,1,2\n", 1, "expected each of 0 to 2 at most once"),
        ("client,a,b,c\n0,1,2\n", 2, "found 3 values, expected 4"),
        ("client,a,b,c\n0,1,2,3\n1,1,x,3\n", 3, "found 'x', expected a whole number"),
        ("client,a,b,c\n0,1,-2,3\n", 2, "found '-2', expected a whole number"),
        ("client,a,b,c\n0,1,2.5,3\n", 2, "found '2.5', expected a whole number"),
        ("client,a,b,c\n0,1,\u00b2,3\n", 2, "found '\u00b2', expected a whole number"),
        ("client,a,b,c\n0,1,,3\n", 2, "found '', expected a whole number"),
        ("client,a,b,c\n0,1,2,3\n0,1,2,3\n", 3, "client 0 is there twice"),
        ("client,a,b,c\n0,0,0,0\n", 2, "client 0 has no samples"),
    ],
)
def test_a_damaged_table_is_refused_with_the_line(table, text, line, problem):
    path = table(text)
    with pytest.raises(ConfigError) as caught:
        read_table(path, 3)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "found"),
    [("", "none"), ("1,1,1,1\n", "1"), ("0,1,1,1\n2,1,1,1\n", "0, 2")],
)
def test_clients_must_be_numbered_without_a_gap(table, rows, found):
    with pytest.raises(ConfigError, match=f"found clients {found}; expected 0, 1, 2"):
        read_table(table(f"client,a,b,c\n{rows}"), 3)


def test_another_number_of_clients_is_refused(table):
    with pytest.raises(ConfigError, match=r"found 1 client, expected 2\. Set the"):
        split(table("client,a,b,c\n0,1,1,1\n"))


def test_more_than_there_is_is_refused_with_the_class(table):
    path = table("client,a,b,c\n0,1,6,0\n1,0,5,0\n")
    with pytest.raises(
        ConfigError, match="want 11 samples of class 1; the data has 10"
    ):
        split(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(
        ConfigError, match=r"none\.csv: No such file or directory; expec"
    ):
        split(tmp_path / "none.csv")


def test_a_file_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "image.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"image\.csv: not a text in UTF-8"):
        split(path)


class TestHeadings:
    def test_a_column_is_of_the_class_that_it_names(self, table):
        path = table("client,dog,cat,a\n0,1,2,3\n")
        assert read_table(path, 3, ("a", "cat", "dog")).tolist() == [[3, 2, 1]]

    def test_a_class_that_is_not_named_has_no_samples(self, table):
        path = table("client,dog\n0,1\n")
        assert read_table(path, 3, ("a", "cat", "dog")).tolist() == [[0, 0, 1]]

    def test_accents_may_be_encoded_either_way(self, table):
        path = table("client,cafe\u0301,a\n0,1,2\n")
        assert read_table(path, 2, ("a", "caf\u00e9")).tolist() == [[2, 1]]

    def test_names_that_are_numbers_come_with_their_own(self, table):
        path = table("client,1: 10,0: 7\n0,5,6\n")
        assert read_table(path, 2, ("7", "10")).tolist() == [[6, 5]]

    def test_a_name_of_no_class_is_refused(self, table):
        message = (
            r"csv:1: found the heading 'cow', which is no class of the data set; exp"
        )
        with pytest.raises(ConfigError, match=message):
            read_table(table("client,a,cow\n0,1,2\n"), 2, ("a", "cat"))

    def test_a_class_twice_is_refused(self, table):
        with pytest.raises(ConfigError, match="the class 'a' is there twice; keep one"):
            read_table(table("client,a,a\n0,1,2\n"), 2, ("a", "cat"))

    def test_the_split_of_a_partitioner_that_knows_the_names_obeys_them(self, table):
        scheme = Counts(CountsConfig(file=str(table("client,c,a\n0,1,2\n1,3,4\n"))))
        scheme.classes = ("a", "b", "c")
        found = scheme.split(LABELS, 2, 3, np.random.default_rng(0))
        assert found.counts.tolist() == [[2, 0, 1], [4, 0, 3]]
