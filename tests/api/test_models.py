"""From a finished run to its models: as they were measured, and as files."""

import json
import shutil
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import fedkd
from fedkd.api.export import Facts, write_model
from fedkd.api.finished import FinishedRun
from fedkd.cli import main
from fedkd.errors import ConfigError, DataError, FedKDError
from fedkd.simulation.evaluate import predictions

SUITE = {
    "name": "kept",
    "rounds": 2,
    "clients": 3,
    "participation": 2,
    "seeds": [0],
    "datasets": [{"name": "digits", "fraction": 0.3}],
    "partitions": [{"name": "dirichlet", "alpha": 0.3}],
    "models": [{"name": "cnn", "width": 0.25}],
    "buffers": "reestimate",
    "training": {"local_steps": 3, "batch_size": 16, "lr": 0.05},
    "strategies": ["fedavg", "ditto", "fedrep", "local"],
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    home = tmp_path_factory.mktemp("kept")
    return fedkd.bench(SUITE, out=home, progress=False)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """One run of a linear model, quick to export."""
    return fedkd.run(
        "fedavg",
        "digits",
        "iid",
        fraction=0.2,
        clients=2,
        models="linear",
        rounds=1,
        training=SUITE["training"],
        out=tmp_path_factory.mktemp("small"),
        progress=False,
    )


def accuracy(model, run, shard=None):
    said = predictions(model, run.federation.data, 1000, shard)
    return 100 * (said.predicted == said.labels).double().mean().item()


def test_the_global_model_is_the_one_that_was_measured(results):
    run = results.run(strategy="fedavg")
    model = run.model()
    assert not model.training
    assert accuracy(model, run) == pytest.approx(run.metrics["global_accuracy"])
    assert run.metrics["global_accuracy"] > 12  # it has learnt something to tell by


@pytest.mark.parametrize("strategy", ["fedavg", "ditto", "fedrep", "local"])
def test_a_clients_model_is_the_one_that_was_measured(results, strategy):
    run = results.run(strategy=strategy)
    measured = run.metrics["local_accuracy_by_client"]
    for k, shard in enumerate(run.federation.test_shards):
        model = run.model(client=k)
        assert accuracy(model, run, shard) == pytest.approx(measured[str(k)])


def test_a_run_of_a_rich_world_is_put_together_as_it_was():
    run = fedkd.run(
        "local",
        "digits",
        "dirichlet",
        alpha=0.5,
        fraction=0.3,
        clients=3,
        models={"clients": ["mlp", "linear"], "server": "cnn"},
        seed=1,
        rounds=1,
        training=SUITE["training"],
        public={"share": 0.2},
        shifts={"features": ["rotation"], "strength": 0.7},
        test_shards="iid",
        metrics=["macro_f1", {"name": "rounds_to", "target": 90}],
        progress=False,
    )
    measured = run.metrics["local_accuracy_by_client"]
    for k, shard in enumerate(run.federation.test_shards):
        said = accuracy(run.model(client=k), run, shard)
        assert said == pytest.approx(measured[str(k)])
    kinds = [type(run.model(client=k)).__name__ for k in range(3)]
    assert kinds == ["Mlp", "Linear", "Mlp"]


def test_a_run_in_tf32_is_read_without_a_gpu(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        # Where there is no GPU to make it on, such a run computes as one in float32.
        for place in ("harness.bench", "simulation.simulator"):
            patch.setattr(f"fedkd.{place}.check_precision", lambda *_: None)
        keys = {**SUITE, "strategies": ["fedavg"], "precision": "tf32"}
        (run,) = fedkd.bench(keys, out=tmp_path, progress=False).runs
    assert run.config["protocol"]["precision"] == "tf32"
    model = FinishedRun(run.folder).model()
    assert accuracy(model, run) == pytest.approx(run.metrics["global_accuracy"])


def test_a_model_is_a_copy(results):
    run = results.run(strategy="fedavg")
    first = run.model()
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    assert accuracy(run.model(), run) == pytest.approx(run.metrics["global_accuracy"])


def test_what_is_not_there_is_said(results, tmp_path):
    local = results.run(strategy="local")
    with pytest.raises(ConfigError, match=r"no model 'global'.*models of their own"):
        local.model()
    with pytest.raises(ConfigError, match=r"no model 'golbal'. Did you mean 'global'"):
        results.run(strategy="fedavg").model("golbal")
    with pytest.raises(ConfigError, match="client: found 3, expected 0 to 2"):
        results.run(strategy="ditto").model(client=3)
    with pytest.raises(ConfigError, match=r"found no config.yaml, expected the folder"):
        FinishedRun(tmp_path).model()


def test_a_folder_without_its_checkpoint_or_with_anothers_is_refused(results, tmp_path):
    run, other = (results.run(strategy=name) for name in ("fedavg", "ditto"))
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    (folder / "checkpoint.safetensors").unlink()
    with pytest.raises(DataError, match="no checkpoint that can be read"):
        FinishedRun(folder).model()
    shutil.copy(other.folder / "checkpoint.safetensors", folder)
    with pytest.raises(ConfigError, match="a checkpoint of another run"):
        FinishedRun(folder).model()


def test_the_models_of_a_round_are_those_that_it_measured():
    world = fedkd.federation(
        "digits", "iid", clients=2, models="mlp", fraction=0.2, seed=0
    )
    training = SUITE["training"]
    steps = fedkd.rounds("ditto", world, rounds=2, training=training)
    first = next(steps)
    shard = world.test_shards[1]
    said = predictions(first.model(client=1), world.data, 1000, shard)
    own = 100 * (said.predicted == said.labels).double().mean().item()
    assert own == pytest.approx(first.metrics["local_accuracy_by_client"][1])
    kept = first.model().state_dict()
    before = {name: value.clone() for name, value in kept.items()}
    after = next(steps).model().state_dict()
    assert all(torch.equal(kept[name], before[name]) for name in kept)
    assert not all(torch.equal(after[name], before[name]) for name in kept)
    with pytest.raises(ConfigError, match="round 1: a later round has changed"):
        first.model()


def test_weights_and_what_they_expect_are_enough_to_go_on(small, tmp_path):
    written = small.export(tmp_path / "model.pt")
    assert written == [tmp_path / "model.pt", tmp_path / "model.pt.json"]
    facts = json.loads(written[1].read_text("utf-8"))
    weights = torch.load(written[0], weights_only=True)
    small.export(tmp_path / "same.safetensors", client=1)
    again = load_file(tmp_path / "same.safetensors")
    assert all(torch.equal(again[name], weights[name]) for name in weights)

    build = fedkd.load_registry(quiet=True).model(facts["architecture"]["name"])
    shape, classes = tuple(facts["input"]["shape"]), len(facts["classes"])
    model = build(shape, classes, **facts["architecture"]["options"])
    model.load_state_dict(weights)
    data, how = small.federation.data, facts["normalisation"]
    mean, std = (torch.tensor(how[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
    logits = model.eval()((data.x_test / how["scale"] - mean) / std)
    hits = (logits.argmax(1) == data.y_test).double().mean().item()
    assert 100 * hits == pytest.approx(facts["measured"]["accuracy"])
    assert facts["run"]["config_hash"] == small.row.config_hash


def test_what_is_beside_a_model_says_on_which_test_images_it_was_measured(small):
    facts = Facts(small.federation.data, "global", None, None, small.config, {})
    assert facts.plain()["measured"]["on"] == "the whole test set"
    options = {**small.config["dataset"]["options"], "test_fraction": 0.1}
    part = {**small.config, "dataset": {"name": "digits", "options": options}}
    assert replace(facts, config=part).plain()["measured"]["on"] == (
        "the part 0.1 of the test set, as test_fraction says"
    )
    of_client = replace(facts, config=part, client=0).plain()["measured"]
    assert of_client["on"] == "the client's test images"


def test_torch_export_gives_a_program_for_batches_of_any_size(small, tmp_path):
    options = {"dim": 8, "heads": 2, "depth": 1}
    vit = fedkd.load_registry(quiet=True).model("vit")((1, 8, 8), 10, **options).eval()
    facts = Facts(small.federation.data, "global", None, None, {}, {})
    write_model(vit, tmp_path / "vit.pt2", facts)
    x = torch.randn(5, 1, 8, 8)
    program = torch.export.load(tmp_path / "vit.pt2").module()
    torch.testing.assert_close(program(x), vit(x))
    # Beside a model in another form, what either expects stays.
    write_model(vit, tmp_path / "vit.pt", replace(facts, title="other"))
    said = {p.name: json.loads(p.read_text())["model"] for p in tmp_path.glob("*.json")}
    assert said == {"vit.pt2.json": "global", "vit.pt.json": "other"}


def test_onnx_gives_a_program_for_batches_of_any_size(small, tmp_path):
    pytest.importorskip("onnxscript", reason="needs the extra 'export'")
    onnx = pytest.importorskip("onnx", reason="needs the extra 'export'")
    from onnx.reference import ReferenceEvaluator

    small.export(tmp_path / "model.onnx")
    program = ReferenceEvaluator(onnx.load(tmp_path / "model.onnx"))
    x = torch.randn(7, 1, 8, 8)
    (logits,) = program.run(None, {program.input_names[0]: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), small.model()(x))


class Odd(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_what_cannot_be_exported_is_said_with_what_can(small, tmp_path, monkeypatch):
    facts = Facts(small.federation.data, "odd", None, None, {}, {})
    with pytest.raises(
        FedKDError, match=r"torch.export cannot export this model: .*--to"
    ):
        write_model(Odd(), tmp_path / "odd.pt2", facts)
    with pytest.raises(ConfigError, match=r"suffix '.bin', expected one of .pt"):
        write_model(Odd(), tmp_path / "odd.bin", facts)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(FedKDError, match=r"pip install 'fedkd\[export\]'"):
        write_model(Odd(), tmp_path / "odd.onnx", facts)
    assert list(tmp_path.iterdir()) == []


def test_the_command_exports_what_it_is_told(results, small, tmp_path, capsys):
    folder = results.run(strategy="ditto").folder
    words = ["export", str(folder), "--client", "1", "--to", str(tmp_path / "a.pt")]
    assert main(words) == 0
    assert capsys.readouterr().out.startswith(f"Written: {tmp_path / 'a.pt'}, ")
    facts = json.loads((tmp_path / "a.pt.json").read_text("utf-8"))
    assert facts["model"] == "client 1"
    line = results.run(strategy="ditto").metrics
    assert facts["measured"]["accuracy"] == line["local_accuracy_by_client"]["1"]
    assert facts["architecture"] == {"name": "cnn", "options": {"width": 0.25}}
    whole = small.folder.parents[1]
    assert main(["export", str(whole), "--to", str(tmp_path / "b.pt")]) == 0
    assert (
        main(["export", str(results.folders[0]), "--to", str(tmp_path / "c.pt")]) == 2
    )
    assert "found 4 runs, expected one" in capsys.readouterr().err
    assert main(["export", str(tmp_path), "--to", str(tmp_path / "c.pt")]) == 2
    assert "found no run" in capsys.readouterr().err


PLUGIN = """
import fedkd
from fedkd.algorithms.fedavg import FedAvg


class Mine(FedAvg):
    pass


class Half(fedkd.Metric):
    def of_clients(self, accuracies):
        return min(accuracies) / 2


@fedkd.hookimpl
def fedkd_register_metrics(register):
    register("half", ":Half", summary="Half.")


@fedkd.hookimpl
def fedkd_register_strategies(register):
    register("mine", ":Mine", summary="Mine.")
"""


def test_without_the_plugin_of_a_metric_there_is_a_model_and_python_is_told_its_words(
    tmp_path, capsys
):
    plugin = tmp_path / "plugin.py"
    plugin.write_text(PLUGIN)
    suite = {**SUITE, "strategies": ["fedavg", "mine"], "metrics": ["half"]}
    fedkd.bench(suite, out=tmp_path / "out", plugins=[plugin], progress=False)
    with pytest.warns(RuntimeWarning) as caught:
        again = fedkd.load(tmp_path / "out")
    told = [str(one.message) for one in caught]
    assert any("unknown metric 'half'" in one for one in told)
    assert not [one for one in told if "--plugin" in one]
    assert sum("plugins=[FILE]" in one for one in told) == 3
    run = again.run(strategy="fedavg")
    whole = pytest.approx(run.metrics["global_accuracy"])
    assert accuracy(run.model(), run) == whole
    other = again.run(strategy="mine")
    with pytest.raises(ConfigError, match=r"'mine'.*with plugins=\[FILE\] \(docs"):
        other.model()
    assert main(["export", str(other.folder), "--to", str(tmp_path / "m.pt")]) == 2
    assert "comes with --plugin FILE (docs" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"'no-net'.*comes with plugins=\[FILE\]"):
        fedkd.federation("digits", "iid", clients=2, models="no-net")
