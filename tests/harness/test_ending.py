"""A bench that is asked to end, and one whose folder somebody else has, or takes away."""

import errno
import os
import pkgutil
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy_suite import PLUGIN, toy_suite

from fedkd.base.ending import asked_later, ends_in_order
from fedkd.cli import main
from fedkd.report.results import read_results

BOTH = {signal.SIGINT, signal.SIGTERM}


def arguments(strategies):
    """Write a suite; return what runs it."""
    Path("toy.yaml").write_text(toy_suite(strategies, "[0]"), encoding="utf-8")
    given = ["--plugin", PLUGIN, "--out", "out", "--plain", "--no-plots", "--jobs", "1"]
    return ["bench", "toy.yaml", *given]


def until(happened):
    """Wait until something has happened."""
    end = time.monotonic() + 90
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def waiting(home):
    """Start a bench that has done a cell and waits in the second round of another."""
    (home / "tmp").mkdir()
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "TMPDIR": str(home / "tmp")}
    command = [sys.executable, "-m", "fedkd", *arguments("toy-mean, toy-waits")]
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: list(Path("out").glob("runs/toy-waits*/checkpoint.safetensors")))
        yield process
    finally:
        process.kill()
        process.communicate()


def worked(pid):
    """Return the seconds of a core that a process and earlier children have taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = int(fields[11]) / os.sysconf("SC_CLK_TCK")
    return own + resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_bench_that_is_asked_to_end_leaves_all_in_order(home, waiting, capsys):
    shared = sorted(Path("/dev/shm").glob("*")) if Path("/dev/shm").exists() else []
    # Meanwhile nobody else gets the folder, and what is half written is not swept.
    assert main(arguments("toy-mean, toy-waits")) == 1
    refused = f"another fedkd bench is writing to out (process {waiting.pid} on "
    assert refused in capsys.readouterr().err
    began = worked(waiting.pid)
    waiting.terminate()
    out, err = waiting.communicate(timeout=90)
    # Of a core: others may have the cores of this machine meanwhile.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - began < 2
    assert waiting.returncode == 128 + signal.SIGTERM
    assert "toy-mean" in out
    assert "interrupted with 1 of 2 cells done; these are kept; the one that" in err
    assert "goes on from its last checkpoint (round 1). Go on with: " in err
    assert "Traceback" not in err
    assert [row.status for row in read_results(home / "out/results.csv")] == ["done"]
    assert list((home / "tmp").iterdir()) == []
    assert [path for path in (home / "out").rglob(".*") if path.suffix == ".tmp"] == []
    if shared:
        assert set(Path("/dev/shm").glob("fedkd*")) <= set(shared)


STUBBORN = """
import time
from fedkd.base.ending import ends_in_order
with ends_in_order():
    for word in ("began", "heard"):
        try:
            print(word, flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            pass
"""


def test_a_second_ctrl_c_ends_what_heeded_none():
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "began\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "heard\n"
    time.sleep(0.4)  # what comes sooner is taken for the same one
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=90)
    assert (process.returncode, err) == (130, "")


@pytest.fixture
def heard():
    """Have a handler of both signals that raises; return what it was called with."""
    asked = []

    def hear(number, frame):
        asked.append(number)
        raise KeyboardInterrupt(number)

    before = {each: signal.signal(each, hear) for each in BOTH}
    yield asked
    assert {signal.getsignal(each) for each in BOTH} == {hear}
    assert not BOTH & signal.pthread_sigmask(signal.SIG_BLOCK, [])
    for each, handler in before.items():
        signal.signal(each, handler)


def test_of_two_requests_that_were_held_back_none_is_lost(heard):
    with pytest.raises(KeyboardInterrupt), asked_later():  # noqa: PT012 - at its end
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert heard == []
    assert set(heard) == BOTH


@pytest.mark.parametrize("block", [asked_later, ends_in_order])
def test_a_request_while_handlers_are_given_back_leaves_none_behind(
    heard, block, monkeypatch
):
    mine, real = signal.getsignal(signal.SIGINT), signal.signal

    def interrupted(number, handler):
        real(number, handler)
        if handler is mine:
            signal.raise_signal(number)

    monkeypatch.setattr(signal, "signal", interrupted)
    with pytest.raises(KeyboardInterrupt), block():
        pass
    monkeypatch.undo()
    assert set(heard) == BOTH


def test_what_a_killed_process_had_begun_to_write_is_swept(home):
    assert main(arguments("toy-mean")) == 0
    (run,) = Path("out/runs").iterdir()
    begun = [Path("out/.results.csv.1a.tmp"), run / ".checkpoint.safetensors.2b.tmp"]
    begun += [Path("out/plots/.ranks.png.3c.tmp")]
    for path in begun:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    (run / "result.json").unlink()
    assert main(arguments("toy-mean")) == 0
    assert [path for path in begun if path.exists()] == []


def test_a_folder_that_disappears_ends_the_bench_in_one_sentence(home, capsys):
    assert main(arguments("toy-vanishes, toy-mean")) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("fedkd: out has disappeared while the bench was writing")
    assert not Path("out/results.csv").exists()


BEFORE = {
    "what is run is written": ("fedkd.harness.bench.Bench._record", "1"),
    "data are read": ("fedkd.harness.builder.RunBuilder.federation", "1"),
    "workers have started": ("fedkd.harness.workers._ready", "2"),
}


@pytest.mark.parametrize(("target", "jobs"), BEFORE.values(), ids=BEFORE)
def test_a_folder_that_is_moved_away_is_not_made_anew(
    home, capsys, monkeypatch, target, jobs
):
    owner, _, name = target.rpartition(".")
    function = getattr(pkgutil.resolve_name(owner), name)

    def moved(*given):
        # Not at the check, before which nothing is in the folder.
        if Path("out/suite.yaml").exists() or name == "_record":
            Path("out").rename("moved")
        return function(*given)

    monkeypatch.setattr(target, moved)
    assert main([*arguments("toy-mean, fedavg"), "--jobs", jobs]) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("fedkd: out has disappeared while the bench was writing")
    assert not Path("out").exists()


@pytest.mark.filterwarnings("default:.*without locks")
def test_a_file_system_without_locks_is_said(home, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fedkd.harness.folder.fcntl.flock", refuse)
    assert main(arguments("toy-mean")) == 0
    assert "file system without locks (No locks available)" in capsys.readouterr().err


def test_whatever_a_plug_in_raises_before_the_first_round_is_a_failed_row(home):
    assert main(arguments("toy-stopped, toy-mean")) == 1
    first, second = read_results(home / "out/results.csv")
    assert (first.status, second.status) == ("failed", "done")
    assert first.reason.endswith("Stop: nothing to start from")


def test_a_clock_that_jumps_back_changes_no_number(home, monkeypatch):
    assert main(arguments("toy-mean")) == 0
    (row,) = read_results(home / "out/results.csv")
    hours = iter(range(10**6, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(hours)))
    assert main([*arguments("toy-mean"), "--fresh"]) == 0
    (again,) = read_results(home / "out/results.csv")
    assert again.global_accuracy == row.global_accuracy
    assert 0 <= again.seconds < 60
