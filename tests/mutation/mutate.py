"""Mutation testing: plants faults of our own, one by one, and sees which tests notice.

``python tests/mutation/mutate.py`` applies each fault of ``faults/*.py`` in a copy of the
sources, runs the tests that are named with it and says ``caught`` or ``survived``. The
checkout itself is never changed. Survivors that change no result at all stand in
``equivalent.py``, each with its reason; any other one makes the exit code 1.

A fault is a mapping::

    dict(
        name="fedavg: every client weighs the same",
        path="algorithms/averaging.py",        # the real file, from the root
        old="up.examples for k",               # stands there exactly once
        new="1 for k",
        tests="tests/algorithms/test_replay_averages.py -k fedavg",
    )

``tests`` are the arguments of pytest, a text or a list; they pass without the fault.
"""

from __future__ import annotations

import argparse
import os
import queue
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PYTEST = (
    *("-m", "pytest", "-q", "-x", "--no-header", "--tb=line", "-pno:cacheprovider"),
    *("-m", ""),  # the thorough tests too
)


@dataclass(frozen=True)
class Fault:
    """A slip that somebody might make."""

    area: str
    """The module of ``faults`` that it is from."""
    name: str
    path: str
    """The file that it is in, from the root."""
    old: str
    """The right text, which the file has exactly once."""
    new: str
    """The wrong text."""
    tests: tuple[str, ...]
    """Arguments of pytest that are expected to catch it."""

    def applied(self, text: str) -> str:
        """Return the file with the fault in it.

        Raises:
            ValueError: If the right text is not there exactly once.
        """
        times = text.count(self.old)
        if times != 1 or self.old == self.new:
            raise ValueError(
                f"fault {self.name!r}: {self.path} has its text {times} times, expected "
                f"it once and another in its place; mend tests/mutation/faults/"
                f"{self.area}.py. The text is:\n{self.old}"
            )
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Verdict:
    """What the tests said."""

    word: str
    """``caught``, ``survived``, ``equivalent``, or ``broken`` where the tests cannot
    even be run, or fail without the fault."""
    seconds: float
    detail: str = ""


def load_faults(folder: Path = HERE / "faults") -> list[Fault]:
    """Read the tables, area by area.

    Raises:
        ValueError: If a fault lacks a key, has an unknown one, or has another's name.
    """
    faults: list[Fault] = []
    for path in sorted(folder.glob("*.py")):
        for entry in runpy.run_path(str(path))["FAULTS"]:
            faults.append(_fault(path.stem, entry))
    twice = [n for n, times in Counter(f.name for f in faults).items() if times > 1]
    if twice:
        raise ValueError(f"found faults of one name: {twice}; give each its own.")
    return faults


def _fault(area: str, entry: Mapping[str, str | Sequence[str]]) -> Fault:
    wanted = {"name", "path", "old", "new", "tests"}
    if set(entry) != wanted:
        raise ValueError(
            f"faults/{area}.py: found a fault with the keys {sorted(entry)}; expected "
            f"{sorted(wanted)}."
        )
    given = entry["tests"]
    tests = shlex.split(given) if isinstance(given, str) else list(given)
    texts = {key: str(entry[key]) for key in wanted - {"tests"}}
    return Fault(area, tests=tuple(tests), **texts)


def load_equivalent() -> dict[str, str]:
    """Read why some faults change no result, by the fault's name."""
    reasons: dict[str, str] = runpy.run_path(str(HERE / "equivalent.py"))["EQUIVALENT"]
    return reasons


def run_python(
    root: Path, arguments: Sequence[str], limit: float
) -> tuple[int | None, str]:
    """Run Python on the sources in ``root``.

    Returns:
        Its exit code, None where it ran past ``limit`` seconds and was ended, with all
        that it had started; and what it printed.
    """
    own = {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(
        (sys.executable, *arguments),
        cwd=root,
        env={**os.environ, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        text, _ = running.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)  # with the workers that it started
        running.communicate()
        return None, f"ran past {limit:g} s"
    return running.returncode, text


class Copy:
    """A copy of the sources in which faults are planted, one after the other."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._planted = 0
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True).stdout
        for name in filter(None, names.decode().split("\0")):
            source, target = ROOT / name, root / name
            if os.path.lexists(source):  # else deleted and not yet told to git
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)
        code = "import torch, fedkd; print(fedkd.__file__)"
        found = run_python(root, ("-c", code), 120)[1].strip()
        if Path(found).resolve().parents[1] != root.resolve():
            raise RuntimeError(f"tests in {root} import {found}, not the copy's fedkd.")

    def run(self, tests: Sequence[str], limit: float) -> tuple[int | None, str]:
        """Run pytest; return its exit code, None past the limit, and why it failed."""
        code, text = run_python(self.root, (*PYTEST, *tests), limit)
        lines = [line for line in text.splitlines() if line.strip()]
        failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        return code, " ".join((failed or lines)[-1:])

    def with_fault(self, fault: Fault, limit: float) -> tuple[int | None, str]:
        """Run a fault's tests with the fault; the file is as before afterwards."""
        path = self.root / fault.path
        path.write_text(fault.applied(path.read_text("utf-8")), "utf-8")
        # Compiled files are told apart by the whole second and the size of their source:
        # a second of its own, else the fault before it may be what runs.
        self._planted += 1
        second = (ROOT / fault.path).stat().st_mtime + self._planted
        os.utime(path, (second, second))
        try:
            return self.run(fault.tests, limit)
        finally:
            # With the old time, so that compiled files of the right text stay valid.
            shutil.copy2(ROOT / fault.path, path)


class Laboratory:
    """Copies of the sources, one for each job, and what the tests say in them."""

    def __init__(self, folder: Path, jobs: int, limit: float) -> None:
        self.limit = limit
        self._free: queue.Queue[Copy] = queue.Queue()
        for number in range(jobs):
            self._free.put(Copy(folder / str(number)))

    def control(self, tests: tuple[str, ...]) -> str:
        """Run tests without a fault; return why they cannot be used, "" if they can."""
        copy = self._free.get()
        try:
            code, last = copy.run(tests, self.limit)
        finally:
            self._free.put(copy)
        return "" if code == 0 else f"fails without the fault: {last}"

    def verdict(self, fault: Fault) -> Verdict:
        """Return what a fault's tests say of it; a test that hangs has caught it."""
        copy = self._free.get()
        started = time.perf_counter()
        try:
            code, last = copy.with_fault(fault, self.limit)
        finally:
            self._free.put(copy)
        seconds = time.perf_counter() - started
        if code == 0:
            return Verdict(
                "survived", seconds, f"{fault.path}; {' '.join(fault.tests)}"
            )
        # 1: a test failed. 2: the module cannot be imported with the fault in it.
        caught = code in (None, 1, 2)
        return Verdict("caught" if caught else "broken", seconds, last)


def judge(
    faults: Sequence[Fault], jobs: int, limit: float, *, trust: bool = False
) -> dict[str, Verdict]:
    """Plant faults, print what becomes of each, and return it by name.

    Args:
        faults: At least one.
        jobs: How many are planted at once, each in a copy of its own.
        limit: Seconds that the tests of a fault may take; longer ones have caught it.
        trust: Whether tests are taken to pass without a fault, and not run to see it.
    """
    reasons = load_equivalent()
    verdicts: dict[str, Verdict] = {}
    with tempfile.TemporaryDirectory(prefix="fedkd-mutate-") as folder:
        laboratory = Laboratory(Path(folder), jobs, limit)
        with ThreadPoolExecutor(jobs) as pool:
            sets = [] if trust else list(dict.fromkeys(fault.tests for fault in faults))
            bad = dict(zip(sets, pool.map(laboratory.control, sets), strict=True))
            waiting: dict[Future[Verdict], Fault] = {}
            for fault in faults:
                if bad.get(fault.tests):
                    verdicts[fault.name] = Verdict("broken", 0.0, bad[fault.tests])
                    _show(fault, verdicts[fault.name])
                    continue
                waiting[pool.submit(laboratory.verdict, fault)] = fault
            for done in as_completed(waiting):
                fault, verdict = waiting[done], done.result()
                if verdict.word == "survived" and fault.name in reasons:
                    why = reasons[fault.name]
                    verdict = Verdict("equivalent", verdict.seconds, why)
                verdicts[fault.name] = verdict
                _show(fault, verdict)
    return verdicts


def _show(fault: Fault, verdict: Verdict) -> None:
    quiet = verdict.word == "caught"
    detail = "" if quiet else f"\n{'':12}{verdict.detail}"
    print(
        f"{verdict.word:<11} {verdict.seconds:5.0f} s  {fault.name}{detail}", flush=True
    )


def summary(faults: Sequence[Fault], verdicts: Mapping[str, Verdict]) -> str:
    """Return a table: what became of the faults of each area."""
    words = ("caught", "survived", "equivalent", "broken")
    lines = [f"{'area':<14}{'faults':>8}" + "".join(f"{w:>12}" for w in words)]
    areas = dict.fromkeys(fault.area for fault in faults)
    for area in [*areas, "in all"]:
        own = [f for f in faults if area in (f.area, "in all")]
        counts = Counter(verdicts[fault.name].word for fault in own)
        numbers = "".join(f"{counts[w]:>12}" for w in words)
        lines.append(f"{area:<14}{len(own):>8}{numbers}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0 if every fault is caught or explained."""
    parser = argparse.ArgumentParser(
        prog="mutate", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "words",
        nargs="*",
        help="only faults with one of these in 'area/name'; else all",
    )
    parser.add_argument("-j", "--jobs", type=int, default=1, help="faults at once")
    parser.add_argument("--limit", type=float, default=300, help="seconds for a fault")
    parser.add_argument(
        "--trust", action="store_true", help="do not first run the tests without faults"
    )
    parser.add_argument("--list", action="store_true", help="only list the faults")
    given = parser.parse_args(arguments)
    faults = [
        fault
        for fault in load_faults()
        if not given.words
        or any(word in f"{fault.area}/{fault.name}" for word in given.words)
    ]
    if not faults:
        parser.error(f"no fault has {' or '.join(given.words)} in its name")
    if given.list:
        print("\n".join(f"{f.area}/{f.name}" for f in faults))
        return 0
    started = time.perf_counter()
    verdicts = judge(faults, given.jobs, given.limit, trust=given.trust)
    print(f"\n{summary(faults, verdicts)}\n{time.perf_counter() - started:.0f} s")
    unexplained = {"survived", "broken"} & {v.word for v in verdicts.values()}
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
