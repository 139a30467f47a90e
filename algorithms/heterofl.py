"""HeteroFL: clients train the first channels of the global model, as many as they can.

Paper: Diao, Ding, Tarokh, "HeteroFL: Computation and Communication Efficient Federated
    Learning for Heterogeneous Clients", ICLR 2021, arXiv:2010.01264v3.
Algorithm: Algorithm 1: a client of width r gets the first ceil(r C) channels of every
    hidden layer and trains them; each coordinate is averaged over those who hold it.
    Besides the sub-model a client gets its width over the global one and the names of
    the layers that are narrower; with ``rows: owners`` it sends which classes it has.
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

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedkd.algorithms.averaging import (
    AverageConfig,
    Averaging,
    Choices,
    Global,
    Update,
)
from fedkd.algorithms.heterofl_config import HeteroFLConfig
from fedkd.ops.submodels import Scheme
from fedkd.ops.training import LossFunction
from fedkd.strategy import Client, Requires, Round


@dataclass(frozen=True)
class Narrow:
    """What the server sends besides the sub-model."""

    rate: float
    """r, the client's width over the global one."""
    narrowed: tuple[str, ...]
    """The layers whose outputs are fewer than in the global model."""


def narrow(state: Global, client_id: int, round: Round) -> Narrow:
    """Return how narrow the sub-model of a client is."""
    del round
    nested = state.nested
    assert nested is not None, "this average always has sub-models"
    return Narrow(nested.rate(client_id), nested.narrowed(client_id))


def owned(up: Update) -> Tensor | None:
    """Return the classes that a client told it has."""
    classes: Tensor | None = up.besides
    return classes


class Narrowed(Averaging):
    """Averages of nested sub-models; which channels they hold is open."""

    Config = HeteroFLConfig
    config: HeteroFLConfig
    choices = Choices(sent=narrow, speaks=owned)

    def __init__(self, config: HeteroFLConfig | None = None) -> None:
        chosen = self.Config() if config is None else config
        how = AverageConfig(aggregate=self.scheme(chosen), weights=chosen.weights)
        super().__init__(chosen, how)

    @staticmethod
    @abstractmethod
    def scheme(config: Any) -> Scheme:
        """Return which channels a sub-model holds."""

    @final
    def train(self, client: Client, sent: Narrow) -> Tensor | None:
        """Train the sub-model, its activations scaled and its logits masked.

        Returns:
            1 for each class that the client has, uint8 ``[C]``; with ``rows: all`` it
            does not tell: None.
        """
        config, counts_C = self.config, client.data.label_counts()
        loss = masked_loss(counts_C, client.device) if config.masked else None
        layers = sent.narrowed if config.scaler else ()
        with scaled_outputs(client.model, layers, sent.rate):
            client.train(loss)
        return (counts_C > 0).to(torch.uint8) if config.rows == "owners" else None


class HeteroFL(Narrowed):
    """Averages of nested sub-models that hold the first channels."""

    requires = Requires(nested_widths=True)

    @staticmethod
    def scheme(config: HeteroFLConfig) -> Scheme:
        """Always the first channels, as many as the client can hold."""
        del config
        return "static"


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
