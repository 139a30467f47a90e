"""``fedkd bench`` and its like on vectors: who runs, who is skipped and why."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fedkd import Requires, testing
from fedkd.algorithms.fedavg import FedAvg
from fedkd.algorithms.heterofl import HeteroFL
from fedkd.cli import main
from fedkd.engines.stacked import StackedClients
from fedkd.errors import ContractError, NotApplicableError
from fedkd.party import ModelSpec
from fedkd.plugins.registry import load_registry
from fedkd.report.results import read_results
from fedkd.simulation.simulator import simulate

SUITE = """\
rounds: {rounds}
clients: 3
seeds: [0]
datasets: {datasets}
partitions: [{{name: dirichlet, alpha: 0.5}}]
models: {models}
training: {{local_steps: 5, batch_size: 16, lr: 0.05}}
strategies: {strategies}
"""
RUNNING = "[fedavg, fedprox, scaffold, ccvr, fedgen, local, central]"
VECTOR_FEDFTG = "{name: fedftg, generator: {kind: vector-generator, width: 8}}"


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """Run a suite in a folder with ``news.npz``; returns exit code, rows and output."""
    monkeypatch.chdir(tmp_path)

    def run(datasets, strategies, models="[mlp]", rounds=2):
        keys = {"datasets": datasets, "strategies": strategies}
        Path("my.yaml").write_text(SUITE.format(**keys, models=models, rounds=rounds))
        common = ["--out", "out", "--plain", "--no-plots", "--jobs", "1"]
        code = main(["bench", "my.yaml", *common])
        said = capsys.readouterr()
        path = Path("out/results.csv")
        rows = read_results(path) if path.is_file() else []
        return code, rows, said.out + said.err

    return run


def write_news(path, classes=20, words=60):
    """Write vectors like those of 20 newsgroups: tf-idf of topics' words, length 1."""
    rng = np.random.default_rng(0)
    topics = rng.dirichlet(np.full(words, 0.05), classes)
    arrays = {}
    for half, number in (("train", 400), ("test", 200)):
        y = np.arange(number) % classes
        counts = np.stack([rng.multinomial(40, topics[c]) for c in y])
        x = np.log1p(counts) * np.log(number / (1 + (counts > 0).sum(0)))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        arrays |= {f"x_{half}": x.astype(np.float32), f"y_{half}": y}
    np.savez(path, **arrays)


def toy_run(strategy, models=("mlp",), **options):
    world = testing.toy_federation(data=testing.toy_vectors(), models=models)
    return simulate(strategy, world, testing.toy_protocol(2), seed=0, **options)


def test_averages_calibration_and_feature_generators_learn_wine(bench):
    code, rows, said = bench("[wine]", RUNNING)
    assert code == 0, said
    assert {row.status for row in rows} == {"done"}
    averages = [row.global_accuracy for row in rows if row.strategy != "local"]
    assert min(averages) > 60  # the largest class is 40 %


def test_a_linear_model_learns_vectors_like_those_of_newsgroups_from_a_file(bench):
    write_news("news.npz")
    code, rows, said = bench("['vectors:news.npz']", "[fedavg, ccvr]", "[linear]", 6)
    assert code == 0, said
    assert [row.dataset for row in rows] == ["vectors[path=news.npz]"] * 2
    assert min(row.global_accuracy for row in rows) > 60  # chance is 5


def test_what_needs_images_is_skipped_before_the_first_round_and_says_why(bench):
    code, rows, said = bench(
        "[wine]", f"[fedavg, mosaic, dense, dfrd, {VECTOR_FEDFTG}]"
    )
    assert code == 0, said
    reasons = {row.strategy.partition("[")[0]: row.reason for row in rows if row.reason}
    assert set(reasons) == {"mosaic", "dense", "dfrd"}
    assert "builds dcgan-generator" in reasons["mosaic"]
    assert "is for images, and the data are vectors of 13 values" in reasons["mosaic"]
    assert reasons["dense"] == "needs images, and the data are vectors of 13 values."
    assert "builds acgan-generator" in reasons["dfrd"]


def test_a_model_of_images_is_a_reason_to_skip_and_the_other_model_runs(bench):
    code, rows, said = bench("[wine]", "[fedavg]", "[cnn, mlp]")
    assert code == 0, said
    found = {row.models: (row.status, row.reason) for row in rows}
    assert found["mlp"][0] == "done"
    status, reason = found["cnn"]
    assert status == "skipped"
    assert reason.startswith("has the model cnn, which is for images, and the data are")
    assert reason.endswith("give models for vectors, such as mlp or linear.")


def test_a_partition_of_vectors_is_shown_and_the_sets_are_listed(capsys):
    assert main(["partition", "--dataset", "wine", "--clients", "3"]) == 0
    assert "Classes: 0 class_0, 1 class_1, 2 class_2." in capsys.readouterr().out
    assert main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (wine,) = (line for line in lines if line.split()[:1] == ["wine"])
    assert "built in" in wine
    (own,) = (line for line in lines if line.split()[:1] == ["vectors"])
    assert "needs path" in own


def test_no_gallery_is_written_of_vectors(tmp_path):
    config = {"generator": {"kind": "vector-generator", "width": 4}}
    strategy = load_registry(quiet=True).strategy("fedftg", config)[0]
    toy_run(strategy, folder=tmp_path / "run")
    assert not list((tmp_path / "run").glob("gallery*"))


def test_nested_widths_of_vectors_are_found():
    models = (ModelSpec("mlp"), ModelSpec("mlp", {"width": 0.5}))
    assert toy_run(HeteroFL(), models).history[-1]["global_accuracy"] > 50


class OfImages(FedAvg):
    requires = Requires(images=True)


class Unprepared(FedAvg):
    def local(self, down, client):
        assert client.images.mean
        return super().local(down, client)


def test_a_strategy_that_declares_images_is_skipped():
    with pytest.raises(NotApplicableError, match="needs images, and the data are vect"):
        toy_run(OfImages())


def test_one_that_takes_images_all_the_same_is_told_what_to_declare():
    wanted = r"client.images was asked for, .*client.inputs.*Requires\(images=True\)"
    with pytest.raises(ContractError, match=wanted):
        toy_run(Unprepared())


def test_stacked_clients_on_vectors_agree_with_one_after_the_other():
    plain, together = (
        toy_run(FedAvg(), executor=executor) for executor in ("serial", StackedClients)
    )
    for name, value in plain.state.weights.items():
        torch.testing.assert_close(together.state.weights[name], value)
