"""FedALA: clients learn which weights of the global model to take, and start from those.

Paper: Zhang, Hua, Wang, Song, Xue, Ma, Guan, "FedALA: Adaptive Local Aggregation for
    Personalized Federated Learning", AAAI 2023, arXiv:2212.01197v4.
Algorithm: Algorithm 1. Before its training a client takes the lower layers of the global
    model, and in the upper ones own + (global - own) W, by entry; W is trained on a share
    of its images, to convergence at first and for one pass later on. The server averages
    whole models as in FedAvg.
Code: github.com/TsingZ0/FedALA.
Deviations: the share of images is drawn, where the code takes a stretch of them, and the
    first training of W ends after ``start_passes`` at the latest. As in the code, a client
    predicts with what it would start its next round from, for which W is trained, and
    counted, each time; here W is kept from rounds only. Clients that are not in a round do
    nothing in it, where the code's all aggregate; the first time, a client starts from the
    global model. W is trained on statistics of batches; BatchNorm's own are the global
    model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import pstdev

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from fedkd.algorithms.averaging import (
    Averaging,
    Choices,
    Global,
    private_buffers,
    recall,
)
from fedkd.algorithms.personal.parts import PartsConfig
from fedkd.data.images import ClientData
from fedkd.payload import Weights
from fedkd.strategy import Client

_OWN, _TAKEN = "own", "taken"


class FedALAConfig(PartsConfig):
    """Hyper-parameters of FedALA."""

    layers: int = Field(1, ge=0)
    """p, the number of upper layers in which weights are learnt; 1 as in the code, whose
    2 counts the classifier's weight and bias. 0 is FedAvg, bit for bit."""
    share: float = Field(0.8, gt=0, le=1)
    """s, the share of a client's images on which W is trained; 0.8 in paper and code."""
    eta: float = Field(1.0, ge=0)
    """eta, the rate of W; 1 in paper and code."""
    start_window: int = Field(10, ge=2)
    """Passes over whose losses the first training of W is held to have converged; 10 in
    the code."""
    start_spread: float = Field(0.1, ge=0)
    """Standard deviation of these losses below which it has; 0.1 in the code."""
    start_passes: int = Field(100, ge=1)
    """Passes after which the first training of W ends in any case; the code has no end."""

    def converged(self, losses: Sequence[float]) -> bool:
        """Say whether the first training of W ends, after a loss of each pass."""
        last = losses[-self.start_window :]
        steady = len(losses) > self.start_window and pstdev(last) < self.start_spread
        return steady or len(losses) >= self.start_passes


class FedALA(Averaging):
    """FedAvg whose clients start from a learnt mixture of their model and the global."""

    Config = FedALAConfig
    config: FedALAConfig

    def __init__(self, config: FedALAConfig | None = None) -> None:
        super().__init__(config)
        self.choices = Choices(own=self._initialised)

    def train(self, client: Client, sent: None) -> None:
        """Aggregate locally, then train; keep W and the upper layers."""
        taken = self._aggregate(client)
        if taken:
            client.memory[_TAKEN] = taken
            entries = [w.mean() for w in taken.values()]
            client.log("fedala_taken", torch.stack(entries).mean())
        client.train()
        client.memory[_OWN] = {
            n: p.detach().to("cpu", copy=True) for n, p in self._upper(client).items()
        }

    def _initialised(self, state: Global, client: Client) -> nn.Module:
        """Return what the client would start its next round from."""
        recall(state.weights, client, private_buffers(client))
        self._aggregate(client)
        return client.model

    def _aggregate(self, client: Client) -> dict[str, Tensor]:
        """Put own + (global - own) W into a model that holds the global one; return W.

        Of a client without an own model yet, W is empty: its model stays as it is.
        """
        upper = self._upper(client)
        if not upper or _OWN not in client.memory:
            return {}
        of_all = {n: p.detach().clone() for n, p in upper.items()}
        own = {n: client.memory[_OWN][n].to(client.device) for n in upper}
        taken = {n: torch.ones_like(w) for n, w in own.items()}
        first = _TAKEN not in client.memory
        if not first:
            taken = {n: client.memory[_TAKEN][n].to(client.device) for n in upper}
        data = part_of(client.data, self.config.share)
        losses: list[float] = []
        while not losses or (first and not self.config.converged(losses)):
            taken, loss = self._pass(client, data, own, of_all, taken)
            losses.append(loss)
        client.load(aggregated(own, of_all, taken))
        return {n: w.cpu() for n, w in taken.items()}

    def _upper(self, client: Client) -> dict[str, nn.Parameter]:
        names = self.config.upper(client)
        return {n: p for n, p in client.model.named_parameters() if n in names}

    def _pass(
        self,
        client: Client,
        data: ClientData,
        own: Weights,
        of_all: Weights,
        taken: Weights,
    ) -> tuple[dict[str, Tensor], float]:
        """Train W for one pass over the data; return it and the last batch's loss."""
        model, how = client.model.train(), client.training
        fixed = {n: p.detach() for n, p in model.named_parameters()}
        # Batches renew copies of BatchNorm's statistics.
        fixed |= {n: b.clone() for n, b in model.named_buffers()}
        after, loss = dict(taken), torch.zeros(())
        batches = data.batches(
            how.batch_size, epochs=1, drop_last=how.drop_last, augment=how.augment
        )
        for x, y in batches:
            shares = {n: w.detach().requires_grad_() for n, w in after.items()}
            mixed = aggregated(own, of_all, shares)
            logits_BC = functional_call(model, {**fixed, **mixed}, (x,))
            loss = functional.cross_entropy(logits_BC, y)
            slopes = torch.autograd.grad(loss, list(shares.values()))
            after = {
                n: next_taken(w, slope, self.config.eta)
                for (n, w), slope in zip(shares.items(), slopes, strict=True)
            }
            client.count_examples(len(y))
        return after, loss.item()


def aggregated(own: Weights, of_all: Weights, taken: Weights) -> dict[str, Tensor]:
    """Return own + (global - own) W by entry; exactly own at 0 and the global at 1."""
    return {n: torch.lerp(w, of_all[n], taken[n]) for n, w in own.items()}


def next_taken(taken: Tensor, gradient: Tensor, eta: float) -> Tensor:
    """Return W - eta gradient, within 0 and 1."""
    return (taken.detach() - eta * gradient).clamp(0, 1)


def part_of(data: ClientData, share: float) -> ClientData:
    """Return a drawn share of a client's images, one at least."""
    number = len(data)
    keep = torch.zeros(number, dtype=torch.bool)
    keep[torch.randperm(number)[: max(1, int(share * number))]] = True
    return data.subset(keep.to(data.device))
