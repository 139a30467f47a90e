"""Runs the same FedAvg work in fedkd and its peers, side by side.

    python benchmarks/peers/compare.py --folder DIR --install --repeats 5 --out FILE.json

Each engine runs in an environment of its own under DIR, which ``--install`` makes. Engines
take turns, so that what else the machine does hits all of them alike. A figure is the
median over runs of the median round, as a multiple of the bare loop's speed; more is
faster. Memory is the peak of the whole process tree (proportional set size).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import venv
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).resolve().parent
PACKAGES = {
    "pfl": ["pfl[pytorch]"],
    "fluke": ["fluke-fl"],
    "flower": ["flwr[simulation]", "torch"],
}
ENGINES = {
    "bare loop": (None, "run_bare.py", []),
    "fedkd serial": (None, "run_fedkd.py", ["--executor", "serial"]),
    "fedkd processes": (None, "run_fedkd.py", ["--executor", "processes"]),
    "pfl": ("pfl", "run_pfl.py", []),
    "fluke": ("fluke", "run_fluke.py", []),
    "flower": ("flower", "run_flower.py", []),
}
"""Environment (None: this one), script, further arguments."""


def main() -> None:
    """Install if asked to, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--install", action="store_true")
    parser.add_argument("--works", default="W1,W2,W3")
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    engines = given.engines.split(",")
    if given.install:
        install(given.folder, {ENGINES[e][0] for e in engines} - {None})
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for work in given.works.split(","):
        runs[work] = {engine: [] for engine in engines}
        for _ in range(given.repeats):
            for engine in engines:
                found = run(engine, work, given.rounds, given.folder)
                runs[work][engine].append(found)
    report = {"machine": machine(), "versions": versions(given.folder, engines)}
    report |= {"command": " ".join(sys.argv), "summary": summary(runs), "runs": runs}
    show(report["summary"])
    if given.out:
        given.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def install(folder: Path, names: set[str | None]) -> None:
    """Make an environment for each peer that has none."""
    for name in sorted(filter(None, names)):
        if not (folder / name).exists():
            venv.create(folder / name, with_pip=True)
            subprocess.run(
                [_python(folder, name), "-m", "pip", "install", "-q", *PACKAGES[name]],
                check=True,
            )


def run(engine: str, work: str, rounds: int, folder: Path) -> dict[str, Any]:
    """Return what one run of an engine reports, with the memory of its processes."""
    environment, script, more = ENGINES[engine]
    command = [_python(folder, environment), str(HERE / script), work]
    command += ["--rounds", str(rounds), *more]
    process = subprocess.Popen(
        command,
        cwd=HERE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    peak = _Peak(process.pid)
    out, _ = process.communicate()
    peak.stop()
    if process.returncode:
        return {"error": f"exit code {process.returncode}"}
    return {**json.loads(out.strip().splitlines()[-1]), "tree_mib": peak.mib}


class _Peak(threading.Thread):
    """Watches the memory of a process and its descendants."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(pid)
        self._done = threading.Event()
        self.mib = 0.0
        self.start()

    def run(self) -> None:
        """Look again and again; shared memory counts once."""
        while not self._done.wait(0.5):
            self.mib = max(self.mib, self._now())

    def stop(self) -> None:
        """End the watch."""
        self._done.set()
        self.join()

    def _now(self) -> float:
        try:
            tree = [self._root, *self._root.children(recursive=True)]
        except psutil.Error:
            return 0.0
        total = 0.0
        for process in tree:
            try:
                total += process.memory_full_info().pss / 2**20
            except psutil.Error:
                continue
        return total


def summary(runs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return multiples of the bare loop's speed, seconds and memory, by work."""
    found: dict[str, dict[str, Any]] = {}
    for work, engines in runs.items():
        seconds = {
            engine: statistics.median(
                statistics.median(one["rounds"]) for one in several if "rounds" in one
            )
            for engine, several in engines.items()
            if any("rounds" in one for one in several)
        }
        bare = seconds.get("bare loop")
        found[work] = {
            engine: {
                "seconds": round(value, 4),
                "times_bare": round(bare / value, 3) if bare else None,
                "start_s": _median(engines[engine], "first"),
                "tree_mib": _median(engines[engine], "tree_mib"),
            }
            for engine, value in seconds.items()
        }
    return found


def _median(several: list[dict[str, Any]], key: str) -> float:
    return round(statistics.median(one[key] for one in several if key in one), 2)


def machine() -> dict[str, Any]:
    """Return what was measured on."""
    return {
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }


def versions(folder: Path, engines: list[str]) -> dict[str, str]:
    """Return the versions of each engine and of its torch."""
    code = (
        "import importlib.metadata as m, sys;"
        "print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
    )
    names = {"pfl": "pfl", "fluke": "fluke-fl", "flower": "flwr", None: "fedkd"}
    found = {}
    for environment in {ENGINES[e][0] for e in engines}:
        command = [
            _python(folder, environment),
            "-c",
            code,
            names[environment],
            "torch",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found[environment or "fedkd"] = done.stdout.strip()
    return found


def show(found: dict[str, Any]) -> None:
    """Print a table."""
    print(
        f"{'work':<6}{'engine':<18}{'x bare':>8}{'s/round':>10}{'MiB':>8}{'start s':>9}"
    )
    for work, engines in found.items():
        for engine, row in engines.items():
            times = "-" if row["times_bare"] is None else f"{row['times_bare']:.2f}"
            print(
                f"{work:<6}{engine:<18}{times:>8}{row['seconds']:>10.3f}"
                f"{row['tree_mib']:>8.0f}{row['start_s']:>9.1f}"
            )


def _python(folder: Path, environment: str | None) -> str:
    if environment is None:
        return sys.executable
    return str(folder.resolve() / environment / "bin" / "python")


if __name__ == "__main__":
    main()
