"""Where cells go on that were cut off."""

import pytest

from fedkd.base.folders import ResultsFolder
from fedkd.base.runname import RunName
from fedkd.harness.resuming import ResumePoints
from fedkd.simulation.store.checkpoint import OTHER_LINES, OTHER_RUN, UNREADABLE
from fedkd.suite.grid import Cell


def cell(seed, every):
    run = RunName("quick", "a", "digits", "iid", None, "cnn", 2, 40, seed)
    run_id = f"a-s{seed}"
    return Cell(
        run,
        config_hash="h",
        run_id=run_id,
        checkpoint_every=every,
        parts=None,
        config={},
    )


@pytest.mark.parametrize(
    ("checkpoint", "every", "rounds", "said", "prospect"),
    [
        (False, 8, [], [], "the one that was running has no checkpoint yet"),
        (True, 8, [], [], "the one that was running goes on from its last checkpoint"),
        (False, 8, [1, 2], ["", ""], "the one that was running has no checkpoint yet"),
        (
            True,
            0,
            [17, 18],
            ["goes on after round 16 of 40", ""],
            "the one that was running goes on from its last checkpoint (round 16)",
        ),
        (
            True,
            1,
            [1, 2, 3],
            ["its checkpoint cannot be read; starts from round 1.", "", ""],
            "the one that was running goes on from its last checkpoint (round 3)",
        ),
    ],
)
def test_a_cell_that_is_cut_off_goes_on_from_its_last_checkpoint(
    tmp_path, checkpoint, every, rounds, said, prospect
):
    one = cell(0, every)
    if checkpoint:
        folder = ResultsFolder(tmp_path).run(one.run_id)
        folder.path.mkdir(parents=True)
        folder.checkpoint.write_bytes(b"")
        log = "started, fedkd 1\nRuntimeWarning: its checkpoint cannot be read; starts "
        folder.log.write_text(f"{log}from round 1: checkpoint.safetensors\n")
    starts = ResumePoints(ResultsFolder(tmp_path))
    assert starts.prospect() == ""
    starts.started(one)
    assert [starts.round(one, {"round": n}) for n in rounds] == said
    assert starts.prospect() == prospect
    starts.ended(one)
    assert starts.prospect() == ""


def test_cells_side_by_side_are_told_together(tmp_path):
    starts = ResumePoints(ResultsFolder(tmp_path))
    cells = [cell(seed, 2) for seed in range(3)]
    for one in cells:
        starts.started(one)
    assert starts.prospect() == "the 3 that were running have no checkpoint yet"
    for one, rounds in zip(cells, (1, 2, 5), strict=True):
        for n in range(1, rounds + 1):
            starts.round(one, {"round": n})
    assert starts.prospect() == (
        "the 3 that were running go on from their last checkpoints (rounds 2 to 4)"
    )


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (None, "starts from round 1."),
        (
            f"started, fedkd 1\n{UNREADABLE}\nstarted, fedkd 1\n{OTHER_LINES}: m.jsonl\n",
            "its metrics.jsonl does not fit its checkpoint; starts from round 1.",
        ),
        (
            f"started, fedkd 1\n{OTHER_RUN}: it differs in: seed.\n",
            "its checkpoint is another run's; starts from round 1.",
        ),
    ],
)
def test_why_a_run_starts_anew_is_what_its_log_says_since_its_start(
    tmp_path, log, said
):
    one = cell(0, 1)
    folder = ResultsFolder(tmp_path).run(one.run_id)
    folder.path.mkdir(parents=True)
    folder.checkpoint.write_bytes(b"")
    if log is not None:
        folder.log.write_text(log)
    starts = ResumePoints(ResultsFolder(tmp_path))
    starts.started(one)
    assert starts.round(one, {"round": 1}) == said
