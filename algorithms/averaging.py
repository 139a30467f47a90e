"""Federated averaging with one thing open: what a client does.

A round of :class:`Averaging` is FedAvg's. A method says what its clients do in ``train``,
and what else is its own in :class:`Choices`, whose defaults are FedAvg's: where the server
starts, which entries stay at a client, what is sent besides the weights, how clients are
weighed, and what the server makes of the average. With momentum at the server::

    class FedAvgM(Averaging):
        def __init__(self, config=None):
            super().__init__(config)
            self.choices = Choices(first=at_rest, moved=self.with_momentum)

        def train(self, client, sent):
            client.train()

        def with_momentum(self, state, average, ups, server, round):
            velocity = {n: 0.9 * v + state.weights[n] - average[n] for n, v in ...}
            ...
            return Global({**average, **moved}, besides=velocity)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from fedkd.algorithms.chosen import check_choices, chosen
from fedkd.algorithms.nested import Nested, nest
from fedkd.config import Config
from fedkd.ops.averaging import buffer_entries
from fedkd.ops.training import LossFunction
from fedkd.payload import Weights
from fedkd.robust.rule import MEAN, Mean, Rule
from fedkd.strategy import (
    Client,
    Party,
    Requires,
    Round,
    Server,
    Strategy,
    read_weights,
)

Aggregate = Literal["plain", "static", "rolling", "rolling-back", "random"]
"""Averages of one architecture, or of nested sub-models that hold such channels."""


class AverageConfig(Config):
    """How clients' weights become the server's."""

    aggregate: Aggregate = "plain"
    """``plain`` averages one architecture. Otherwise clients may have nested widths, and
    hold the first channels of the global model (HeteroFL), a window that moves up or down
    by one channel a round (FedRolex), or channels drawn in every round."""
    weights: Literal["examples", "uniform"] = "examples"
    """The weight of a client in the mean: its number of images (FedAvg), or 1."""

    def shares(self, ups: Mapping[int, Update]) -> dict[int, float]:
        """Return the weight of each client."""
        uniform = self.weights == "uniform"
        return {k: 1 if uniform else up.examples for k, up in ups.items()}


class PlainConfig(AverageConfig):
    """How weights are averaged by a method that keeps something of every parameter."""

    aggregate: Literal["plain"] = "plain"
    """One architecture."""


@dataclass(frozen=True)
class Global:
    """The server's state, and what it sends."""

    weights: Weights
    """The global model: parameters and shared buffers; for a client, its sub-model."""
    nested: Nested | None = None
    """The sub-models of the clients; not sent, and None with ``aggregate: plain``."""
    besides: Any = field(default=None, kw_only=True)
    """What a method keeps at the server, or sends, besides; nothing unless it says so."""


@dataclass(frozen=True)
class Update:
    """What a client sends back."""

    weights: Weights
    """The locally trained model, without what stays at the client."""
    examples: int
    """n_k, the client's number of training images."""
    besides: Any = field(default=None, kw_only=True)
    """What a method sends back besides; nothing unless it says so."""


def private_buffers(party: Party) -> frozenset[str]:
    """Return the entries that the buffer policy keeps at the clients."""
    return buffer_entries(party.model) if party.buffers == "local" else frozenset()


def initial(server: Server) -> Global:
    """Return the initial weights (FedAvg, Algorithm 1: "initialize w_0")."""
    return Global(server.initial)


def at_rest(server: Server) -> Global:
    """Return the initial weights, and besides them a zero for every parameter."""
    return Global(server.initial, besides=zeros(server.model))


def zeros(model: nn.Module) -> dict[str, Tensor]:
    """Return a zero for every parameter, by name, on the CPU."""
    return {n: torch.zeros(p.shape) for n, p in model.named_parameters()}


def summed(rule: Rule, parts: Iterable[Weights], zero: Weights) -> dict[str, Tensor]:
    """Return sum_k s_k of what clients sent besides; with a rule, K times its average.

    Args:
        rule: The strategy's; with the mean, it is the sum in the order of the clients.
        parts: s_k, by entry.
        zero: A zero for every entry.
    """
    if isinstance(rule, Mean):
        total = dict(zero)
        for one in parts:
            total = {n: value + one[n] for n, value in total.items()}
        return total
    every = list(parts)
    if not every:
        return dict(zero)
    joint = rule.combine(every, [1.0] * len(every), zero)
    return {n: len(every) * joint[n] for n in zero}


def nothing(*given: object) -> None:
    """Return None whatever is given: nothing is sent besides the weights."""
    del given


def measured(state: Global) -> Weights:
    """Return the weights of the state: clients start from what is measured."""
    return state.weights


def taken(
    state: Global,
    mean: Weights,
    ups: Mapping[int, Update],
    server: Server,
    round: Round,
) -> Global:
    """Return the state with the clients' average as the global model."""
    del ups, server, round
    return replace(state, weights=mean)


@dataclass(frozen=True)
class Choices:
    """What a method of averages says besides its local training; by default, nothing new.

    What is sent and kept besides the weights is a tree as in :mod:`fedkd.payload`.
    """

    first: Callable[[Server], Global] = initial
    """``first(server)``: the state before the first round."""
    stays: Callable[[Party], frozenset[str]] = private_buffers
    """``stays(party)``: entries of the model that no client sends. Each client goes on
    from its own, at first from the initial ones."""
    starts: Callable[[Global], Weights] = measured
    """``starts(state)``: the whole model that clients start from, where that is not the
    one that is measured."""
    sent: Callable[[Global, int, Round], Any] = nothing
    """``sent(state, client_id, round)``: what a client gets besides the weights."""
    own: Callable[[Global, Client], nn.Module | None] | None = None
    """``own(state, client)``: the model with which a client predicts, where that is not
    the global one with the entries that stay at the client."""
    shares: Callable[[Mapping[int, Update]], Mapping[int, float]] | None = None
    """``shares(ups)``: the weight of each client in the mean; None: as the option
    ``weights`` of :class:`AverageConfig` says."""
    speaks: Callable[[Update], Tensor | None] = nothing
    """``speaks(up)``: with nested sub-models, ``[C]``, not 0 for the classes whose row of
    the last layer a client takes part in; None: all."""
    moved: Callable[[Global, Weights, Mapping[int, Update], Server, Round], Global] = (
        taken
    )
    """``moved(state, mean, ups, server, round)``: the next state, from the whole
    averaged model."""

    def __post_init__(self) -> None:
        """Refuse a function that cannot be called so."""
        check_choices(self)


@dataclass(frozen=True)
class Parted:
    """A model of which some entries never cross: each client has its own."""

    stays: Callable[[Party], frozenset[str]]
    """``stays(party)``: the entries that never cross."""

    def first(self, server: Server) -> Global:
        """Return the initial weights of what is shared."""
        kept = self.stays(server)
        return Global({n: w for n, w in server.initial.items() if n not in kept})

    @property
    def choices(self) -> Choices:
        """What a method of averages says for it."""
        return Choices(first=self.first, stays=self.stays)


class Averaging(Strategy[Global, Global, Update]):
    """Federated averaging whose clients' work is open."""

    requires = Requires(one_architecture=True)
    model_fields = ("weights",)
    no_average = ""
    choices: Choices = Choices()
    """What else is the method's own; may be set from the config in ``__init__``."""

    def __init__(self, config: Any = None, how: AverageConfig | None = None) -> None:
        """Take a config.

        Args:
            config: The method's; its default if None.
            how: How weights are averaged; the config itself if None and it says so,
                else as FedAvg does by default.
        """
        super().__init__(config)
        own = self.config if isinstance(self.config, AverageConfig) else AverageConfig()
        self.how = own if how is None else how
        if self.how.aggregate != "plain":
            # What stays at a client fits only the channels that it always has.
            fixed = ("average", "local", "reestimate")
            moving = ("average", "reestimate")
            buffers = fixed if self.how.aggregate == "static" else moving
            self.requires = Requires(nested_widths=True, buffers=buffers)

    @abstractmethod
    def train(self, client: Client, sent: Any) -> Any:
        """Do a client's work on its model, which holds what it starts from.

        Args:
            client: Its model has the received weights and the client's own entries.
            sent: What came besides the weights, from ``choices.sent``.

        Returns:
            What is sent back besides the trained weights; None for nothing.
        """

    @final
    def init(self, server: Server) -> Global:
        """Start; with sub-models, find out how they are nested."""
        state: Global = chosen(self.choices, "first", server, state=Global)
        if self.how.aggregate == "plain":
            return state
        return replace(state, nested=nest(server, self.how.aggregate))

    @final
    def broadcast(self, state: Global, client_id: int, round: Round) -> Global:
        """Send the global model, or the client's sub-model."""
        sent = self.choices.sent(state, client_id, round)
        weights: Weights = chosen(self.choices, "starts", state)
        if state.nested is not None:
            weights = state.nested.broadcast(weights, client_id, round.index)
            return Global(weights, besides=sent)
        # The same object for every client is checked and measured once.
        same = sent is state.besides and weights is state.weights
        return state if same else Global(weights, besides=sent)

    @final
    def local(self, down: Global, client: Client) -> Update:
        """ClientUpdate of Algorithm 1: the method's training from what was received."""
        private = self._stays(client)
        recall(down.weights, client, private)
        besides = self.train(client, down.besides)
        return report(client, private, besides)

    @final
    def aggregate(
        self, state: Global, ups: Mapping[int, Update], server: Server, round: Round
    ) -> Global:
        """w_{t+1} = sum_k n_k w_k / sum_k n_k over the clients of the round.

        With the option ``average``, its rule is in the place of the mean.
        """
        shares: Mapping[int, float] = (
            self.how.shares(ups)
            if self.choices.shares is None
            else chosen(self.choices, "shares", ups)
        )
        mean: Weights
        if state.nested is None:
            start = chosen(self.choices, "starts", state)
            mean = {**state.weights, **average(ups, shares, self.rule, start)}
        else:
            models = {k: up.weights for k, up in ups.items()}
            told = {k: chosen(self.choices, "speaks", up) for k, up in ups.items()}
            classes = {k: c for k, c in told.items() if c is not None}
            mean = state.nested.average(
                state.weights, models, shares, round.index, classes, rule=self.rule
            )
        given = (state, mean, ups, server, round)
        after: Global = chosen(self.choices, "moved", *given, state=Global)
        return after

    def expected(self, down: Global, party: Party) -> Update | None:
        """What was sent, but for what stays at the client; what is sent besides is open."""
        kept = self.choices.stays(party)
        return Update({n: w for n, w in down.weights.items() if n not in kept}, 0)

    @final
    def predictors(self, state: Global, server: Server) -> Mapping[str, nn.Module]:
        """Measure the global model, unless part of it stays at the clients."""
        if self._stays(server):
            return {}
        return {"global": server.load(state.weights)}

    @final
    def personal(self, state: Global, client: Client) -> nn.Module | None:
        """Return the client's own model, or the model with its entries; None if none."""
        if self.choices.own is not None:
            own: nn.Module | None = chosen(self.choices, "own", state, client)
            return own
        private = self._stays(client)
        if state.nested is None or not private:
            return own_model(state.weights, client, private)
        # Only static sub-models have entries of their own: round 0 is any round.
        weights = state.nested.broadcast(state.weights, client.id, 0)
        return own_model(weights, client, private)

    def _stays(self, party: Party) -> frozenset[str]:
        kept: frozenset[str] = chosen(self.choices, "stays", party)
        return kept


def local_update(
    weights: Weights,
    client: Client,
    private: frozenset[str] = frozenset(),
    loss: LossFunction | None = None,
) -> Update:
    """Train from ``weights`` and report; entries in ``private`` stay at the client."""
    recall(weights, client, private)
    client.train(loss)
    return report(client, private)


def recall(weights: Weights, client: Client, private: frozenset[str]) -> nn.Module:
    """Load the received weights and the client's own entries into its model."""
    client.load(weights)
    if private:
        first = {name: client.initial[name] for name in private}
        client.load(client.memory.get("private", first))
    return client.model


def report(
    client: Client, private: frozenset[str] = frozenset(), besides: Any = None
) -> Update:
    """Store the private entries and return the others."""
    weights = read_weights(client.model)
    if private:
        client.memory["private"] = {name: weights.pop(name) for name in sorted(private)}
    return Update(weights, len(client.data), besides=besides)


def own_model(
    weights: Weights, client: Client, private: frozenset[str]
) -> nn.Module | None:
    """Return the model with the client's own entries; None if there are none."""
    return recall(weights, client, private) if private else None


def average(
    ups: Mapping[int, Update],
    shares: Mapping[int, float] | None = None,
    rule: Rule = MEAN,
    before: Weights | None = None,
) -> dict[str, Tensor]:
    """Return sum_k n_k w_k / sum_k n_k (Algorithm 1, server), or with other weights.

    Args:
        ups: What clients sent.
        shares: The weight of each; None: its images.
        rule: Another average in the place of the mean.
        before: What clients started from; rules other than the mean need it.
    """
    weights = {k: up.examples for k, up in ups.items()} if shares is None else shares
    states = (up.weights for up in ups.values())
    return rule.combine(states, [weights[k] for k in ups], before or {})
