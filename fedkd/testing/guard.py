"""A guard of accuracy for an author's own tests: a recorded suite, run again."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from fedkd.base.folders import ResultsFolder
from fedkd.data.root import data_root
from fedkd.errors import ConfigError
from fedkd.harness.bench import Bench, Settings
from fedkd.harness.environment import pick_device
from fedkd.harness.folder import held
from fedkd.harness.live.lines import make_view
from fedkd.harness.taken import with_chosen
from fedkd.plugins.registry import load_registry
from fedkd.report.changes import changes_markdown
from fedkd.report.results import read_results
from fedkd.report.stats.comparison import Comparison, compare
from fedkd.report.stats.intervals import LEVEL
from fedkd.suite.suite import load_suite


def guard_accuracy(  # noqa: PLR0913 - how to run, and what may be lost
    recorded: Path | str,
    out: Path | str,
    *,
    threshold: float = 1.0,
    level: float = LEVEL,
    device: str = "cpu",
    jobs: int = 1,
    plugins: Sequence[str] = (),
) -> Comparison:
    """Run a recorded suite again, and fail if a mean accuracy was lost beyond seed noise.

    Record once with ``fedkd bench guard.yaml --out tests/recorded``, and keep
    ``suite.yaml`` and ``results.csv`` of that folder under version control. Then::

        def test_accuracy(tmp_path):
            fedkd.testing.guard_accuracy("tests/recorded", tmp_path)

    Args:
        recorded: The folder with those two files.
        out: Where the runs go; runs that are done there are not made again.
        threshold: Percentage points of a mean that may be lost.
        level: Confidence of the intervals that say what is beyond seed noise.
        device: ``cpu``, ``cuda`` or ``auto``.
        jobs: Cells side by side.
        plugins: Files of plug-ins that are not installed.

    Returns:
        What changed, and what did not.

    Raises:
        AssertionError: With the table of what was lost, or of the cells that have no
            result any more.
        ConfigError: If the folder does not hold both files, or the suite cannot be run.
    """
    held_to = ResultsFolder(Path(recorded))
    for path in (held_to.suite, held_to.results):
        if not path.is_file():
            raise ConfigError(
                f"{path} is missing; expected a folder that 'fedkd bench SUITE --out "
                f"{held_to.path}' has written."
            )
    settings = Settings(
        out=ResultsFolder(Path(out)),
        data_root=data_root(None),
        device=pick_device(device),
        jobs=jobs,
        plots=False,
        plugin_files=tuple(plugins),
        command=("fedkd.testing.guard_accuracy", str(recorded)),
    )
    bench = _run(held_to, settings)
    comparison = compare(
        read_results(held_to.results), bench.rows, threshold=threshold, level=level
    )
    if comparison.has_failed:
        place = str(settings.out.path)
        raise AssertionError(changes_markdown(comparison, str(recorded), place))
    return comparison


def _run(recorded: ResultsFolder, settings: Settings) -> Bench:
    """Run the suite as it was recorded."""
    registry = load_registry(settings.plugin_files)
    suite = load_suite(str(recorded.suite))
    bench = Bench(suite, registry, settings)
    if suite.search is not None:
        bench = with_chosen(bench, recorded.chosen)
    bench.look()
    with held(settings.out):
        if bench.todo:
            builder, foreseen = bench.check()
            foreseen.require_data()
            view = make_view(bench.cells, bench.rows, plain=True)
            with contextlib.closing(view):
                bench.run(builder, view)
        bench.write(whole=True)
    return bench
