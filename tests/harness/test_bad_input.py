"""What a user can get wrong in a suite or on the command line is one clear sentence."""

import os
from pathlib import Path

import pytest

from fedkd.cli import main

PLUGIN = str(Path(__file__).parents[1] / "plugins" / "toy_plugin.py")
TOY = """\
rounds: 3
clients: 3
seeds: [0]
datasets: [toy]
partitions: [iid]
models: [toy-linear]
training: {local_steps: 2, batch_size: 8, lr: 0.05}
strategies: [toy-mean]
"""


@pytest.fixture
def complain(tmp_path, monkeypatch, capsys):
    """Run ``fedkd bench --dry-run`` on a suite text; return exit code and message."""
    monkeypatch.chdir(tmp_path)

    def run(text, *arguments):
        if text is not None:
            content = text if isinstance(text, bytes) else text.encode()
            Path("bad.yaml").write_bytes(content)
        code = main(["bench", "bad.yaml", "--plugin", PLUGIN, "--dry-run", *arguments])
        return code, capsys.readouterr().err.strip()

    return run


def swap(old, new):
    assert old in TOY
    return TOY.replace(old, new)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "suite bad.yaml: is empty"),
        ("# nothing\n", "suite bad.yaml: is empty"),
        ("- a\n- b\n", "line 1: found a list, expected keys"),
        ("quick\n", "found the single value 'quick', expected keys"),
        (b"\xff\xfe\x00", "byte 0 is not UTF-8"),
        ("a: \x00", "not a YAML text"),
        (swap("seeds: [0]", "seeds: [0"), "line 4: while parsing a flow sequence"),
        (
            swap("rounds: 3", "rounds:\n\tmany: 3"),
            "line 2: found a tab; indent with sp",
        ),
        (TOY + "rounds: 4\n", "line 9: the key 'rounds' comes twice"),
        (swap("lr: 0.05", "lr: 0.05, lr: 1"), "line 7: the key 'lr' comes twice"),
        (
            swap("[toy]", "!!python/object:os.system [toy]"),
            "line 4: found the tag",
        ),
        (swap("[toy]", "&x [*x]"), "a value that holds itself"),
    ],
)
def test_a_file_that_is_no_suite(complain, text, words):
    code, message = complain(text)
    assert code == 2
    assert words in message
    assert message.count("\n") == 0
    assert message.startswith("fedkd: suite bad.yaml: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (swap("rounds: 3\n", ""), "rounds: this key is missing and has no default"),
        (swap("rounds", "round"), "round: unknown key. Did you mean 'rounds'?"),
        (TOY + "strategys: []\n", "strategys: unknown key. Did you mean 'strategies'?"),
        (swap("rounds: 3", "rounds: 0"), "rounds: found 0."),
        (swap("rounds: 3", "rounds: many"), "rounds: found 'many'."),
        (swap("rounds: 3", "rounds: 2.5"), "rounds: found 2.5."),
        (swap("clients: 3", "clients: -1"), "clients: found -1."),
        (TOY + "participation: 4\n", "participation: found 4, which is 4 of 3 clients"),
        (TOY + "participation: 1.5\n", "participation: found 1.5"),
        (TOY + "participation: 0\n", "participation"),
        (TOY + "buffers: median\n", "buffers: found 'median'."),
        (TOY + "test_shards: none\n", "test_shards: found 'none'."),
        (swap("[0]", "[]"), "seeds: found []"),
        (swap("[0]", "[-1]"), "seeds.0: found -1."),
        (swap("[0]", "[1, 1]"), "seeds: found [1, 1]; a seed comes twice"),
        (swap("[0]", "3-1"), "seeds: found '3-1'; expected a range upwards"),
        (swap("[0]", "0-x"), "seeds: found '0-x'; expected whole numbers"),
        (swap("[0]", "0-999999999"), "at most 1000 seeds"),
        (swap("lr: 0.05", "lr: 0"), "training.lr: found 0."),
        (swap("lr: 0.05", "lr: .nan"), "training.lr: found nan."),
        (swap("lr: 0.05", "rate: 0.05"), "training.rate: unknown key."),
        (
            swap("local_steps: 2, ", ""),
            "expected exactly one of local_steps and local_e",
        ),
        (
            TOY + "evaluation: {evry: 1}\n",
            "evaluation.evry: unknown key. Did you mean 'e",
        ),
        (swap("[toy]", "[]"), "datasets: found []."),
        (swap("[toy]", ""), "datasets: found None, expected a name"),
        (
            swap("[toy]", "[toi]"),
            "datasets.toi: unknown data set 'toi'. Did you mean 't",
        ),
        (swap("[toy]", "[toy, toy]"), "listed twice"),
        (swap("[toy]", "[{name: toy}, {name: toy, images: 24}]"), "listed twice"),
        (swap("[toy]", "[{images: 3}]"), "expected a name, or a mapping with 'name'"),
        (swap("[toy]", "[[toy]]"), "expected a name, or a mapping with 'name'"),
        (swap("[toy]", "[{name: toy, 3: 4}]"), "datasets.toy: found the key 3"),
        (
            swap("[toy]", "[{name: toy, imags: 3}]"),
            "datasets.toy.imags: unknown key. Did you mean 'images'?",
        ),
        (swap("[toy]", "[{name: toy, images: 0}]"), "datasets.toy.images: found 0."),
        (
            swap("strategies: [", "strategies: [{name: fedprox, roundz: 3}, "),
            "fedprox.roundz: unknown key. Did you mean 'rounds'? Known keys: aggregate, "
            "mu, weights. Beside them: label, rounds, training, search, calibrate, av",
        ),
        (swap("[iid]", "[dirichle]"), "partitions.dirichle: unknown partitioner"),
        (
            swap("[iid]", "[{name: dirichlet, alfa: 1}]"),
            "partitions.dirichlet.alfa: unknown key. Did you mean 'alpha'?",
        ),
        (
            swap("[iid]", "[{name: dirichlet, alpha: 0}]"),
            "partitions.dirichlet.alpha: fo",
        ),
        (swap("[toy-linear]", "[toy-liner]"), "models.toy-liner: unknown model"),
        (swap("[toy-linear]", "[[]]"), "models: found [],"),
        (
            swap("[toy-linear]", "[{name: toy-linear, widht: 1}]"),
            "models.toy-linear.widht: unknown key. Did you mean 'width'?",
        ),
        (
            swap("[toy-linear]", "[{name: toy-linear, width: 2020-01-01}]"),
            "line 6: models.width: found 2020-01-01, which YAML may read",
        ),
        (swap("[toy-mean]", "[toy-men]"), "Did you mean 'toy-mean'?"),
        (
            swap("[toy-mean]", "[toy-mean, toy-mean]"),
            "the label 'toy-mean' comes twice",
        ),
        (
            swap("[toy-mean]", "[{name: toy-mean, label: a/b}]"),
            "strategies.a/b.label: found 'a/b'.",
        ),
        (
            swap("[toy-mean]", "[{name: toy-mean, my: 1}]"),
            "strategies.toy-mean.my: unknown key. Did you mean 'mu'?",
        ),
        (
            swap("[toy-mean]", "[{name: toy-mean, mu: x}]"),
            "strategies.toy-mean.mu: found",
        ),
        (
            swap("[toy-mean]", "[{name: toy-mean, label: b, rounds: 0}]"),
            "strategies.b.rounds: found 0.",
        ),
        (
            swap("[toy-mean]", "[{name: toy-mean, training: {lrr: 1}}]"),
            "strategies.toy-mean.training.lrr: unknown key. Did you mean 'lr'?",
        ),
        (
            swap("[toy-mean]", "[{name: toy-mean, training: 3}]"),
            "strategies.toy-mean.training: found 3.",
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_path(complain, text, words):
    code, message = complain(text)
    assert code == 2
    assert words in message
    assert message.count("\n") == 0
    assert message.startswith("fedkd: suite bad.yaml: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "rounds"], "--set rounds: expected path=value"),
        (["--set", "=3"], "--set =3: expected path=value"),
        (["--set", "a..b=3"], "expected path=value"),
        (["--set", "roundz=3"], "unknown key 'roundz'. Did you mean 'rounds'?"),
        (["--set", "rounds.x=3"], "'rounds' has no keys below it"),
        (["--set", "training.lr=[1"], "--set training.lr=[1: line 1"),
        (["--set", "training.rl=1"], "training.rl: unknown key. Did you mean 'lr'?"),
        (["--set", "partition.alpah=1"], "no partition of the suite has this option"),
        (["--set", "partition=1"], "name an option, such as partition.alpha"),
        (["--set", "strategies.toy-men.mu=1"], "Did you mean 'toy-mean'?"),
        (["--set", "strategies.toy-mean.my=1"], "strategies.toy-mean.my: unknown key"),
        (["--set", "strategies.toy-mean=1"], "expected strategies.LABEL.OPTION=value"),
        (
            ["--strategies", "toy-men"],
            "--strategies: unknown name 'toy-men'. Did you mea",
        ),
        (["--strategies", " , "], "--strategies: found ' , ', expected names"),
        (["--datasets", "toi"], "--datasets: unknown name 'toi'. Did you mean 'toy'?"),
        (["--models", "toy-liner"], "--models: unknown name 'toy-liner'. Did you mean"),
        (
            ["--partitions", "iit"],
            "--partitions: unknown name 'iit'. Did you mean 'iid'?",
        ),
        (["--models", "mlp,mlp"], "--models: found 'mlp' twice"),
        (["--partitions", "iid:3"], "--partitions: found 'iid:3', expected 'iid'"),
        (["--seeds", "x"], "with --seeds x: seeds: found 'x';"),
        (["--rounds", "0"], "--rounds"),
        (["--clients", "x"], "--clients"),
        (["--device", "tpu"], "--device: found 'tpu', expected auto, cpu, cuda"),
        (["--device", "cuda:99"], "--device cuda:99: this machine offers"),
        (["--jobs", "0"], "--jobs"),
        (["--plugin", "nowhere.py"], "--plugin"),
        (["--frsh"], "--frsh"),
    ],
)
def test_a_wrong_argument_is_named(complain, arguments, words):
    code, message = complain(TOY, *arguments)
    assert code == 2
    assert words in message
    assert message.count("\n") == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("quik", "unknown suite 'quik'. Did you mean 'quick'?"),
        ("none.yaml", "suite none.yaml: there is no such file"),
        ("folder.yaml", "suite folder.yaml: is a folder"),
        ("pipe.yaml", "suite pipe.yaml: is a pipe or a device"),
        ("folder", "unknown suite 'folder'"),
    ],
)
def test_a_suite_that_is_not_there(name, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("folder.yaml").mkdir()
    os.mkfifo("pipe.yaml")
    Path("folder").mkdir()
    assert main(["bench", name]) == 2
    assert words in capsys.readouterr().err


def test_more_clients_than_images_is_said_before_anything_runs(complain, capsys):
    Path("bad.yaml").write_text(TOY, encoding="utf-8")
    code = main(["bench", "bad.yaml", "--plugin", PLUGIN, "--clients", "1000"])
    message = capsys.readouterr().err
    assert code == 2
    assert "suite bad.yaml" in message
    assert "1000" in message
    assert not list(Path("runs/bad/runs").iterdir())


@pytest.mark.filterwarnings("default:.*no batch normalisation")
def test_a_refusal_and_a_warning_say_which_of_several_data_sets_they_are_of(complain):
    text = swap("[toy]", "[{name: toy, label: a}, {name: toy, images: 30, label: b}]")
    code, err = complain(text.replace("[iid]", "[natural]"))
    assert code == 2
    assert "bad.yaml: a: natural: found a data set without groups" in err
    code, err = complain(text.replace("[toy-mean]", "[fedbn]"))
    warned = [line for line in err.splitlines() if "no batch normalisation" in line]
    starts = [line.partition(": the model")[0] for line in warned]
    assert (code, starts) == (0, ["fedkd: warning: a", "fedkd: warning: b"])
    _, err = complain(swap("[iid]", "[natural]"))
    assert "bad.yaml: natural: found" in err
