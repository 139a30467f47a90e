"""SCAFFOLD: control variates take the clients' drift out of their gradients.

Paper: Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, "SCAFFOLD: Stochastic Controlled
    Averaging for Federated Learning", ICML 2020, arXiv:1910.06378v4.
Algorithm: Algorithm 1; control variates by option II, or by option I.
Code: none by the authors.
Deviations: c_k+ of option II, c_k - c + (x - y_k) / (K eta_l), is the mean of the
    gradients that the client has seen, and is computed as this mean: the same for the
    paper's plain SGD, and still a mean of gradients under momentum, weight decay and
    clipping. Buffers (BatchNorm) have no variates; they are averaged. A client whose last
    answer was lost or late goes on from the variate that it had before, and the server
    takes no change of a variate from a late answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from fedkd.algorithms.averaging import (
    Averaging,
    Choices,
    Global,
    PlainConfig,
    Update,
    summed,
    zeros,
)
from fedkd.algorithms.drift.variates import (
    Answered,
    Asked,
    Variates,
    at_rest,
    in_time,
    keep,
    own,
)
from fedkd.payload import Weights
from fedkd.strategy import Client, Party, Round, Server
from fedkd.weights import buffers_kept


class ScaffoldConfig(PlainConfig):
    """Hyper-parameters of SCAFFOLD."""

    weights: Literal["examples", "uniform"] = "uniform"
    """The weight of a client in the mean: 1 as in the paper, or its images."""
    option: Literal["I", "II"] = "II"
    """How a client's variate is renewed: ``I`` by the gradient of all its images at the
    model that it received (a pass more, augmented and cut into batches as in training),
    ``II`` by the gradients of its steps."""
    server_lr: float = Field(1.0, gt=0)
    """eta_g, the share of the clients' mean move that the server makes."""


class Scaffold(Averaging):
    """FedAvg with gradients g - c_k + c."""

    Config = ScaffoldConfig
    config: ScaffoldConfig

    def __init__(self, config: ScaffoldConfig | None = None) -> None:
        super().__init__(config)
        self.choices = Choices(first=at_rest, sent=_asked, moved=self._moved)

    def expected(self, down: Global, party: Party) -> Update | None:
        """The model, and besides it a change of every variate that was sent."""
        like = super().expected(down, party)
        besides = Answered(down.besides.mean, down.besides.round)
        return None if like is None else replace(like, besides=besides)

    def train(self, client: Client, sent: Asked) -> Answered:
        """Train with corrected gradients; return how c_k has changed."""
        model, device = client.model, client.device
        assert sent.mean is not None, "c is sent to every client"
        kept = own(client, sent)
        correction = {n: (c - kept[n]).to(device) for n, c in sent.mean.items()}
        renewed = None
        if self.config.option == "I":
            renewed = _whole_gradient(client)
        seen = {n: torch.zeros_like(p) for n, p in model.named_parameters()}

        def corrected(model: nn.Module) -> None:
            for n, p in model.named_parameters():
                if p.grad is not None:
                    seen[n] += p.grad
                    p.grad += correction[n]

        report = client.train(gradient=corrected)
        if renewed is None:
            renewed = {n: (g / report.steps).cpu() for n, g in seen.items()}
        keep(client, sent, kept, renewed)
        change = {n: value - kept[n] for n, value in renewed.items()}
        return Answered(change, sent.round)

    def _moved(
        self,
        state: Global,
        mean: Weights,
        ups: Mapping[int, Update],
        server: Server,
        round: Round,
    ) -> Global:
        """Return x + eta_g mean(y_k - x) and c + sum_k (c_k+ - c_k) / N.

        With another average, that of the changes stands for each client of the round.
        """
        variates: Variates = state.besides
        clients, number = in_time(ups, round), len(server.clients)
        changes = (ups[k].besides.change for k in clients)
        total = summed(self.rule, changes, zeros(server.model))
        change = {n: value / number for n, value in total.items()}
        eta = self.config.server_lr
        moved = dict(mean)
        if eta != 1:
            for n in change:
                moved[n] = state.weights[n] + eta * (mean[n] - state.weights[n])
        return Global(moved, besides=variates.moved(change, clients, round))


def _asked(state: Global, client_id: int, round: Round) -> Asked:
    """Send c beside the weights."""
    variates: Variates = state.besides
    return variates.asked(client_id, round, variates.mean)


def _whole_gradient(client: Client) -> dict[str, Tensor]:
    """Return the gradient of the client's mean loss at its model, in train mode."""
    model = client.model.train()
    total = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    number = 0
    how = client.training
    batches = client.data.batches(
        how.batch_size, epochs=1, drop_last=how.drop_last, augment=how.augment
    )
    with buffers_kept(model):
        for x, y in batches:
            loss = functional.cross_entropy(model(x), y)
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            for n, gradient in zip(total, gradients, strict=True):
                total[n] += gradient * len(y)
            number += len(y)
    client.count_examples(number)
    return {n: (value / number).cpu() for n, value in total.items()}
