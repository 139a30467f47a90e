"""SIGKILL at random moments over a suite with every registered strategy.

``python tests/kill_by_hand.py --kills 50`` runs the suite once without harm, and once more
with that many kills: at a random moment, by turns of the whole process group and of the
main process alone, each time with another executor; now and then with a bit of the last
checkpoint flipped, too. In the end ``results.csv`` is the same but for times, no cell is
lost, none that was done has been run twice, no process lives on, and neither the folder for
temporary files nor ``/dev/shm`` has anything left.
"""

import argparse
import contextlib
import csv
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from fedkd.cli import main as fedkd
from fedkd.plugins.registry import load_registry

sys.path.append(str(Path(__file__).parent / "contract"))
from strategy_settings import SETTINGS

PLUGIN = str(Path(__file__).parent / "plugins" / "toy_plugin.py")
ROUNDS = 3
WAYS = (
    ("--jobs", "1", "--executor", "serial"),
    ("--jobs", "2", "--workers", "2", "--executor", "processes"),
    ("--jobs", "2", "--executor", "serial"),
)
TIMES = ("seconds", "peak_memory_bytes", "engine", "reason")
"""Columns that two runs of one cell need not share; ``reason`` is compared unless done."""


@dataclass
class Trial:
    """A suite that is killed again and again, and what was wrong on the way."""

    home: Path
    strategies: list[str]
    rng: random.Random
    problems: list[str] = field(default_factory=list)
    kills: int = 0
    flips: int = 0
    done: dict[str, int] = field(default_factory=dict)
    """When the row of each cell that is finished was written."""

    def __post_init__(self):
        """Write the suite."""
        suite = {
            "name": "kill",
            "rounds": ROUNDS,
            "clients": 3,
            "seeds": [0],
            "datasets": ["toy"],
            "partitions": ["iid"],
            "models": ["cnn"],
            "public": {"share": 0.2},
            "training": {"local_steps": 2, "batch_size": 8, "lr": 0.05},
            "checkpoint_every": 1,
            "strategies": [{"name": n, **SETTINGS.get(n, {})} for n in self.strategies],
        }
        (self.home / "tmp").mkdir()
        (self.home / "kill.yaml").write_text(yaml.safe_dump(suite), encoding="utf-8")

    def arguments(self, out, way=WAYS[0]):
        """Return what runs the suite."""
        given = ["--plugin", PLUGIN, "--plain", "--no-plots", "--device", "cpu", *way]
        return [
            "bench",
            str(self.home / "kill.yaml"),
            "--out",
            str(self.home / out),
            *given,
        ]

    def straight(self, out):
        """Run the suite to its end in this process; return what it said."""
        said = io.StringIO()
        with (
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("default")
            fedkd(self.arguments(out))
        return said.getvalue()

    def lines(self):
        """Return how many rounds are written down."""
        paths = (self.home / "killed/runs").glob("*/metrics.jsonl")
        return sum(path.read_bytes().count(b"\n") for path in paths)

    def kill_once(self, mean):
        """Let the suite go on and kill it, some rounds later.

        Args:
            mean: Rounds between two kills, on the average.
        """
        environment = {
            **os.environ,
            "PYTHONSAFEPATH": "1",
            "TMPDIR": str(self.home / "tmp"),
        }
        way = self.rng.choice(WAYS)
        command = [sys.executable, "-m", "fedkd", *self.arguments("killed", way)]
        target = self.lines() + self.rng.expovariate(1 / mean)
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        # Some while it starts, some between two rounds, some in the middle of one.
        pause = self.rng.random() * (4 if self.rng.random() < 0.2 else 0.1)
        early = target < self.lines() + 0.2
        while process.poll() is None and not early and self.lines() < target:
            time.sleep(0.01)
        time.sleep(pause)
        if process.poll() is not None:
            return False
        if self.rng.random() < 0.5:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
        self.kills += 1
        self._require_ended(process.pid, " ".join(way))
        return True

    def _require_ended(self, session, way):
        end = time.monotonic() + 20
        while living := members(session):
            if time.monotonic() > end:
                self.problems.append(f"{len(living)} processes live on after {way}")
                os.killpg(session, signal.SIGKILL)
                return
            time.sleep(0.05)

    def look(self):
        """Note what is finished; what was before must be as it was."""
        now = {
            path.parent.name: path.stat().st_mtime_ns
            for path in (self.home / "killed/runs").glob("*/result.json")
        }
        for run_id, when in self.done.items():
            if now.get(run_id) != when:
                self.problems.append(f"{run_id} was done and has been run again")
        self.done = now

    def flip_a_bit(self):
        """Flip a bit of the last checkpoint of a cell that is not done."""
        paths = [
            path
            for path in (self.home / "killed/runs").glob("*/checkpoint.safetensors")
            if path.parent.name not in self.done
        ]
        if paths:
            path = self.rng.choice(sorted(paths))
            content = bytearray(path.read_bytes())
            content[self.rng.randrange(len(content))] ^= 1 << self.rng.randrange(8)
            path.write_bytes(content)
            self.flips += 1

    def compare(self):
        """Hold the results against those of the suite that nobody killed."""
        one, other = (rows(self.home / name) for name in ("straight", "killed"))
        for run_id in sorted(one.keys() | other.keys()):
            if one.get(run_id) != other.get(run_id):
                self.problems.append(
                    f"{run_id}: {one.get(run_id)} became {other.get(run_id)}"
                )
        left = [*(self.home / "tmp").iterdir(), *(self.home / "killed").rglob(".*.tmp")]
        left += Path("/dev/shm").glob("fedkd*")
        self.problems += [f"{path} is left" for path in left]


def rows(folder):
    """Return the rows of results by run, without times."""
    with (folder / "results.csv").open(encoding="utf-8") as file:
        every = list(csv.DictReader(file))
    found = {}
    for row in every:
        reason = "" if row["status"] == "done" else row["reason"]
        kept = {k: v for k, v in row.items() if k not in TIMES}
        found[row["run_id"]] = {**kept, "reason": reason}
    return found


def members(session):
    """Return the processes of a session that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, its = path.read_text().rpartition(")")[2].split()[:4]
            if int(its) == session and state != "Z":
                found.append(path.parent.name)
    return found


def trial(home, strategies, kills, seed=0, damage=0.0, progress=lambda *_: None):
    """Run the suite twice, once with kills; return the :class:`Trial`.

    Args:
        home: An empty folder.
        strategies: Their names.
        kills: How often.
        seed: Of moments, executors and bits.
        damage: How often, after a kill, a bit of a last checkpoint is flipped.
        progress: Is given the trial after each kill.
    """
    one = Trial(home, strategies, random.Random(seed))
    one.straight("straight")
    total = len(strategies) * ROUNDS
    while one.kills < kills:
        left = max(total - one.lines(), 1)
        if not one.kill_once(0.6 * left / (kills - one.kills + 1)):
            break
        one.look()
        if one.rng.random() < damage:
            one.flip_a_bit()
        progress(one)
    one.straight("killed")
    one.look()
    one.compare()
    return one


def main():
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--damage", type=float, default=0.3)
    asked = parser.parse_args()
    started = time.perf_counter()
    strategies = sorted(load_registry().entries("strategies"))
    with tempfile.TemporaryDirectory() as folder:

        def progress(one):
            took = time.perf_counter() - started
            text = f"{one.kills} kills, {len(one.done)} cells done, {took:.0f} s"
            print(text, *one.problems[-1:], flush=True)

        one = trial(
            Path(folder), strategies, asked.kills, asked.seed, asked.damage, progress
        )
        statuses = [row["status"] for row in rows(Path(folder) / "killed").values()]
    counts = {status: statuses.count(status) for status in sorted(set(statuses))}
    print(
        f"{one.kills} kills, {one.flips} bits flipped; {len(statuses)} cells: {counts}; "
        f"{time.perf_counter() - started:.0f} s"
    )
    print(
        "\n".join(one.problems)
        or "results are equal; nothing is lost, left, or run twice"
    )
    return 1 if one.problems else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
