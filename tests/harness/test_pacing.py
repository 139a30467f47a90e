"""How often a bench that runs makes its table."""

from types import SimpleNamespace

import pytest

from fedkd.base.folders import ResultsFolder
from fedkd.errors import FedKDError
from fedkd.harness import bench as bench_module


class Slow:
    """A bench whose table takes two seconds."""

    def __init__(self, clock, folder):
        """Take the time that passes."""
        self.done, self.clock, self.written = {}, clock, []
        self.settings = SimpleNamespace(out=ResultsFolder(folder), fresh=False)
        self.resume_points = SimpleNamespace(ended=lambda cell: None)

    def write(self):
        self.written.append((self.clock.now, len(self.done)))
        self.clock.now += 2.0


def test_tables_take_a_tenth_of_the_time_and_lack_nothing_at_the_end(
    tmp_path, monkeypatch
):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(bench_module.time, "monotonic", lambda: clock.now)
    (tmp_path / "runs").mkdir()
    bench = Slow(clock, tmp_path)
    recorder = bench_module._Recorder(
        bench, SimpleNamespace(finished=lambda cell, row: None)
    )
    for number, when in enumerate((0.0, 10.0, 19.9, 20.0, 25.0)):
        clock.now = when
        cell = SimpleNamespace(run_id=f"cell-{number}")
        recorder.finished(cell, SimpleNamespace(status="done"))
    # Two seconds of work are followed by eighteen of rest.
    assert bench.written == [(0.0, 1), (20.0, 4)]
    recorder.write(late=True)
    recorder.write(late=True)
    assert bench.written[2:] == [(25.0, 5)]


def test_no_folder_is_made_where_one_was_moved_away(tmp_path):
    suite = SimpleNamespace(reported=(), seeds=(0,))
    settings = SimpleNamespace(out=ResultsFolder(tmp_path / "gone"), fresh=False)
    bench = bench_module.Bench(suite, None, settings, lambda _: ())
    with pytest.raises(FedKDError, match="gone has disappeared while"):
        bench.write(whole=True)
    assert not (tmp_path / "gone").exists()
