"""FedKD of Wu et al.: own mentors, a shared mentee, updates of few singular values.

Paper: Wu, Wu, Lyu, Huang, Xie, "Communication-efficient federated learning via knowledge
    distillation", Nature Communications 2022, arXiv:2108.13323.
Algorithm: Algorithm 1; the losses are Eqs. 1 to 7, the compression Eqs. 8 and 9.
Code: github.com/wuch15/FedKD, for language models.
Deviations: what is compressed is the change of the mentee over a client's local training,
    where the paper exchanges the gradient of every step. Hidden states are the features;
    there are no attention maps. Peers and the divisors of adaptive weights are constants
    of a step, and a divisor is 1e-6 at least. Both networks learn at the run's rate. K is
    the least with a share T of the energy or more, and a tensor whose factors would be no
    smaller is sent itself; vectors are. A client that did not take part in the round
    before, or whose answer to it was lost or late, gets the whole mentee, which has the
    server's architecture. Nothing is encrypted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from fedkd.algorithms.local import go_on
from fedkd.algorithms.mixed.companion import (
    companion,
    members,
    sendable,
    shared_predictor,
    train_together,
)
from fedkd.algorithms.mixed.lowrank import Update, compressed, restored
from fedkd.algorithms.mixed.own_models import OwnModels, features_of
from fedkd.config import Config
from fedkd.ops.distillation import kl
from fedkd.ops.heads import feature_size, head_of
from fedkd.party import ModelSpec
from fedkd.payload import Weights
from fedkd.strategy import Client, Party, Round, Server, copy_weights, read_weights

_MENTEE, _BRIDGE = "mentee", "bridge"
"""Where a client keeps the mentee that it started from, and W^h."""
_LEAST = 1e-6


class FedKDConfig(Config):
    """Hyper-parameters of FedKD."""

    distil: float = Field(1.0, ge=0)
    """Weight of the adaptive distillation losses (Eqs. 3 and 4); 1 in the paper."""
    hidden: float = Field(1.0, ge=0)
    """Weight of the adaptive hidden loss (Eq. 5); 1 in the paper."""
    energy_start: float = Field(0.95, ge=0, le=1)
    """T_start, the share of an update's energy that is kept in the first round; 0.95 in
    public codes."""
    energy_end: float = Field(0.98, ge=0, le=1)
    """T_end, that of the last round; 0.98 in public codes. 1 loses nothing."""
    weights: Literal["examples", "uniform"] = "uniform"
    """The weight of a client in the mean update: 1 (Algorithm 1, line 22), or its number
    of images."""


@dataclass(frozen=True)
class Mentee:
    """The server's state."""

    model: ModelSpec
    """The mentee's architecture."""
    weights: Weights
    """The mentee."""
    update: Update
    """What it has last been changed by, as it is sent."""
    index: int = -1
    """The round of that update, from 0; -1 before there is one."""
    clients: tuple[int, ...] = ()
    """Who took part in that round, and needs the update alone in the next one."""


@dataclass(frozen=True)
class Lesson:
    """What the server sends."""

    model: ModelSpec
    """The mentee's architecture; a text in the header of the message."""
    weights: Weights | None
    """The whole mentee, or None where the update is enough."""
    update: Update
    """The global update, compressed; empty beside a whole mentee."""
    energy: float
    """T of this round."""
    round: int
    """Which round it is, from 0."""


@dataclass(frozen=True)
class Gradient:
    """What a client sends."""

    update: Update
    """How it changes the mentee, compressed."""
    examples: int
    """n_k, its number of images."""
    round: int
    """The round, from 0, in which it was made: a late one comes in another."""


class FedKD(OwnModels[Mentee, Lesson, Gradient]):
    """Mutual distillation of own mentors and a shared mentee."""

    no_average = ""
    varying = ("update",)  # as many singular values as a share of the energy needs
    Config = FedKDConfig
    config: FedKDConfig

    def init(self, server: Server) -> Mentee:
        """Start with the server's initial weights.

        Raises:
            NotApplicableError: If the mentee is not made of features and a head.
        """
        feature_size(server.model)
        return Mentee(server.spec, server.initial, {})

    def broadcast(self, state: Mentee, client_id: int, round: Round) -> Lesson:
        """Send the global update, or the mentee to who lacks the one before."""
        energy, t = self._energy(round), round.index
        # In a round without answers, clients have taken the update already.
        if client_id in state.clients and t == state.index + 1:
            return Lesson(state.model, None, state.update, energy, t)
        return Lesson(state.model, state.weights, {}, energy, t)

    def train(self, client: Client, down: Lesson) -> Gradient:
        """Update the mentee (lines 20 to 22), train both, compress (lines 6 to 10)."""
        start = down.weights
        if start is None:
            start = changed(client.memory[_MENTEE], down.update)
        mentee = companion(client, down.model, start)
        networks = {"mentor": client.model, "mentee": mentee}
        if self.config.hidden:
            networks["bridge"] = _bridge(client, mentee)
        train_together(client, networks, self._losses)
        if self.config.hidden:
            client.memory[_BRIDGE] = read_weights(networks["bridge"])
        after = sendable(client, mentee)
        client.memory[_MENTEE] = {n: start[n] for n in after}
        change = {n: value - start[n] for n, value in after.items()}
        update = compressed(change, down.energy, client.device)
        return Gradient(update, len(client.data), down.round)

    def expected(self, down: Lesson, party: Party) -> Gradient | None:
        """An update of all entries; open where some of them stay at the client."""
        entries = down.update if down.weights is None else down.weights
        return None if party.buffers == "local" else Gradient(entries, 0, 0)

    def aggregate(
        self, state: Mentee, ups: Mapping[int, Gradient], server: Server, round: Round
    ) -> Mentee:
        """Average the updates, compress their mean, and apply it as clients will."""
        uniform = self.config.weights == "uniform"
        shares = [1 if uniform else up.examples for up in ups.values()]
        updates = (restored(up.update) for up in ups.values())
        zero = {n: torch.zeros_like(value) for n, value in state.weights.items()}
        mean = self.rule.combine(updates, shares, zero)
        update = compressed(mean, self._energy(round), server.device)
        weights = {**state.weights, **changed(state.weights, update)}
        t = round.index
        clients = tuple(k for k, up in ups.items() if up.round == t)
        return Mentee(state.model, weights, update, t, clients)

    def predictors(self, state: Mentee, server: Server) -> Mapping[str, nn.Module]:
        """Measure the mentee, unless part of it stays at the clients."""
        return shared_predictor(server, state.weights)

    def personal(self, state: Mentee, client: Client) -> nn.Module:
        """Predict with the client's mentor."""
        del state
        return go_on(client)

    def _energy(self, round: Round) -> float:
        """Return T(t) = T_start + (T_end - T_start) t, t from 0 to 1 (Eq. 9)."""
        t = round.index / max(round.total - 1, 1)
        first, last = self.config.energy_start, self.config.energy_end
        return first + (last - first) * t

    def _losses(
        self, together: nn.Module, x: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the mentor's loss (Eq. 6), and what the mentee's (Eq. 7) has besides.

        The hidden loss is in both and the same: it stands once, and reaches both.
        """
        networks = members(together)
        mentor, mentee = networks["mentor"], networks["mentee"]
        h_t, h_s = features_of(mentor, x), features_of(mentee, x)
        t_BC, s_BC = head_of(mentor)(h_t), head_of(mentee)(h_s)
        task_t = functional.cross_entropy(t_BC, y)
        task_s = functional.cross_entropy(s_BC, y)
        trust = 1 / (task_t + task_s).detach().clamp(min=_LEAST)
        of_mentor, of_mentee = task_t, task_s
        if self.config.distil:
            weight = self.config.distil * trust
            of_mentor = of_mentor + weight * kl(s_BC.detach(), t_BC)
            of_mentee = of_mentee + weight * kl(t_BC.detach(), s_BC)
        if self.config.hidden:
            apart = functional.mse_loss(networks["bridge"](h_s), h_t)
            of_mentor = of_mentor + self.config.hidden * trust * apart
        return of_mentor, of_mentee


def changed(weights: Weights, update: Update) -> dict[str, Tensor]:
    """Return the entries that an update has, changed by it."""
    return {n: weights[n] + value for n, value in restored(update).items()}


def _bridge(client: Client, mentee: nn.Module) -> nn.Module:
    """Return W^h, the client's map of the mentee's features to its mentor's.

    Raises:
        NotApplicableError: If one of the models is not made of features and a head.
    """
    sizes = feature_size(mentee), feature_size(client.model)
    like = next(client.model.parameters())
    bridge = nn.Linear(*sizes, bias=False).to(like)
    copy_weights(client.memory.get(_BRIDGE, {}), bridge)
    return bridge
