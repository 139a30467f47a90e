"""What a GPU gains: parity first, then rounds, the floor, ensembles, a paper's suite.

One call measures everything and writes it down after each part::

    python benchmarks/gpu.py                        # benchmarks/results/gpu/DEVICE.json
    python benchmarks/gpu.py --minutes 25 --out FILE.json
    python benchmarks/gpu.py --parts parity,rounds
    python benchmarks/gpu.py --parts paper --engine graphs
    python benchmarks/gpu.py --device cpu --tiny    # a dry run: the numbers mean nothing

Contestants take turns, and what counts are medians and ratios within the run. At its end
the script prints the rows that ``fedkd/engines/measured.py`` can have; put
them there, with the JSON beside the others, and ``--executor auto`` goes by them.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from gpu_parts import ensembles, floor, paper, parity, rounds
from gpu_parts.lab import Lab
from gpu_parts.report import Report, about, fastest_engine, rows_for_auto
from gpu_parts.works import ENGINES

from fedkd.data.root import data_root
from fedkd.errors import FedKDError
from fedkd.harness.environment import pick_device

ROOT = Path(__file__).resolve().parent
PARTS = ("parity", "rounds", "floor", "ensembles", "paper")
PLAN = {
    "parity": "train the same clients by every engine, in every precision and on the CPU, "
    "and compare weights",
    "rounds": "time rounds of every engine and precision, and of a bare loop",
    "floor": "measure matrix products and copies, count operations and bytes of a step, "
    "and say how far rounds are from the floor",
    "ensembles": "time frozen models one after another and stacked",
    "paper": "run fedavg and mosaic of a suite as far as the time allows",
}


def attempts(
    report: Report, chosen: tuple[str, ...], lab: Lab, engine: str | None = None
) -> Iterator[str]:
    """Do the parts; yield the names of those that broke."""

    def measured() -> Mapping[str, Any]:
        rounds_part = report.parts.get("rounds", {})
        return rounds_part if "failed" not in rounds_part else {}

    calls: dict[str, Callable[[], Any]] = {
        "parity": lambda: parity.compare(lab),
        "rounds": lambda: rounds.measure(lab),
        "floor": lambda: floor.measure(lab, measured()),
        "ensembles": lambda: ensembles.measure(lab),
        "paper": lambda: paper.measure(
            lab, engine or fastest_engine(measured(), "ResNet-18")
        ),
    }
    for name in chosen:
        print(f"{name}:", flush=True)
        started = time.monotonic()
        said: list[str] = []
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", RuntimeWarning)
                outcome = calls[name]()
            said = sorted({str(w.message) for w in caught})
        # Of torch, such as too little memory; the other parts may still work.
        except RuntimeError as error:
            outcome = {"failed": " ".join(str(error).split())}
            print(f"  FAIL {outcome['failed']}")
            yield name
        for text in said:
            print(f"  warning: {text}")
        report.keep(name, outcome)
        report.keep(f"{name}_warnings", said)
        print(f"  ({time.monotonic() - started:.1f} s)", flush=True)


def options() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu")
    parser.add_argument("--tiny", action="store_true", help="a dry run: tiny sizes")
    parser.add_argument("--minutes", type=float, default=25, help="of all parts")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of them")
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        help="of the part paper; by default the one with the shortest rounds",
    )
    parser.add_argument("--out", type=Path, help="the JSON file")
    return parser.parse_args()


def offer(report: Report) -> None:
    """Print the rows that ``auto`` can go by, or why there are none."""
    rows = rows_for_auto(report)
    if rows:
        print("Rows for fedkd/engines/measured.py:")
    else:
        print(
            "No rows for fedkd/engines/measured.py: they need the part "
            "parity, in which serial and the engine must be right."
        )
    for row in rows:
        print(f"    {row!r},")


def main() -> int:
    """Measure; return 1 if a comparison failed or a part broke."""
    given = options()
    chosen = tuple(given.parts.split(","))
    unknown = [name for name in chosen if name not in PARTS]
    if unknown:
        sys.exit(f"--parts: unknown {unknown[0]!r}; known: {', '.join(PARTS)}.")
    try:
        device = pick_device(given.device)
    except FedKDError as error:
        sys.exit(f"{error} A dry run: --device cpu --tiny.")
    torch.set_num_threads(1)
    info = about(device, given.tiny)
    file = re.sub(r"[^A-Za-z0-9]+", "-", info["device"]).strip("-") + ".json"
    out = given.out or ROOT / "results" / "gpu" / file
    runs = Path("runs") / "gpu" if given.out is None else out.parent / "runs"
    ends = time.monotonic() + 60 * given.minutes
    lab = Lab(device, given.tiny, ends, runs, data_root())
    print(f"On {info['device']}, torch {info['torch']}, this will")
    for name in chosen:
        print(f"  {name:9} {PLAN[name]}")
    print(f"and write {out} after each part.")
    if info["dry_run"]:
        print("A dry run: it shows that the script works; its numbers mean nothing.")
    report = Report(out, info)
    broken = list(attempts(report, chosen, lab, given.engine))
    compared = report.parts.get("parity", [])
    failed = [] if isinstance(compared, dict) else [r for r in compared if not r["ok"]]
    if not info["dry_run"] and "rounds" in report.parts and not broken:
        offer(report)
    print(
        f"Written: {out}; {len(failed)} comparisons failed, {len(broken)} parts broke."
    )
    return 1 if failed or broken else 0


if __name__ == "__main__":
    sys.exit(main())
