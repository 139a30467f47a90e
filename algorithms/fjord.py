"""FjORD: ordered dropout, so that every prefix of the channels is a network.

Paper: Horvath, Laskaridis, Almeida, Leontiadis, Venieris, Lane, "FjORD: Fair and Accurate
    Federated Learning under heterogeneous targets with Ordered Dropout", NeurIPS 2021,
    arXiv:2102.13451v5.
Algorithm: Algorithm 1: in every step a client draws a width p of those up to its own and
    trains the first ceil(p C) channels of all hidden layers; the server averages each
    coordinate over those who hold it, weighted by their images.
Code: none by the authors; github.com/adap/flower, ``baselines/fjord``, checked by them.
Deviations: none known from that code: one p for all layers in a step; shared weights, but
    BatchNorm statistics of each width on their own; no temperature in self-distillation.
    Statistics of a width are averaged over the clients that have it, by images; those of
    the global model come from clients of full width, so where there are none use the
    buffer policy ``reestimate``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fedkd.algorithms.fjord_config import FjORDConfig
from fedkd.algorithms.fjord_dropout import OrderedDropout
from fedkd.algorithms.nested import Nested, nest
from fedkd.errors import ConfigError
from fedkd.ops.averaging import buffer_entries
from fedkd.ops.training import train
from fedkd.ops.widths import Sizes, kept_channels
from fedkd.payload import Weights
from fedkd.strategy import (
    Client,
    Party,
    Requires,
    Round,
    Server,
    Strategy,
    read_weights,
)

WIDTH = "width"


@dataclass(frozen=True)
class State:
    """What the server remembers."""

    weights: Weights
    """The global model, with the BatchNorm statistics of the full width."""
    statistics: Mapping[float, Weights]
    """Buffers by width over the global one, of narrower widths."""
    nested: Nested
    """The sub-models of the clients."""
    name: str
    """The registered name of the model."""
    options: Mapping[str, Any]
    """Its options."""
    widths: tuple[float, ...]
    """P, ascending."""


@dataclass(frozen=True)
class Broadcast:
    """What the server sends."""

    weights: Weights
    """The client's sub-model, with the statistics of its own width."""
    rate: float
    """p_max, the client's width over the global one."""
    statistics: Mapping[float, Weights]
    """Buffers of narrower widths; a width that nobody has trained is missing."""
    name: str
    """The registered name of the model."""
    narrower: Mapping[float, Mapping[str, Any]]
    """By width over the global one, below the client's own: options of the model."""


@dataclass(frozen=True)
class Update:
    """What a client sends back."""

    weights: Weights
    """The locally trained sub-model."""
    examples: int
    """n_k, the client's number of training images."""
    statistics: Mapping[float, Weights]
    """Buffers of narrower widths."""


class FjORD(Strategy[State, Broadcast, Update]):
    """Averages of nested sub-models that train by ordered dropout."""

    requires = Requires(nested_widths=True, buffers=("average", "reestimate"))
    model_fields = ("weights",)
    no_average = ""
    Config = FjORDConfig
    config: FjORDConfig

    def init(self, server: Server) -> State:
        """Start from the initial weights; find out how the models are nested.

        Raises:
            ConfigError: If the models do not nest, or two widths are one network.
        """
        nested = nest(server, "static")
        chosen = nested.rates if self.config.widths is None else self.config.widths
        widths = tuple(sorted({float(p) for p in chosen}))
        check_widths(widths, nested, server)
        spec = server.spec
        return State(server.initial, {}, nested, spec.name, spec.options, widths)

    def broadcast(self, state: State, client_id: int, round: Round) -> Broadcast:
        """Send the sub-model of p_max and the statistics of widths up to it."""
        rate = state.nested.rate(client_id)
        weights = state.nested.broadcast(state.weights, client_id, round.index)
        narrower = {p: at_width(p, state.options) for p in state.widths if p < rate}
        known = {p: state.statistics[p] for p in narrower if p in state.statistics}
        own = state.statistics.get(rate, {})
        return Broadcast({**weights, **own}, rate, known, state.name, narrower)

    def local(self, down: Broadcast, client: Client) -> Update:
        """Train with a width drawn in every step."""
        model = client.load(down.weights)
        examples = len(client.data)
        if not down.narrower:
            client.train()
            return Update(read_weights(model), examples, {})
        prefixes = {p: prefix(p, down, client) for p in down.narrower}
        net = OrderedDropout(model, prefixes, self.config.distil)
        soft = net.distillation if self.config.distil else None
        report = train(net, client.data, client.training, penalty=soft)
        # With distillation, each image goes through two widths.
        client.count_examples(report.examples * (2 if self.config.distil else 1))
        client.log("train_loss", report.loss)
        statistics = {p: _buffers(prefix) for p, prefix in prefixes.items()}
        return Update(read_weights(model), examples, statistics)

    def expected(self, down: Broadcast, party: Party) -> Update:
        """The sub-model that was sent; statistics are of widths that were drawn."""
        del party
        return Update(down.weights, 0, {})

    def aggregate(
        self, state: State, ups: Mapping[int, Update], server: Server, round: Round
    ) -> State:
        """Average parameters over those who hold them, and statistics by width."""
        nested = state.nested
        kept = buffer_entries(server.model)
        shares = {k: up.examples for k, up in ups.items()}
        models = {
            k: {name: value for name, value in up.weights.items() if name not in kept}
            for k, up in ups.items()
        }
        weights = nested.average(
            state.weights, models, shares, round.index, rule=self.rule
        )
        sent: dict[float, list[tuple[int, Weights]]] = {}
        for k, up in ups.items():
            own = {name: up.weights[name] for name in up.weights if name in kept}
            for p, buffers in {**up.statistics, nested.rate(k): own}.items():
                sent.setdefault(p, []).append((up.examples, buffers))
        averaged = {
            p: self._of_width(pairs, state.weights) for p, pairs in sorted(sent.items())
        }
        weights |= averaged.pop(1.0, {})
        statistics = {**state.statistics, **averaged}
        return State(
            weights, statistics, nested, state.name, state.options, state.widths
        )

    def _of_width(
        self, pairs: Sequence[tuple[int, Weights]], like: Weights
    ) -> dict[str, torch.Tensor]:
        """Return the average of the statistics of one width, weighted by images."""
        whole = {
            n: like[n][tuple(slice(s) for s in b.shape)] for n, b in pairs[0][1].items()
        }
        return self.rule.combine([b for _, b in pairs], [n for n, _ in pairs], whole)

    def predictors(self, state: State, server: Server) -> Mapping[str, nn.Module]:
        """Measure the global model at full width."""
        return {"global": server.load(state.weights)}


def at_width(p: float, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a model of width ``p`` over that of the global one."""
    return {**options, WIDTH: p * float(options.get(WIDTH, 1.0))}


def check_widths(widths: Sequence[float], nested: Nested, server: Server) -> None:
    """Check that every width is a network of its own.

    Raises:
        ConfigError: If a width gives no part of the global model, leaves a layer without
            channels, or has the channels of another.
    """
    sizes_of = dict(zip(nested.rates, nested.sizes, strict=True))
    for p in widths:
        if p not in sizes_of:
            # Its weights are drawn and not used: that must not move the stream.
            with torch.random.fork_rng(devices=[]):
                options = at_width(p, server.spec.options)
                part = read_weights(server.build(server.spec.name, **options))
            sizes_of[p] = kept_channels(nested.axes, server.initial, part)
    seen: dict[Sizes, float] = {}
    for p, sizes in sorted(sizes_of.items()):
        if 0 in sizes:
            raise ConfigError(
                f"fjord: width {p:g} leaves a layer of {server.spec.name} without "
                "channels; expected at least one in each. Take a wider one."
            )
        if sizes in seen:
            raise ConfigError(
                f"fjord: widths {seen[sizes]:g} and {p:g} have the same channels in "
                f"{server.spec.name}; expected networks that differ. Leave one out, or "
                "take a wider model."
            )
        seen[sizes] = p


def prefix(p: float, down: Broadcast, client: Client) -> nn.Module:
    """Return the network of a narrower width, with its own statistics."""
    # Its weights are drawn and not used: that must not move the client's stream.
    with torch.random.fork_rng(devices=[]):
        prefix = client.build(down.name, **down.narrower[p])
    known = down.statistics.get(p, {})
    for name, value in prefix.state_dict().items():
        if name in known:
            value.copy_(known[name])
    return prefix


def _buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    kept = buffer_entries(model)
    return {n: value for n, value in read_weights(model).items() if n in kept}
