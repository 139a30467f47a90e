"""Nested sub-models of clients: what a strategy needs to ride on a width scheme.

Clients have one family at several widths and the server the widest. A strategy keeps a
:class:`Nested` in its state, made once by :func:`nest`; it is plain data and travels into
checkpoints. Then every verb has one call for what is usually one line::

    def init(self, server):
        return State(server.initial, nest(server, "rolling"))

    def broadcast(self, state, client_id, round):
        return Down(state.nested.broadcast(state.weights, client_id, round.index))

    def local(self, down, client):                 # as ever: its model is the narrow one
        client.load(down.weights)
        ...

    def aggregate(self, state, ups, server, round):
        models = {k: up.weights for k, up in ups.items()}
        shares = {k: up.examples for k, up in ups.items()}    # or 1 for each: uniform
        weights = state.nested.average(state.weights, models, shares, round.index)

``broadcast`` and ``average`` of one round must be given the same round number: it says
where a rolling or random window stands. What else there is:

* ``nested.experts(whole, models, counts_KC, round)``: one whole model by class, averaged
  with a weight for each client and class over the coordinates that are covered.
* ``nested.whole(whole, k, weights, round)``: the whole model with one client's coordinates
  put in.
* ``nested.where(k, round)``: the index map itself, for :mod:`fedkd.ops.submodels`.
* ``server.client_model(k, up.weights)``: a client's own narrow model, as a teacher.

Where all widths are 1, ``broadcast`` sends the same bytes and ``average`` gives the same
bits as :func:`fedkd.algorithms.averaging.average`.

A strategy that offers this declares ``Requires(nested_widths=True)``; which models these
are is the suite's business: ``models: [{name: cnn, widths: [1, 0.5, 0.25]}]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fedkd.ops.axes import Axes, find_axes
from fedkd.ops.submodels import (
    IndexMap,
    Part,
    Scheme,
    class_averages,
    extract,
    index_map,
)
from fedkd.ops.widths import Sizes, kept_channels
from fedkd.payload import Weights
from fedkd.robust.rule import MEAN, Rule
from fedkd.strategy import Server, read_weights


@dataclass(frozen=True)
class Nested:
    """Which sub-model of the server's model each client has; plain data."""

    scheme: Scheme
    """Which channels a sub-model holds in which round."""
    axes: Axes
    """The groups of the server's model."""
    kinds: tuple[int, ...]
    """The number of each client's architecture, by client."""
    sizes: tuple[Sizes, ...]
    """By architecture: channels of each group."""
    rates: tuple[float, ...]
    """By architecture: its width over the server's."""
    seed: int
    """Names the draws of the scheme ``random``."""

    def where(self, k: int, round: int) -> IndexMap:
        """Return where the coordinates of client ``k`` are in round ``round``."""
        sizes = self.sizes[self.kinds[k]]
        return index_map(self.axes, sizes, self.scheme, round, (self.seed, k))

    def rate(self, k: int) -> float:
        """Return the width of client ``k`` over the server's, in (0, 1]."""
        return self.rates[self.kinds[k]]

    def narrowed(self, k: int) -> tuple[str, ...]:
        """Return the layers whose outputs are fewer than the server's model has.

        Convolutions and linear layers, but those that BatchNorm reads.
        """
        sizes = self.sizes[self.kinds[k]]
        pairs = zip(self.axes.channels, sizes, strict=True)
        fewer = {g for g, (total, kept) in enumerate(pairs) if kept < total}
        return tuple(
            path for path, group in self.axes.producers.items() if group in fewer
        )

    def broadcast(self, whole: Weights, k: int, round: int) -> Weights:
        """Return what client ``k`` gets in round ``round``: its sub-model, alone."""
        where = self.where(k, round)
        return whole if where.is_whole else extract(whole, where)

    def average(
        self,
        whole: Weights,
        models: Mapping[int, Weights],
        shares: Mapping[int, float],
        round: int,
        classes: Mapping[int, Tensor] | None = None,
        *,
        rule: Rule = MEAN,
    ) -> dict[str, Tensor]:
        """Return the whole model, averaged over those who hold a coordinate.

        Coordinates that nobody held keep their bits, and so do entries that no client
        sent.

        Args:
            whole: The whole model before.
            models: The sub-models of round ``round``, by client.
            shares: The weight of each client: its sample count, or 1.
            round: Number of the round in which the sub-models were sent out.
            classes: By client, ``[C]``, not 0 for logits that it speaks for; all of them
                for a client that is missing.
            rule: Another average in the place of the mean.

        Raises:
            ValueError: If the weights cannot be normalised.
            ConfigError: If the rule compares whole models and one is a part.
        """
        parts = [
            Part(
                weights,
                self.where(k, round),
                shares[k],
                classes[k].bool() if classes and k in classes else None,
            )
            for k, weights in models.items()
        ]
        return rule.combine_parts(whole, parts)

    def experts(
        self,
        whole: Weights,
        models: Mapping[int, Weights],
        counts_KC: Tensor,
        round: int,
    ) -> dict[int, dict[str, Tensor]]:
        """Return, by class, the whole model averaged with n_kc over what is covered.

        A coordinate that no client with images of the class holds keeps its value in
        ``whole``, so give the average of the round. A class that no client has, has no
        expert.

        Args:
            whole: The whole model, with the width of the server's.
            models: The sub-models of round ``round``, by client.
            counts_KC: n_kc, images of each class, in the order of ``models``.
            round: Number of the round in which the sub-models were sent out.
        """
        pairs = [(weights, self.where(k, round)) for k, weights in models.items()]
        return class_averages(whole, pairs, counts_KC)

    def whole(
        self, whole: Weights, k: int, weights: Weights, round: int
    ) -> dict[str, Tensor]:
        """Return the whole model with the coordinates of one client put in."""
        return self.average(whole, {k: weights}, {k: 1.0}, round)


def nest(server: Server, scheme: Scheme) -> Nested:
    """Return how the clients' models are nested in the server's.

    Args:
        server: The server's side, before the first round.
        scheme: Which channels a sub-model holds.

    Raises:
        ConfigError: If the groups of axes cannot be found, or a client's model is no
            sub-model of the server's.
    """
    axes = find_axes(server.model, server.inputs.shape)
    numbers: dict[str, int] = {}
    sizes: list[Sizes] = []
    rates: list[float] = []
    for k, spec in enumerate(server.clients):
        if spec.key in numbers:
            continue
        numbers[spec.key] = len(sizes)
        part = (
            server.initial
            if spec.key == server.spec.key
            else read_weights(server.client_model(k))
        )
        sizes.append(kept_channels(axes, server.initial, part))
        width = float(spec.options.get("width", 1.0))
        rates.append(width / float(server.spec.options.get("width", 1.0)))
    kinds = tuple(numbers[spec.key] for spec in server.clients)
    # Only this scheme draws, so that the others leave the server's stream alone.
    seed = int(torch.randint(2**31, ())) if scheme == "random" else 0
    return Nested(scheme, axes, kinds, tuple(sizes), tuple(rates), seed)
