"""The table of planted faults cannot rot: each fault still fits the code it is for."""

import shlex
import subprocess
from pathlib import Path

import pytest
from mutation import mutate
from mutation.mutate import (
    ROOT,
    Fault,
    Verdict,
    load_equivalent,
    load_faults,
    summary,
)

FAULTS = load_faults()


@pytest.mark.parametrize(
    "fault", FAULTS, ids=lambda fault: f"{fault.area}/{fault.name}"
)
def test_the_text_of_a_fault_occurs_once_and_the_fault_is_a_program(fault):
    text = (ROOT / fault.path).read_text("utf-8")
    compile(fault.applied(text), fault.path, "exec")


@pytest.mark.parametrize(
    "tests", sorted({fault.tests for fault in FAULTS}), ids=shlex.join
)
def test_the_tests_of_a_fault_are_there(tests):
    paths = [Path(t.split("::")[0]) for t in tests if t.startswith("tests/")]
    assert paths
    assert all((ROOT / path).exists() for path in paths)


def test_every_explained_survivor_is_a_fault():
    names = {fault.name for fault in FAULTS}
    assert load_equivalent().keys() <= names
    assert all(load_equivalent().values())


def fault(**changes):
    parts = {
        "area": "here",
        "name": "wrong sign",
        "path": "a.py",
        "tests": ("tests/a",),
    }
    return Fault(**{**parts, "old": "a + b", "new": "a - b", **changes})


def test_a_fault_takes_the_place_of_its_text():
    assert fault().applied("c = a + b\n") == "c = a - b\n"


@pytest.mark.parametrize(
    ("text", "changes"),
    [("c = b + a", {}), ("a + b + a + b", {}), ("a + b", {"new": "a + b"})],
)
def test_a_fault_that_does_not_fit_is_refused(text, changes):
    with pytest.raises(ValueError, match=r"'wrong sign': a\.py has its text"):
        fault(**changes).applied(text)


def test_a_table_with_another_key_or_a_name_twice_is_refused(tmp_path):
    entry = {
        "name": "n",
        "path": "p",
        "old": "o",
        "new": "n",
        "tests": "tests/x -k 'a b'",
    }
    table = tmp_path / "here.py"
    table.write_text(f"FAULTS = [{entry!r}]\n")
    assert load_faults(tmp_path)[0].tests == ("tests/x", "-k", "a b")
    table.write_text(f"FAULTS = [{entry!r}, {entry!r}]\n")
    with pytest.raises(ValueError, match=r"of one name: \['n'\]"):
        load_faults(tmp_path)
    table.write_text(f"FAULTS = [{ {**entry, 'file': 'x'}!r}]\n")
    with pytest.raises(ValueError, match=r"expected .*'new', 'old', 'path', 'tests'"):
        load_faults(tmp_path)


def test_the_table_counts_by_area():
    faults = [fault(), fault(name="b"), fault(name="c", area="there")]
    words = {"wrong sign": "caught", "b": "survived", "c": "equivalent"}
    text = summary(faults, {n: Verdict(w, 1.0) for n, w in words.items()})
    rows = [line.split() for line in text.splitlines()]
    assert rows[0] == ["area", "faults", "caught", "survived", "equivalent", "broken"]
    assert rows[1] == ["here", "2", "1", "1", "0", "0"]
    assert rows[3] == ["in", "all", "3", "1", "1", "1", "0"]


SOURCE = "def plus(a, b):\n    return a + b\n\n\ndef spare():\n    return 1\n"
TEST = """
from fedkd import plus, spare

def test_a_sum():
    assert plus(1, 2) == 3

def test_that_never_passes():
    assert plus(1, 1) == 3
"""


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A checkout of two files, in which faults are planted."""
    (tmp_path / "fedkd").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "fedkd" / "__init__.py").write_text(SOURCE)
    (tmp_path / "tests" / "test_it.py").write_text(TEST)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    monkeypatch.setattr(mutate, "ROOT", tmp_path)
    monkeypatch.setattr(
        mutate, "load_equivalent", lambda: {"unused": "nobody calls it"}
    )
    return tmp_path


@pytest.mark.thorough
def test_faults_are_caught_or_survive_and_the_sources_stay(house, capsys):
    def planted(name, old, new, test="a_sum"):
        tests = ("tests/test_it.py", "-k", test)
        return Fault("here", name, "fedkd/__init__.py", old, new, tests)

    faults = [
        planted("sign", "a + b", "a - b"),
        planted("no name", "a + b", "a + c"),
        planted("unseen", "return 1", "return 2"),
        planted("unused", "return 1", "return 3"),
        planted("no control", "a + b", "a - b", "never_passes"),
    ]
    verdicts = mutate.judge(faults, jobs=2, limit=100)
    words = {name: verdict.word for name, verdict in verdicts.items()}
    assert words == {
        "sign": "caught",
        "no name": "caught",
        "unseen": "survived",
        "unused": "equivalent",
        "no control": "broken",
    }
    assert (house / "fedkd" / "__init__.py").read_text() == SOURCE
    shown = capsys.readouterr().out
    assert "fedkd/__init__.py; tests/test_it.py -k a_sum" in shown
    assert "nobody calls it" in shown
    assert "fails without the fault: FAILED" in shown


def test_each_planted_fault_has_a_whole_second_of_its_own(house, tmp_path):
    # Python takes a compiled file for that of a source of its size and whole second.
    copy = mutate.Copy(tmp_path / "copy")
    planted = copy.root / "fedkd" / "__init__.py"
    copy.run = lambda tests, limit: (int(planted.stat().st_mtime), "")
    wrong = [
        Fault("here", text, "fedkd/__init__.py", "a + b", text, ())
        for text in ("a - b", "a * b", "a / b")
    ]
    seconds = [int(planted.stat().st_mtime)]
    seconds += [copy.with_fault(fault, 100)[0] for fault in wrong]
    assert len(set(seconds)) == 4


def test_what_hangs_is_ended_with_what_it_started(tmp_path):
    code = "import subprocess; subprocess.run(['sleep', '60'])"
    assert mutate.run_python(tmp_path, ("-c", code), 1.5) == (None, "ran past 1.5 s")
