"""SDA-FL: clients share synthetic images, which the server labels and all train on.

Paper: Li, Shao, Mao, Wang, Zhang, "Federated Learning with GAN-based Data Synthesis for
    Non-IID Clients", FL-IJCAI 2022, arXiv:2206.05507.
Algorithm: as its abstract has it; the text could not be read. Each client trains a GAN on
    its images once and sends synthetic images; the server pools them and labels them anew
    in every round; clients train on their own images and on those of the pool whose label
    is confident. The rest is FedAvg.
Code: none by the authors.
Deviations: the following is ours. Without differential privacy: no noise is added to the
    GAN's gradients, and a synthetic image may be near a real one. The GAN is a DCGAN,
    trained and asked for images after local training in a client's first round; images
    travel as 8-bit pixels, once up and once down to each client (its own among them), and
    labels down in every round. A label is the likeliest class by the model that the
    image's own client sent last, or by the global model, and confident from a probability
    of ``threshold`` on. Each step has as many synthetic images as local ones, drawn with
    replacement and not augmented, in one forward pass. The server trains nothing itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from fedkd.algorithms.averaging import (
    Averaging,
    Choices,
    Global,
    PlainConfig,
    Update,
)
from fedkd.algorithms.mosaic.config import GeneratorConfig
from fedkd.algorithms.mosaic.generators import networks, train_generator
from fedkd.config import Config
from fedkd.payload import Weights
from fedkd.strategy import Client, Requires, Round, Server

UNSURE = -1
"""The label of an image that is not to be trained on."""
BATCH = 512
"""Images that the server labels at once."""
GALLERY_IMAGES = 10
_MEMORY = "pool"


class GanConfig(Config):
    """A client's GAN; amounts are those of this project's Mosaic."""

    steps: int = Field(600, ge=1)
    """Optimiser steps of generator and discriminator."""
    batch_size: int = Field(32, ge=2)
    """Real images, and as many generated ones, in a step."""
    latent_size: int = Field(64, ge=1)
    """Z, the length of the noise vector."""
    width: int = Field(32, ge=1)
    """Base width of generator and discriminator."""
    lr: float = Field(1e-3, gt=0)
    """Adam's learning rate, betas (0.5, 0.999)."""

    @property
    def plain(self) -> GeneratorConfig:
        """The generator that learns from its discriminator alone."""
        return GeneratorConfig(**self.model_dump(), diversity_weight=0)


class SDAFLConfig(PlainConfig):
    """Hyper-parameters of SDA-FL; the values are ours."""

    images: int = Field(200, ge=0)
    """Synthetic images of each client; 0 is FedAvg, bit for bit."""
    threshold: float = Field(0.95, ge=0, le=1)
    """The least probability of a confident label."""
    labelled_by: Literal["own", "global"] = "own"
    """Whose model labels an image: that of the client whose GAN made it, in the rounds in
    which it takes part, or the global model, in every round."""
    synthetic_weight: float = Field(1.0, gt=0)
    """Weight of the loss on synthetic images; that on the client's own has 1."""
    generator: GanConfig = GanConfig()
    """The GAN."""


@dataclass(frozen=True)
class Pool:
    """The shared synthetic images, in the order in which they came."""

    images: Tensor
    """Pixels uint8 ``[N, C, H, W]``, as many of each owner."""
    labels: Tensor
    """Confident labels, int16 ``[N]``; -1 where there is none."""
    owners: tuple[int, ...] = ()
    """The client of each block of images."""
    sent: Mapping[int, int] = field(default_factory=dict)
    """How many of the first images each client has said that it has."""

    def block(self, k: int) -> slice:
        """Return the places of a client's images."""
        size = len(self.images) // len(self.owners)
        start = self.owners.index(k) * size
        return slice(start, start + size)


@dataclass(frozen=True)
class Shared:
    """What a client is sent beside the model."""

    images: Tensor
    """Images of the pool that it has not said that it has, uint8 ``[M, C, H, W]``."""
    start: int
    """The place in the pool of the first of them."""
    labels: Tensor
    """Labels of the whole pool, int16 ``[N]``."""
    wanted: bool
    """Whether it is to send its synthetic images."""


@dataclass(frozen=True)
class Said:
    """What a client sends back beside the model."""

    images: Tensor | None
    """Its synthetic images, uint8 ``[S, C, H, W]``; None where they are not wanted."""
    has: int
    """How many images of the pool it has, from the first on."""


class SDAFL(Averaging):
    """FedAvg whose clients also train on a shared set of synthetic images."""

    Config = SDAFLConfig
    config: SDAFLConfig

    def __init__(self, config: SDAFLConfig | None = None) -> None:
        super().__init__(config)
        if not self.config.images:
            return
        self.requires = Requires(
            one_architecture=True,
            images=True,
            buffers=("average", "reestimate"),
            rounds=2,
            builds=networks(self.config.generator.plain),
        )
        self.choices = Choices(first=_empty, sent=_shared, moved=self._moved)

    def train(self, client: Client, sent: Shared | None) -> Said | None:
        """Train on both kinds of images; return synthetic ones if they are wanted."""
        if sent is None:
            client.train()
            return None
        images = sent.images
        if (known := client.memory.get(_MEMORY)) is not None:
            # Where its last answer was lost, it has some of them already.
            images = torch.cat([known[: sent.start], images])
        client.memory[_MEMORY] = images
        self._on_both(client, images, sent.labels)
        made = synthesised(client, self.config) if sent.wanted else None
        return Said(made, len(images))

    def _on_both(self, client: Client, images: Tensor, labels_N: Tensor) -> None:
        """Train on the client's images and on those of the pool with a label."""
        sure = labels_N != UNSURE
        if not bool(sure.any()):
            client.train()
            return
        pixels = images[sure].to(client.device)
        targets = labels_N[sure].long().to(client.device)

        def objective(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            chosen = torch.randint(len(pixels), (len(y),))
            chosen = chosen.to(client.device, non_blocking=True)
            fake = client.images.normalise(pixels[chosen])
            own_BC, other_BC = model(torch.cat([x, fake])).split(len(y))
            client.count_examples(len(chosen))
            other = F.cross_entropy(other_BC, targets[chosen])
            return F.cross_entropy(own_BC, y), self.config.synthetic_weight * other

        client.train(objective=objective)

    def _moved(
        self,
        state: Global,
        mean: Weights,
        ups: Mapping[int, Update],
        server: Server,
        round: Round,
    ) -> Global:
        """Take new images into the pool, and label it anew."""
        del round
        pool = pooled(state.besides, ups)
        labels_N = pool.labels.clone()
        if self.config.labelled_by == "global":
            labels_N = pseudo_labels(server, mean, pool.images, self.config.threshold)
        else:
            for k, up in ups.items():
                own = pool.block(k)
                labels_N[own] = pseudo_labels(
                    server, up.weights, pool.images[own], self.config.threshold
                )
        server.log("confident_share", (labels_N != UNSURE).double().mean())
        pool = Pool(pool.images, labels_N, pool.owners, pool.sent)
        return Global(mean, besides=pool)

    def gallery(self, state: Global, server: Server) -> Mapping[str, Tensor]:
        """Draw a row of each client's synthetic images."""
        pool: Pool | None = state.besides
        if pool is None:
            return {}
        return {
            f"client {k}": server.images.normalise(
                pool.images[pool.block(k)][:GALLERY_IMAGES].to(server.device)
            )
            for k in sorted(pool.owners)
        }


def synthesised(client: Client, config: SDAFLConfig) -> Tensor:
    """Train a GAN on the client's images; return images, uint8 ``[N, C, H, W]``."""
    gan = config.generator.plain
    generator = train_generator(client, gan)
    assert generator is not None, "a client has images"
    z_NZ = torch.randn(config.images, gan.latent_size).to(client.device)
    with torch.no_grad():
        images: Tensor = generator(z_NZ)
    return ((images + 1) * 127.5).round().to(torch.uint8).cpu()


def pooled(pool: Pool, ups: Mapping[int, Update]) -> Pool:
    """Return the pool with new images, without labels, and what clients now have.

    Of a client it takes images once, and what it has does not become less: a late answer
    may be older than others that have arrived.
    """
    said: dict[int, Said] = {k: up.besides for k, up in ups.items()}
    made = {k: one.images for k, one in said.items() if k not in pool.owners}
    new = {k: images for k, images in made.items() if images is not None}
    images = torch.cat([pool.images, *new.values()])
    unsure = pool.labels.new_full((len(images) - len(pool.labels),), UNSURE)
    has = {k: max(one.has, pool.sent.get(k, 0)) for k, one in said.items()}
    sent = {**pool.sent, **has}
    return Pool(images, torch.cat([pool.labels, unsure]), (*pool.owners, *new), sent)


@torch.no_grad()
def pseudo_labels(
    server: Server, weights: Weights, images: Tensor, threshold: float
) -> Tensor:
    """Return the likeliest class of each image, int16 ``[N]``; -1 if it is not sure.

    Args:
        server: Its model labels.
        weights: What the model holds.
        images: Pixels uint8 ``[N, C, H, W]``.
        threshold: The least probability of a label.
    """
    model = server.load(weights).eval()
    labels = []
    for pixels in images.split(BATCH):
        logits_BC = model(server.images.normalise(pixels.to(server.device)))
        likely_B, label_B = F.softmax(logits_BC, dim=1).max(dim=1)
        labels.append(torch.where(likely_B >= threshold, label_B, UNSURE))
    return torch.cat(labels).to("cpu", torch.int16)


def _empty(server: Server) -> Global:
    """Return the initial weights and a pool without images."""
    images = torch.zeros(0, *server.images.shape, dtype=torch.uint8)
    return Global(
        server.initial, besides=Pool(images, torch.zeros(0, dtype=torch.int16))
    )


def _shared(state: Global, client_id: int, round: Round) -> Shared:
    """Return what a client has not of the pool, as far as is known, and all labels."""
    del round
    pool: Pool = state.besides
    start = pool.sent.get(client_id, 0)
    wanted = client_id not in pool.owners
    return Shared(pool.images[start:], start, pool.labels, wanted)
