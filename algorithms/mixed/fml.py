"""FML: each client's own model and a shared one, the meme, learn from each other.

Paper: Shen, Zhang, Jia, Zhang, Huang, Zhou, Kuang, Wu, Wu, "Federated Mutual Learning",
    2020, arXiv:2006.16765.
Algorithm: fork the global model as a meme, train both by deep mutual learning, merge the
    memes.
Code: none by the authors is known to us. HtFLlib (github.com/TsingZ0/HtFLlib) has
    a version whose defaults, alpha = beta = 1, turn mutual learning off, whose KL is
    divided by the number of classes, and whose peers learn through each other's losses.
Deviations: memes are averaged by the clients' images, as FedAvg does. The meme has the
    server's architecture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from fedkd.algorithms.averaging import Update, average
from fedkd.algorithms.local import go_on
from fedkd.algorithms.mixed.companion import (
    Shared,
    companion,
    members,
    sendable,
    shared_predictor,
    train_together,
)
from fedkd.algorithms.mixed.own_models import OwnModels
from fedkd.config import Config
from fedkd.ops.distillation import kl
from fedkd.strategy import Client, Party, Round, Server


class FMLConfig(Config):
    """Hyper-parameters of FML."""

    alpha: float = Field(0.5, ge=0, le=1)
    """alpha, the share of the labels in the loss of a client's own model, the rest is the
    meme's; 0.5 is ours. 1 is local training."""
    beta: float = Field(0.5, ge=0, le=1)
    """beta, the share of the labels in the loss of the meme, the rest is the own model's;
    0.5 is ours. 1 is FedAvg of memes."""
    weights: Literal["examples", "uniform"] = "examples"
    """The weight of a client's meme in the mean: its number of images, or 1."""


class FML(OwnModels[Shared, Shared, Update]):
    """Mutual learning of own models and a shared one."""

    no_average = ""
    Config = FMLConfig
    config: FMLConfig

    def init(self, server: Server) -> Shared:
        """Start with the server's initial weights."""
        return Shared(server.spec, server.initial)

    def broadcast(self, state: Shared, client_id: int, round: Round) -> Shared:
        """Send the global model, which becomes the client's meme."""
        del client_id, round
        return state

    def train(self, client: Client, down: Shared) -> Update:
        """Train both networks on each other; return the meme."""
        meme = companion(client, down.model, down.weights)
        networks = {"own": client.model, "meme": meme}
        train_together(client, networks, self._losses)
        return Update(sendable(client, meme), len(client.data))

    def expected(self, down: Shared, party: Party) -> Update | None:
        """The meme; open where some of its entries stay at the client."""
        return None if party.buffers == "local" else Update(down.weights, 0)

    def aggregate(
        self, state: Shared, ups: Mapping[int, Update], server: Server, round: Round
    ) -> Shared:
        """Return the mean of the memes."""
        del server, round
        uniform = self.config.weights == "uniform"
        shares = {k: 1 if uniform else up.examples for k, up in ups.items()}
        mean = average(ups, shares, self.rule, state.weights)
        return replace(state, weights={**state.weights, **mean})

    def predictors(self, state: Shared, server: Server) -> Mapping[str, nn.Module]:
        """Measure the mean meme, unless part of it stays at the clients."""
        return shared_predictor(server, state.weights)

    def personal(self, state: Shared, client: Client) -> nn.Module:
        """Predict with the client's own model."""
        del state
        return go_on(client)

    def _losses(
        self, together: nn.Module, x: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the loss of the own model, and that of the meme."""
        networks = members(together)
        own_BC, meme_BC = networks["own"](x), networks["meme"](x)
        return (
            mutual_loss(own_BC, meme_BC, y, self.config.alpha),
            mutual_loss(meme_BC, own_BC, y, self.config.beta),
        )


def mutual_loss(logits_BC: Tensor, peer_BC: Tensor, y: Tensor, share: float) -> Tensor:
    """Return share CE(f, y) + (1 - share) KL(softmax(peer) || softmax(f)); a scalar.

    Args:
        logits_BC: Logits f of the network that learns.
        peer_BC: Those of the other one, which does not learn from this loss.
        y: Labels int64 ``[B]``.
        share: alpha or beta.
    """
    loss = functional.cross_entropy(logits_BC, y)
    if share == 1:
        return loss
    return share * loss + (1 - share) * kl(peer_BC.detach(), logits_BC)
