"""Sizes, depths and places are looked at before anything is read."""

import json
import os
import tracemalloc

import pytest

from fedkd.base import bounds, machine
from fedkd.base.bounds import inside, parse_json, read_bytes, refuse_links_outside
from fedkd.base.files import json_mapping
from fedkd.base.folders import ResultsFolder
from fedkd.base.yamlfile import parse, read_mapping
from fedkd.errors import BoundsError, ConfigError, DataError, readable


@pytest.fixture
def peak():
    """Bytes that Python takes at most while a test runs."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


@pytest.fixture
def endless(tmp_path):
    """A file that says it has a terabyte."""
    path = tmp_path / "endless"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    return path


def test_a_file_that_is_too_large_is_not_read(endless, peak):
    with pytest.raises(BoundsError, match=r"endless: found more than 64 MiB, expected"):
        read_bytes(endless)
    assert json_mapping(endless) is None
    with pytest.raises(
        ConfigError, match=r"suite x: .*endless: found more than 64 MiB"
    ):
        read_mapping(endless, "suite x")
    with pytest.raises(BoundsError):
        bounds.read_tree_bytes(endless)
    assert peak() < 4 << 20


def test_a_file_of_just_the_size_is_read(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"12345678")
    assert read_bytes(path, 8) == b"12345678"
    with pytest.raises(BoundsError, match="more than 7 bytes"):
        read_bytes(path, 7)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BoundsError, match="pipe: found a pipe or a device, expected a"):
        read_bytes(tmp_path / "pipe")
    with pytest.raises(BoundsError, match="found a pipe or a device"):
        read_bytes(bounds.Path("/dev/zero"))
    with pytest.raises(IsADirectoryError):
        read_bytes(tmp_path)


def test_files_of_the_system_that_say_they_are_empty_are_read():
    assert read_bytes(bounds.Path("/proc/self/status")).startswith(b"Name:")


@pytest.mark.parametrize("text", ["[" * 100_000, b'{"a":' * 100_000])
def test_json_nested_too_deep_is_refused(text):
    with pytest.raises(BoundsError, match="JSON nested too deep"):
        parse_json(text)


def test_json_of_too_many_values_is_refused_before_there_are_any(peak, monkeypatch):
    monkeypatch.setattr(bounds, "VALUES", 1000)
    text = json.dumps([[]] * 501)
    with pytest.raises(BoundsError, match="JSON of more than 1,000 values"):
        parse_json(text)
    assert peak() < 1 << 20
    commas = json.dumps([",[{" * 1000, 'a"' * 1000])
    assert parse_json(commas) == json.loads(commas)  # in texts they are none
    assert len(parse_json(json.dumps([1] * 999))) == 999


def test_json_of_a_whole_number_that_no_float_holds_is_refused():
    with pytest.raises(BoundsError, match="a whole number of 401 digits in JSON"):
        parse_json(f"[1{'0' * 400}]")
    assert parse_json(f"[{2**128}, -{10**298}, 1.5]") == [2**128, -(10**298), 1.5]


def test_json_that_cannot_be_read_is_none_as_ever(tmp_path):
    path = tmp_path / "x.json"
    for content in (b"[" * 10_000, b"\xff", b"[1]", b"1" * 5000, b"{}" * 2):
        path.write_bytes(content)
        assert json_mapping(path) is None


def test_a_link_inside_may_stand_and_one_that_leads_out_may_not(tmp_path):
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (tmp_path / "secret").write_text("mine")
    (root / "b").symlink_to("a")
    refuse_links_outside(root)
    (tmp_path / "other").symlink_to(root)
    refuse_links_outside(tmp_path / "other")  # the folder itself may be a link
    (root / "a" / "up").symlink_to(tmp_path / "secret")
    with pytest.raises(BoundsError, match=r"a/up leads to .*secret, outside of .*root"):
        refuse_links_outside(root)
    refuse_links_outside(root, "b/none")
    with pytest.raises(BoundsError, match="outside of"):
        inside(root, root / "../secret")
    (root / "a" / "up").unlink()
    (root / "c").symlink_to("/etc")
    with pytest.raises(BoundsError, match="c leads to"):
        refuse_links_outside(root)
    with pytest.raises(BoundsError, match="c leads to"):
        refuse_links_outside(root, "c")


@pytest.mark.parametrize("name", ["../x", "/etc", "a/b", "..", ".", "", "a\0b"])
def test_a_run_lies_in_its_folder_whatever_it_is_called(tmp_path, name):
    with pytest.raises(DataError, match="expected the name of a folder in"):
        ResultsFolder(tmp_path).run(name)


def test_room_is_refused_that_the_machine_has_not(monkeypatch):
    monkeypatch.setattr(bounds, "memory", lambda: 1 << 30)
    bounds.require_room(1 << 30, "x")
    with pytest.raises(
        BoundsError, match=r"x: found 1 TiB, expected what fits .* 1 Gi"
    ):
        bounds.require_room(1 << 40, "x")


def test_the_memory_of_the_machine_is_known():
    assert 1 << 28 < machine.memory() < 1 << 50


def test_what_steers_a_terminal_is_escaped():
    assert readable("a\x1b[2Jb\nc\x07é") == "a\\x1b[2Jb\\nc\\x07é"


def laughs(levels):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for i in range(levels):
        lines.append(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (laughs(9), "more than 20,000 values, expected fewer; aliases count"),
        ("[" + "1," * 20_100 + "]", "more than 20,000 values"),
        ("a: " + "x" * 300_000, "found 300,003 characters, expected at most 262,144"),
        ("[" * 400, "maximum recursion depth"),
        ("&a [*a]", "a value that holds itself"),
        ("&a {b: *a}", "a value that holds itself"),
        ("a: {<<: [{b: 1}, 2]}", "expected a mapping for merging"),
        ("!!python/object/apply:os.system [id]", "found the tag"),
        ("!!binary aGk=", "found the tag"),
        ("!!set {a, b}", "found the tag"),
        ("!!timestamp x", "not a YAML text"),
        ("!!int ''", "not a YAML text"),
        ("!!float ''", "not a YAML text"),
        ("!!bool x", "not a YAML text"),
        ('"\\ud800"', "found half a character"),
    ],
)
def test_yaml_that_was_made_to_do_harm_is_refused(text, problem):
    with pytest.raises(ConfigError, match=f"^x.yaml: .*{problem}"):
        parse(text, "x.yaml")


def test_a_text_of_many_underscores_is_read_in_no_time():
    text = "1" + "_" * 100_000 + "x"
    assert parse(text, "x.yaml") == text
