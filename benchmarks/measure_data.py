"""How fast data sets are prepared, opened and made into batches, and what that takes.

    python -m benchmarks.measure_data                       print the table
    python -m benchmarks.measure_data --out data.md         write it, too
    python -m benchmarks.measure_data --only cifar10 svhn   some of the sets

Sets whose files are in the data root (FEDKD_DATA) are measured on these. SVHN is written
in the published format and size, FOOD101 in the published format with fewer images. The
prepared files go to a temporary folder. Every set is prepared in a process of its own,
so that its peak memory is known, and used in another.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from data_cases import CASES, Case, link, write

HERE = Path(__file__).resolve().parent
BATCH = 64
STEPS = 60
"""Batches of one turn; batches and training take turns."""
TURNS = 5
MOST_SHARE = 0.15
"""Most that batches may cost, as a share of the training time."""
RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes of a unit of ``ru_maxrss``."""
COLUMNS = {
    "set": "{set}",
    "images": "{images:,}",
    "prepared": "{megabytes:.1f} MB",
    "preparation": "{preparation:.2f} s",
    "images a second": "{pace:,.0f}",
    "peak memory": "{peak:.0f} MB",
    "allowed": "{allowed:.0f} MB",
    "open": "{open:.4f} s",
    "batches a second": "{batches:,.0f}",
    "share of training": "{share:.1%}",
}


def prepared_in(case: Case, root: Path) -> dict[str, float]:
    """Prepare a set; return seconds, bytes, and the peak of this process's memory."""
    from fedkd.data.prepared import store as prepared

    reader = reader_of(case)
    # What reading needs once, whatever the set: torchvision takes memory of its own.
    import torchvision.datasets  # noqa: F401

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    files = prepared.prepare(reader, root)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "images": sum(file.header.number for file in files),
        "megabytes": sum(file.bytes for file in files) / 1e6,
        "preparation": seconds,
        "peak": (after - before) * RSS_UNIT / 1e6,
    }


def used(case: Case, root: Path) -> dict[str, float]:
    """Open a prepared set and train on it; return seconds and rates."""
    import torch

    from fedkd.data.images import ClientData
    from fedkd.data.prepared import store as prepared

    torch.set_num_threads(1)
    reader = reader_of(case)
    started = time.perf_counter()
    images = prepared.images(reader, root)
    seconds = time.perf_counter() - started
    client = ClientData(images, torch.arange(len(images.x_train)))
    making, training = turns(client, images.shape, images.num_classes)
    return {
        "open": seconds,
        "batches": 1 / statistics.median(making),
        "share": statistics.median(
            m / t for m, t in zip(making, training, strict=True)
        ),
    }


def contestants(
    client: Any, shape: tuple[int, int, int], classes: int
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return what makes ``STEPS`` batches, and what trains the small CNN on as many.

    All images have been read once by then.
    """
    import torch

    from fedkd.plugins.registry import load_registry

    torch.manual_seed(0)
    model = load_registry(()).model("cnn")(shape, classes)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = next(client.batches(BATCH, steps=1))

    def make() -> None:
        for _ in client.batches(BATCH, steps=STEPS):
            pass

    def train() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()

    # A whole pass first: batches of later passes find all images in memory.
    for _ in client.batches(BATCH, epochs=1):
        pass
    return make, train


def turns(
    client: Any, shape: tuple[int, int, int], classes: int
) -> tuple[list[float], list[float]]:
    """Return seconds a batch of making batches, and of training the small CNN."""
    make, train = contestants(client, shape, classes)
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(TURNS + 1):
        for seconds, call in zip(found, (make, train), strict=True):
            started = time.perf_counter()
            call()
            seconds.append((time.perf_counter() - started) / STEPS)
    return found[0][1:], found[1][1:]


def reader_of(case: Case) -> Any:
    """Return the reader of a set."""
    from fedkd.plugins.registry import load_registry

    return load_registry(()).dataset(case.name, dict(case.options))[0]


def in_child(number: int, step: str, root: Path) -> dict[str, float]:
    """Do one step of one case in a process of its own; return what it measured."""
    command = [sys.executable, "-m", "benchmarks.measure_data"]
    command += ["--child", str(number), step, str(root)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=HERE.parent, env=environment, stdout=subprocess.PIPE, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measured(number: int, data: Path) -> dict[str, Any] | None:
    """Measure a case; return its row, or None if its files are not there."""
    case = CASES[number]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if case.written:
            write(case, root)
        elif data.is_dir():
            link(data, root)
        if not _is_there(case, root):
            return None
        row: dict[str, Any] = in_child(number, "prepare", root)
        row |= in_child(number, "use", root)
    options = " ".join(f"{k}={json.dumps(v)}" for k, v in case.options.items())
    row["set"] = " ".join(filter(None, [case.name, options]))
    row["set"] += f" ({case.note})" if case.note else ""
    row["pace"] = row["images"] / row["preparation"]
    row["allowed"] = 1.5 * row["megabytes"] + 500
    return row


def _is_there(case: Case, root: Path) -> bool:
    from fedkd.errors import DataError

    try:
        reader_of(case).fingerprint(root)
    except DataError:
        return False
    return True


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the rows as a table in Markdown."""
    lines = [" | ".join(COLUMNS), " | ".join(["---"] + ["---:"] * (len(COLUMNS) - 1))]
    for row in rows:
        lines.append(" | ".join(form.format(**row) for form in COLUMNS.values()))
    return "".join(f"| {line} |\n" for line in lines)


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the page with the table, and how it was measured."""
    import torch

    load = os.getloadavg()[0]
    today = datetime.datetime.now(datetime.timezone.utc).date()
    return f"""# Data: preparation, opening, batches

Measured by `python -m benchmarks.measure_data --out benchmarks/results/data.md` on
{today}: {platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python
{platform.python_version()}, torch {torch.__version__}; load average {load:.1f} at the end.

{table(rows)}
- preparation: decoding, resizing, writing and checksums, all cores; files are verified
  first, and that counts. `allowed` is the most memory that it may take: 1.5 times the
  prepared size and 500 MB.
- peak memory: the largest resident size of the process above that after its imports.
- open: `fedkd.data.prepared.store.images` on prepared files, in a new process.
- batches: {BATCH} images, shuffled, augmented where the set is, normalised; one thread.
- share of training: the time of these batches over that of training the small CNN
  (`cnn`) on as many batches at hand, in turns in one process, median of {TURNS}; at most
  {MOST_SHARE:.0%} is allowed on CIFAR-10.
"""


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--out", metavar="FILE", help="write the page there, too")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names of sets")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        number, step, root = given.child
        call = prepared_in if step == "prepare" else used
        print(json.dumps(call(CASES[int(number)], Path(root))))
        return 0
    from fedkd.data.root import data_root

    rows = []
    for number, case in enumerate(CASES):
        if given.only and case.name not in given.only:
            continue
        print(f"measuring {case.name} …", file=sys.stderr, flush=True)
        row = measured(number, data_root())
        if row is None:
            print(f"{case.name}: its files are not there", file=sys.stderr)
        else:
            rows.append(row)
    print(table(rows))
    if given.out:
        Path(given.out).write_text(page(rows), encoding="utf-8")
    over = [row["set"] for row in rows if row["peak"] > row["allowed"]]
    slow = [row["set"] for row in rows if row["open"] > 0.2]
    return 1 if over or slow else 0


if __name__ == "__main__":
    raise SystemExit(main())
