"""What is shown while a bench runs, and how long it says the rest takes."""

import io
import re
import subprocess
import sys

import pytest
from rich.console import Console

from fedkd.base.runname import RunName
from fedkd.harness.live.grid import LiveView, visible
from fedkd.harness.live.lines import PlainView, make_view
from fedkd.harness.live.progress import Progress, bytes_text, clock_text, sparkline
from fedkd.report.results import Row
from fedkd.suite.grid import Cell


class Clock:
    """A clock that stands still until it is told."""

    now = 1000.0

    def __call__(self):
        return self.now


def cell(label="fedavg", seed=0, rounds=10, dataset="digits"):
    run = RunName("quick", label, dataset, "dirichlet", 0.1, "cnn", 10, rounds, seed)
    run_id = f"{label}-{dataset}-s{seed}"
    return Cell(
        run, config_hash="h", run_id=run_id, checkpoint_every=0, parts=None, config={}
    )


def row(of, status="done", reason="", accuracy=82.0, seconds=20.0):
    return Row(
        **vars(of.run), status=status, reason=reason, global_accuracy=accuracy,
        bytes_up=1_000_000, bytes_down=200_000, seconds=seconds, run_id=of.run_id,
    )  # fmt: skip


def metrics(index, accuracy=50.0):
    return {
        "round": index,
        "global_accuracy": accuracy,
        "bytes_up": index * 1_000_000,
        "bytes_down": 0,
    }


def console(width=120, height=30, terminal=True):
    return Console(
        file=io.StringIO(),
        width=width,
        height=height,
        force_terminal=terminal,
        _environ={"TERM": "xterm"} if terminal else {},
    )


def shown(view, target):
    """Return what the live view shows now, as lines of plain text."""
    plain = Console(file=io.StringIO(), width=target.width, height=target.height)
    plain.print(view.render())
    return plain.file.getvalue().splitlines()


def live(cells, finished=(), width=120, height=30):
    clock, target = Clock(), console(width, height)
    progress = Progress(cells, finished, clock)
    return LiveView(progress, target), progress, clock, target


def plain_lines(steps, cells, finished=()):
    clock, target = Clock(), console(terminal=False)
    view = make_view(cells, finished, console=target, clock=clock)
    steps(view, clock)
    view.close()
    return target.file.getvalue().splitlines()


# --- plain lines ---------------------------------------------------------------------


def test_a_cell_has_a_line_at_its_start_and_at_its_end():
    cells = [cell(), cell(seed=1)]

    def steps(view, clock):
        view.started(cells[0])
        view.round(cells[0], metrics(1))
        clock.now += 12
        view.finished(cells[0], row(cells[0]))

    assert plain_lines(steps, cells) == [
        "[1/2] fedavg, digits, dirichlet 0.1, cnn, seed 0: started, 10 rounds",
        "[1/2] fedavg, digits, dirichlet 0.1, cnn, seed 0: done, accuracy 82.00, 1.2 MB, "
        "0:12 [about 0:12 left; 1 done, 1 waiting; 0:12 elapsed]",
    ]


def test_a_failed_cell_says_why():
    def steps(view, _clock):
        view.started(cell())
        view.finished(cell(), row(cell(), "failed", "[red] is not a model", None))

    assert plain_lines(steps, [cell()])[1].startswith(
        "[1/1] fedavg, digits, dirichlet 0.1, cnn, seed 0: failed: [red] is not a model "
        "[1 failed;"
    )


def rounds_with_a_line(seconds, rounds):
    def steps(view, clock):
        view.started(cell(rounds=rounds))
        for index in range(1, rounds + 1):
            clock.now += seconds
            view.round(cell(rounds=rounds), metrics(index))

    lines = plain_lines(steps, [cell(rounds=rounds)])
    return [
        int(found[1]) for line in lines if (found := re.search(r"round (\d+)/", line))
    ]


@pytest.mark.parametrize(
    ("seconds", "rounds", "expected"),
    [
        (0.01, 100, []),
        (1.0, 100, [10, 20, 30, 40, 50, 60, 70, 80, 90]),
        (6.0, 20, [2, 4, 6, 8, 10, 12, 14, 16, 18]),
        (30.0, 50, [*range(2, 50, 2)]),
    ],
)
def test_a_running_cell_has_a_line_now_and_then(seconds, rounds, expected):
    assert rounds_with_a_line(seconds, rounds) == expected


def test_a_line_of_a_running_cell_tells_how_far_it_is():
    def steps(view, clock):
        view.started(cell())
        view.round(cell(), metrics(1))
        clock.now += 30
        view.round(cell(), metrics(2, 56.2))

    assert plain_lines(steps, [cell()])[1].endswith(
        "seed 0: round 2/10, accuracy 56.20, 2.0 MB, 0:30, about 2:00 left"
    )


def test_a_long_line_is_not_wrapped():
    long = cell(dataset="d" * 300)
    lines = plain_lines(lambda view, _clock: view.started(long), [long])
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("plain", "terminal", "kind"),
    [(False, True, LiveView), (True, True, PlainView), (False, False, PlainView)],
)
def test_a_grid_is_drawn_on_terminals_only(plain, terminal, kind):
    view = make_view([cell()], plain=plain, console=console(terminal=terminal))
    assert isinstance(view, kind)


# --- the live grid -------------------------------------------------------------------


def test_the_grid_shows_every_cell_with_its_state():
    cells = [cell("fedavg"), cell("mosaic"), cell("dense", rounds=1)]
    view, _, clock, target = live(cells, [row(cells[0])])
    view._progress.started(cells[1])
    for index, accuracy in ((1, 10.0), (2, None), (3, 45.5)):
        view._progress.round(cells[1], metrics(index, accuracy))
    clock.now += 30
    lines = [" ".join(line.split()) for line in shown(view, target)]
    assert lines == [
        "quick, digits, dirichlet 0.1, cnn",
        "strategy seed status round acc % trend sent time left",
        "fedavg 0 done 10/10 82.00 ▁ 1.2 MB 0:20",
        "mosaic 0 running 3/10 45.50 ▁█ 3.0 MB 0:30 1:10",
        "dense 0 waiting",
        "about 2:10 left; 1 done, 1 running, 1 waiting; 0:30 elapsed",
    ]


@pytest.mark.parametrize("width", [1, 5, 10, 20, 40, 60, 80, 200])
@pytest.mark.parametrize("height", [1, 3, 8, 40])
def test_the_grid_is_never_wider_or_higher_than_the_terminal(width, height):
    cells = [cell(f"strategy-{i}", i % 3, dataset=f"set{i}") for i in range(30)]
    view, progress, _, target = live(cells, [row(c) for c in cells[:5]], width, height)
    progress.started(cells[7])
    progress.round(cells[7], metrics(1))
    lines = shown(view, target)
    assert max(map(len, lines)) <= width
    assert len(lines) <= max(height, 4)


def test_a_narrow_terminal_keeps_strategy_status_and_accuracy():
    view, progress, _, target = live([cell(), cell("mosaic")], [row(cell())], width=28)
    progress.started(cell("mosaic"))
    header = shown(view, target)[1].split()
    assert header == ["strategy", "status", "acc", "%"]


def test_a_low_terminal_shows_running_cells_the_next_and_the_last_that_ended():
    cells = [cell(seed=i) for i in range(20)]
    _, progress, clock, _ = live(cells)
    for i in (0, 1, 2, 3):
        clock.now += 1
        progress.started(cells[i])
        progress.finished(cells[i], row(cells[i]))
    progress.started(cells[4])
    progress.started(cells[9])
    found = visible(list(progress.cells.values()), 5)
    assert [one.cell.run.seed for one in found] == [2, 3, 4, 5, 9]


def test_columns_do_not_move_while_cells_run():
    view, progress, clock, target = live([cell(rounds=100), cell("mosaic", rounds=100)])
    before = shown(view, target)[1]
    progress.started(cell())
    for index in range(1, 100):
        clock.now += 100
        progress.round(cell(), metrics(index, float(index)))
    assert shown(view, target)[1] == before


def test_cells_that_are_not_shown_are_counted():
    view, _, _, target = live([cell(seed=i) for i in range(20)], height=9)
    assert shown(view, target)[-1].endswith("(15 cells not shown)")


def test_the_accuracy_of_the_last_round_is_in_the_trend_once():
    _, progress, _, _ = live([cell()])
    progress.started(cell())
    progress.round(cell(), metrics(1, 82.0))
    progress.finished(cell(), row(cell(), accuracy=82.0))
    assert progress.cells[cell().run_id].accuracies == [82.0]


def test_the_live_view_draws_and_wipes_itself():
    view, _, _, target = live([cell()])
    view.started(cell())
    view.note(cell(), "goes on after [round] 3")
    view.round(cell(), metrics(1))
    view.finished(cell(), row(cell(), "failed", "out of [memory]", None))
    view.close()
    view.close()
    text = target.file.getvalue()
    assert "fedavg-digits-s0: goes on after [round] 3" in text
    assert "out of [memory]" in text
    assert text.endswith("\x1b[2K")


def test_a_view_that_never_started_can_be_closed():
    view, _, _, target = live([cell()])
    view.close()
    assert "fedavg" not in target.file.getvalue()


def test_no_cells_are_no_crash():
    view, _, _, target = live([])
    assert shown(view, target)[-1] == "0:00 elapsed"


def test_the_views_need_no_torch():
    code = "import sys, fedkd.harness.live.lines; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- estimates -----------------------------------------------------------------------


def test_nothing_is_known_before_the_first_round():
    _, progress, clock, _ = live([cell()])
    progress.started(cell())
    clock.now += 5
    assert progress.left() is None


def test_a_cell_needs_its_pace_for_the_rounds_that_are_left():
    _, progress, clock, _ = live([cell()])
    progress.started(cell())
    clock.now += 8
    progress.round(cell(), metrics(1))
    progress.round(cell(), metrics(2))
    assert progress.left() == 32.0


def test_a_resumed_cell_counts_the_rounds_of_this_time_only():
    _, progress, clock, _ = live([cell()])
    progress.started(cell())
    clock.now += 8
    progress.round(cell(), metrics(6))
    # Four rounds left, at eight seconds for the one round that was run now.
    assert progress.left() == 32.0


def test_waiting_cells_need_what_their_strategy_needed():
    cells = [cell("a"), cell("b"), cell("a", 1), cell("a", 2), cell("c")]
    done = [row(cells[0], seconds=10.0), row(cells[1], seconds=50.0)]
    _, progress, _, _ = live(cells, done)
    assert progress.left() == pytest.approx(10 + 10 + 30)


def test_one_long_round_says_nothing_of_the_rounds_of_other_strategies():
    cells = [cell("one-shot", rounds=1), cell("a")]
    _, progress, _, _ = live(cells, [row(cells[0], seconds=120.0)])
    assert progress.left() == pytest.approx(120)


def test_a_skipped_strategy_says_nothing_of_others():
    cells = [cell("a"), cell("b"), cell("c")]
    _, progress, _, _ = live(cells, [row(cells[0], "skipped", "why", None, 0.1)])
    assert progress.left() is None


def test_strategies_that_were_skipped_need_no_time():
    cells = [cell("a"), cell("b"), cell("b", 1), cell("a", 1)]
    done = [row(cells[0], seconds=10.0), row(cells[1], "skipped", "why", None, 0.1)]
    _, progress, _, _ = live(cells, done)
    assert progress.left() == pytest.approx(10)


def test_cells_side_by_side_share_the_time():
    cells = [cell(seed=i) for i in range(4)]
    _, progress, clock, _ = live(cells)
    for one in cells[:2]:
        progress.started(one)
    clock.now += 10
    for one in cells[:2]:
        progress.round(one, metrics(5))
    # Five rounds left twice and ten rounds twice, at ten seconds a round, by two.
    assert progress.left() == pytest.approx((50 + 50 + 100 + 100) / 2)


def test_the_longest_running_cell_is_a_lower_bound():
    cells = [cell(seed=0), cell(seed=1)]
    _, progress, clock, _ = live(cells)
    for one in cells:
        progress.started(one)
    clock.now += 9
    for index in range(1, 10):
        progress.round(cells[0], metrics(index))
    progress.round(cells[1], metrics(1))
    # One second for the first and 81 for the other: half the sum would be too little.
    assert progress.left() == 81.0


def test_a_bench_that_is_done_needs_no_time():
    _, progress, _, _ = live([cell()], [row(cell())])
    assert progress.left() == 0.0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ""),
        ([3.0], "▁"),
        ([0.0, 7.0], "▁█"),
        ([0.0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
    ],
)
def test_a_sparkline_goes_from_smallest_to_largest(values, expected):
    assert sparkline(values) == expected


def test_a_long_sparkline_keeps_its_width_and_its_ends():
    found = sparkline([*map(float, range(500))])
    assert (len(found), found[0], found[-1]) == (12, "▁", "█")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, ""), (6.6, "0:07"), (725, "12:05"), (3723, "1:02:03"), (59.6, "1:00")],
)
def test_times_are_written_like_a_clock(seconds, expected):
    assert clock_text(seconds) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [(None, ""), (0, "0 B"), (1500, "1.5 kB"), (1_240_000, "1.2 MB"), (3e9, "3.0 GB")],
)
def test_bytes_are_written_in_decimal_units(number, expected):
    assert bytes_text(number) == expected


def test_colours_that_are_forced_make_no_terminal_of_a_file(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(make_view([cell()]), PlainView)
