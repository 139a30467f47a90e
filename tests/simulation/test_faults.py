"""What goes wrong on purpose: who is hit, what becomes of answers, and what is recorded."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from fedkd import simulate, testing
from fedkd.algorithms.averaging import Update
from fedkd.algorithms.fedavg import FedAvg
from fedkd.errors import ConfigError
from fedkd.metrics.classification import Accuracy
from fedkd.ops.training import TrainingConfig
from fedkd.simulation.evaluate import predictions
from fedkd.simulation.executors import Choice
from fedkd.simulation.executors.base import Serial
from fedkd.simulation.faults.clock import ClockConfig
from fedkd.simulation.faults.config import CorruptConfig, FaultConfig, faults_text
from fedkd.simulation.faults.corruption import corrupted
from fedkd.simulation.faults.files import LARGEST
from fedkd.simulation.faults.plan import Plan, drawn, steps_of
from fedkd.simulation.faults.poisoning import flipped, patched, poisoned
from fedkd.simulation.federation import Validation
from fedkd.simulation.sides import Sides
from fedkd.strategy import Round

NAME = (3, "faults", "drop", 0)


def run(rounds=3, clients=4, strategy=None, folder=None, seed=1, **changes):
    options = {n: changes.pop(n) for n in ("executor", "on_round") if n in changes}
    world = testing.toy_federation(clients, ["mlp"])
    protocol = testing.toy_protocol(rounds, clients, **changes)
    told = {"folder": folder, "checkpoint_every": 1} if folder else {}
    strategy = strategy or FedAvg()
    return simulate(strategy, world, protocol, seed, **told, **options)


def same(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


def test_a_share_is_exact_where_it_is_whole_and_else_right_on_average():
    assert all(len(drawn((s, "x"), tuple(range(10)), 0.3)) == 3 for s in range(20))
    sizes = [len(drawn((s, "x"), (0, 1, 2, 3), 0.3)) for s in range(200)]
    assert set(sizes) == {1, 2}
    assert sum(sizes) == pytest.approx(0.3 * 4 * 200, abs=20)
    assert len(drawn(NAME, (0, 1, 2), 1.0)) == 3


def test_who_is_hit_hangs_on_seed_round_and_client_alone():
    assert drawn(NAME, tuple(range(10)), 0.3) == {0, 3, 4}
    assert drawn(NAME, (0, 2, 3, 4), 0.5) <= {0, 3, 4}, "the luck of each is its own"
    faults = FaultConfig(drop=0.3, label_flip=0.3, straggle={"share": 0.3})
    plan = Plan(faults, 3, 10)
    first, second = (Round(i, 5, tuple(range(10))) for i in range(2))
    assert plan.hit("drop", first) == {0, 3, 4}
    assert plan.hit("drop", second) != plan.hit("drop", first)
    assert plan.hit("label_flip", second) == plan.hit("label_flip", first)
    assert plan.hit("straggle", first) != plan.hit("drop", first)
    slow = FaultConfig(straggle={"share": 0.3, "drawn": "run"})
    both = [Plan(slow, 3, 10).hit("straggle", one) for one in (first, second)]
    assert both[0] == both[1]
    few = Round(0, 5, (4, 7))
    assert plan.hit("label_flip", few) == plan.malicious("label_flip") & {4, 7}


def test_steps_are_those_of_the_passes():
    def steps(images, size=8, drop="singleton", **work):
        work = work or {"local_epochs": 2}
        training = TrainingConfig(batch_size=size, drop_last=drop, **work)
        data = testing.toy_federation(1).clients[0].subset(torch.arange(24) < images)
        got = steps_of(training, images)
        batches = data.batches(
            size, steps=training.local_steps, epochs=training.local_epochs,
            drop_last=drop,
        )  # fmt: skip
        assert got == len(list(batches))
        return got

    assert [steps(n) for n in (1, 7, 8, 9, 10, 16)] == [2, 2, 2, 2, 4, 4]
    assert [steps(n, drop="always") for n in (7, 9, 15)] == [2, 2, 2]
    assert [steps(n, drop="never") for n in (9, 16)] == [4, 4]
    assert steps(10, local_steps=5) == 5


def test_stragglers_do_a_part_of_their_steps_in_steps_and_in_epochs():
    everyone = {"straggle": {"share": 1.0, "work": 0.5}}
    half = run(1, faults=everyone, training=TrainingConfig(local_steps=5, batch_size=2))
    assert [row["examples"] for row in half.metrics["clients"].values()] == [4] * 4
    epochs = TrainingConfig(local_epochs=2, batch_size=2)
    whole = run(1, training=epochs).metrics["clients"]
    fewer = run(1, training=epochs, faults=everyone).metrics["clients"]
    for k, row in fewer.items():
        assert row["examples"] * 2 == whole[k]["examples"]
    quarter = Plan(FaultConfig(straggle=1), 0, 4)
    (one,) = {
        quarter.training(
            0, 9, Round(0, 1, (0,)), TrainingConfig(local_steps=2)
        ).local_steps
    }
    assert one == 1, "one step at least"
    for work, steps, expected in ((0.29, 100, 29), (0.58, 50, 29), (0.58, 51, 29)):
        part = Plan(FaultConfig(straggle={"share": 1, "work": work}), 0, 4)
        asked = TrainingConfig(local_steps=steps)
        done = part.training(0, 9, Round(0, 1, (0,)), asked).local_steps
        assert done == expected, f"{work} of {steps}"


def test_a_number_is_a_share_and_what_means_nothing_is_refused():
    short, long = FaultConfig(drop=0.3), FaultConfig(drop={"share": 0.3})
    assert short == long
    assert short.plain() == {"drop": {"share": 0.3, "drawn": "round"}}
    for odd, said in (
        ({"drop": 0}, "greater than 0"),
        ({"drop": "often"}, "Input should be"),
        ({"dorp": 0.1}, "Extra inputs"),
        ({"corrupt": {"share": 0.1}}, "Field required"),
        ({"corrupt": {"share": 0.1, "kind": "nan", "factor": 2}}, "factor is of scale"),
        ({"availability": "nowhere.csv"}, "nowhere.csv: there is no such file"),
    ):
        with pytest.raises(ValueError, match=said):
            FaultConfig(**odd)


def test_what_tables_call_faults():
    assert faults_text("none") == faults_text({}) == "none"
    assert faults_text({"drop": 0.3}) == "drop 0.3"
    boosted = {"corrupt": {"share": 0.1, "kind": "scale", "factor": 10}, "drop": 0.2}
    assert faults_text(boosted) == "corrupt 0.1 scale factor 10 + drop 0.2"
    assert faults_text({**boosted, "label": "boosted"}) == "boosted"
    assert FaultConfig(**boosted).shown == "drop 0.2 + corrupt 0.1 scale factor 10.0"


@dataclass(frozen=True)
class Sent:
    """A payload with a mapping, a tensor beside it and a number."""

    weights: dict[str, Tensor]
    counts: Tensor
    number: int = 3


UP = Sent({"a": torch.tensor([3.0, 5.0]), "n": torch.tensor(4)}, torch.tensor([2.0]))
DOWN = Update({"a": torch.tensor([1.0, 1.0]), "n": torch.tensor(4)}, 1)


@pytest.mark.parametrize(
    ("how", "a", "counts"),
    [
        ({"kind": "nan"}, [torch.nan] * 2, [torch.nan]),
        ({"kind": "inf"}, [torch.inf] * 2, [torch.inf]),
        ({"kind": "scale", "factor": 10}, [21.0, 41.0], [20.0]),
        ({"kind": "scale"}, [2001.0, 4001.0], [2000.0]),
        ({"kind": "sign"}, [-1.0, -3.0], [-2.0]),
        ({"kind": "shape"}, [[3.0, 5.0]], [[2.0]]),
        ({"kind": "dtype"}, [3.0, 5.0], [2.0]),
    ],
)
def test_an_answer_is_changed_as_its_kind_says(how, a, counts):
    got = corrupted(UP, DOWN, CorruptConfig(share=0.1, **how), 0)
    torch.testing.assert_close(
        got.weights["a"].float(), torch.tensor(a), rtol=0, atol=0, equal_nan=True
    )
    torch.testing.assert_close(
        got.counts.float(), torch.tensor(counts), rtol=0, atol=0, equal_nan=True
    )
    is_double = got.counts.dtype == torch.float64
    assert is_double == (how["kind"] == "dtype")
    assert got.weights["n"].flatten().tolist() == [4]
    assert (got.number, UP.counts.tolist()) == (3, [2.0])


def test_entries_are_missing_or_more_and_noise_is_as_large_as_it_says():
    def change(**how):
        return corrupted(UP, DOWN, CorruptConfig(share=0.1, **how), 5, "x")

    assert list(change(kind="missing").weights) == ["n"]
    assert len(change(kind="extra").weights) == 3
    by_class = Sent({0: torch.ones(1), 4: torch.ones(1)}, torch.ones(1))
    more = corrupted(by_class, None, CorruptConfig(share=0.1, kind="extra"), 0)
    assert list(more.weights) == [0, 4, 5]
    large = Sent({"a": torch.full((10_000,), 5.0)}, torch.zeros(1))
    sent = Update({"a": torch.full((10_000,), 3.0)}, 1)
    how = CorruptConfig(share=0.1, kind="noise", factor=7)
    made = corrupted(large, sent, how, 5, "x").weights["a"]
    # The update is 2 everywhere, so the noise has a deviation of 7 times 2.
    assert float(made.std()) == pytest.approx(14.0, rel=0.03)
    assert same({"a": made}, corrupted(large, sent, how, 5, "x").weights)


class Silent(Serial):
    """The turns of all clients, of whom those with bad luck are not heard."""

    name = "silent"

    def answers(self, orders):
        hit = drawn(
            (1, "faults", "drop", orders.round.index), orders.round.clients, 0.5
        )
        for k, answer in super().answers(orders):
            if k not in hit:
                yield k, answer


def test_a_dropped_answer_is_as_none_and_its_work_is_counted():
    dropped, silent, plain = run(faults={"drop": 0.5}), run(executor=Silent), run()
    assert same(dropped.state.weights, silent.state.weights)
    assert not same(dropped.state.weights, plain.state.weights)
    for line in dropped.history:
        lost = line["faults"]["drop"]
        assert len(lost) == 2
        rows = line["clients"]
        assert [k for k, row in rows.items() if row["bytes_up"] == 0] == lost
        assert all(row["examples"] and row["bytes_down"] for row in rows.values())
    assert [line["faults_drop"] for line in dropped.history] == [2, 4, 6]
    assert 2 * dropped.metrics["bytes_up"] == plain.metrics["bytes_up"]
    assert not [key for key in plain.metrics if key.startswith("faults")]


def test_a_round_that_loses_all_answers_keeps_its_state():
    lost, none = run(2, faults={"drop": 1.0}), FedAvg()
    world = testing.toy_federation(4, ["mlp"])
    initial = Sides(world, testing.toy_protocol(2, 4), 1).start(none, "fedavg")
    assert same(lost.state.weights, initial.weights)
    assert lost.metrics["global_accuracy"] is not None


class Listening(FedAvg):
    """Notes whose answers it gets, and what is in them."""

    def aggregate(self, state, ups, server, round):
        self.heard.append(
            {k: float(ups[k].weights["classifier.weight"].sum()) for k in ups}
        )
        return super().aggregate(state, ups, server, round)

    def local(self, down, client):
        up = super().local(down, client)
        self.made.append((client.id, float(up.weights["classifier.weight"].sum())))
        return up


def listening():
    one = Listening()
    one.heard, one.made = [], []
    return one


def test_late_answers_come_rounds_later_and_the_newer_one_counts():
    strategy = listening()
    faults = {"late": {"share": 0.5, "rounds": 2}}
    result = run(4, strategy=strategy, faults=faults)
    lines = result.history
    late = [line["faults"]["late"] for line in lines]
    assert [len(one) for one in late] == [2, 2, 2, 2]
    made = {(i // 4, k): value for i, (k, value) in enumerate(strategy.made)}
    for index, line in enumerate(lines):
        fresh = [k for k in range(4) if k not in late[index]]
        due = late[index - 2] if index > 1 else []
        arrived = [k for k in due if k not in fresh]
        expected = {k: made[index, k] for k in fresh}
        expected |= {k: made[index - 2, k] for k in arrived}
        assert strategy.heard[index] == expected
        assert line["faults"].get("arrived", []) == arrived
        assert line["faults"].get("outdated", []) == [k for k in due if k in fresh]
    assert result.metrics["faults_arrived"] + result.metrics["faults_outdated"] == 4
    assert result.metrics["bytes_up"] == run(4).metrics["bytes_up"], "it was sent"


EVERY = {
    "drop": 0.25,
    "straggle": {"share": 0.5, "work": 0.5},
    "late": {"share": 0.5, "rounds": 2},
    "corrupt": {"share": 0.25, "kind": "noise", "factor": 0.1},
    "duplicate": 0.5,
}


def lines_of(folder):
    lines = [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("seconds")
        for row in line["clients"].values():
            row.pop("seconds")
    return lines


def test_a_run_with_faults_is_the_same_after_a_kill_and_in_processes(tmp_path):
    whole = run(4, folder=tmp_path / "whole", faults=EVERY)

    def killed(line):
        if line["round"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(4, folder=tmp_path / "two", faults=EVERY, on_round=killed)
    two = run(4, folder=tmp_path / "two", faults=EVERY, executor=Choice("processes", 2))
    assert len(two.history) in (1, 2)
    assert same(two.state.weights, whole.state.weights)
    assert lines_of(tmp_path / "two") == lines_of(tmp_path / "whole")


def test_an_answer_that_arrives_twice_is_taken_once_and_paid_twice():
    twice, once = run(2, faults={"duplicate": 1.0}), run(2)
    assert same(twice.state.weights, once.state.weights)
    assert twice.metrics["bytes_up"] == 2 * once.metrics["bytes_up"]
    assert twice.metrics["faults_duplicate"] == 8


def test_one_scaled_update_destroys_the_mean_and_not_the_median():
    attack = {"corrupt": {"share": 0.25, "kind": "scale"}}
    mean = run(2, faults=attack)
    assert max(v.abs().max() for v in mean.state.weights.values()) > 5
    median = testing.toys.toy_registry().strategy("fedavg", {"average": "median"})[0]
    result = run(2, strategy=median, faults=attack)
    assert [line["faults"]["corrupt"] for line in result.history] == [[0], [0]]
    assert all(v.isfinite().all() for v in result.state.weights.values())
    assert max(v.abs().max() for v in result.state.weights.values()) < 1


def test_flipped_labels_and_patches_are_of_malicious_clients_alone():
    assert flipped(torch.tensor([0, 1, 4]), 5).tolist() == [4, 3, 0]
    painted = patched(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), 2)
    assert painted[0, 0].tolist() == [[0] * 4] * 2 + [[0, 0, 255, 255]] * 2
    world = testing.toy_federation(4)
    both = FaultConfig(label_flip=0.25, backdoor={"share": 0.25, "size": 2})
    made, plan = poisoned(world, both, 3), Plan(both, 3, 4)
    (flip,), (door,) = (plan.malicious(kind) for kind in ("label_flip", "backdoor"))
    assert flip != door
    for k, (old, new) in enumerate(zip(world.clients, made.clients, strict=True)):
        changed = (made.data.x_train != world.data.x_train)[old.indices]
        if k == flip:
            assert torch.equal(new.labels, 2 - old.labels)
        elif k == door:
            half = len(old) // 2
            hit = changed.flatten(1).any(1)
            assert int(hit.sum()) == half
            assert (new.labels[hit] == 0).all()
            assert torch.equal(new.labels[~hit], old.labels[~hit])
        else:
            assert torch.equal(new.labels, old.labels)
            assert not changed.any()
    assert torch.equal(made.data.x_test, world.data.x_test)
    assert poisoned(world, FaultConfig(drop=0.5), 3) is world


def test_the_success_of_a_backdoor_is_of_patched_images_of_other_classes():
    how = {"backdoor": {"share": 0.5, "target": 2, "size": 2}}
    result = run(2, faults=how)
    world = testing.toy_federation(4, ["mlp"])
    data = world.data
    others = data.y_test != 2
    model = (
        Sides(world, testing.toy_protocol(2, 4), 1).server().load(result.state.weights)
    )
    exam = poisoned(world, FaultConfig(**how), 1).attack
    assert torch.equal(exam.data.x_test, patched(data.x_test[others], 2))
    said = predictions(model, exam.data, 100)
    assert (exam.data.y_test == 2).all()
    assert result.metrics["attack_success"] == Accuracy().of_test_set(said)
    assert result.metrics["faults_backdoor"] == 4
    central = testing.toys.toy_registry().strategy("central")[0]
    pooled = run(1, strategy=central, faults=how).metrics
    assert 0 <= pooled["attack_success"] <= 100
    assert "faults" not in pooled, "all data are in one place, some of them poisoned"
    with pytest.raises(ConfigError, match=r"target: found 3, expected a class"):
        poisoned(world, FaultConfig(backdoor={"share": 1, "target": 3}), 0)
    vectors = testing.toy_federation(2, ["mlp"], testing.toy_vectors())
    with pytest.raises(ConfigError, match="expected images"):
        poisoned(vectors, FaultConfig(backdoor=1), 0)


def test_a_backdoor_is_not_measured_where_the_test_set_is_left_alone():
    how = {"backdoor": {"share": 0.5, "size": 2}}
    protocol = testing.toy_protocol(1, 4, faults=how)
    for alone in (False, True):
        world = testing.toy_federation(4, ["mlp"])
        held = Validation(tuple(np.arange(k, k + 1) for k in range(4)), alone)
        world.validation = held
        line = simulate(FedAvg(), world, protocol, 1).metrics
        assert line["faults_backdoor"] == 2
        assert line["validation_global_accuracy"] is not None
        assert (line["global_accuracy"] is None) is alone
        assert ("attack_success" not in line) is alone


def trace(folder, *lines):
    path = folder / "trace.csv"
    path.write_text("\n".join(["client,first,last", *lines, ""]))
    return str(path)


def test_a_trace_says_who_can_be_sampled(tmp_path):
    path = trace(tmp_path, "0,1,2", "1,2,2", "2,1,1", "1,4,9")
    result = run(4, participation=2, faults={"availability": path})
    assert [list(line["clients"]) for line in result.history] == [
        [0, 2], [0, 1], [], [1]
    ]  # fmt: skip
    missing = [line["faults_availability"] for line in result.history]
    assert missing == [0, 0, 2, 3]


def test_a_file_that_is_none_is_refused_with_its_place(tmp_path):
    def said(*lines, clients=4):
        faults = FaultConfig(availability=trace(tmp_path, *lines))
        with pytest.raises(ConfigError) as error:
            Plan(faults, 0, clients).available(0)
        return str(error.value).replace(str(tmp_path), "")

    assert said("1,2,x").startswith("/trace.csv:2: found '1,2,x', expected 3 numbers")
    assert said("1,2").startswith("/trace.csv:2: found '1,2', expected 3 numbers")
    assert "found client 4 from round 1 to 2" in said("4,1,2")
    assert "found client 1 from round 3 to 2" in said("1,3,2")
    assert "found client 1 from round 1 to 2.5" in said("1,1,2.5")
    known = FaultConfig(availability=trace(tmp_path, "1,1,2"))
    trace(tmp_path, "1,1,3")
    assert FaultConfig(**known.plain()) == known, "not read where it is known"
    with pytest.raises(ConfigError, match="not what the suite was read with"):
        Plan(known, 0, 4).available(0)
    with (tmp_path / "trace.csv").open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(ValueError, match="found more than 16 MiB"):
        FaultConfig(availability=str(tmp_path / "trace.csv"))


@dataclass(frozen=True)
class Ballast:
    """A model, and three times as many bytes beside it."""

    weights: dict[str, Tensor]
    ballast: tuple[dict[str, Tensor], ...]
    examples: int


class Heavy(FedAvg):
    """FedAvg that sends four times as much: over half the rounds, twice."""

    def local(self, down, client):
        up = super().local(down, client)
        return Ballast(up.weights, (up.weights,) * 3, up.examples)

    def aggregate(self, state, ups, server, round):
        small = {k: Update(ups[k].weights, ups[k].examples) for k in ups}
        return super().aggregate(state, small, server, round)


def test_half_the_rounds_and_twice_the_upload_cross_where_the_hand_says():
    # Four rounds of 2 images and u bytes each way take 4 (2/c + 2u/b); two rounds of as
    # many images and 4u bytes up take 2 (2/c + 5u/b). They are equal where 4/c = 2u/b:
    # with c = 100 and u = 215,212 bytes, at b = u c / 2 = 10,760,600 bytes a second.
    assert run(1).metrics["bytes_up"] == 4 * 215_212
    training = TrainingConfig(local_steps=1, batch_size=2, lr=0.05)

    def seconds(rounds, strategy, bandwidth):
        clock = {"compute": 100.0, "bandwidth": bandwidth}
        told = {"clock": clock, "training": training}
        return run(rounds, strategy=strategy, **told).metrics["simulated_seconds"]

    for bandwidth, plain, heavy in (
        (5_380_300, 0.40, 0.44),
        (10_760_600, 0.24, 0.24),
        (21_521_200, 0.16, 0.14),
    ):
        assert seconds(4, FedAvg(), bandwidth) == pytest.approx(plain, abs=1e-5)
        assert seconds(2, Heavy(), bandwidth) == pytest.approx(heavy, abs=1e-5)


def test_a_round_takes_as_long_as_the_slowest_that_answers(tmp_path):
    path = tmp_path / "devices.csv"
    path.write_text("client,compute,bandwidth\n0,8,1e9\n1,16,1e9\n2,32,1e9\n3,1,1e9\n")
    training = TrainingConfig(local_steps=4, batch_size=2)
    told = {"clock": {"devices": str(path)}, "training": training}
    assert run(1, **told).metrics["simulated_seconds"] == pytest.approx(8.0, abs=1e-3)
    hit = {"faults": {"drop": 0.25}, "seed": 0}
    lost = run(1, **told, **hit).metrics
    assert lost["faults"]["drop"] == [3]
    assert lost["simulated_seconds"] == pytest.approx(1.0, abs=1e-3)
    spread = ClockConfig(compute={"lognormal": {"median": 9, "sigma": 0}}, bandwidth=1)
    assert spread.speeds(0, 1) == (9.0, 1.0)
    drawn_once = ClockConfig(compute={"uniform": {"low": 1, "high": 2}}, bandwidth=1)
    assert drawn_once.speeds(0, 1) == drawn_once.speeds(0, 1) != drawn_once.speeds(0, 2)
    with pytest.raises(ValueError, match="expected compute and"):
        ClockConfig(compute=3)
    for line, found in (("0,9,9", "two lines for client 0"), ("0.5,9,9", "client 0.5")):
        path.write_text(f"client,compute,bandwidth\n0,8,1\n{line}\n")
        with pytest.raises(ConfigError, match=f"found {found}, expected one line for"):
            ClockConfig(devices=str(path)).speeds(0, 0)
    path.write_text("client,compute,bandwidth\n0,8,1\n")
    with pytest.raises(ConfigError, match="found no line for client 2"):
        ClockConfig(devices=str(path)).speeds(0, 2)
    with pytest.raises(ConfigError, match="found no line for client 1"):
        run(1, clock={"devices": str(path)}, folder=tmp_path / "r")
    assert not (tmp_path / "r").exists(), "known before anything is trained or written"
