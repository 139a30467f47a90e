"""The check of recorded speed ratios: what falls, what is measured again, what counts."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


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


def measuring(*results):
    """Return a stand-in for measuring that gives one result after another."""
    left, asked = list(results), []

    def measure(arguments):
        asked.append(list(arguments))
        return left.pop(0)

    return measure, asked


def test_a_ratio_may_lose_its_margin_and_no_more(check):
    entries = {"a": {"ratio": 2.0}, "b": {"ratio": 2.0, "margin": 0.5}}
    assert check.fallen({"a": 1.41, "b": 1.01}, entries) == {}
    assert check.fallen({"a": 1.39, "b": 0.99}, entries) == {"a": 1.4, "b": 1.0}


def test_what_was_never_recorded_cannot_fall(check):
    assert check.fallen({"new": 0.1}, {"a": {"ratio": 1.0}}) == {}


def test_what_fell_is_measured_again_and_the_best_counts(check, monkeypatch, capsys):
    recorded(check, a=2.0, b=2.0)
    measure, asked = measuring({"a": 1.0, "b": 1.9}, {"a": 1.8})
    monkeypatch.setattr(check, "measure", measure)
    monkeypatch.setattr("sys.argv", ["check.py"])
    assert check.main() == 0
    assert asked == [["benchmarks"], ["a"]]
    assert "FELL" not in capsys.readouterr().out


def test_a_lasting_slowdown_fails(check, monkeypatch, capsys):
    recorded(check, a=2.0)
    measure, asked = measuring(*[{"a": 1.0}] * 3)
    monkeypatch.setattr(check, "measure", measure)
    monkeypatch.setattr("sys.argv", ["check.py"])
    assert check.main() == 1
    assert len(asked) == 3
    shown = capsys.readouterr().out
    assert "FELL" in shown
    assert "1 of 1 benchmarks fell" in shown


def test_a_planted_slowdown_is_there_at_every_attempt(check, monkeypatch):
    recorded(check, a=2.0)
    measure, asked = measuring({"a": 1.0}, {"a": 1.1}, {"a": 1.2})
    monkeypatch.setattr(check, "measure", measure)
    monkeypatch.setattr("sys.argv", ["check.py", "-k", "bare", "--plant"])
    assert check.main() == 1
    assert asked == [["benchmarks", "-k", "bare", "--plant"], *[["a", "--plant"]] * 2]


def test_recording_keeps_margins_and_other_entries(check, monkeypatch):
    check.RECORD.write_text(
        json.dumps({"a": {"ratio": 1.0, "margin": 0.5}, "old": {"ratio": 3.0}}), "utf-8"
    )
    monkeypatch.setattr(check, "measure", measuring({"a": 2.0})[0])
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
