"""FedFTG: the strategy, its payloads and its presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from fedkd.algorithms.averaging import AverageConfig, Global
from fedkd.algorithms.averaging import Update as ModelUpdate
from fedkd.algorithms.datafree import Painter, Teachers, load, pictures, stacked_counts
from fedkd.algorithms.fedavg import FedAvg
from fedkd.algorithms.fedftg.config import (
    LIGHTFED_OPTIONS,
    OFFICIAL_OPTIONS,
    PAPER_OPTIONS,
    FedFTGConfig,
)
from fedkd.algorithms.fedftg.server import FineTuning
from fedkd.algorithms.nested import Nested
from fedkd.payload import Weights
from fedkd.strategy import (
    Client,
    Preset,
    Requires,
    Round,
    Server,
    Strategy,
    read_weights,
)


@dataclass(frozen=True)
class Update:
    """What a client sends back."""

    weights: Weights
    """The locally trained model."""
    label_counts: Tensor
    """n_kc, images of each class, int32 ``[C]``."""


@dataclass(frozen=True)
class State:
    """What the server remembers."""

    weights: Weights
    """The global model."""
    generator: Weights | None
    """The generator; None without fine-tuning."""
    nested: Nested | None = None
    """The sub-models of the clients; None with ``aggregate: plain``."""

    @property
    def whole(self) -> Global:
        """What FedAvg knows as its state."""
        return Global(self.weights, self.nested)


class FedFTG(Strategy[State, Global, Update]):
    """FedAvg and, in every round, data-free fine-tuning of the average."""

    Config = FedFTGConfig
    config: FedFTGConfig
    requires = Requires(one_architecture=True, buffers=("average", "reestimate"))

    def __init__(self, config: FedFTGConfig | None = None) -> None:
        super().__init__(config)
        self._fedavg = FedAvg(AverageConfig(aggregate=self.config.aggregate))
        self.requires = replace(
            self._fedavg.requires, buffers=("average", "reestimate")
        )

    def init(self, server: Server) -> State:
        """As FedAvg, with a new generator."""
        start = self._fedavg.init(server)
        if self.config.distil.steps == 0:
            return State(start.weights, None, start.nested)
        generator = read_weights(self._painter(server).generator)
        return State(start.weights, generator, start.nested)

    def broadcast(self, state: State, client_id: int, round: Round) -> Global:
        """Send the fine-tuned model; the generator stays at the server."""
        return self._fedavg.broadcast(state.whole, client_id, round)

    def local(self, down: Global, client: Client) -> Update:
        """As FedAvg; the label counts go with the model."""
        update = self._fedavg.local(down, client)
        return Update(update.weights, client.data.label_counts().int())

    def aggregate(
        self, state: State, ups: Mapping[int, Update], server: Server, round: Round
    ) -> State:
        """Average; then fine-tune the average on generated images."""
        models = {
            k: ModelUpdate(up.weights, int(up.label_counts.sum()))
            for k, up in ups.items()
        }
        whole = self._fedavg.aggregate(state.whole, models, server, round)
        state = replace(state, weights=whole.weights)
        if state.generator is None:
            return state
        counts_KC = stacked_counts({k: up.label_counts for k, up in ups.items()})
        members = [server.client_model(k, up.weights) for k, up in ups.items()]
        painter = self._painter(server, state.generator)
        student = server.load(state.weights)
        teachers = Teachers(members, counts_KC).to(server.device)
        work = FineTuning(student, teachers, painter, self.config, server)
        work.run(counts_KC.sum(0), round.index)
        return replace(
            state,
            weights=read_weights(student),
            generator=read_weights(painter.generator),
        )

    def predictors(self, state: State, server: Server) -> Mapping[str, nn.Module]:
        """Measure the fine-tuned model."""
        return self._fedavg.predictors(state.whole, server)

    def gallery(self, state: State, server: Server) -> Mapping[str, Tensor]:
        """Draw an image of each class from the generator."""
        if state.generator is None:
            return {}
        return {"generator": pictures(self._painter(server, state.generator), server)}

    def _painter(self, server: Server, weights: Weights | None = None) -> Painter:
        how = self.config.generator
        options = {"merge": how.merge} if how.kind == "acgan-generator" else {}
        generator = server.build(
            how.kind, latent_size=how.latent_size, width=how.width, **options
        )
        if weights is not None:
            load(generator, weights)
        return Painter(generator, server.images, how.output)


FEDFTG_PAPER = Preset(
    FedFTG,
    PAPER_OPTIONS,
    doc="FedFTG with the losses of the paper and the amounts of its released code.",
    deviations=(
        "the global model is in eval mode when it is fine-tuned",
        "clients train as the protocol says; in the released code by SGD at 0.1 * "
        "0.998^t with weight decay 1e-3, clipped at 10, for 5 epochs",
    ),
)

FEDFTG_OFFICIAL = Preset(
    FedFTG,
    OFFICIAL_OPTIONS,
    doc="FedFTG as its released code computes it, with the amounts of that code.",
    deviations=(
        "the global model is in eval mode when it is fine-tuned",
        "clients train as the protocol says; in the released code by SGD at 0.1 * "
        "0.998^t with weight decay 1e-3, clipped at 10, for 5 epochs",
    ),
)

FEDFTG_LIGHTFED = Preset(
    FedFTG,
    LIGHTFED_OPTIONS,
    doc="FedFTG as the code of DFDG, by the authors of DFRD, computes it.",
    deviations=(
        "models have ordinary BatchNorm in eval mode and no width scaler; there, "
        "BatchNorm always uses the statistics of the batch",
        "a class without images is not drawn; there, one with a single image neither",
        "the program is one-shot: run it with ``rounds: 1`` for that",
    ),
)
