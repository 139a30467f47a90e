"""Killed at random moments and gone on with; ``kill_by_hand.py`` has every strategy."""

import pytest
from kill_by_hand import rows, trial


@pytest.mark.slow
def test_a_suite_that_is_killed_ends_with_the_same_results(tmp_path):
    one = trial(tmp_path, ["fedavg", "scaffold"], kills=1, damage=1, seed=2)
    assert one.problems == []
    assert one.kills == 1
    assert {row["status"] for row in rows(tmp_path / "killed").values()} == {"done"}
