"""What every run compares around a verb: it names strategy, verb, client, round, entry."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from fedkd import ContractError, simulate, testing
from fedkd.algorithms.averaging import Global, Update
from fedkd.algorithms.fedavg import FedAvg
from fedkd.simulation.untouched import Untouched, refuse_alias, tensors_of

IN_PLACE = (
    "in place, and others are given the same tensor. Work on a copy: value.clone()."
)
OWN = (
    "which is the working model's own memory and will be overwritten. Take a copy: "
    "fedkd.read_weights(model), or value.clone()."
)
ENTRY = "classifier.bias"


class Broadcasts(FedAvg):
    def broadcast(self, state, client_id, round):
        if client_id == 1:
            state.weights[ENTRY].add_(1)
        return super().broadcast(state, client_id, round)


class Trains(FedAvg):
    def local(self, down, client):
        if client.id == 2:
            # A view is the tensor.
            down.weights[ENTRY][1:].zero_()
        return super().local(down, client)


class Initial(FedAvg):
    def local(self, down, client):
        update = super().local(down, client)
        client.initial[ENTRY].copy_(update.weights[ENTRY])
        return update

    def init(self, server):
        return Global({name: value.clone() for name, value in server.initial.items()})


class Images(FedAvg):
    def local(self, down, client):
        client.data._source.x_train[0] = 0
        return super().local(down, client)


class Aggregates(FedAvg):
    def aggregate(self, state, ups, server, round):
        state.weights[ENTRY].mul_(len(ups))
        return super().aggregate(state, ups, server, round)


class Predicts(FedAvg):
    def predictors(self, state, server):
        state.weights[ENTRY].zero_()
        return super().predictors(state, server)


class Pictures(FedAvg):
    def gallery(self, state, server):
        state.weights[ENTRY].zero_()
        return {}


class Seeds(FedAvg):
    def local(self, down, client):
        torch.manual_seed(0)
        return super().local(down, client)


class SeedsOnce(FedAvg):
    """A stream of its own that is put back is no fault."""

    def local(self, down, client):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
        return super().local(down, client)


class Remembers(FedAvg):
    def local(self, down, client):
        update = super().local(down, client)
        client.memory["rows"] = [client.model.classifier.weight.detach()[1:]]
        return update


class PredictsTwice(FedAvg):
    def predictors(self, state, server):
        first = server.load(state.weights)
        return {"global": first, "student": server.load(server.initial)}


class Starts(FedAvg):
    def init(self, server):
        return Global(dict(server.model.state_dict()))


class Keeps(FedAvg):
    def aggregate(self, state, ups, server, round):
        server.load(super().aggregate(state, ups, server, round).weights)
        return Global(dict(server.model.state_dict()))


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (Broadcasts, "broadcasts.broadcast (client 1, round 1) changed weights."
         f"{ENTRY} of the state {IN_PLACE}"),
        (Trains, "trains.local (client 2, round 1) changed weights."
         f"{ENTRY} of what the server sent {IN_PLACE}"),
        (Initial, f"initial.local (client 0, round 1) changed {ENTRY} of the initial "
         f"weights of cnn {IN_PLACE}"),
        (Images, f"images.local (client 0, round 1) changed x_train of the images "
         f"{IN_PLACE}"),
        (Aggregates, f"aggregates.aggregate (round 1) changed weights.{ENTRY} of the state "
         f"{IN_PLACE}"),
        (Predicts, "predicts.predictors or .personal (round 1) changed weights."
         f"{ENTRY} of the state {IN_PLACE}"),
        (Pictures, f"pictures.gallery changed weights.{ENTRY} of the state {IN_PLACE}"),
        (Seeds, "seeds.local (client 0, round 1) seeded torch, which already draws from "
         "a stream of the run's seed, named after this verb. Leave out "
         "torch.manual_seed."),
        (Remembers, f"remembers.local (client 0, round 1) keeps in client.memory rows.0, "
         f"{OWN}"),
        (Keeps, "keeps.aggregate (round 1) keeps in the state weights.body.0.weight, "
         f"{OWN}"),
        (PredictsTwice, "predictstwice.predictors (round 1) returned the working model "
         "as 'global' and as 'student'; what was loaded first is overwritten. Put the "
         "second one into a model of its own: copy.deepcopy(server.load(weights))."),
        (Starts, f"starts.init keeps in the state weights.body.0.weight, {OWN}"),
    ],
)  # fmt: skip
def test_every_run_refuses(strategy, message, tmp_path):
    world = testing.toy_federation(), testing.toy_protocol(2)
    with pytest.raises(ContractError) as caught:
        simulate(strategy(), *world, 0, folder=tmp_path)
    assert str(caught.value) == message


class Shared(FedAvg):
    """Clients remember what was sent to all of them, and one writes into it later."""

    def local(self, down, client):
        last = client.memory.get("last")
        if last is not None and client.id == 1:
            last[ENTRY].add_(1)
        client.memory["last"] = dict(last or down.weights)
        return super().local(down, client)

    def init(self, server):
        return Global({name: value.clone() for name, value in server.initial.items()})


class WritesIntoTheState(FedAvg):
    """The last client writes into what it remembers, which is in the state as well."""

    def local(self, down, client):
        client.memory["last"] = down.weights
        update = super().local(down, client)
        if client.id == 2 and client.memory.get("seen"):
            client.memory["old"][ENTRY].add_(1)
        client.memory["seen"], client.memory["old"] = True, dict(down.weights)
        return update

    def aggregate(self, state, ups, server, round):
        return state


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (Shared, f"changed last.{ENTRY} of the memory of client 2 in place"),
        (WritesIntoTheState, f"{ENTRY} of .* in place"),
    ],
)
def test_memories_that_share_tensors_are_not_written_into(strategy, message):
    world = testing.toy_federation(), testing.toy_protocol(3)
    with pytest.raises(ContractError, match=message):
        simulate(strategy(), *world, 0)


def test_a_second_stream_within_a_verb_is_no_fault():
    world = testing.toy_federation(), testing.toy_protocol(1)
    one, other = (simulate(s(), *world, 0) for s in (SeedsOnce, FedAvg))
    assert one.metrics["train_loss"] == other.metrics["train_loss"]


@dataclass(frozen=True, slots=True)
class Slotted:
    weights: dict
    rest: tuple = ()


def test_the_tensors_of_a_tree_are_those_in_memory():
    first, second, third = torch.zeros(1), torch.zeros(2), torch.zeros(3)
    tree = Slotted({"a": first, "b": "text"}, (second, [third, 4, None]))
    assert [len(t) for t in tensors_of(tree)] == [1, 2, 3]


def test_what_is_only_read_passes():
    weights = {"w": torch.ones(2), "frozen": torch.inference_mode()(torch.ones)(2)}
    given = Untouched(Update(weights, 1), "it")
    torch.zeros(2).copy_(weights["w"]).add_(1)
    given.check("somebody")


def test_a_copy_is_no_alias_and_neither_is_an_empty_tensor():
    model = nn.Linear(2, 2)
    model.register_buffer("none", torch.zeros(0))
    refuse_alias({"w": model.none}, model, "it", "sent")
    refuse_alias({"w": model.weight.detach().clone()}, model, "it", "sent")
    with pytest.raises(ContractError, match=r"^it sent w, which is"):
        refuse_alias({"w": model.weight.detach()}, model, "it", "sent")
