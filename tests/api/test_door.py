"""From Python as from the command line: the same worlds, the same runs, the same bits."""

import csv
import json
import multiprocessing
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from house import ROOT
from toy_suite import toy_suite

import fedkd
from fedkd.algorithms.fedavg import FedAvg
from fedkd.api.worlds import KEYS
from fedkd.cli import main
from fedkd.errors import ConfigError, FedKDError
from fedkd.harness import bench as bench_module
from fedkd.harness.builder import RunBuilder
from fedkd.plugins.registry import load_registry
from fedkd.report.results import read_results
from fedkd.suite.grid import grid
from fedkd.suite.suite import Suite, build_suite, load_suite, read_suite

TOY = str(ROOT / "tests" / "plugins" / "toy_plugin.py")
TIMES = {"seconds", "peak_memory_bytes"}
TRAINING = {"local_steps": 2, "batch_size": 16, "lr": 0.05}
SUITE = {
    "name": "mine",
    "rounds": 2,
    "clients": 4,
    "participation": 0.75,
    "seeds": [0],
    "datasets": [{"name": "digits", "fraction": 0.3}],
    "partitions": [{"name": "dirichlet", "alpha": 0.3}],
    "models": ["mlp"],
    "training": TRAINING,
    "metrics": ["macro_f1"],
    "strategies": ["fedavg", {"name": "fedper", "label": "per"}],
}
ONE = {
    "dataset": "digits",
    "partition": "dirichlet",
    "fraction": 0.3,
    "alpha": 0.3,
    "clients": 4,
    "models": "mlp",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the suite as a file, and what the command made of it."""
    home = tmp_path_factory.mktemp("door")
    (home / "mine.yaml").write_text(yaml.safe_dump(SUITE), encoding="utf-8")
    words = ["bench", str(home / "mine.yaml"), "--seeds", "0-1", "--jobs", "1"]
    words += ["--set", "training.lr=0.1", "--plain", "--no-plots"]
    assert main([*words, "--out", str(home / "command")]) == 0
    return home


@pytest.fixture(scope="module")
def results(home):
    return fedkd.bench(
        home / "mine.yaml",
        seeds=[0, 1],
        set={"training.lr": 0.1},
        out=home / "door",
        progress=False,
    )


def rows(folder):
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        return [
            {
                k: v
                for k, v in row.items()
                if k not in TIMES and not k.startswith("seconds_")
            }
            for row in csv.DictReader(file)
        ]


def without_times(lines):
    odd = {"seconds", "clients"}
    return [{k: v for k, v in line.items() if k not in odd} for line in lines]


def test_the_command_and_the_door_write_the_same_rows(home, results):
    wanted = rows(home / "command")
    assert [row["status"] for row in wanted] == ["done"] * 4
    assert rows(home / "door") == wanted
    lines = [
        [without_times(run.history) for run in fedkd.load(home / folder)]
        for folder in ("command", "door")
    ]
    assert lines[0] == lines[1]


def test_the_record_of_a_bench_is_a_command_that_gives_the_same_rows(tmp_path):
    suite = tmp_path / "toy.yaml"
    suite.write_text(toy_suite())
    given = {"plugins": [TOY], "observers": ["csv"], "data_root": tmp_path / "none"}
    fedkd.bench(
        suite, **given, rounds=2, out=tmp_path / "a b", executor="serial",
        jobs=None, workers=1, ray_address="auto", profile=True, fresh=True, progress=False,
    )  # fmt: skip
    facts = json.loads((tmp_path / "a b" / "environment.json").read_text())
    program, *words = facts["command"]
    assert program == "fedkd"
    assert {"--data-root", "--executor", "--fresh", "--observer", "--profile"} < set(
        words
    )
    assert shlex.join(words).count(" --workers 1 --ray-address auto ") == 1
    assert "--jobs" not in words
    words[words.index("--out") + 1] = str(tmp_path / "again")
    assert main([*words, "--plain", "--no-plots"]) == 0
    assert rows(tmp_path / "again") == rows(tmp_path / "a b")


def test_a_run_in_processes_that_is_observed_has_the_bits_of_one_that_is_not(tmp_path):
    given = {**ONE, "rounds": 2, "training": TRAINING, "progress": False}
    alone = fedkd.run("fedavg", **given)
    run = fedkd.run(
        "fedavg", **given, out=tmp_path, jobs=2, executor="processes", observers=["csv"]
    )
    assert alone.row.engine == "serial"
    assert run.row.engine.startswith("processes")
    assert without_times(run.history) == without_times(alone.history)
    assert len(list(tmp_path.rglob("*.csv"))) > 1  # the table's, and the observer's


def test_a_run_that_is_finished_is_run_again_if_that_is_asked_for(
    tmp_path, monkeypatch
):
    from fedkd.harness import cell

    given = {**ONE, "rounds": 1, "training": TRAINING, "progress": False}
    real, runs = cell.simulate, []

    def counted(*parts, **options):
        runs.append(parts)
        return real(*parts, **options)

    monkeypatch.setattr(cell, "simulate", counted)
    plain = fedkd.run("fedavg", **given, out=tmp_path)
    assert "phases" not in plain.metrics
    fedkd.run("fedavg", **given, out=tmp_path)
    assert len(runs) == 1
    how = {"fresh": np.True_, "profile": True, "ray_address": "auto"}
    again = fedkd.run("fedavg", **given, out=tmp_path, **how)
    assert len(runs) == 2
    assert "phases" in again.metrics
    command = json.loads((tmp_path / "environment.json").read_text())["command"]
    assert shlex.join(command).endswith("--ray-address auto --profile --fresh")


def test_a_mapping_is_the_suite_that_a_file_of_it_would_be(home, tmp_path):
    changed = {**SUITE, "seeds": (0, 1), "training": {**TRAINING, "lr": 0.1}}
    fedkd.bench(changed, out=tmp_path, strategies=["per"], progress=False)
    assert rows(tmp_path) == [
        r for r in rows(home / "command") if r["strategy"] == "per"
    ]


def test_each_goes_on_from_the_runs_of_the_other(home, results, monkeypatch):
    def never(*_, **__):
        raise AssertionError("a cell that is done is run again")

    monkeypatch.setattr("fedkd.harness.cell.simulate", never)
    again = fedkd.bench(
        home / "mine.yaml",
        seeds="0-1",
        out=home / "command",
        set={"training.lr": 0.1},
        progress=False,
    )
    assert [run.row.status for run in again] == ["done"] * 4
    words = ["bench", str(home / "mine.yaml"), "--seeds", "0-1", "--set"]
    words += ["training.lr=0.1", "--no-plots", "--out", str(home / "door")]
    assert main(words) == 0


def test_one_run_and_its_rounds_have_the_numbers_of_the_bench(home, results):
    training = {**TRAINING, "lr": 0.1}
    more = {"participation": 0.75, "metrics": ["macro_f1"]}
    alone = fedkd.run(
        {"name": "fedper", "label": "per"},
        **ONE,
        rounds=2,
        training=training,
        seed=1,
        progress=False,
        **more,
    )
    cell = fedkd.load(home / "command").run(strategy="per", seed=1)
    assert alone.row.config_hash == cell.row.config_hash
    assert without_times(alone.history) == without_times(cell.history)
    world = fedkd.federation(**ONE, seed=1)
    steps = list(fedkd.rounds("fedper", world, rounds=2, training=training, **more))
    assert [step.number for step in steps] == [1, 2]
    # In a file the numbers of clients are texts.
    written = json.loads(json.dumps([step.metrics for step in steps]))
    assert without_times(written) == without_times(cell.history)


def test_a_world_is_that_of_the_bench_with_every_option(tmp_path):
    suite = {
        **SUITE,
        "clients": 6,
        "seeds": [3],
        "models": [
            {"clients": ["mlp", {"name": "cnn", "width": 0.5}], "server": "cnn"}
        ],
        "public": {"share": 0.1},
        "shifts": [{"features": ["rotation"], "strength": 0.5}],
        "test_shards": "iid",
        "validation": 0.1,
        "datasets": [{"name": "digits", "fraction": 0.5, "test_fraction": 0.5}],
    }
    registry = load_registry(quiet=True)
    (cell, _) = grid(build_suite(*read_suite(suite)), registry)
    wanted, _ = RunBuilder(registry, tmp_path, torch.device("cpu")).federation(cell)
    world = fedkd.federation(
        "digits",
        "dirichlet",
        alpha=0.3,
        fraction=0.5,
        test_fraction=0.5,
        clients=6,
        models=suite["models"][0],
        seed=3,
        public={"share": 0.1},
        shifts=[{"features": ["rotation"], "strength": 0.5}],
        test_shards="iid",
        validation=0.1,
        data_root=tmp_path,
    )
    assert torch.equal(world.data.x_train, wanted.data.x_train)
    assert torch.equal(world.data.x_test, wanted.data.x_test)
    for one, other in zip(world.clients, wanted.clients, strict=True):
        assert torch.equal(one.indices, other.indices)
    for one, other in zip(world.test_shards, wanted.test_shards, strict=True):
        assert torch.equal(one, other)
    assert [s.key for s in world.client_models] == [s.key for s in wanted.client_models]
    assert world.server_model.key == wanted.server_model.key
    assert torch.equal(world.public.pixels, wanted.public.pixels)
    assert not world.validation.alone
    for one, other in zip(
        world.validation.shards, wanted.validation.shards, strict=True
    ):
        assert one.size
        assert (one == other).all()
    assert len(world.data.x_train) < 1437 * 0.6  # the fraction is no ornament


class Watched:
    """Notes which attributes of a thing are read."""

    def __init__(self, thing, names, nested=()):
        self._thing, self._names, self._nested = thing, names, nested

    def __getattr__(self, name):
        value = getattr(self._thing, name)
        if name in self._nested:
            return Watched(value, self._names)
        self._names.add(name)
        return value


def test_every_key_of_a_suite_that_a_world_hangs_on_is_a_keyword():
    (cell, _) = grid(build_suite(*read_suite(SUITE)), load_registry(quiet=True))
    names = set()
    parts = Watched(cell.parts, names, nested=("protocol",))
    builder = RunBuilder(load_registry(quiet=True), Path(), torch.device("cpu"))
    builder.federation(replace(cell, parts=parts))
    keys = {"dataset": "datasets", "partition": "partitions", "shift": "shifts"}
    read = {keys.get(name, name) for name in names} & Suite.model_fields.keys()
    parameters = {"datasets", "partitions", "models"}
    assert read == {*KEYS, *parameters}


def test_a_run_and_the_rounds_in_its_world_have_the_same_validation_images():
    given = {"rounds": 1, "training": TRAINING}
    run = fedkd.run("fedavg", **ONE, validation=0.2, progress=False, **given)
    world = fedkd.federation(**ONE, validation=0.2)
    (step,) = fedkd.rounds("fedavg", world, **given)
    names = {name for name in step.metrics if name.startswith("validation_")}
    assert {"validation_global_accuracy", "validation_local_accuracy"} < names
    (line,) = run.history
    written = json.loads(json.dumps(step.metrics))
    assert without_times([line]) == without_times([written])


def test_a_bench_picks_models_and_partitions_as_the_command_does(tmp_path):
    narrow = {"clients": {"name": "mlp", "width": 0.5}, "label": "narrow"}
    suite = {**SUITE, "rounds": 1, "models": ["mlp", narrow], "strategies": ["fedavg"]}
    results = fedkd.bench(
        suite,
        models=["narrow"],
        partitions="iid",
        out=tmp_path,
        progress=False,
    )
    (run,) = results.runs
    assert (run.row.models, run.row.partition) == ("narrow", "iid")
    given = {"name": "dirichlet", "alpha": 0.5}
    results = fedkd.bench(
        suite, models="narrow", partitions=given, out=tmp_path / "d", progress=False
    )
    assert {run.row.alpha for run in results.runs} == {0.5}
    command = json.loads((tmp_path / "environment.json").read_text())["command"]
    assert command[command.index("--models") + 1] == "narrow"
    assert command[command.index("--partitions") + 1] == "iid"


def test_a_list_of_models_is_one_mix():
    world = fedkd.federation(
        "digits", "iid", clients=4, models=["mlp", "linear"], fraction=0.2
    )
    assert [spec.name for spec in world.client_models] == ["mlp", "linear"] * 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"alhpa": 0.1}, r"unknown option 'alhpa'. Did you mean 'alpha'\?"),
        ({"rounds": 3}, "unknown option 'rounds'"),
        ({"alpha": -1}, "alpha: found -1"),
        ({"fraction": 2}, "fraction: found 2"),
        ({"partition": "dirichlett"}, "unknown partitioner 'dirichlett'. Did you mean"),
        ({"partition": {"alpha": 1}}, "expected a name, or a mapping with 'name'"),
        ({"models": "cnnn"}, "unknown model 'cnnn'"),
        ({"public": {"share": torch.ones(1)}}, "expected what a YAML file can hold"),
        (
            {"dataset": {"digits": {"fraction": 0.1}}},
            r"options beside it: \{\"name\": \"digits\", \"fraction\": 0.1\}\.",
        ),
        ({"partition": fedkd.Partitioner}, r"register it in a plug-in.*plugins=\[FILE"),
        ({"models": "mlp", "hidden": [3]}, r"of mlp; .*: models=\{'name': 'mlp', 'hid"),
        ({"lr": 0.1}, "unknown option 'lr'"),
    ],
)
def test_what_cannot_be_is_refused(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        fedkd.federation(**{**ONE, **options})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"mu": 1},
            r"'mu' is an option of fedprox; write it beside the name: "
            r"strategy=\{'name': 'fedprox', 'mu': \.\.\.\}\.",
        ),
        (
            {"lr": 0.1},
            r"'lr' is a part of training: training=\{\.\.\., 'lr': \.\.\.\}\.",
        ),
        (
            {"hidden": [3]},
            r"'hidden' is an option of mlp; .*: models=\{'name': 'mlp', ",
        ),
        ({"strategy": FedAvg()}, r"type FedAvg, .* register it in a plug-in, "),
    ],
)
def test_a_run_says_where_an_option_belongs(options, sentence):
    asked = {**ONE, "models": "mlp", "rounds": 1, "training": TRAINING} | options
    with pytest.raises(ConfigError, match=sentence):
        fedkd.run(asked.pop("strategy", "fedprox"), **asked, progress=False)


def test_an_option_of_both_things_is_asked_for_beside_the_name(monkeypatch):
    monkeypatch.setattr("fedkd.api.asked.option_names", lambda *_: ["fraction"])
    with pytest.raises(ConfigError, match=r"dataset=\{'name': 'digits', 'fraction'"):
        fedkd.federation("digits", "iid", clients=2, models="mlp", fraction=0.5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"buffer": "local"}, "buffer: unknown key. Did you mean 'buffers'"),
        ({"clients": 3}, "clients: the federation says that already"),
        ({"training": {"local_steps": 0}}, "local_steps: found 0"),
        ({"strategy": "fedavgg"}, "unknown strategy 'fedavgg'. Did you mean"),
        ({"strategy": {"name": "fedprox", "nu": 1}}, "nu: unknown key"),
        ({"strategy": {"name": "fedavg", "rounds": 1}}, "beside the strategy's name"),
        ({"metrics": ["macro"]}, "unknown metric 'macro'"),
    ],
)
def test_rounds_refuse_what_they_do_not_know(options, sentence):
    world = fedkd.testing.toy_federation()
    given = {"strategy": "fedavg", "rounds": 1, "training": TRAINING, "seed": 0}
    with pytest.raises(ConfigError, match=sentence):
        fedkd.rounds(federation=world, **{**given, **options})


def test_a_federation_built_by_hand_asks_for_the_seed():
    world = fedkd.testing.toy_federation()
    with pytest.raises(ConfigError, match="built by hand and has none; give one"):
        fedkd.rounds("fedavg", world, rounds=1, training=TRAINING)


def test_between_rounds_torch_is_the_callers():
    world = fedkd.testing.toy_federation()
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        for _ in fedkd.rounds("fedavg", world, rounds=2, training=TRAINING, seed=0):
            assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_a_strategy_of_ones_own_goes_through_the_loop_too():
    strategy, _ = load_registry(quiet=True).strategy("fedprox", {"mu": 0.0})
    world = fedkd.testing.toy_federation()
    given = {"federation": world, "rounds": 1, "training": TRAINING, "seed": 0}
    (own,) = fedkd.rounds(strategy, **given)
    (named,) = fedkd.rounds("fedavg", **given)
    assert own.metrics["global_accuracy"] == named.metrics["global_accuracy"]


def test_a_run_that_fails_says_why(tmp_path):
    given = {"clients": 3, "models": "toy-linear", "rounds": 3, "training": TRAINING}
    given |= {"plugins": [TOY], "progress": False}
    with pytest.raises(FedKDError, match=r"toy-fails, toy, iid.*: failed: "):
        fedkd.run("toy-fails", "toy", "iid", **given)
    suite = {**SUITE, "strategies": ["toy-fails", "toy-mean"], "datasets": ["toy"]}
    suite |= {
        "rounds": 3,
        "partitions": ["iid"],
        "models": ["toy-linear"],
        "metrics": [],
    }
    with pytest.warns(RuntimeWarning, match=r"1 of 2 cells failed; read .*log"):
        made = fedkd.bench(suite, out=tmp_path, plugins=[TOY], progress=False)
    assert [run.row.status for run in made] == ["failed", "done"]


def test_what_runs_warned_of_is_told_as_the_command_tells_it(tmp_path):
    given = {"plugins": [TOY], "progress": False}
    one = {"clients": 3, "models": "toy-linear", "rounds": 3, "training": TRAINING}
    told = r"^1 cell logged a warning; read .*log$"
    with pytest.warns(RuntimeWarning, match=told):
        fedkd.run("toy-warns", "toy", "iid", **one, **given)
    suite = yaml.safe_load(toy_suite("toy-warns, toy-diverges", "[0]"))
    with pytest.warns(RuntimeWarning, match=told):
        fedkd.bench(suite, out=tmp_path, **given)
    # What is done is not told again.
    fedkd.bench(suite, out=tmp_path, **given)
    with pytest.warns(RuntimeWarning, match=r"none of 1 cell is done; see above why\."):
        fedkd.bench(suite, out=tmp_path, strategies="toy-diverges", **given)


def test_a_call_that_is_interrupted_leaves_a_table_of_what_is_done(
    tmp_path, monkeypatch
):
    """Also of a cell that ended right after another, for which no table was made."""
    run = bench_module.run_serially

    def interrupted(cells, *arguments):
        run(cells[:2], *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(bench_module, "REST", 1e9)
    monkeypatch.setattr(bench_module, "run_serially", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fedkd.bench(SUITE, out=tmp_path, seeds="0-1", progress=False)
    assert len(read_results(tmp_path / "results.csv")) == 2


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seeds": "010"}, "expected whole numbers"),
        ({"rouns": 3}, "unknown key 'rouns'. Did you mean 'rounds'"),
        ({"strategies": ["fedavgg"]}, "unknown name 'fedavgg'. Did you mean 'fedavg'"),
        ({"set": {"partition.alhpa": 3}}, "Did you mean 'alpha'"),
        ({"set": {"training.lr": torch.ones(1)}}, "expected what a YAML file can hold"),
        (
            {"strategies": [FedAvg()]},
            r"register it in a plug-in, .* plugins=\[FILE\]\.",
        ),
        (
            {"strategies": [{"fedprox": {"mu": 1}}]},
            r"options beside it: \{\"name\": \"fedprox\", \"mu\": 1\}\.",
        ),
        ({"device": "gpu"}, "expected auto, cpu, cuda"),
    ],
)
def test_a_bench_refuses_what_the_command_refuses(changes, sentence, tmp_path):
    with pytest.raises(ConfigError, match=sentence):
        fedkd.bench(SUITE, out=tmp_path, progress=False, **changes)


def test_a_worker_that_comes_to_the_call_again_is_told(monkeypatch):
    process = multiprocessing.current_process()
    monkeypatch.setattr(process, "_inheriting", True, raising=False)
    with pytest.raises(ConfigError, match="put the call under: if __name__ =="):
        fedkd.bench(SUITE, progress=False)


def test_any_key_of_a_suite_may_be_given_in_place_of_the_suites(tmp_path):
    strategies = [{"name": "fedprox", "label": "prox", "mu": 1.0}]
    changes = {"buffers": "local", "strategies": strategies, "rounds": 1}
    changes["observers"] = ["csv"]
    made = fedkd.bench(SUITE, out=tmp_path, progress=False, **changes)
    (run,) = made
    assert run.config["protocol"]["buffers"] == "local"
    assert run.config["strategy"]["options"]["mu"] == 1.0
    assert run.row.rounds == 1
    assert any(path.suffix == ".csv" for path in run.folder.glob("*rounds*"))
    # The same again by the suite that it left, as a command line would.
    again = load_suite(str(tmp_path / "suite.yaml"))
    (cell,) = grid(again, load_registry(quiet=True))
    assert cell.config_hash == run.row.config_hash


def test_a_second_lone_run_may_go_into_the_folder_of_the_first(tmp_path):
    for seed in (0, 1):
        run = fedkd.run(
            "fedavg",
            **ONE,
            rounds=1,
            training=TRAINING,
            seed=seed,
            out=tmp_path,
            progress=False,
        )
        assert run.row.seed == seed
    assert [one.row.seed for one in fedkd.load(tmp_path)] == [0, 1]


def test_a_lone_run_keeps_its_folder_as_long_as_it_is_there():
    run = fedkd.run("fedavg", **ONE, rounds=1, training=TRAINING, progress=False)
    folder = Path(run.folder)
    assert (folder / "metrics.jsonl").is_file()
    del run
    assert not folder.exists()


def test_a_plug_in_that_does_not_work_is_told_of_once(tmp_path, capfd):
    (tmp_path / "broken.py").write_text("x = (\n")
    given = {"plugins": tmp_path / "broken.py", "progress": False}
    one = {
        "clients": 2,
        "models": "linear",
        "rounds": 1,
        "training": {"local_steps": 1},
    }
    fedkd.run("fedavg", "digits", "iid", **one, **given)
    assert capfd.readouterr().err.count("is broken: SyntaxError") == 1
    fedkd.bench("smoke", strategies="fedavg", seeds=0, out=tmp_path / "out", **given)
    assert capfd.readouterr().err.count("is broken: SyntaxError") == 1
