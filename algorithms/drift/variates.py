"""Variates of clients whose mean the server keeps, where answers may be lost.

SCAFFOLD and FedDyn rest on c = sum_k c_k / N: the server adds up by how much clients have
changed their variates. What it has not taken must not have changed at the client either,
or c is another than the mean until the end of the run. So the server tells each client
which answer it took last, by its round, and a client whose last answer is another one goes
on from the variate that it had before. A late answer counts in no variate: its client may
have made another one since, from the same variate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from fedkd.algorithms.averaging import Global, Update, zeros
from fedkd.payload import Weights
from fedkd.strategy import Client, Round, Server

_MEMORY = "variate"


@dataclass(frozen=True)
class Variates:
    """What the server keeps besides the model."""

    mean: Weights
    """c, the mean of the variates of all clients."""
    taken: Mapping[int, int] = field(default_factory=dict)
    """The round, from 0, of the last answer of each client that counts in c."""

    def asked(self, k: int, round: Round, mean: Weights | None = None) -> Asked:
        """Return what a client is sent besides the model; c where it needs that."""
        return Asked(mean, round.index, self.taken.get(k))

    def moved(self, change: Weights, clients: Iterable[int], round: Round) -> Variates:
        """Return them after a round.

        Args:
            change: Of c.
            clients: Those whose variates have changed in the round and made it.
            round: The round.
        """
        mean = {n: value + change[n] for n, value in self.mean.items()}
        return Variates(mean, {**self.taken, **dict.fromkeys(clients, round.index)})


@dataclass(frozen=True)
class Asked:
    """What a client is sent besides the model."""

    mean: Weights | None
    """c, or None where clients have no use for it."""
    round: int
    """Which round it is, from 0."""
    taken: int | None
    """The round of its last answer that counts in c; None before there is one."""


@dataclass(frozen=True)
class Answered:
    """What a client sends besides the model."""

    change: Weights | None
    """By how much its variate has changed; None where its weights say so."""
    round: int
    """The round, from 0, in which it was made: a late one comes in another."""


@dataclass(frozen=True)
class Kept:
    """What a client remembers of its variate."""

    round: int
    """The round of its last answer."""
    before: Weights
    """c_k as it was before that."""
    after: Weights
    """c_k if that answer was taken."""


def at_rest(server: Server) -> Global:
    """Return the initial weights, and besides them variates of zero."""
    return Global(server.initial, besides=Variates(zeros(server.model)))


def own(client: Client, sent: Asked) -> Weights:
    """Return the client's variate c_k as it counts at the server."""
    kept: Kept | None = client.memory.get(_MEMORY)
    if kept is None:
        return zeros(client.model)
    return kept.after if kept.round == sent.taken else kept.before


def keep(client: Client, sent: Asked, before: Weights, after: Weights) -> None:
    """Remember a new variate, and the old one until the new one is taken."""
    client.memory[_MEMORY] = Kept(sent.round, before, after)


def in_time(ups: Mapping[int, Update], round: Round) -> tuple[int, ...]:
    """Return the clients whose answer was made in this round."""
    said: Iterator[tuple[int, Answered]] = ((k, up.besides) for k, up in ups.items())
    return tuple(k for k, one in said if one.round == round.index)
