"""What is to be said after a bench: which runs warned or failed, and if none is done."""

from __future__ import annotations

from fedkd.errors import counted
from fedkd.harness.bench import Bench
from fedkd.report.description import warnings_in


def remarks(bench: Bench) -> list[str]:
    """Return a sentence for each thing that the table of a bench does not tell.

    Args:
        bench: After its run.
    """
    rows = bench.rows
    every, out = counted(len(rows), "cell"), bench.settings.out
    lines = warned(bench)
    failed = [row for row in rows if row.status == "failed"]
    if failed:
        log = out.run(failed[0].run_id).log
        lines.append(f"{len(failed)} of {every} failed; read {log}")
    elif rows and not any(row.status == "done" for row in rows):
        lines.append(f"none of {every} is done; see above why.")
    return lines


def warned(bench: Bench) -> list[str]:
    """Return how many of the cells that were run have warnings in their logs, if any."""
    logs = sorted(bench.settings.out.run(run_id).log for run_id in bench.ran)
    some = [log for log in logs if warnings_in(log)]
    if not some:
        return []
    return [f"{counted(len(some), 'cell')} logged a warning; read {some[0]}"]
