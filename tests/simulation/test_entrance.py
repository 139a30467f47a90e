"""The server's entrance: what is let in, what is left out and why, and what follows."""

import json
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from fedkd import ModelSpec, simulate, testing
from fedkd.algorithms.averaging import Update
from fedkd.algorithms.fedavg import FedAvg
from fedkd.cli import main
from fedkd.errors import DivergedError
from fedkd.report.results import read_results
from fedkd.simulation.entrance import Entrance, look_at, unlike_most
from fedkd.simulation.executors.base import Serial
from fedkd.simulation.facts import facts_of, unlike
from fedkd.simulation.protocol import AcceptConfig
from fedkd.simulation.sides import Sides
from fedkd.suite.entries import normalise
from fedkd.suite.grid import grid
from fedkd.suite.suite import build_suite

pytestmark = pytest.mark.filterwarnings("ignore:the server leaves out answers")


@dataclass(frozen=True)
class Sent:
    """A payload with all that one may hold."""

    weights: dict[str, Tensor]
    means: dict[int, Tensor]
    number: int = 3
    name: str = "a"
    maybe: tuple[Tensor, ...] | None = None


def sent(shape=(2, 3), entries=("a", "b"), classes=(0, 1), **more):
    weights = {name: torch.zeros(shape) for name in entries}
    return Sent(weights, {c: torch.zeros(4) for c in classes}, **more)


def test_what_a_payload_is_like():
    facts = dict(facts_of(sent(maybe=(torch.zeros(1, dtype=torch.int64),))))
    assert facts == {
        "": "a payload Sent",
        "weights (its entries)": "a, b",
        "weights.a": "float32 [2, 3]",
        "weights.b": "float32 [2, 3]",
        "means (its classes)": "0 to 1",
        "means.0": "float32 [4]",
        "means.1": "float32 [4]",
        "number": "a number",
        "name": "a text",
        "maybe.0": "int64 [1]",
    }


def judged(*ups, varying=()):
    group = {k: dict(facts_of(up)) for k, up in enumerate(ups)}
    return {k: str(rejection) for k, rejection in unlike_most(group, varying).items()}


def test_an_answer_unlike_most_is_left_out_with_what_was_found():
    usual = sent(), sent(), sent()
    assert judged(*usual) == {}
    odd = {
        "weights.a: found float32 [3, 2], expected float32 [2, 3]": sent((3, 2)),
        "number: found a text, expected a number": sent(number="3"),
        "the answer: found a payload Update, expected a payload Sent": Update({}, 1),
        "weights (its entries): found no b and z beside, expected the entries that "
        "answers have": sent(entries=("a", "z")),
        "means.1: found a number, expected float32 [4]": replace(
            sent(), means={1: 2.0}
        ),
    }
    for text, up in odd.items():
        assert judged(*usual, up) == {3: text}
    half = Sent({n: torch.zeros(2, 3).half() for n in "ab"}, {})
    assert judged(half, *usual)[0].startswith("weights.a: found float16 [2, 3]")


def test_what_honest_clients_may_have_alone_is_let_in():
    alone = sent(classes=(1, 7), maybe=(torch.zeros(2),), number=2.5)
    assert judged(sent(), sent(), sent(), alone) == {}
    assert judged(sent(), sent((5, 5))) == {}, "of two none is more than half"
    assert judged(sent(), sent(), sent((5, 5)), varying=("weights",)) == {}
    assert judged(sent(), sent(), sent((5, 5)), varying=("weight",)) != {}
    deeper = judged(sent(), sent(), sent((1, 2, 3)), varying=("weights",))
    assert deeper == {2: "weights.a: found float32 [n, n, n], expected float32 [n, n]"}
    entrance = Entrance(FedAvg(), Sides(*world(), 0))
    told = [entrance._of_no_class(dict(facts_of(sent(classes=(0, k))))) for k in (2, 3)]
    assert told[0] is None
    assert str(told[1]) == "means (its classes): found 0 to 3, expected 0 to 2"


def test_an_answer_is_held_against_one_that_the_strategy_expects():
    usual = sent(classes=(0, 1, 2))

    def odd(up, like=usual, varying=()):
        return str(unlike(dict(facts_of(up)), like, varying) or "")

    # Any class may be missing; what is None in the expected one is open.
    assert (
        odd(sent()) == odd(sent(classes=())) == odd(sent(maybe=(torch.zeros(9),))) == ""
    )
    assert odd(sent(), None) == ""
    assert (
        odd(sent((3, 2))) == "weights.a: found float32 [3, 2], expected float32 [2, 3]"
    )
    assert odd(sent((3, 2)), varying=("weights",)) == ""
    assert "found float32 [n], expected float32 [n, n]" in odd(
        sent((3,)), varying=("weights",)
    )
    assert odd(sent(entries=("a",))).startswith("weights (its entries): found no b")
    assert odd(sent(entries=())).startswith("weights (its entries): found no a, b")
    assert (
        odd(sent(classes=(7,))) == "means.7: found float32 [4], expected no such entry"
    )
    assert odd(replace(sent(), means=None)) == (
        "means: found nothing, expected what was asked for"
    )
    assert odd(Update({}, 1)).endswith(
        "found a payload Update, expected a payload Sent"
    )


def world(models=("cnn",), clients=3, rounds=2, **changes):
    return testing.toy_federation(clients, models), testing.toy_protocol(
        rounds, clients, **changes
    )


class Spoilt(Serial):
    """The turns of all clients; the answer of client 1 is changed, from round 2 on."""

    name = "spoilt"
    spoil = staticmethod(lambda up: up)
    spoilt = (1,)

    def answers(self, orders):
        for k, answer in super().answers(orders):
            hit = k in self.spoilt and orders.round.index
            yield k, replace(answer, up=self.spoil(answer.up)) if hit else answer


def changing(weights_to, who=(1,)):
    def spoil(up):
        return replace(up, weights=weights_to(dict(up.weights)))

    return type("Changing", (Spoilt,), {"spoil": staticmethod(spoil), "spoilt": who})


class Silent(Serial):
    """As if client 1 had not answered, from round 2 on."""

    name = "silent"

    def answers(self, orders):
        for k, answer in super().answers(orders):
            if k != 1 or not orders.round.index:
                yield k, answer


FIRST = "classifier.bias"
FAULTS = {
    "shape": lambda w: {**w, FIRST: w[FIRST][:1]},
    "dtype": lambda w: {**w, FIRST: w[FIRST].half()},
    "extra": lambda w: {**w, "z": torch.zeros(1)},
    "missing": lambda w: {n: v for n, v in w.items() if n != FIRST},
    "nan": lambda w: {**w, FIRST: w[FIRST] * torch.nan},
    "inf": lambda w: {**w, FIRST: w[FIRST] / 0},
    "scale": lambda w: {
        n: 1000 * v if v.is_floating_point() else v for n, v in w.items()
    },
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_spoilt_answer_is_as_none_and_its_reason_is_kept(fault):
    strict = {"accept": {"finite": True, "norm": 500.0}}
    spoilt = changing(FAULTS[fault])
    with pytest.warns(RuntimeWarning, match="first one is client 1's in round 2: "):
        run = simulate(FedAvg(), *world(**strict), 0, executor=spoilt)
    without = simulate(FedAvg(), *world(), 0, executor=Silent)
    for name, value in without.state.weights.items():
        assert torch.equal(run.state.weights[name], value)
    rows = run.metrics["clients"]
    assert run.metrics["rejected"] == 1
    assert [k for k, row in rows.items() if "rejected" in row] == [1]
    expected = {
        "shape": f"weights.{FIRST}: found float32 [1], expected float32 [3]",
        "dtype": f"weights.{FIRST}: found float16 [3], expected float32 [3]",
        "extra": "weights.z: found float32 [1], expected no such entry",
        "missing": f"weights (its entries): found no {FIRST}, expected the entries that "
        "answers have",
        "nan": "the answer: found a value that is not finite, expected finite numbers",
    }
    expected["inf"] = expected["nan"]
    said = rows[1]["rejected"]
    assert said == expected.get(fault, said)
    if fault == "scale":
        assert said.startswith("the answer: found a norm of ")
        assert said.endswith(", expected at most 500")
    assert rows[1]["bytes_up"] > 0, "it has travelled"


def test_with_nothing_left_the_state_stays():
    everyone = changing(FAULTS["extra"], (0, 1, 2))
    one = simulate(FedAvg(), *world(rounds=1), 0)
    two = simulate(FedAvg(), *world(), 0, executor=everyone)
    assert two.metrics["rejected"] == 3
    for name, value in one.state.weights.items():
        assert torch.equal(two.state.weights[name], value)


def test_a_client_alone_is_outvoted_by_nobody_and_held_against_what_was_sent():
    spoilt = changing(FAULTS["missing"], (0,))
    one = simulate(FedAvg(), *world(clients=1, rounds=1), 0)
    two = simulate(FedAvg(), *world(clients=1), 0, executor=spoilt)
    assert two.metrics["rejected"] == 1
    assert all(
        torch.equal(two.state.weights[n], w) for n, w in one.state.weights.items()
    )


class Asked(FedAvg):
    """FedAvg that notes how often it is asked what answers are like."""

    asked: list[int] = []  # noqa: RUF012 - one for all

    def expected(self, down, party):
        self.asked.append(1)
        return super().expected(down, party)


def test_clients_who_agree_are_not_held_against_what_is_expected():
    simulate(Asked(), *world(), 0)
    assert not Asked.asked
    simulate(Asked(), *world(), 0, executor=changing(FAULTS["missing"]))
    assert len(Asked.asked) == 3
    simulate(Asked(), *world(clients=2), 0)
    assert len(Asked.asked) == 3 + 2 * 2


def test_one_architecture_each_is_held_against_its_own_model():
    specs = [ModelSpec("cnn", {"width": w}) for w in (1.0, 0.5, 0.25)]
    nested = FedAvg(FedAvg.Config(aggregate="static"))
    honest = simulate(nested, *world(specs), 0)
    assert "rejected" not in honest.metrics
    odd = simulate(nested, *world(specs), 0, executor=changing(FAULTS["shape"]))
    assert odd.metrics["clients"][1]["rejected"].startswith(f"weights.{FIRST}: found")


def test_values_that_are_not_finite_are_divergence_where_nobody_asks_or_most_have_them():
    spoilt = changing(FAULTS["nan"])
    with pytest.raises(DivergedError, match="logits that are not finite"):
        simulate(FedAvg(), *world(), 0, executor=spoilt)
    most = changing(FAULTS["nan"], (0, 1))
    finite = {"accept": {"finite": True}}
    with pytest.raises(
        DivergedError, match=r"2 of 3 answers of the round.*more than half"
    ):
        simulate(FedAvg(), *world(**finite), 0, executor=most)


def test_structure_can_be_left_unasked_and_a_norm_is_of_all_floating_tensors():
    up = Update({"a": torch.tensor([3.0, 0.0]), "n": torch.tensor(900)}, 7)
    up = replace(up, besides=torch.tensor([[4.0]]))
    look = look_at(up, AcceptConfig(structure=False, norm=5.0))
    assert (look.facts, look.norm, look.finite) == ({}, 5.0, True)
    entrance = Entrance(FedAvg(), Sides(*world(accept={"norm": 4.9}), 0))
    (rejection,) = entrance._out_of_bounds({0: look}).values()
    assert str(rejection) == "the answer: found a norm of 5, expected at most 4.9"


def test_a_run_that_goes_on_has_counted_what_was_left_out_before(tmp_path):
    spoilt = changing(FAULTS["extra"])

    def killed(line):
        if line["round"] == 3:
            raise KeyboardInterrupt

    told = {"folder": tmp_path, "checkpoint_every": 1, "executor": spoilt}
    with pytest.raises(KeyboardInterrupt):
        simulate(FedAvg(), *world(rounds=4), 0, on_round=killed, **told)
    simulate(FedAvg(), *world(rounds=4), 0, **told)
    lines = [
        json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ]
    assert [line.get("rejected") for line in lines] == [None, 1, 2, 3]


SUITE = {
    "name": "x",
    "rounds": 2,
    "clients": 3,
    "seeds": [0],
    "datasets": ["digits"],
    "partitions": ["iid"],
    "models": ["cnn"],
    "training": {"local_steps": 1, "batch_size": 8},
    "strategies": ["fedavg"],
}


def test_a_suite_that_says_nothing_has_the_hashes_that_it_had():
    registry = testing.toys.toy_registry()

    def cells(**keys):
        return grid(build_suite(normalise({**SUITE, **keys}, "x"), "x"), registry)

    (plain,), (same,) = cells(), cells(accept={"structure": True})
    assert "accept" not in plain.config["protocol"]
    assert plain.config_hash == same.config_hash
    off, on = cells(accept={"finite": [False, True]})
    assert plain.config_hash == off.config_hash != on.config_hash
    assert on.config["protocol"]["accept"]["finite"] is True


def test_what_was_left_out_is_a_column_of_the_results_where_there_was_any(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    lines = [f"{key}: {json.dumps(value)}" for key, value in SUITE.items()]
    (tmp_path / "x.yaml").write_text("\n".join([*lines, ""]))
    common = ["bench", "x.yaml", "--plain", "--no-plots", "--jobs", "1", "--out"]
    assert main([*common, "out"]) == 0
    assert "rejected" not in (tmp_path / "out/results.csv").read_text()
    bound = ["--set", "accept.norm=0.001"]
    assert main([*common, "other", *bound]) == 0
    (row,) = read_results(tmp_path / "other/results.csv")
    assert row.value("rejected") == 6
    (file,) = tmp_path.glob("other/runs/*/metrics.jsonl")
    before = file.stat().st_mtime_ns
    assert main([*common, "other", *bound]) == 0
    assert file.stat().st_mtime_ns == before, "a finished cell is not run again"
    assert "nothing says how to show" not in capsys.readouterr().err
