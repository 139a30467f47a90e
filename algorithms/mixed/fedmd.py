"""FedMD: clients of any models learn from their mean scores on public images.

Paper: Li, Wang, "FedMD: Heterogenous Federated Learning via Model Distillation", NeurIPS
    2019 workshop on Federated Learning, arXiv:1910.03581.
Algorithm: Algorithm 1, from its step "communicate" on.
Code: github.com/diogenes0319/FedMD_clean, by the authors (``FedMD.py`` at commit
    226c6bc, ``conf/`` at b1f0427).
Deviations: public images have no labels here, so nobody is trained on public classes
    first, and the classes are those of the private data. A round ends with the scores of
    the next subset, which is digested when the next round begins: the first round is
    the paper's training on private data. A subset is drawn evenly, not by class. The
    private phase is the run's own training, which starts anew in every round; in the code
    it is Adam, which goes on. The digest's Adam goes on from its last moments, apart from
    it, as there; its epsilon is 1e-8, there 1e-7, and the last layer has no L2 penalty,
    there 1e-3. One image left alone in the last batch of a pass is left out. The mean is
    of those who took part in the last round; there, all do. Scores that come late are of
    other images, and left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from fedkd.algorithms.local import go_on
from fedkd.algorithms.mixed.own_models import NoGlobalModel, dtype_of
from fedkd.config import Config
from fedkd.errors import DivergedError
from fedkd.ops.optimisers import Adam
from fedkd.strategy import Client, Party, Requires, Round, Server

_MOMENTS = "digest"
"""Where a client keeps the moments of its digest's Adam."""
_FORWARD = 256
"""Images in a forward pass."""


class FedMDConfig(Config):
    """Hyper-parameters of FedMD."""

    images: int = Field(5000, ge=1)
    """Public images of a round, at most all; ``N_alignment`` is 5000 in the code."""
    epochs: int = Field(1, ge=0)
    """Passes of the digest over them; 1 in the code. 0 is local training."""
    batch_size: int = Field(256, ge=2)
    """Images in a step of the digest; 256 in three of the code's settings, 128 in that of
    unbalanced CIFAR. One that is left alone in a pass is left out."""
    lr: float = Field(1e-3, ge=0)
    """Rate of the digest's Adam; 1e-3 in the code."""


@dataclass(frozen=True)
class Consensus:
    """What the server keeps and sends."""

    ask: Tensor
    """Public images whose scores it wants next, int64 ``[N]``."""
    places: Tensor | None = None
    """Public images of the last round, int64 ``[N]``; None before there was one."""
    scores: Tensor | None = None
    """The clients' mean scores on those, ``[N, C]``."""
    draw: int = 0
    """Which draw of images ``ask`` is, from 0."""


@dataclass(frozen=True)
class Scores:
    """What a client sends."""

    scores: Tensor
    """Its outputs before the softmax on the images asked for, ``[N, C]``."""
    draw: int
    """The draw of images that they are of."""


class FedMD(NoGlobalModel[Consensus, Consensus, Scores]):
    """Digest the mean scores on public images, then revisit the private ones."""

    Config = FedMDConfig
    config: FedMDConfig
    requires = Requires(public_data_at_clients=True)

    def init(self, server: Server) -> Consensus:
        """Draw the first public images."""
        return Consensus(self._drawn(server))

    def broadcast(self, state: Consensus, client_id: int, round: Round) -> Consensus:
        """Send the mean scores, and which images come next."""
        del client_id, round
        return state

    def train(self, client: Client, down: Consensus) -> Scores:
        """Digest, revisit, and score the images asked for."""
        if down.places is not None and down.scores is not None and self.config.epochs:
            self._digest(client, down.places, down.scores)
        client.train()
        return Scores(scores_of(client, down.ask), down.draw)

    def expected(self, down: Consensus, party: Party) -> Scores:
        """Scores of each class for each image that is asked for."""
        shape = (len(down.ask), party.num_classes)
        return Scores(torch.zeros(shape, dtype=dtype_of(party.model)), down.draw)

    def aggregate(
        self,
        state: Consensus,
        ups: Mapping[int, Scores],
        server: Server,
        round: Round,
    ) -> Consensus:
        """Average the scores, each client alike, and draw the next images."""
        del round
        # Late scores are of other images, or of these in another order.
        scores = [up.scores for up in ups.values() if up.draw == state.draw]
        if not scores:
            return state
        drawn = self._drawn(server)
        return Consensus(drawn, state.ask, consensus(scores), state.draw + 1)

    def personal(self, state: Consensus, client: Client) -> nn.Module:
        """Predict with the client's own model."""
        del state
        return go_on(client)

    def _drawn(self, server: Server) -> Tensor:
        return torch.randperm(len(server.public))[: self.config.images]

    def _digest(self, client: Client, places: Tensor, scores: Tensor) -> None:
        how, model = self.config, client.model.train()
        stepper = Adam(lr=how.lr).start(model.parameters())
        if _MOMENTS in client.memory:
            stepper.restore(client.memory[_MOMENTS])
        losses = []
        for _ in range(how.epochs):
            for chosen in batches(len(places), how.batch_size):
                logits_BC = model(client.public.at(places[chosen]))
                target_BC = scores[chosen].to(logits_BC)
                losses.append(stepper.step(functional.l1_loss(logits_BC, target_BC)))
                client.count_examples(len(chosen))
        stepper.zero_grad()
        client.memory[_MOMENTS] = stepper.moments()
        mean = float(torch.stack(losses).mean())
        if not math.isfinite(mean):
            raise DivergedError(
                f"the loss of client {client.id}'s digest became {mean} at learning rate "
                f"{how.lr:g}; lower lr of fedmd."
            )
        client.log("digest_loss", mean)


def batches(number: int, size: int) -> tuple[Tensor, ...]:
    """Return the numbers below ``number``, shuffled, in batches of two or more.

    One left alone in the last batch is left out, and one that is all there is comes twice,
    because batch normalisation cannot train on one.
    """
    parts = torch.randperm(number).split(size)
    if len(parts[-1]) > 1:
        return tuple(parts)
    return tuple(parts[:-1]) or (parts[0].repeat(2),)


def consensus(scores: list[Tensor]) -> Tensor:
    """Return the mean of the clients' scores, ``[N, C]`` each."""
    return torch.stack(scores).mean(0)


@torch.no_grad()
def scores_of(client: Client, places: Tensor) -> Tensor:
    """Return the scores of a client's model, in eval mode, on public images.

    Args:
        client: Its working model is asked.
        places: Which images, int64 ``[N]``.

    Returns:
        Outputs before the softmax, ``[N, C]``, on the CPU.
    """
    model = client.model.eval()
    parts = [model(client.public.at(some)) for some in places.split(_FORWARD)]
    return torch.cat(parts).cpu()
