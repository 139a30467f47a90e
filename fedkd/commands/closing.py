"""What ``fedkd bench`` says at its end: what was run, what was not, where to look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from fedkd.base.machine import cores
from fedkd.errors import counted
from fedkd.harness.bench import Bench
from fedkd.harness.folder import finished_beside, seeds_in
from fedkd.report.results import Row
from fedkd.report.text import numbered
from fedkd.report.tuning import tuning_lines


def closing_lines(bench: Bench, ran: Collection[str]) -> list[str]:
    """Return the lines for the output, below the table.

    Args:
        bench: After its run.
        ran: The ``run_id`` of the cells that were run by this call.
    """
    out = bench.settings.out
    kept = [row for row in bench.rows if row.run_id not in ran]
    lines = [_kept(kept, len(bench.rows), _not_applied(bench))]
    lines.append(_other_seeds(bench))
    lines.append(_beside(bench))
    lines += tuning_lines(out) if bench.suite.search else []
    lines.append(f"Results: {out.results}, {out.table}")
    return [line for line in lines if line]


def used(bench: Bench) -> str:
    """Return what of the machine a bench with cells to do is going to use."""
    choice, device = bench.settings.executor, bench.settings.device
    most = choice.workers or cores()
    if bench.jobs > 1:
        how = f"{bench.jobs} cells side by side, a process and a thread each"
    elif most > 1 and any(cls.starts_processes for cls in choice.candidates):
        how = f"one cell at a time, in up to {counted(most, 'process')}"
    else:
        how = "one cell at a time, in this process"
    return f"uses {device}: {how} (of {counted(cores(), 'core')})"


def _kept(kept: Sequence[Row], total: int, ignored: str) -> str:
    """Return what was done already, and that it is as it was."""
    if not kept:
        return ""
    remark = f" {ignored} not applied to them." if ignored else ""
    if len(kept) < total:
        return (
            remark
            and f"{len(kept)} of {counted(total, 'cell')} were done already.{remark}"
        )
    every = "The 1 cell was" if total == 1 else f"All {total} cells were"
    counts = Counter(row.status for row in kept)
    if set(counts) == {"done"}:
        text = f"{every} done already"
    else:
        parts = ", ".join(f"{number} {status}" for status, number in counts.items())
        text = f"{every} run already: {parts}"
    return f"{text}; --fresh runs them again.{remark}"


def _not_applied(bench: Bench) -> str:
    """Return which options change nothing in cells that were done already."""
    choice = bench.settings.executor
    named = len(choice.candidates) == 1
    names = ["--executor"] * named + ["--profile"] * choice.profile
    names += ["--observer"] * bool(bench.settings.observers)
    return f"{' and '.join(names)} {'are' if len(names) > 1 else 'is'}" if names else ""


def _other_seeds(bench: Bench) -> str:
    """Return that runs of earlier calls are in the table, too, if some are."""
    if not bench.beside:
        return ""
    seeds = sorted({row.seed for row in bench.beside})
    number = counted(len(bench.beside), "run")
    return f"Also in the table: {number} of {numbered('seed', seeds)}, done before."


def _beside(bench: Bench) -> str:
    """Return how many runs in the folder the table is not of, and why, if there are any."""
    out = bench.settings.out
    reported = {row.run_id for row in bench.beside}
    number = finished_beside(out, {cell.run_id for cell in bench.cells} | reported)
    if not number:
        return ""
    verb, they = ("is", "it is") if number == 1 else ("are", "they are")
    seeds = sorted(bench.choosing & seeds_in(out))
    or_chosen_for = f", or of {numbered('seed', seeds)} of the search" if seeds else ""
    return (
        f"{counted(number, 'finished run')} in {out.runs} {verb} not in this table: {they} "
        f"of other strategies, options or metrics{or_chosen_for}."
    )
