"""FedDyn: a dynamic regulariser makes the clients' optima meet at that of all.

Paper: Acar, Zhao, Matas, Mattina, Whatmough, Saligrama, "Federated Learning Based on
    Dynamic Regularization", ICLR 2021, arXiv:2111.04263v2.
Algorithm: Algorithm 1. A client minimises L_k(w) - <g_k, w> + alpha/2 ||w - w_t||^2 and
    then lowers g_k by alpha (w_k - w_t); the server averages its clients and adds what
    all clients have been pulled by. Kept in units of weights, h_k = -g_k / alpha.
Code: github.com/alpemreacar/FedDyn.
Deviations: all clients have the same alpha, as in the paper; the code gives a client
    alpha times the mean number of images over its own. What is measured is the mean of
    the clients' weights, as in the code; clients are sent that mean and the correction
    together, as in the paper. Buffers (BatchNorm) are averaged, not corrected. A client
    whose last answer was lost or late goes on from the g_k that it had before, and a late
    answer is averaged but pulls nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import nn

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
from fedkd.robust.rule import Mean
from fedkd.strategy import Client, Round, Server


class FedDynConfig(PlainConfig):
    """Hyper-parameters of FedDyn."""

    weights: Literal["examples", "uniform"] = "uniform"
    """The weight of a client in the mean: 1 as in the paper, or its images."""
    alpha: float = Field(0.01, ge=0)
    """alpha, the strength of the regulariser; the paper tunes over 0.001, 0.01, 0.1. 0 is
    FedAvg with uniform weights, bit for bit."""


class FedDyn(Averaging):
    """FedAvg whose clients' optima are moved together."""

    Config = FedDynConfig
    config: FedDynConfig

    def __init__(self, config: FedDynConfig | None = None) -> None:
        super().__init__(config)
        self.choices = Choices(
            first=at_rest, starts=_corrected, sent=_asked, moved=self._moved
        )

    def train(self, client: Client, sent: Asked) -> Answered:
        """Train with the regulariser; move h_k by what the client has moved."""
        alpha = self.config.alpha
        if not alpha:
            client.train()
            return Answered(None, sent.round)
        model, device = client.model, client.device
        kept = own(client, sent)
        start = {n: p.detach().clone() for n, p in model.named_parameters()}
        # alpha (w - w_t + h_k) is alpha (w - anchor).
        anchor = {n: p - kept[n].to(device) for n, p in start.items()}

        def regularised(model: nn.Module) -> None:
            for n, p in model.named_parameters():
                if p.grad is not None:
                    p.grad += alpha * (p.detach() - anchor[n])

        client.train(gradient=regularised)
        renewed = {
            n: kept[n] + (p.detach() - start[n]).cpu()
            for n, p in model.named_parameters()
        }
        keep(client, sent, kept, renewed)
        return Answered(None, sent.round)

    def _moved(
        self,
        state: Global,
        mean: Weights,
        ups: Mapping[int, Update],
        server: Server,
        round: Round,
    ) -> Global:
        """Return the mean, and h + sum_k (w_k - w_t) / N over all N clients.

        With another average, that of the moves stands for each client of the round.
        """
        if not self.config.alpha:
            return Global(mean, besides=state.besides)
        variates: Variates = state.besides
        sent, number = _corrected(state), len(server.clients)
        clients = in_time(ups, round)
        # A rule has lengths of its own, which are of whole moves; a sum has none.
        before, after = (number, 1) if isinstance(self.rule, Mean) else (1, number)
        moves = (
            {n: (ups[k].weights[n] - sent[n]) / before for n in variates.mean}
            for k in clients
        )
        total = summed(self.rule, moves, zeros(server.model))
        change = {n: value / after for n, value in total.items()}
        return Global(mean, besides=variates.moved(change, clients, round))


def _asked(state: Global, client_id: int, round: Round) -> Asked:
    """Say which answer counts in h; h itself is in the weights."""
    variates: Variates = state.besides
    return variates.asked(client_id, round)


def _corrected(state: Global) -> Weights:
    """Return what clients start from: the mean and the mean of all h_k."""
    variates: Variates = state.besides
    return {
        **state.weights,
        **{n: state.weights[n] + h for n, h in variates.mean.items()},
    }
