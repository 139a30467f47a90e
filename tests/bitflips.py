"""Wrong bits in the results folder of a suite that was cut off: none changes a number.

``python tests/bitflips.py --flips 1000`` flips one bit at a time, anywhere in the folder,
makes a report of it and lets the bench go on there. Each flip is

* found: something was said that a sound folder does not say;
* harmless: nothing was said, and report and results are those of a sound folder;
* silent: a number, or a sentence, differs and nothing was said. There must be none;
* crashed: something went wrong in a way that nobody has foreseen. None, likewise.
"""

import argparse
import contextlib
import csv
import io
import json
import os
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

from toy_suite import PLUGIN, toy_suite

from fedkd.base.folders import RunFolder
from fedkd.cli import main as fedkd
from fedkd.harness import workers
from fedkd.simulation.store.checkpoint import read

BAD = ("silent", "crashed")
TIMES = ("seconds", "peak_memory_bytes", "engine", "reason")
CRASHED = "crashed: "
CUT_AT = (3, 2)
"""The cell, and its round, in which the suite is cut off."""


def bench(home):
    given = ["--plugin", PLUGIN, "--out", str(home / "out"), "--plain", "--no-plots"]
    return said(["bench", str(home / "toy.yaml"), *given, "--jobs", "1"])


def report(home):
    form = ["--format", "markdown", "--no-plots", "--plugin", PLUGIN]
    return said(["report", str(home / "out"), *form])


def said(arguments):
    """Call the command line; return what it wrote to its output and to its errors."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("always")  # a sentence counts however often it was said
        try:
            fedkd(arguments)
        except Exception as error:  # what the command would call an internal error
            return "", f"{CRASHED}{type(error).__name__}: {error}"
    return out.getvalue(), err.getvalue()


def cut_off(home):
    """Run the suite up to the middle of a cell."""
    (home / "toy.yaml").write_text(toy_suite("toy-mean, fedbn"), encoding="utf-8")
    run_cell = workers.run_cell
    began = []

    def cell(*given):
        began.append(given[0])
        return run_cell(*given[:3], stopping(len(began), given[3]), *given[4:])

    def stopping(number, on_round):
        def on(metrics):
            on_round(metrics)
            if (number, metrics["round"]) == CUT_AT:
                raise KeyboardInterrupt

        return on

    workers.run_cell = cell
    try:
        bench(home)
    finally:
        workers.run_cell = run_cell


def numbers(home):
    """Return all that a finished suite has left, without what no two runs share."""
    with (home / "out/results.csv").open(encoding="utf-8") as file:
        rows = [
            {k: v for k, v in row.items() if k not in TIMES}
            for row in csv.DictReader(file)
        ]
    lines = []
    for path in sorted((home / "out/runs").glob("*/metrics.jsonl")):
        for line in map(json.loads, path.read_text().splitlines()):
            clients = line.pop("clients").values()
            line.pop("seconds")
            lines.append([line, [{**one, "seconds": 0} for one in clients]])
    return rows, lines


def flips(home, number, seed):
    """Yield places of bits: a file, whichever, then anywhere in it."""
    rng = random.Random(seed)
    files = [
        path
        for path in sorted((home / "out").rglob("*"))
        if path.is_file() and path.stat().st_size
    ]
    for _ in range(number):
        path = rng.choice(files)
        yield path, rng.randrange(path.stat().st_size), rng.randrange(8)


def flip(path, place, bit):
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def news(text, usual):
    """Return the lines that a sound folder does not give, but for what took how long."""
    known = {line.split(" done")[0] for line in usual.splitlines()}
    return [line for line in text.splitlines() if line.split(" done")[0] not in known]


def outcome(home, sound):
    """Return what becomes of a folder with a wrong bit; ``sound`` is of one without."""
    usual_page, usual_report, usual_bench, result = sound
    page, of_report = report(home)
    _, of_bench = bench(home)
    unread = [
        path
        for path in sorted((home / "out/runs").glob("*/checkpoint*.safetensors"))
        if RunFolder(path.parent).result.exists() and read(path) is None
    ]
    if CRASHED in of_report + of_bench:
        return "crashed"
    told = bool(news(of_report, usual_report) or news(of_bench, usual_bench) or unread)
    same = numbers(home) == result
    if not same:
        return "silent"  # whatever was said, the results are to be right in the end
    return "found" if told else "harmless" if page == usual_page else "silent"


def search(number, seed=0, progress=lambda *_: None):
    """Flip bits; return ``[(file, place, bit, outcome)]``."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        first, work = here / "first", here / "work"
        first.mkdir()
        cut_off(first)
        shutil.copytree(first, work)
        (page, of_report), (_, of_bench) = report(work), bench(work)
        sound = (page, of_report, of_bench, numbers(work))
        results = []
        for path, place, bit in flips(first, number, seed):
            shutil.rmtree(work)
            shutil.copytree(first, work)
            inside = path.relative_to(first)
            flip(work / inside, place, bit)
            results.append((inside, place, bit, outcome(work, sound)))
            progress(len(results), results[-1])
        return results


def main():
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    started = time.perf_counter()

    def progress(done, last):
        if last[-1] in BAD or done % 100 == 0:
            print(done, *last, flush=True)

    results = search(asked.flips, asked.seed, progress)
    table = Counter((path.name, what) for path, _, _, what in results)
    for (name, what), times in sorted(table.items()):
        print(f"{name:32} {what:9} {times:5}")
    counts = Counter(what for *_, what in results)
    print(dict(counts), f"in {time.perf_counter() - started:.0f} s")
    return 1 if any(counts[what] for what in BAD) else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
