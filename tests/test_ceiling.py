"""What a last layer could reach: of a run's own model, on all true features."""

import csv
import sys
from pathlib import Path

import pytest
import torch

import fedkd
from fedkd.report.results import read_results

ROOT = Path(__file__).resolve().parents[1]
SUITE = """\
name: small
rounds: 2
clients: 2
seeds: [0]
datasets: [digits]
partitions: [{name: dirichlet, alpha: 0.1}]
models: [{name: cnn, channels: [4, 8], hidden: 16}]
training: {local_steps: 10, batch_size: 16, lr: 0.1}
strategies: [fedavg, ccvr]
"""


@pytest.fixture(scope="module")
def ceiling():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import ceiling

    yield ceiling
    sys.path.remove(str(ROOT / "benchmarks"))


def test_the_ceiling_is_that_of_the_runs_own_features(ceiling, tmp_path):
    (tmp_path / "small.yaml").write_text(SUITE)
    results = fedkd.bench(tmp_path / "small.yaml", out=tmp_path / "out")
    found = list(ceiling.ceilings(tmp_path / "out", ["ccvr"]))
    assert [one.strategy for one in found] == ["ccvr"]
    (one,) = found
    run = results.run(strategy="ccvr")
    assert one.accuracy == pytest.approx(run.row.global_accuracy, abs=1e-3)
    assert one.ceiling > one.accuracy + 3  # two rounds of skewed digits are far below
    # A model whose features say nothing has a ceiling of the commonest class.
    blind = run.model()
    with torch.no_grad():
        for value in blind.parameters():
            value.zero_()
    run.model = lambda: blind
    most = run.federation.data.y_test.bincount().max() / len(run.federation.data.y_test)
    assert ceiling.ceiling_of(run).ceiling <= most * 100 + 1e-3


def test_recorded_ceilings_are_of_the_recorded_runs():
    for path in sorted((ROOT / "benchmarks/results").glob("*/ceiling.csv")):
        runs = {
            (r.strategy, r.dataset, r.partition, r.alpha, r.seed): r.global_accuracy
            for r in read_results(path.with_name("results.csv"))
        }
        with path.open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                key = (
                    *(line[name] for name in ("strategy", "dataset", "partition")),
                    float(line["alpha"]),
                    int(line["seed"]),
                )
                assert float(line["accuracy"]) == pytest.approx(runs[key], abs=0.01)
