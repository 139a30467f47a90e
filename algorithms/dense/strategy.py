"""DENSE, Algorithm 1: local training, one upload and the server's part; with presets."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

from torch import Tensor, nn

from fedkd.algorithms.averaging import Update, average, local_update
from fedkd.algorithms.dense.config import (
    CODE_OPTIONS,
    PAPER_OPTIONS,
    PUBLISHED_OPTIONS,
    DenseConfig,
)
from fedkd.algorithms.dense.server import Distillation, Plain, Rules
from fedkd.ops.ensembles import LogitEnsemble, mean_by
from fedkd.payload import Weights
from fedkd.strategy import (
    Client,
    ModelSpec,
    Party,
    Preset,
    Requires,
    Round,
    Server,
    Strategy,
    read_weights,
)

GALLERY_IMAGES = 10


@dataclass(frozen=True)
class Start:
    """What the server sends; without weights, the message is empty."""

    weights: Weights | None
    """The last student, for a client of its architecture; None in the first round."""
    keep: bool
    """Whether the client is to keep its model for a later round."""


@dataclass(frozen=True)
class Stage:
    """What the last round's student learnt from, kept for its measurement."""

    models: Mapping[int, Weights]
    """The clients' models, by client."""
    shares_K: Tensor | None
    """The ensemble's weights, by client in ascending order; None if they are equal."""
    images: Tensor
    """Some of the newest images of the pool, normalised, float32 ``[N, C, H, W]``."""


@dataclass(frozen=True)
class State:
    """What the server remembers."""

    weights: Weights
    """The student."""
    receivers: tuple[int, ...]
    """The clients that have the student's architecture."""
    stage: Stage | None = None
    """None before the first round, and without distillation."""


class Distilling(Strategy[State, Start, Update]):
    """DENSE's rounds; what is decided inside its loop is open."""

    model_fields = ("weights",)
    no_average = "its server also learns from each client's model by itself"
    config: DenseConfig
    requires = Requires(buffers=("average", "reestimate"))

    def __init__(self, config: DenseConfig | None = None) -> None:
        super().__init__(config)
        how = self.config.synthesis
        if how.epochs:
            sizes = {"latent_size": how.latent_size, "width": how.width}
            generator = ModelSpec("dense-generator", sizes)
            self.requires = replace(self.requires, images=True, builds=(generator,))

    @abstractmethod
    def rules(self) -> Rules:
        """Return what the method decides while images are made and taught on."""

    @final
    def init(self, server: Server) -> State:
        """Start from the student's initial weights."""
        return State(server.initial, server.alike)

    @final
    def broadcast(self, state: State, client_id: int, round: Round) -> Start:
        """Send nothing at first; later the student, to clients that can use it."""
        receives = client_id in state.receivers
        last = round.index + 1 == round.total
        return Start(
            state.weights if receives and round.index else None,
            keep=not receives and not last,
        )

    @final
    def local(self, down: Start, client: Client) -> Update:
        """Train from the student, from the client's kept model, or from the beginning."""
        own: Weights = client.memory.get("model", client.initial)
        update = local_update(own if down.weights is None else down.weights, client)
        if down.keep:
            client.memory["model"] = update.weights
        return update

    @final
    def expected(self, down: Start, party: Party) -> Update:
        """The client's own model."""
        del down
        return Update(party.initial, 0)

    @final
    def aggregate(
        self, state: State, ups: Mapping[int, Update], server: Server, round: Round
    ) -> State:
        """Make images and distil the ensemble of the clients' models."""
        del round
        weights = state.weights
        all_alike = len(state.receivers) == len(server.clients)
        if self.config.start == "average" and all_alike:
            weights = {**weights, **average(ups)}
        if self.config.synthesis.epochs == 0:
            return State(weights, state.receivers)
        members = [server.client_model(k, up.weights) for k, up in ups.items()]
        student, rules = server.load(weights), self.rules()
        work = Distillation(student, members, self.config, rules, server)
        work.run()
        shares_K = rules.weights_K
        stage = Stage(
            {k: up.weights for k, up in ups.items()},
            None if shares_K is None else shares_K.cpu(),
            work.newest(GALLERY_IMAGES),
        )
        return State(read_weights(student), state.receivers, stage)

    @final
    def predictors(self, state: State, server: Server) -> Mapping[str, nn.Module]:
        """Measure the student, and after distillation the ensemble that taught it."""
        measured: dict[str, nn.Module] = {"global": server.load(state.weights)}
        if state.stage is not None:
            models = state.stage.models
            members = [server.client_model(k, weights) for k, weights in models.items()]
            shares_K = state.stage.shares_K
            fuse = mean_by(None if shares_K is None else shares_K.to(server.device))
            measured["ensemble"] = LogitEnsemble(members, fuse)
        return measured

    @final
    def gallery(self, state: State, server: Server) -> Mapping[str, Tensor]:
        """Show a row of images from the end of synthesis."""
        del server
        return {} if state.stage is None else {"synthetic": state.stage.images}


@final
class Dense(Distilling):
    """One-shot federated learning by an ensemble, a generator and distillation."""

    Config = DenseConfig

    def rules(self) -> Rules:
        """Take images as they are and all clients alike."""
        return Plain()


_HERE = (
    "images are normalised before a classifier sees them; the released program trains "
    "on images in [0, 1]",
    "generated images are cropped and flipped only where training images are; the "
    "released program flips all, and crops all while it makes them",
    "8-bit pixels of the pool are rounded, in the released program cut off",
)
DENSE_CODE = Preset(
    Dense,
    CODE_OPTIONS,
    doc="The behaviour of the released code, with the values of its README.",
    deviations=(
        "L_BN has weight 0: the released hooks find no layer, so its loss is always 0",
        *_HERE,
        "clients train as the protocol says; in the README for 400 epochs by SGD at 0.01 "
        "with momentum 0.9, and in the released program for several architectures client "
        "0 has the rate 0.001, which passes to all after it",
        "the last student is the result; the released program also reports the best one "
        "on the test images",
    ),
)
DENSE_PAPER = Preset(
    Dense,
    PAPER_OPTIONS,
    doc="The paper's losses, with L_BN, in the loop and amounts of the released program.",
    deviations=(
        "a generator that starts anew for each batch, the pool, and whole passes over it "
        "are those of the released program; Algorithm 1 names none of them",
        "the weights 1 of L_BN and L_adv, the rate and all amounts are those of the "
        "README and not of the paper, whose text was not at hand; secondary sources "
        "have weight 0.5 for L_adv",
        "L_BN is a sum over layers and a mean over clients",
        "the student is in eval mode while images are made, from the first batch on",
        *_HERE,
        "clients train as the protocol says, in the README for 400 epochs by SGD at 0.01 "
        "with momentum 0.9",
    ),
)
DENSE_PUBLISHED = Preset(
    Dense,
    PUBLISHED_OPTIONS,
    doc="DENSE as read here with the amounts of the README, not lightened.",
    deviations=(
        "L_BN is a mean over layers and over clients; dense-paper has the sum over layers",
        "the student is in eval mode while images are made, from the first batch on",
        *_HERE,
        "clients train as the protocol says, in the README for 400 epochs by SGD at 0.01 "
        "with momentum 0.9",
    ),
)
