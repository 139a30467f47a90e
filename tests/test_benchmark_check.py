"""The check of recorded speed ratios: what falls, what is measured again, what counts."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TWO = """
import pytest

@pytest.mark.parametrize("x", [1.5])
def test_it(benchmark, x):
    benchmark.pedantic(lambda: None, rounds=1)
    benchmark.extra_info["ratio"] = 2.0

@pytest.mark.skipif(True, reason="one core")
@pytest.mark.parametrize("x", ["a-b"])
def test_not_here(benchmark, x):
    pass
"""


@pytest.fixture
def check(tmp_path, monkeypatch):
    path = ROOT / "benchmarks" / "check.py"
    spec = importlib.util.spec_from_file_location("benchmark_check", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RECORD", tmp_path / "ratios.json")
    return module


def recorded(check, **ratios):
    entries = {name: {"ratio": ratio} for name, ratio in ratios.items()}
    check.RECORD.write_text(json.dumps(entries), "utf-8")


def measuring(check, *results, skipped=()):
    """Return a stand-in for measuring that gives one result after another."""
    left, asked = list(results), []

    def measure(arguments):
        asked.append(list(arguments))
        return check.Measured(left.pop(0), skipped)

    return measure, asked


def test_a_ratio_may_lose_its_margin_and_no_more(check):
    entries = {"a": {"ratio": 2.0}, "b": {"ratio": 2.0, "margin": 0.5}}
    assert check.fallen({"a": 1.41, "b": 1.01}, entries) == {}
    assert check.fallen({"a": 1.39, "b": 0.99}, entries) == {"a": 1.4, "b": 1.0}


def test_what_was_never_recorded_cannot_fall(check):
    assert check.fallen({"new": 0.1}, {"a": {"ratio": 1.0}}) == {}


def test_what_fell_is_measured_again_and_the_best_counts(check, monkeypatch, capsys):
    recorded(check, a=2.0, b=2.0)
    measure, asked = measuring(check, {"a": 1.0, "b": 1.9}, {"a": 1.8})
    monkeypatch.setattr(check, "measure", measure)
    monkeypatch.setattr("sys.argv", ["check.py"])
    assert check.main() == 0
    assert asked == [["benchmarks"], ["a"]]
    assert "FELL" not in capsys.readouterr().out


def test_a_lasting_slowdown_fails(check, monkeypatch, capsys):
    recorded(check, a=2.0)
    measure, asked = measuring(check, *[{"a": 1.0}] * 3)
    monkeypatch.setattr(check, "measure", measure)
    monkeypatch.setattr("sys.argv", ["check.py"])
    assert check.main() == 1
    assert len(asked) == 3
    shown = capsys.readouterr().out
    assert "FELL" in shown
    assert "1 of 1 benchmarks fell" in shown


def test_a_planted_slowdown_is_there_at_every_attempt(check, monkeypatch):
    recorded(check, a=2.0)
    measure, asked = measuring(check, {"a": 1.0}, {"a": 1.1}, {"a": 1.2})
    monkeypatch.setattr(check, "measure", measure)
    monkeypatch.setattr("sys.argv", ["check.py", "-k", "bare", "--plant"])
    assert check.main() == 1
    assert asked == [["benchmarks", "-k", "bare", "--plant"], *[["a", "--plant"]] * 2]


def test_recording_keeps_margins_and_other_entries(check, monkeypatch):
    check.RECORD.write_text(
        json.dumps({"a": {"ratio": 1.0, "margin": 0.5}, "old": {"ratio": 3.0}}), "utf-8"
    )
    monkeypatch.setattr(check, "measure", measuring(check, {"a": 2.0})[0])
    monkeypatch.setattr("sys.argv", ["check.py", "--record"])
    assert check.main() == 0
    assert check.read() == {"a": {"ratio": 2.0, "margin": 0.5}, "old": {"ratio": 3.0}}


def test_without_a_record_it_says_how_to_make_one(check):
    with pytest.raises(SystemExit, match="--record"):
        check.read()


def test_only_benchmarks_with_a_ratio_are_compared(check):
    found = [
        {"fullname": "a", "extra_info": {"ratio": 1.5}},
        {"fullname": "b", "extra_info": {}},
    ]
    assert check.ratios_of(found) == {"a": 1.5}


@pytest.mark.parametrize(
    ("arguments", "code"), [([], 1), (["--plant"], 1), (["-k", "a"], 0)]
)
def test_what_is_recorded_and_was_not_measured_fails_a_full_run(
    check, monkeypatch, capsys, arguments, code
):
    recorded(check, a=2.0, renamed=1.5)
    monkeypatch.setattr(check, "measure", measuring(check, {"a": 2.0})[0])
    monkeypatch.setattr("sys.argv", ["check.py", *arguments])
    assert check.main() == code
    shown = capsys.readouterr().out
    assert ("MISSING   1.500 was recorded  renamed" in shown) == bool(code)


def test_what_was_skipped_is_not_missing(check, monkeypatch, capsys):
    recorded(check, a=2.0, slow=1.5)
    measure, _ = measuring(check, {"a": 2.0}, skipped={"slow"})
    monkeypatch.setattr(check, "measure", measure)
    monkeypatch.setattr("sys.argv", ["check.py"])
    assert check.main() == 0
    assert "MISSING" not in capsys.readouterr().out


def test_ratios_and_skipped_tests_have_the_names_of_the_record(check, monkeypatch):
    """By pytest itself, of one benchmark that runs and one that is skipped."""
    monkeypatch.setattr(check, "HERE", check.RECORD.parent / "benchmarks")
    check.HERE.mkdir()
    (check.HERE / "test_two.py").write_text(TWO, "utf-8")
    (check.HERE.parent / "pytest.ini").write_text("[pytest]\n", "utf-8")
    found = check.measure(["benchmarks"])
    assert found.ratios == {"benchmarks/test_two.py::test_it[1.5]": 2.0}
    assert found.skipped == {"benchmarks/test_two.py::test_not_here[a-b]"}
    names = [*found.ratios, *found.skipped]
    assert check.missing(found, [*names, "gone"]) == ["gone"]
