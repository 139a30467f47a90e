"""What is given from Python in the wrong form: an error in words, before anything runs."""

import warnings
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch

import fedkd
from fedkd.api.asked import wishes_of
from fedkd.api.given import each, files_given, options_given, warn
from fedkd.errors import ConfigError

WORLD = {"clients": 2, "models": "cnn"}
ONE = {**WORLD, "rounds": 1, "training": {"local_steps": 1}, "progress": False}


def run(**changes):
    return fedkd.run("fedavg", "digits", "iid", **{**ONE, **changes})


def rounds(**changes):
    world = fedkd.federation("digits", "iid", **WORLD)
    given = {"rounds": 1, "training": {"local_steps": 1}, **changes}
    return fedkd.rounds("fedavg", world, **given)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: fedkd.load(["a", "b"]), r"fedkd.load: found \['a', 'b'\], expected one p"),
        (lambda: fedkd.load(""), "fedkd.load: found '', expected one path"),
        (lambda: fedkd.load("a", data_root=3), "fedkd.load: data_root: found 3|a is no"),
        (lambda: fedkd.bench(None), "fedkd.bench: found None, expected the name of"),
        (lambda: fedkd.bench(set=["lr=1"]), "fedkd.bench: set: found .* a mapping of"),
        (lambda: fedkd.bench(out=""), "fedkd.bench: out: found ''"),
        (lambda: fedkd.bench(out="a\0b"), r"fedkd.bench: out: found 'a\\x00b', expected"),
        (lambda: fedkd.bench(seeds=1.5), "seeds: found 1.5, expected a list, or one of"),
        (lambda: fedkd.bench(jobs=0), "jobs: found 0, expected a whole number from 1 on"),
        (lambda: fedkd.bench(jobs=1.5), "bench: jobs: found 1.5, expected a whole number"),
        (lambda: fedkd.bench(jobs="2"), "bench: jobs: found '2', expected a whole number"),
        (lambda: fedkd.bench(workers=True), "workers: found True, expected a whole numb"),
        (lambda: fedkd.bench(workers=3, jobs=2),
         r"^workers=3 with jobs=2: jobs .* Raise jobs= to 3, or leave workers= out"),
        (lambda: fedkd.bench(chosen="x"), "quick has no search, .* values by set=.$"),
        (lambda: fedkd.bench(device=3), "bench: device: found 3, expected a name"),
        (lambda: fedkd.bench(executor=None), "executor: found None, expected a name"),
        (lambda: fedkd.bench(ray_address=3), "ray_address: found 3, expected a name"),
        (lambda: fedkd.bench(ray_address=""), "ray_address: found '', expected a name"),
        (lambda: fedkd.bench(observers=[3]), "bench: observers: found 3, expected a name"),
        (lambda: fedkd.bench(profile=1), "profile: found 1, expected True or False"),
        (lambda: fedkd.bench(fresh="no"), "fresh: found 'no', expected True or False"),
        (lambda: fedkd.bench(chosen=3), "chosen: found 3, expected one path"),
        (lambda: run(progress=None), "progress: found None, expected True or False"),
        (lambda: run(data_root=3), "fedkd.run: data_root: found 3, expected one path"),
        (lambda: run(jobs=0), "fedkd.run: jobs: found 0, expected a whole number from 1"),
        (lambda: run(seed="0"), "fedkd.run: seed: found '0', expected a whole number"),
        (lambda: run(seed=-1), "fedkd.run: seed: found -1, expected a whole number"),
        (lambda: run(seed=True), "fedkd.run: seed: found True"),
        (lambda: run(models=None), "fedkd.run: models: found None, expected a list"),
        (lambda: run(training={"local_steps": 1, "lr": [0.1, 0.2]}),
         r"fedkd.run: found lists \(training.lr\), which make 2 runs"),
        (lambda: fedkd.federation("digits", "dirichlet", alpha=[1, 2], **WORLD),
         "fedkd.federation: found lists|alpha: found"),
        (lambda: rounds(seed="0"), "fedkd.rounds: seed: found '0', expected a whole num"),
        (lambda: rounds(seed=-1), "fedkd.rounds: seed: found -1, expected a whole number"),
        (lambda: next(rounds()).model(3), "^model: found 3, expected the name of a model"),
        (lambda: next(rounds()).model(client="0"), "^model: client: found '0', expected a"),
        (lambda: fedkd.rounds("fedavg", "digits", rounds=1, training={}),
         "fedkd.rounds: federation: found 'digits', expected what fedkd.federation"),
    ],
)  # fmt: skip
def test_a_wrong_form_is_told_in_words(call, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=said):
        call()
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_numpy_and_devices_of_torch_are_what_they_say():
    how = options_given("x", jobs=np.int64(2), workers=None, device=torch.device("cpu"))
    assert how == {"jobs": 2, "workers": None, "device": "cpu"}
    assert type(how["jobs"]) is int
    world = fedkd.federation("digits", "iid", seed=np.int64(3), **WORLD)
    assert (world.seed, type(world.seed)) == (3, int)


def numpys(value):
    """Return a value with NumPy's numbers, texts and arrays wherever there can be some."""
    if isinstance(value, dict):
        return {key: numpys(one) for key, one in value.items()}
    if isinstance(value, list):
        return np.asarray([numpys(one) for one in value])
    return np.asarray(value)[()]


WISHES = {
    "seeds": [1],
    "rounds": 1,
    "clients": 3,
    "participation": 0.5,
    "checkpoint_every": 1,
}
PATHS = {"training.local_steps": 2, "training.lr": 0.125}
BY_HAND = {
    "datasets": ["digits"],
    "partitions": [{"name": "dirichlet", "alpha": 0.5}],
    "models": ["linear"],
    "seeds": [1],
    "clients": 3,
    "rounds": 1,
    "training": {"local_steps": 2, "lr": 0.125, "batch_size": 8},
    "strategies": [{"name": "fedprox", "mu": 0.25}],
}


def resolved(out):
    return {p.name: p.read_text() for p in (out / "runs").glob("*/config.yaml")}


def test_a_bench_takes_numbers_of_numpy_wherever_it_takes_numbers(tmp_path):
    calm = {"progress": False, "jobs": 1}
    for name, suite, wishes, paths in (
        ("smoke", "smoke", {**WISHES, "strategies": "fedavg"}, PATHS),
        ("by hand", BY_HAND, {}, {}),
    ):
        plain, numpy = tmp_path / name / "plain", tmp_path / name / "numpy"
        fedkd.bench(suite, set=paths, out=plain, **wishes, **calm)
        given = suite if isinstance(suite, str) else numpys(suite)
        fedkd.bench(given, set=numpys(paths), out=numpy, **numpys(wishes), **calm)
        assert resolved(plain)
        assert resolved(numpy) == resolved(plain)


def test_a_run_and_its_rounds_take_numbers_of_numpy(tmp_path):
    training = {"local_steps": 1, "lr": 0.125}
    options = {"clients": 2, "alpha": 0.5, "seed": 3}
    world = fedkd.federation("digits", "dirichlet", models="linear", **numpys(options))
    assert world.seed == 3
    prox = numpys({"name": "fedprox", "mu": 0.25})
    how = {"rounds": np.int64(1), "training": numpys(training)}
    done = fedkd.run(
        prox, "digits", "dirichlet", models="linear", out=tmp_path, progress=False,
        **how, **numpys(options),
    )  # fmt: skip
    (step,) = fedkd.rounds(prox, world, seed=np.int64(3), **how)
    assert step.metrics["global_accuracy"] == done.metrics["global_accuracy"]
    for model in (step.model(client=np.int64(1)), done.model(client=np.int64(1))):
        assert model is not None
    facts = done.export(tmp_path / "m.pt", client=np.int64(1))[1].read_text()
    assert '"model": "client 1"' in facts


def test_an_observer_that_is_named_twice_is_one():
    assert options_given("x", observers=["csv", "b", "csv"]) == {
        "observers": ("csv", "b")
    }


@pytest.mark.parametrize("seed", ["0", 1.5, True, -1, [0]])
def test_rounds_refuse_a_seed_that_is_none(seed):
    world = fedkd.federation("digits", "iid", **WORLD)
    given = {"rounds": 1, "training": {"local_steps": 1}, "seed": seed}
    with pytest.raises(ConfigError, match=r"fedkd.rounds: seed: found .*, expected a"):
        fedkd.rounds("fedavg", world, **given)


def test_one_thing_alone_is_a_list_of_it():
    assert each(MappingProxyType({"a": 1}), "x") == [{"a": 1}]
    assert wishes_of({"seeds": np.int64(3)}).seeds == "3"
    assert each("csv", "x") == ["csv"]
    assert each(("a", "b"), "x") == ["a", "b"]
    assert files_given(Path("a.py"), "x") == files_given(["a.py"], "x") == ["a.py"]


def test_a_warning_names_the_line_of_the_caller():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warn("x")
    assert [Path(one.filename).name for one in told] == [Path(__file__).name]
