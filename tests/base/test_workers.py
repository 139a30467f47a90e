"""Worker processes: what they send arrives, and none of them outlives its master."""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from fedkd.base import workers
from fedkd.base.workers import Worker

METHODS = [
    "spawn",
    pytest.param(
        "forkserver",
        marks=pytest.mark.skipif(
            "forkserver" not in multiprocessing.get_all_start_methods(),
            reason="no server of forks",
        ),
    ),
    pytest.param(
        "fork", marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
    ),
]


def echo(pipe, extra):
    try:
        while True:
            pipe.send((pipe.recv(), extra))
    except EOFError:
        pass


def stubborn(pipe):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pipe.send("deaf")
    time.sleep(600)


def dies(pipe):
    os._exit(7)


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A busy machine may take long to start a worker."""
    monkeypatch.setattr(workers, "PATIENCE", 60.0)


@pytest.fixture(params=METHODS)
def start(request):
    begun = []

    def start(main, *arguments):
        begun.append(Worker(main, *arguments, method=request.param, daemon=True))
        return begun[-1]

    yield start
    for worker in begun:
        worker.end()


def test_messages_go_to_and_fro(start):
    worker = start(echo, "more")
    worker.give("this")
    assert worker.take() == ("this", "more")


def tells_environment(pipe):
    pipe.send((dict(os.environ), os.getcwd()))


def test_a_worker_has_the_environment_and_folder_of_now(start, monkeypatch, tmp_path):
    start(echo, "")  # whatever serves later workers is there
    monkeypatch.setenv("NEW", "1")
    monkeypatch.delenv("PATH")
    monkeypatch.chdir(tmp_path)
    environment, folder = start(tells_environment).take()
    assert environment.get("NEW") == "1"
    assert "PATH" not in environment
    assert folder == str(tmp_path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="spawned there anyway")
def test_a_worker_is_spawned_where_a_server_can_have_no_socket(monkeypatch, tmp_path):
    assert workers.afresh() == "forkserver"
    deep = tmp_path / ("deep" * 30)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    assert workers.afresh() == "spawn"
    worker = Worker(echo, "")
    worker.give(1)
    assert worker.take() == (1, "")
    worker.stop()


@pytest.mark.parametrize("method", METHODS[:2])
def test_a_worker_that_waits_ends_by_itself(method):
    worker = Worker(echo, "", method=method)
    worker.stop()
    assert worker.process.exitcode == 0


def test_ctrl_c_is_left_to_the_master(start):
    worker = start(echo, "")
    worker.give(1)
    assert worker.take() == (1, "")
    os.kill(worker.process.pid, signal.SIGINT)
    worker.give(2)
    assert worker.take() == (2, "")


def raised_elsewhere():
    """Give the signal to another thread, as the system may: it has not blocked it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.raise_signal(signal.SIGINT)


def in_another_thread():
    thread = threading.Thread(target=raised_elsewhere)
    thread.start()
    thread.join()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "ask", [lambda: signal.raise_signal(signal.SIGINT), in_another_thread]
)
def test_ctrl_c_while_a_worker_starts_leaves_none_behind(
    monkeypatch, method, when, ask
):
    kind = type(multiprocessing.get_context(method).Process())
    start, begun = kind.start, []

    def interrupted(self):
        if when == "before":
            ask()
        start(self)
        begun.append(self)
        if when == "after":
            ask()
        begun.append("whole")

    monkeypatch.setattr(kind, "start", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            Worker(stubborn, method=method, daemon=True)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    process, whole = begun
    assert not process.is_alive()
    assert whole == "whole"


FIRST = """
import multiprocessing, signal, sys
sys.path.insert(0, {folder!r})
import test_workers
from fedkd.base.workers import Worker

if __name__ == "__main__":
    kind = type(multiprocessing.get_context({method!r}).Process())
    start = kind.start
    def watched(self):
        start(self)
        print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))
    kind.start = watched
    Worker(test_workers.dies, method={method!r}, daemon=True).process.join()
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="holds no signal")
@pytest.mark.parametrize("method", METHODS)
def test_ctrl_c_is_held_to_the_end_of_the_first_start(method, tmp_path):
    """The first start in a process starts more than the worker."""
    (tmp_path / "first.py").write_text(
        FIRST.format(folder=str(Path(__file__).parent), method=method)
    )
    done = subprocess.run(
        [sys.executable, "first.py"], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.stdout.decode() == "True\n", done.stderr.decode()


def test_a_dead_worker_is_noticed_by_who_listens(start):
    worker = start(dies)
    assert worker.exit_code() == 7
    worker.give("nobody reads this")
    with pytest.raises(EOFError):
        worker.take()


def test_a_worker_that_does_not_end_is_killed(start, monkeypatch):
    monkeypatch.setattr(workers, "GRACE", 0.2)
    worker = start(stubborn)
    assert worker.take() == "deaf"
    worker.end()
    assert worker.process.exitcode == -signal.SIGKILL


MASTER = """
import os, sys
sys.path.insert(0, {folder!r})
import test_workers
from fedkd.base.workers import Worker

if __name__ == "__main__":
    worker = Worker(test_workers.stubborn)
    worker.take()
    print(worker.process.pid, flush=True)
    os._exit(0)
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_a_worker_ends_with_its_master(tmp_path):
    script = tmp_path / "master.py"
    script.write_text(MASTER.format(folder=str(Path(__file__).parent)))
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    pid = done.stdout.strip()
    assert pid.isdigit(), done.stderr
    end = time.monotonic() + 60
    while Path("/proc", pid).exists():
        assert time.monotonic() < end, "the worker lives on"
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def _importable_in_a_new_process(monkeypatch):
    """A spawned process takes over the path; last, so that nothing is shadowed."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[2])])
