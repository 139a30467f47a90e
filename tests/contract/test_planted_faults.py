"""The suite is tested by faults: each is named, by the check that is there for it."""

import random
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from planted import planted

from fedkd import Requires, copy_weights, read_weights, testing
from fedkd.algorithms.averaging import Global, Update
from fedkd.algorithms.central import Central
from fedkd.algorithms.fedavg import FedAvg
from fedkd.ops.training import train
from fedkd.testing import checks


class UnseededNoise(FedAvg):
    def broadcast(self, state, client_id, round):
        down = super().broadcast(state, client_id, round)
        # The simulator seeds no broadcast: it has nothing to draw.
        noise = {n: v + torch.rand(()) for n, v in down.weights.items()}
        return replace(down, weights=noise)


class CountsOnTheClass(FedAvg):
    calls = 0

    def local(self, down, client):
        CountsOnTheClass.calls += 1
        client.log("calls", CountsOnTheClass.calls)
        return super().local(down, client)


class ListensToNobody(FedAvg):
    """Trains nothing and sends what it got: the seed is nowhere."""

    def init(self, server):
        return Global({n: torch.zeros_like(v) for n, v in server.initial.items()})

    def local(self, down, client):
        return Update(down.weights, 1)


class TheLastClientWins(FedAvg):
    order = []  # noqa: RUF012 - the fault

    def local(self, down, client):
        self.order.append(client.id)
        return super().local(down, client)

    def aggregate(self, state, ups, server, round):
        del server, round
        return Global({**state.weights, **ups[self.order[-1]].weights})


class OverwritesTheState(FedAvg):
    def broadcast(self, state, client_id, round):
        state.weights["classifier.bias"].add_(1)
        return super().broadcast(state, client_id, round)


class OverwritesTheBroadcast(FedAvg):
    def local(self, down, client):
        down.weights["classifier.bias"].add_(1)
        return super().local(down, client)


class OverwritesUnseen(FedAvg):
    """Torch does not count what is written through ``.data``."""

    def local(self, down, client):
        down.weights["classifier.bias"].data.add_(1)
        return super().local(down, client)


class OverwritesTheAnswers(FedAvg):
    def aggregate(self, state, ups, server, round):
        ups[1].weights["classifier.bias"].mul_(2)
        return super().aggregate(state, ups, server, round)


class PredictsInPlace(FedAvg):
    def predictors(self, state, server):
        state.weights["classifier.bias"].zero_()
        return super().predictors(state, server)


class OverwritesTheInitialWeights(FedAvg):
    def local(self, down, client):
        client.initial["classifier.weight"].data.mul_(0.5)
        return super().local(down, client)


class OverwritesTheImages(FedAvg):
    def local(self, down, client):
        client.data._source.x_train.data[0].zero_()
        return super().local(down, client)


class RemembersItsModel(FedAvg):
    def local(self, down, client):
        update = super().local(down, client)
        client.memory["own"] = dict(client.model.state_dict())
        return update


class RemembersAView(FedAvg):
    def local(self, down, client):
        update = super().local(down, client)
        client.memory["rows"] = client.model.state_dict()["classifier.weight"][1:]
        return update


class SendsItsModel(FedAvg):
    def local(self, down, client):
        super().local(down, client)
        return Update(dict(client.model.state_dict()), 1)


class TheStateIsTheModel(FedAvg):
    def aggregate(self, state, ups, server, round):
        server.load(super().aggregate(state, ups, server, round).weights)
        return Global(dict(server.model.state_dict()))


class RemembersWhatItOverwrites(FedAvg):
    """No memory of the model, but a buffer that every client writes into."""

    shared = torch.zeros(1)

    def local(self, down, client):
        self.shared.data.fill_(client.id)
        client.memory["own"] = self.shared
        return super().local(down, client)


class SavesWhatTorchDoesNotHold(FedAvg):
    def local(self, down, client):
        return SetUpdate(super().local(down, client).weights, 1, {client.id})


@dataclass(frozen=True)
class SetUpdate(Update):
    seen: set = field(default_factory=set)


class SendsAGraph(FedAvg):
    def local(self, down, client):
        update = super().local(down, client)
        attached = next(client.model.parameters()) * 1
        return replace(update, weights={**update.weights, "extra": attached})


class CountsInSelf(FedAvg):
    rounds = 0

    def aggregate(self, state, ups, server, round):
        self.rounds += 1
        return super().aggregate(state, ups, server, round)


class GrowsAList(FedAvg):
    def __init__(self, config=None):
        super().__init__(config)
        self.losses = []

    def local(self, down, client):
        update = super().local(down, client)
        self.losses.append(client.logged["train_loss"])
        return update


class LoadsOnlyTheHead(FedAvg):
    def local(self, down, client):
        head = {n: v for n, v in down.weights.items() if n.startswith("classifier")}
        copy_weights(head, client.model)
        client.train()
        weights = {n: v.clone() for n, v in client.model.state_dict().items()}
        return Update(weights, 1)


class MeasuresWhatIsLeft(FedAvg):
    def predictors(self, state, server):
        return {"global": server.model}


class SlowsTheOthers(FedAvg):
    def local(self, down, client):
        vars(client.training)["lr"] *= 0.5
        return super().local(down, client)


class PlansForAll(FedAvg):
    def local(self, down, client):
        client.training.lr_from_round[2] = 0.001
        return super().local(down, client)


class SeedsTorch(FedAvg):
    def local(self, down, client):
        torch.manual_seed(client.id)
        return super().local(down, client)


class SeedsNumPy(FedAvg):
    def local(self, down, client):
        np.random.seed(client.id)
        return super().local(down, client)


class SeedsPython(FedAvg):
    def aggregate(self, state, ups, server, round):
        random.seed(round.index)
        return super().aggregate(state, ups, server, round)


class TakesMoreThreads(FedAvg):
    def init(self, server):
        torch.set_num_threads(torch.get_num_threads() + 1)
        return super().init(server)


class HashesAName(FedAvg):
    def init(self, server):
        state = super().init(server)
        # All 64 bits: of few, two processes can have the same by chance.
        weight = hash(("fedavg", server.spec.name)) / 2**64
        return Global({n: v + weight for n, v in state.weights.items() if v.ndim})


class SendsItsImages(FedAvg):
    def local(self, down, client):
        update = super().local(down, client)
        x, _ = next(client.data.images(2))
        return PictureUpdate(update.weights, update.examples, x)


@dataclass(frozen=True)
class PictureUpdate(Update):
    pictures: torch.Tensor


class ForgetsOnResuming(FedAvg):
    kept = None

    def init(self, server):
        self.kept = server.initial
        return super().init(server)

    def aggregate(self, state, ups, server, round):
        new = super().aggregate(state, ups, server, round)
        if self.kept is None:
            return new
        return Global({n: v + 0.1 * self.kept[n] for n, v in new.weights.items()})


class LogsWhetherItResumed(FedAvg):
    since = 0

    def aggregate(self, state, ups, server, round):
        self.since += 1
        server.log("since", self.since)
        return super().aggregate(state, ups, server, round)


class TakesBackItsNeed(FedAvg):
    """Declares a need that the simulator is not told."""

    said = False

    @property
    def requires(self):
        # First what checks see, then what the simulator sees.
        said, TakesBackItsNeed.said = TakesBackItsNeed.said, True
        return Requires() if said else Requires(batch_norm=True)

    @requires.setter
    def requires(self, value):
        del value


class NeedsEverybody(FedAvg):
    def predictors(self, state, server):
        return super().predictors(state, server) if self.config else {}

    def aggregate(self, state, ups, server, round):
        assert len(ups) == 3, "one of three clients is not enough"
        return super().aggregate(state, ups, server, round)


class AssertsInLocal(FedAvg):
    def local(self, down, client):
        assert client.id, "client 0 is not welcome"
        return super().local(down, client)


class CountsBackwards(FedAvg):
    def local(self, down, client):
        update = super().local(down, client)
        client.count_examples(-40)
        return update


class CountsAPart(FedAvg):
    def local(self, down, client):
        update = super().local(down, client)
        client.count_examples(0.5)
        return update


class CountsNothing(FedAvg):
    """Trains with a loop of its own."""

    def local(self, down, client):
        train(client.load(down.weights), client.data, client.training)
        return Update(read_weights(client.model), len(client.data))


class TrainsUnseenWhenMeasured(FedAvg):
    def personal(self, state, client):
        model = client.load(state.weights)
        train(model, client.data, client.training)
        return model


class TeachesUncounted(FedAvg):
    def aggregate(self, state, ups, server, round):
        new = super().aggregate(state, ups, server, round)
        model = server.load(new.weights)
        model(torch.rand(4, 1, 8, 8)).sum().backward()
        return new


class ForgesItsExamples(FedAvg):
    """Sets what the simulator keeps."""

    def local(self, down, client):
        update = super().local(down, client)
        client._examples = -7
        return update


class CentralThatSeeds(Central):
    def local(self, down, client):
        np.random.seed(0)
        return super().local(down, client)


FAULTS = [
    (UnseededNoise, checks.same_seed_gives_equal_bits,
     r"one seed gave two results: broadcast \(client 0, round 1\) gave another weights"),
    (ListensToNobody, checks.another_seed_ends_elsewhere, "the seed changes nothing"),
    (TheLastClientWins, checks.order_of_clients_is_irrelevant,
     r"depends on the order of the clients: aggregate \(round 1\) gave another weights"),
    (OverwritesTheState, checks.inputs_are_left_alone,
     r"broadcast \(client 0, round 1\) changed state.weights.classifier.bias\. .*a copy"),
    (OverwritesTheBroadcast, checks.inputs_are_left_alone,
     r"local \(client 0, round 1\) changed down.weights.classifier.bias\. .*a copy"),
    (OverwritesUnseen, checks.inputs_are_left_alone,
     r"local \(client 0, round 1\) changed down.weights.classifier.bias"),
    (OverwritesTheAnswers, checks.inputs_are_left_alone,
     r"aggregate \(round 1\) changed ups.1.weights.classifier.bias"),
    (PredictsInPlace, checks.inputs_are_left_alone,
     r"predictors \(round 1\) changed state.weights.classifier.bias"),
    (OverwritesTheInitialWeights, checks.inputs_are_left_alone,
     r"local \(client 0, round 1\) changed initial weights.classifier.weight"),
    (OverwritesTheImages, checks.inputs_are_left_alone,
     r"local \(client 0, round 1\) changed images.x_train"),
    (RemembersItsModel, checks.what_is_kept_stays,
     r"local \(client 0, round 1\) keeps in client.memory own.\S+, which is the work"),
    (RemembersAView, checks.what_is_kept_stays,
     r"local \(client 0, round 1\) keeps in client.memory rows, which is the work"),
    (SendsItsModel, checks.what_is_kept_stays,
     r"local \(client 0, round 1\) sent weights.\S+, which is the working model's own"),
    (TheStateIsTheModel, checks.what_is_kept_stays,
     r"aggregate \(round 1\) keeps in the state weights.\S+, which is the working"),
    (RemembersWhatItOverwrites, checks.what_is_kept_stays,
     r"before local \(client 0, round 2\), own of the memory of client 0 had changed"),
    (SavesWhatTorchDoesNotHold, checks.payloads_travel,
     r"local \(client 0, round 1\) holds set at seen"),
    (SendsAGraph, checks.payloads_travel,
     r"local \(client 0, round 1\) sent weights.extra with its graph"),
    (CountsOnTheClass, checks.nothing_is_kept_in_self,
     r"local \(client 0, round 1\) changed CountsOnTheClass.calls.*keep it in the state"),
    (CountsInSelf, checks.nothing_is_kept_in_self,
     r"aggregate \(round 1\) changed self.rounds\. .*keep it in the state"),
    (GrowsAList, checks.nothing_is_kept_in_self,
     r"local \(client 0, round 1\) changed self.losses"),
    (LoadsOnlyTheHead, checks.weights_left_over_are_irrelevant,
     r"left over were used: local \(client 0, round 1\) gave another weights.body"),
    (MeasuresWhatIsLeft, checks.weights_left_over_are_irrelevant,
     r"left over were used: predictors \(round 1\) gave another global"),
    (SlowsTheOthers, checks.training_settings_are_left_alone,
     r"local \(client 0, round 1\) changed client.training.lr\. .*model_copy"),
    (PlansForAll, checks.training_settings_are_left_alone,
     r"local \(client 0, round 1\) changed client.training.lr_from_round"),
    (SeedsTorch, checks.global_generators_are_left_alone,
     r"local \(client 0, round 1\) changed torch's seed\. Draw from torch's default"),
    (SeedsNumPy, checks.global_generators_are_left_alone,
     r"local \(client 0, round 1\) changed NumPy's global generator"),
    (SeedsPython, checks.global_generators_are_left_alone,
     r"aggregate \(round 1\) changed Python's global generator"),
    (TakesMoreThreads, checks.global_generators_are_left_alone,
     r"init changed the number of torch's threads"),
    (HashesAName, checks.hashes_of_texts_are_irrelevant,
     r"depends on hashes of texts: init gave another weights.*Leave out hash\(\)"),
    (SendsItsImages, checks.no_image_leaves_a_client,
     r"local \(client 0, round 1\) sent pictures, which holds a training image"),
    (LogsWhetherItResumed, checks.resuming_changes_nothing,
     r"resuming changed the metrics: logged.since of round 3\. Keep"),
    (ForgetsOnResuming, checks.resuming_changes_nothing,
     r"resuming changed the state, at weights.*client.memory"),
    (TakesBackItsNeed, checks.needs_are_refused_with_a_reason,
     "a need that was not met went unsaid: batch_norm. Set ``requires``"),
    (NeedsEverybody, checks.partial_participation_works,
     r"aggregate \(round 1\), line \d+ of test_planted_faults.py raised AssertionError: one"
     " of three clients is not enough.*go through ups"),
    (CountsBackwards, checks.work_is_counted,
     r"count_examples was given -40; expected a whole number from 0"),
    (CountsAPart, checks.work_is_counted,
     r"count_examples was given 0.5; expected a whole number from 0"),
    (CountsNothing, checks.work_is_counted,
     r"local \(client 0, round 1\) trained and counted no image. Give count_examples"),
    (TrainsUnseenWhenMeasured, checks.work_is_counted,
     r"personal \(client 0, round 1\) trained and counted no image"),
    (TeachesUncounted, checks.work_is_counted,
     r"aggregate \(round 1\) trained and counted no image"),
    (ForgesItsExamples, checks.work_is_counted,
     r"client_examples shrank from round to round: \[-21, -42.*count_examples alone"),
    (CentralThatSeeds, checks.global_generators_are_left_alone,
     r"local \(client 0, round 1\) changed NumPy's global generator"),
]  # fmt: skip
"""A faulty strategy, the check that is there for it, and what it must say."""


pytestmark = pytest.mark.usefixtures("globals_put_back")
TestPlanted = planted(FAULTS, testing.STRATEGY_CHECKS)


def test_an_assertion_of_the_strategy_says_where_it_is():
    report = testing.report(NeedsEverybody, (checks.resuming_changes_nothing,))
    assert not report.broken
    report = testing.report(AssertsInLocal, (checks.resuming_changes_nothing,))
    assert report.broken["resuming_changes_nothing"].startswith(
        "assertsinlocal.local (client 0, round 1), line "
    )
