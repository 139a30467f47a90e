"""What any method could reach that trains only the last layer of a model that a run made.

    python benchmarks/ceiling.py runs/calibration --strategies ccvr --out ceiling.csv

Calibration and generators of features leave all layers but the last as training made
them, and give the last one features to train on. The best that they can give is what no
federation has: the features of all training images of all clients, with their labels. A
logistic regression on these is an estimate of the most that such a method can reach from
that model, and what it is above the run is the most that it can gain. Test images are
measured on, and choose nothing: the penalty is fixed.
"""

from __future__ import annotations

import argparse
import csv
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import fedkd
from fedkd.api.finished import FinishedRun

PENALTY = 1e-5
"""L2 penalty for each image, of weights on features of unit variance."""
ITERATIONS = 300
BATCH = 500


@dataclass(frozen=True)
class Ceiling:
    """A run, and what its last layer could reach; percent of the test images."""

    strategy: str
    dataset: str
    partition: str
    alpha: float | None
    seed: int
    accuracy: float
    """Of the run's global model."""
    ceiling: float
    """Of the same model with a last layer trained on all true features."""

    @property
    def room(self) -> float:
        """What is left to gain, in percentage points."""
        return self.ceiling - self.accuracy


@torch.no_grad()
def features_and_logits(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return features ``[N, D]`` and logits ``[N, classes]`` of normalised images."""
    features = model.features(x)  # type: ignore[operator]
    return features, model.head(features)  # type: ignore[operator]


def ceiling_of(run: FinishedRun) -> Ceiling:
    """Measure one finished run, of a strategy with a global model.

    Raises:
        FedKDError: If its model, or its data, cannot be had.
    """
    row, model, world = run.row, run.model(), run.federation
    if row is None:
        raise ValueError(f"{run.folder}: expected a run with a row in results.csv.")
    every = world.pooled().clients[0]
    pairs = [(features_and_logits(model, x)[0], y) for x, y in every.inputs(BATCH)]
    features, labels = (torch.cat(part).numpy() for part in zip(*pairs, strict=True))
    data = world.data
    parts = data.x_test.split(BATCH)
    tested = [features_and_logits(model, data.normalise(part)) for part in parts]
    test, logits = (torch.cat(part) for part in zip(*tested, strict=True))
    true = data.y_test
    scaler = StandardScaler().fit(features)
    head = LogisticRegression(C=1 / (2 * PENALTY * len(labels)), max_iter=ITERATIONS)
    with warnings.catch_warnings():
        # A head that is still gaining after so many iterations is as good as any.
        warnings.simplefilter("ignore", ConvergenceWarning)
        head.fit(scaler.transform(features), labels)
    said = torch.from_numpy(head.predict(scaler.transform(test.numpy())))
    return Ceiling(
        row.strategy,
        row.dataset,
        row.partition,
        row.alpha,
        row.seed,
        _percent(logits.argmax(1) == true),
        _percent(said == true),
    )


def _percent(right: Tensor) -> float:
    return round(right.double().mean().item() * 100, 4)


def ceilings(folder: Path, strategies: list[str]) -> Iterator[Ceiling]:
    """Yield the ceilings of a results folder's finished runs of some strategies."""
    for run in fedkd.load(folder).runs:
        if run.row and run.row.status == "done" and run.row.strategy in strategies:
            yield ceiling_of(run)


def main() -> None:
    """Print a line for every run, and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--strategies", required=True, help="labels, by comma")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    names = given.strategies.split(",")
    with given.out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Ceiling)])
        writer.writeheader()
        for one in ceilings(given.folder, names):
            writer.writerow(asdict(one))
            file.flush()
            print(
                f"{one.strategy}, {one.dataset}, {one.partition} {one.alpha}, seed "
                f"{one.seed}: {one.accuracy:.2f}, at most {one.ceiling:.2f} "
                f"({one.room:+.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
