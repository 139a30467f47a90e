"""HeteroFL: clients train the first channels of the global model, as many as they can.

Paper: Diao, Ding, Tarokh, "HeteroFL: Computation and Communication Efficient Federated
    Learning for Heterogeneous Clients", ICLR 2021, arXiv:2010.01264v3.
Algorithm: Algorithm 1: a client of width r gets the first ceil(r C) channels of every
    hidden layer and trains them; each coordinate is averaged over those who hold it.
Code: by the first author, github.com/diaoenmao (the repository is named as the paper).
Deviations: BatchNorm follows the run's buffer policy; ``reestimate`` is nearest to the
    paper's static normalisation, whose statistics come from one pass over the clients'
    data after training (there, no statistics are kept in between). Models are those of
    the suite, not the paper's pre-activation networks. Gradient clipping and learning
    rates are the suite's to choose. The widths are fixed, not drawn in every round.
    Outputs are divided by the client's nominal width, r, also where ceil(r C) / C
    differs, and not before BatchNorm: it takes the factor away again, and statistics of
    scaled and of other outputs, averaged, would fit no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedkd.algorithms.fedavg import (
    AverageConfig,
    FedAvg,
    Global,
    private_buffers,
    recall,
    report,
)
from fedkd.algorithms.heterofl_config import HeteroFLConfig
from fedkd.ops.submodels import Scheme
from fedkd.ops.training import LossFunction
from fedkd.payload import Weights
from fedkd.strategy import Client, Requires, Round, Server, Strategy


@dataclass(frozen=True)
class Broadcast:
    """What the server sends."""

    weights: Weights
    """The client's sub-model."""
    rate: float
    """r, the client's width over the global one."""
    narrowed: tuple[str, ...]
    """The layers whose outputs are fewer than in the global model."""


@dataclass(frozen=True)
class Update:
    """What a client sends back."""

    weights: Weights
    """The locally trained sub-model."""
    examples: int
    """n_k, the client's number of training images."""
    classes: Tensor | None
    """With ``rows: owners``: 1 for classes that the client has, uint8 ``[C]``."""


class HeteroFL(Strategy[Global, Broadcast, Update]):
    """Averages of nested sub-models that hold the first channels."""

    requires = Requires(nested_widths=True)
    Config = HeteroFLConfig
    config: HeteroFLConfig

    def __init__(
        self, config: HeteroFLConfig | None = None, scheme: Scheme = "static"
    ) -> None:
        """Args: ``scheme`` says which channels a sub-model holds; not an option."""
        super().__init__(config)
        how = AverageConfig(aggregate=scheme, weights=self.config.weights)
        self._fedavg = FedAvg(how)
        self.requires = self._fedavg.requires

    def init(self, server: Server) -> Global:
        """Start from the initial weights; find out how the models are nested."""
        return self._fedavg.init(server)

    def broadcast(self, state: Global, client_id: int, round: Round) -> Broadcast:
        """Send the sub-model."""
        nested = state.nested
        assert nested is not None, "this average always has sub-models"
        down = self._fedavg.broadcast(state, client_id, round)
        narrowed = nested.narrowed(client_id) if self.config.scaler else ()
        return Broadcast(down.weights, nested.rate(client_id), narrowed)

    def local(self, down: Broadcast, client: Client) -> Update:
        """Train the sub-model, its activations scaled and its logits masked."""
        counts_C = client.data.label_counts()
        private = private_buffers(client)
        model = recall(down.weights, client, private)
        loss = masked_loss(counts_C, client.device) if self.config.masked else None
        with scaled_outputs(model, down.narrowed, down.rate):
            client.train(loss)
        update = report(client, private)
        owners = self.config.rows == "owners"
        classes = (counts_C > 0).to(torch.uint8) if owners else None
        return Update(update.weights, update.examples, classes)

    def aggregate(
        self, state: Global, ups: Mapping[int, Update], server: Server, round: Round
    ) -> Global:
        """Average every coordinate over those who hold it."""
        del server
        nested = state.nested
        assert nested is not None, "this average always has sub-models"
        uniform = self.config.weights == "uniform"
        weights = nested.average(
            state.weights,
            {k: up.weights for k, up in ups.items()},
            {k: 1 if uniform else up.examples for k, up in ups.items()},
            round.index,
            classes={k: up.classes for k, up in ups.items() if up.classes is not None},
        )
        return Global(weights, nested)

    def predictors(self, state: Global, server: Server) -> Mapping[str, nn.Module]:
        """Measure the global model."""
        return self._fedavg.predictors(state, server)

    def personal(self, state: Global, client: Client) -> nn.Module | None:
        """Under the buffer policy ``local``, a client has its own statistics."""
        return self._fedavg.personal(state, client)


@contextmanager
def scaled_outputs(
    model: nn.Module, layers: Sequence[str], rate: float
) -> Iterator[None]:
    """Divide the outputs of layers by ``rate`` while training (the paper's Scaler).

    Args:
        model: The sub-model.
        layers: Paths of the layers.
        rate: r, in (0, 1].
    """

    def divide(layer: nn.Module, inputs: Any, out: Tensor) -> Tensor | None:
        return out / rate if layer.training else None

    chosen = [] if rate == 1 else [model.get_submodule(path) for path in layers]
    handles = [layer.register_forward_hook(divide) for layer in chosen]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def masked_loss(counts_C: Tensor, device: torch.device) -> LossFunction | None:
    """Return :func:`masked_cross_entropy` for a client; None if it has every class."""
    absent_C = (counts_C == 0).to(device)
    if not absent_C.any():
        return None
    return lambda logits, y: masked_cross_entropy(logits, y, absent_C)


def masked_cross_entropy(logits_BC: Tensor, y: Tensor, absent_C: Tensor) -> Tensor:
    """Return the cross-entropy with logits of absent classes at 0; a scalar.

    Zero, not minus infinity, as in the released code: an absent class keeps its place in
    the softmax and gets no gradient.

    Args:
        logits_BC: ``[B, C]``.
        y: Labels ``[B]``.
        absent_C: Booleans ``[C]``: the classes that the client does not have.
    """
    return F.cross_entropy(logits_BC.masked_fill(absent_C, 0.0), y)
