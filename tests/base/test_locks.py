"""Locks between processes: of two that want one, one waits."""

import threading

from fedkd.base.locks import locked


def test_who_waited_for_a_lock_that_was_removed_takes_the_one_that_is_there(tmp_path):
    path = tmp_path / "lock"
    waits, entered, held = threading.Event(), threading.Event(), threading.Event()

    def waiting():
        with locked(path, waits.set):
            entered.set()
            held.wait(20)

    other = threading.Thread(target=waiting)
    with locked(path):
        other.start()
        assert waits.wait(20)
        path.unlink()
    assert entered.wait(20)
    asked = []
    latest = threading.Thread(target=lambda: _enter(path, asked))
    latest.start()
    for _ in range(200):
        if asked:
            break
        latest.join(0.1)
    assert asked == ["waits"], "two hold a lock of one name"
    held.set()
    latest.join(20)
    other.join(20)
    assert asked == ["waits", "has it"]


def _enter(path, asked):
    with locked(path, lambda: asked.append("waits")):
        asked.append("has it")
