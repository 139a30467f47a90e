"""``fedkd check``: any registered thing is held to its promises, in sentences."""

import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from fedkd import cli
from fedkd.commands import check
from fedkd.errors import ConfigError
from fedkd.plugins.registry import load_registry
from fedkd.testing import registered

PLUGIN = '''
import numpy as np
import fedkd
from fedkd.algorithms.fedavg import FedAvg


class Meddler(FedAvg):
    """Writes into what others are given."""

    def local(self, down, client):
        if client.id == 2:
            down.weights["classifier.bias"].add_(1)
        return super().local(down, client)


class Slow(FedAvg):
    """Raises."""

    def aggregate(self, state, ups, server, round):
        raise KeyError("nobody")


class Best(fedkd.Metric):
    """Accuracy of the client that comes first."""

    def of_clients(self, accuracies):
        return accuracies[0]


class Rows(fedkd.Partitioner):
    """Image i goes to client i mod n."""

    def split(self, labels, clients, num_classes, rng):
        if clients < 1:
            raise fedkd.ConfigError("found no client.")
        rows = [np.arange(k, len(labels), clients) for k in range(clients)]
        return fedkd.Partition.of(rows, labels, num_classes)


class Bands(fedkd.Dataset):
    """Bands."""

    def load(self, root):
        return fedkd.testing.toy_images()


@fedkd.hookimpl
def fedkd_register_strategies(register):
    register("meddler", ":Meddler")
    register("slow", ":Slow")


@fedkd.hookimpl
def fedkd_register_metrics(register):
    register("best", ":Best")


@fedkd.hookimpl
def fedkd_register_partitioners(register):
    register("rows", ":Rows")
    register("best", ":Rows")


@fedkd.hookimpl
def fedkd_register_datasets(register):
    register("bands", ":Bands")
'''


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    file = tmp_path_factory.mktemp("plugin") / "faulty.py"
    file.write_text(PLUGIN)
    return str(file)


def run(*arguments):
    return CliRunner().invoke(check.command, arguments, catch_exceptions=False)


def test_a_sound_metric_passes(path):
    result = run("accuracy")
    assert result.exit_code == 0
    first, *_, last = result.stdout.splitlines()
    assert first == "accuracy (metric, fedkd 0.1.0)"
    assert last == "13 promises kept, 0 broken, 0 that do not apply."


def test_what_is_broken_names_verb_client_round_entry_and_remedy(path):
    result = run("meddler", "--kind", "strategies", "--plugin", path, "--speed")
    assert result.exit_code == 1
    assert (
        "  BROKEN  same_seed_gives_equal_bits, another_seed_ends_elsewhere, "
        "order_of_clients_is_irrelevant, inputs_are_left_alone"
    ) in result.stdout
    assert (
        ": local (client 2, round 1) changed down.weights.classifier.bias. Others are "
        "given the same: work on a copy."
    ) in result.stdout
    assert "speed" not in result.stdout  # what breaks a promise may not run to its end


def test_what_raises_is_a_finding(path):
    result = run("slow", "--plugin", path)
    assert result.exit_code == 1
    assert (
        "slow.aggregate (round 1), line 20 of faulty.py raised KeyError"
        in result.stdout
    )


def test_all_things_of_a_name_are_checked(path):
    result = run("best", "--plugin", path, "--format", "json")
    partitioner, metric = json.loads(result.stdout)
    assert (partitioner["kind"], metric["kind"]) == ("partitioners", "metrics")
    (found,) = partitioner["findings"]
    assert found["checks"] == ["more_clients_than_images_are_refused"]
    assert found["finding"].startswith("split (401 clients, 400 images) raised nothing")
    (found,) = metric["findings"]
    assert found["checks"] == ["order_is_irrelevant"]
    assert result.exit_code == 1


def test_a_data_set_is_read_from_the_root(path, tmp_path):
    result = run("bands", "--plugin", path, "--data-root", str(tmp_path))
    assert result.exit_code == 0
    assert "left    missing_files_are_named: it declares no files." in result.stdout
    assert "names_are_names" in result.stdout


def test_options_are_given_by_set():
    assert check.options_of(["a.b=3", "a.c=[1, 2]", "d=x"]) == {
        "a": {"b": 3, "c": [1, 2]},
        "d": "x",
    }
    with pytest.raises(ConfigError, match="expected KEY=VALUE, such as steps=3"):
        check.options_of(["steps"])
    with pytest.raises(ConfigError, match="unknown key"):
        run("dirichlet", "--set", "alhpa=1")
    with pytest.raises(ConfigError, match="target: this key is missing"):
        run("rounds_to")
    assert run("rounds_to", "--set", "target=50").exit_code == 0


def test_a_narrow_model_is_checked():
    assert run("cnn", "--set", "width=0.1").exit_code == 0


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("quick", "quick is a suite: run 'fedkd bench quick --dry-run'"),
        ("serial", "serial is an executor, of which nothing is promised but"),
        ("csv", "csv is an observer, which is only shown what a run does"),
        ("mix-2", "mix-2 is a mix of models: check each of them by its name"),
        ("fedavgg", "Did you mean 'fedavg'?"),
    ],
)
def test_what_has_no_checks_is_refused_with_a_reason(name, sentence, capsys):
    assert cli.main(["check", name]) == 2
    assert sentence in capsys.readouterr().err


def test_speed_is_a_ratio_to_fedavg_of_the_fastest_of_several_runs(monkeypatch):
    registry, fedprox = load_registry(), load_registry().entry("strategies", "fedprox")
    now, spent = (
        [0.0],
        {"FedProx": iter([90, 8, 6, 9, 7]), "FedAvg": iter([1, 3, 2, 4, 5])},
    )

    def ran(strategy):
        now[0] += next(spent[type(strategy).__name__])

    clock = SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr(registered, "time", clock)
    monkeypatch.setattr(registered, "run", ran)
    monkeypatch.setattr(registered, "TIMES", 4)
    assert registered.speed_of(registry, fedprox, {}) == 3, (
        "6 over 2: runs after the first"
    )
    with pytest.raises(ConfigError, match="--speed compares strategies with FedAvg"):
        registered.speed_of(registry, registry.entry("models", "cnn"), {})
