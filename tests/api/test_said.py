"""Messages speak of keywords to who called from Python, and of options to the others."""

import pytest

import fedkd
from fedkd.api.said import in_python
from fedkd.errors import ConfigError, DataError

SUITE = {
    "rounds": 1,
    "clients": 2,
    "seeds": [0],
    "datasets": ["digits"],
    "partitions": ["iid"],
    "models": ["mlp"],
    "training": {"local_steps": 1, "batch_size": 8, "lr": 0.1},
    "strategies": ["fedavg"],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("choose another --out, or delete it", "choose another out=, or delete it"),
        ("--out runs/all: cannot be", "out=runs/all: cannot be"),
        ("leave --chosen out to go on", "leave chosen= out to go on"),
        ("x with --set a.b=1, --seeds 0-2", "x with set['a.b']=1, seeds=0-2"),
        ("--set buffers=2: no", "buffers=2: no"),
        ("give values by --set.", "give values by set=."),
        ("with --plugin FILE (docs", "with plugins=[FILE] (docs"),
        ("--device: found 'x', expected auto", "device: found 'x', expected auto"),
        ("--device cuda: no; use --device cpu.", "device=cuda: no; use device=cpu."),
        ("use --device automatically", "use device= automatically"),
        ("x with --seeds True: no", "x with seeds=True: no"),
        ("--device cuda:1: no; use --device cpu.", "device=cuda:1: no; use device=cpu."),
        ("--data-root of its own", "data_root= of its own"),
        ("run 'fedkd data prepare x --data-root /a'", None),
        ("mend it by: fedkd data prepare x --data-root /a", None),
        ("another fedkd bench is there; choose with --out.", "another fedkd bench is "
         "there; choose with out=."),
    ],
)  # fmt: skip
def test_options_become_keywords_and_commands_stay(text, expected):
    assert in_python(text, {"buffers"}) == (text if expected is None else expected)


def test_an_unknown_keyword_is_called_as_it_was_given(tmp_path):
    with pytest.raises(ConfigError) as caught:
        fedkd.bench(SUITE, strategys=["fedavg"], out=tmp_path)
    assert str(caught.value).startswith(
        "strategys=[\"fedavg\"]: unknown key 'strategys'. Did you mean 'strategies'?"
    )


def test_a_mapping_without_a_name_is_told_what_it_is_called(tmp_path):
    (tmp_path / "suite.yaml").write_text("name: all\n")
    with pytest.raises(ConfigError) as caught:
        fedkd.bench(SUITE, out=tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} holds the suite 'all' (0 runs), and this one is called 'python'; "
        "choose another out=, or delete it. To go on there, give this one the name "
        "'all'."
    )


def test_rounds_and_federations_speak_of_arguments(tmp_path):
    federation = fedkd.federation("digits", "iid", models="mlp", clients=2)
    options = {"rounds": 1, "training": SUITE["training"], "plugins": ["nope.py"]}
    with pytest.raises(ConfigError, match=r"^plugins=.*nope\.py"):
        list(fedkd.rounds("fedavg", federation, **options))
    elsewhere = {"models": "mlp", "clients": 2, "data_root": tmp_path / "none"}
    with pytest.raises(DataError, match="data_root="):
        fedkd.federation("svhn", "iid", **elsewhere)
