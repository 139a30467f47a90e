"""Holds the speed of this checkout against the recorded ratios: ``make benchmark-check``.

Seconds of one machine mean nothing on another. So every benchmark measures a reference
beside itself, in the same run, and stores ``extra_info["ratio"]``: the reference's time
over its own, so that more is better. The ratios that a release had are in ``ratios.json``;
here they are measured again, and one that fell by more than its margin is a failure. A
machine that is busy for a moment is no failure: what fell is measured again, twice at
most, and the best counts. Where all benchmarks run, a recorded one that was not measured
is a failure too, unless it was skipped.

    python benchmarks/check.py                     compare
    python benchmarks/check.py -k round            a part of the benchmarks
    python benchmarks/check.py --record            write ratios.json anew
    python benchmarks/check.py -k bare --plant     slow fedkd down: must fail
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
RECORD = HERE / "ratios.json"
MARGIN = 0.3
"""Share of the recorded ratio that may be lost, unless the record says otherwise."""
ATTEMPTS = 3
PLANT = "--plant"
"""Slows every step of training; see ``conftest.py``."""


class Measured(NamedTuple):
    """What a run of benchmarks gave."""

    ratios: Mapping[str, float]
    """By test name."""
    skipped: Collection[str] = ()
    """Names of tests that said that they cannot run here."""


def _surroundings() -> dict[str, str]:
    """Return the environment of the benchmarks: one thread, and no parallel tests."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    return {**kept, "OMP_NUM_THREADS": "1"}


def measure(arguments: Sequence[str]) -> Measured:
    """Run benchmarks in a process of their own; return what they gave.

    Raises:
        SystemExit: If a benchmark fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "benchmarks.json"
        # pytest-benchmark's report does not know of tests that were skipped.
        tests = Path(folder) / "tests.xml"
        command = [
            sys.executable, "-m", "pytest", "--benchmark-only", "-q",
            "-p", "no:cacheprovider", f"--benchmark-json={report}",
            f"--junitxml={tests}", *arguments,
        ]  # fmt: skip
        done = subprocess.run(
            command,
            cwd=HERE.parent,
            env=_surroundings(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            sys.stderr.write(done.stdout + done.stderr)
            raise SystemExit(f"the benchmarks failed: {' '.join(command)}")
        found = json.loads(report.read_text(encoding="utf-8"))["benchmarks"]
        return Measured(ratios_of(found), skipped_in(tests.read_text("utf-8")))


def ratios_of(benchmarks: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return ``extra_info["ratio"]`` by test name, of those that have one."""
    return {
        one["fullname"]: float(one["extra_info"]["ratio"])
        for one in benchmarks
        if "ratio" in one["extra_info"]
    }


def skipped_in(report: str) -> set[str]:
    """Return the names of the tests that pytest's report in XML calls skipped."""
    return {
        f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        for case in ET.fromstring(report).iter("testcase")
        if case.find("skipped") is not None
    }


def missing(measured: Measured, recorded: Collection[str]) -> list[str]:
    """Return what is recorded and was neither measured nor skipped."""
    return sorted(set(recorded) - set(measured.ratios) - set(measured.skipped))


def fallen(
    found: Mapping[str, float], recorded: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """Return the least allowed ratio of every benchmark that is below it."""
    least = {name: floor(entry) for name, entry in recorded.items() if name in found}
    return {name: bound for name, bound in least.items() if found[name] < bound}


def floor(entry: Mapping[str, float]) -> float:
    """Return the least ratio that a record allows."""
    return entry["ratio"] * (1 - entry.get("margin", MARGIN))


def best_of(attempts: int, arguments: Sequence[str]) -> Measured:
    """Measure; measure what fell again, and keep the best of each."""
    recorded = read()
    first = measure(arguments)
    found = dict(first.ratios)
    for _ in range(attempts - 1):
        wrong = fallen(found, recorded)
        if not wrong:
            break
        print(f"measuring {len(wrong)} again: {', '.join(sorted(wrong))}", flush=True)
        planted = [PLANT] if PLANT in arguments else []
        again = measure([*sorted(wrong), *planted]).ratios
        found = {name: max(r, again.get(name, r)) for name, r in found.items()}
    return Measured(found, first.skipped)


def read() -> dict[str, dict[str, float]]:
    """Return the recorded ratios.

    Raises:
        SystemExit: If there are none.
    """
    try:
        found: dict[str, dict[str, float]] = json.loads(RECORD.read_text("utf-8"))
    except FileNotFoundError:
        raise SystemExit(
            f"there is no {RECORD}; write it with 'python {__file__} --record'."
        ) from None
    return found


def record(found: Mapping[str, float]) -> None:
    """Write the ratios; margins that were set by hand stay."""
    old = read() if RECORD.exists() else {}
    merged = dict(old)
    for name, ratio in found.items():
        merged[name] = {**old.get(name, {}), "ratio": round(ratio, 3)}
    RECORD.write_text(
        json.dumps(dict(sorted(merged.items())), indent=2) + "\n", "utf-8"
    )


def show(
    found: Mapping[str, float], recorded: Mapping[str, Mapping[str, float]]
) -> None:
    """Print a line for each benchmark, under headings."""
    print("       measured  recorded  least allowed  benchmark")
    for name, ratio in sorted(found.items()):
        entry = recorded.get(name)
        if entry is None:
            print(f"new    {ratio:8.3f}                           {name}")
            continue
        bound = floor(entry)
        word = "ok   " if ratio >= bound else "FELL "
        print(f"{word}  {ratio:8.3f}  {entry['ratio']:8.3f}  {bound:13.3f}  {name}")


def main() -> int:
    """Compare or record; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--record", action="store_true", help="write ratios.json anew")
    options, arguments = parser.parse_known_args()
    selected = arguments or ["benchmarks"]
    if not any(Path(a.split("::")[0]).exists() for a in selected):
        selected = ["benchmarks", *selected]
    if options.record:
        found = measure(selected).ratios
        record(found)
        show(found, read())
        return 0
    measured = best_of(ATTEMPTS, selected)
    recorded, found = read(), measured.ratios
    show(found, recorded)
    whole = not [one for one in arguments if one != PLANT]
    lost = missing(measured, recorded) if whole else []
    for name in lost:
        print(f"MISSING  {recorded[name]['ratio']:6.3f} was recorded  {name}")
    wrong = fallen(found, recorded)
    if wrong:
        print(
            f"{len(wrong)} of {len(found)} benchmarks fell by more than their margin."
        )
    if lost:
        print(
            f"{len(lost)} recorded benchmarks were not measured; mend them, or take "
            f"their entries out of {RECORD.name}."
        )
    return 1 if wrong or lost else 0


if __name__ == "__main__":
    raise SystemExit(main())
