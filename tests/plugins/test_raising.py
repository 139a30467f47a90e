"""Whatever a plug-in's code raises names the plug-in, the line and what to write."""

import pytest

from fedkd.cli import main
from fedkd.errors import ContractError
from fedkd.plugins.options import resolve
from fedkd.plugins.registry import load_registry

CODE = """
import fedkd
from fedkd.algorithms.averaging import Averaging, Choices


class Options(fedkd.Config):
    step: float = 1.0


class Method(Averaging):
    def __init__(self, config=None):
        super().__init__(config)
        self.choices = Choices(frist=None)

    def train(self, client, sent):
        client.train()


class Broken:
    def __init__(self, *given):
        raise RuntimeError("no")


class Data(Broken, fedkd.Dataset):
    def load(self, root):
        pass


class Split(Broken, fedkd.Partitioner):
    def split(self, labels, clients, num_classes, rng):
        pass


class Measure(fedkd.Metric):
    def __init__(self, config=None):
        Options(stpe=2)

    def of_clients(self, accuracies):
        return 0.0


def model(image_shape, num_classes):
    raise RuntimeError("no")


class Watching(Broken, fedkd.Observer):
    begin = add = end = None


@fedkd.hookimpl
def fedkd_register_strategies(register):
    register("bad", ":Method")


@fedkd.hookimpl
def fedkd_register_datasets(register):
    register("bad", ":Data")


@fedkd.hookimpl
def fedkd_register_partitioners(register):
    register("bad", ":Split")


@fedkd.hookimpl
def fedkd_register_metrics(register):
    register("bad", ":Measure")


@fedkd.hookimpl
def fedkd_register_models(register):
    register("bad", ":model")


@fedkd.hookimpl
def fedkd_register_observers(register):
    register("bad", ":Watching")
"""


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    path = tmp_path_factory.mktemp("plugins") / "bad.py"
    path.write_text(CODE)
    return path


@pytest.fixture(scope="module")
def registry(bad):
    return load_registry([bad])


def line_with(text):
    return 1 + CODE.splitlines().index(text)


NO = line_with('        raise RuntimeError("no")')
KEYWORD = (
    "Choices.__init__() got an unexpected keyword argument 'frist'. Did you mean "
    "'first'? Choices has first, stays, starts, sent, own, shares, speaks, moved."
)
CALLS = {
    "strategies": lambda r: r.strategy("bad"),
    "datasets": lambda r: resolve(r, "datasets", "bad", {}, "suite x"),
    "partitioners": lambda r: resolve(r, "partitioners", "bad", {}, "suite x"),
    "metrics": lambda r: r.metric("bad"),
    "models": lambda r: r.model("bad")((1, 8, 8), 10),
    "observers": lambda r: r.observe(["bad"]),
}
SAID = {
    "strategies": (line_with("        self.choices = Choices(frist=None)"), KEYWORD),
    "metrics": (
        line_with("        Options(stpe=2)"),
        "Did you mean 'step'? Options has",
    ),
    "models": (line_with('    raise RuntimeError("no")'), "RuntimeError: no."),
}


@pytest.mark.parametrize("kind", CALLS)
def test_an_error_of_a_constructor_names_the_plug_in_and_the_line(kind, registry):
    line, text = SAID.get(kind, (NO, "RuntimeError: no."))
    with pytest.raises(ContractError) as caught:
        CALLS[kind](registry)
    said = str(caught.value)
    assert "bad" in said.partition(":")[0]
    assert f"line {line} of bad.py: " in said
    assert text in said


def test_check_calls_it_no_fault_of_its_own(bad, capsys):
    assert main(["check", "bad", "--kind", "strategies", "--plugin", str(bad)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("fedkd: strategy 'bad' of bad.py ")
    assert KEYWORD in said


LACKING = """
import fedkd
from fedkd.algorithms.averaging import Averaging


class One(Averaging):
    def personal(self, client):
        pass


class Two(fedkd.Partitioner):
    pass


@fedkd.hookimpl
def fedkd_register_strategies(register):
    register("one", ":One")


@fedkd.hookimpl
def fedkd_register_partitioners(register):
    register("two", ":Two")
"""


def test_a_suite_is_told_at_once_all_that_its_plug_ins_lack(tmp_path, capsys):
    path = tmp_path / "lacking.py"
    path.write_text(LACKING)
    words = ["--strategies", "one,fedavg", "--set", "partitions=[two]", "--dry-run"]
    assert main(["bench", "quick", "--plugin", str(path), *words]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("fedkd: strategy 'one' of lacking.py ")
    assert "One lacks train; implement them. Also: One.personal(client) cannot" in first
    assert first.endswith("personal(self, state, client) (line 7 of lacking.py).")
    assert second.startswith("partitioner 'two' of lacking.py ")
    assert second.endswith("Two lacks split; implement them.")


def test_a_module_that_cannot_be_imported_is_named_with_the_line(tmp_path):
    path = tmp_path / "worse.py"
    path.write_text("import fedkd\n\nfedkd.Config(a=1)\n1 / 0\n")
    status = load_registry([path], quiet=True).problems[0]
    assert "(line 3 of worse.py)" in status.error
    assert "Extra inputs" in status.error
