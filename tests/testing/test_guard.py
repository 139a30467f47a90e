"""A guard of accuracy: a recorded suite, run again, with and without a planted fault."""

import pytest

from fedkd import testing
from fedkd.algorithms import averaging
from fedkd.cli import main
from fedkd.errors import ConfigError

SUITE = """
name: guard
rounds: 2
clients: 3
seeds: 0-2
datasets: [digits]
partitions: [iid]
models: [linear]
training: {local_steps: 20, batch_size: 32, lr: 0.1}
strategies: [fedavg]
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guard")
    (folder / "guard.yaml").write_text(SUITE)
    suite, out = str(folder / "guard.yaml"), str(folder / "recorded")
    assert main(["bench", suite, "--out", out, "--jobs", "1", "--no-plots"]) == 0
    return out


def test_what_did_not_change_passes(recorded, tmp_path):
    comparison = testing.guard_accuracy(recorded, tmp_path)
    assert [change.verdict for change in comparison.changes] == ["equal", "equal"]
    assert comparison.changes[0].before[0] > 60


def test_values_that_a_search_chose_are_taken_from_the_record(tmp_path):
    search = (
        "validation: 0.2\nsearch: {trials: 2, seeds: 100, training.lr: [0.2, 0.3]}\n"
    )
    (tmp_path / "guard.yaml").write_text(SUITE + search)
    suite, out = str(tmp_path / "guard.yaml"), str(tmp_path / "recorded")
    assert main(["bench", suite, "--out", out, "--jobs", "1", "--no-plots"]) == 0
    comparison = testing.guard_accuracy(out, tmp_path / "again")
    assert {change.verdict for change in comparison.changes} == {"equal"}


def test_a_planted_fault_fails_with_the_table(recorded, tmp_path, monkeypatch):
    average = averaging.average

    def forgetful(*arguments):
        """Make the first class one that is never predicted."""
        mean = average(*arguments)
        for value in mean.values():
            value[0] = -9
        return mean

    monkeypatch.setattr(averaging, "average", forgetful)
    with pytest.raises(
        AssertionError, match="lost more than 1 percentage point"
    ) as info:
        testing.guard_accuracy(recorded, tmp_path)
    assert "| fedavg" in str(info.value)
    assert "worse, more than 1" in str(info.value)
    testing.guard_accuracy(recorded, tmp_path, threshold=99)


def test_a_folder_without_its_suite_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"suite.yaml is missing; expected a folder"):
        testing.guard_accuracy(tmp_path, tmp_path / "out")
