"""FedFTG, the round: FedAvg, then fine-tuning; with its state and its presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from fedkd.algorithms.averaging import AverageConfig, Global
from fedkd.algorithms.datafree import (
    CountedUpdate,
    Painter,
    counts_of,
    no_counts,
    painter_of,
    pictures,
    sized,
)
from fedkd.algorithms.fedavg import FedAvg
from fedkd.algorithms.fedftg.config import (
    LIGHTFED_OPTIONS,
    OFFICIAL_OPTIONS,
    PAPER_OPTIONS,
    PUBLISHED_OPTIONS,
    FedFTGConfig,
)
from fedkd.algorithms.fedftg.server import FineTuning
from fedkd.algorithms.nested import Nested
from fedkd.ops.ensembles import LogitEnsemble
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


class FedFTG(Strategy[State, Global, CountedUpdate]):
    """FedAvg and, in every round, data-free fine-tuning of the average."""

    no_average = "its server also learns from each client's model by itself"
    Config = FedFTGConfig
    config: FedFTGConfig
    requires = Requires(one_architecture=True, buffers=("average", "reestimate"))

    def __init__(self, config: FedFTGConfig | None = None) -> None:
        super().__init__(config)
        self._fedavg = FedAvg(AverageConfig(aggregate=self.config.aggregate))
        self.requires = replace(
            self._fedavg.requires,
            buffers=("average", "reestimate"),
            builds=(self._network(),) if self.config.distil.steps else (),
        )

    def init(self, server: Server) -> State:
        """Start as FedAvg does, with a new generator."""
        start = self._fedavg.init(server)
        if self.config.distil.steps == 0:
            return State(start.weights, None, start.nested)
        generator = read_weights(self._painter(server).generator)
        return State(start.weights, generator, start.nested)

    def broadcast(self, state: State, client_id: int, round: Round) -> Global:
        """Send the fine-tuned model; the generator stays at the server."""
        return self._fedavg.broadcast(state.whole, client_id, round)

    def local(self, down: Global, client: Client) -> CountedUpdate:
        """Train as FedAvg does; the label counts go with the model."""
        update = self._fedavg.local(down, client)
        return CountedUpdate(update.weights, client.data.label_counts().int())

    def expected(self, down: Global, party: Party) -> CountedUpdate:
        """What FedAvg's clients send, and how many images of each class there are."""
        return CountedUpdate(down.weights, no_counts(party))

    def aggregate(
        self,
        state: State,
        ups: Mapping[int, CountedUpdate],
        server: Server,
        round: Round,
    ) -> State:
        """Average; then fine-tune the average on generated images."""
        whole = self._fedavg.aggregate(state.whole, sized(ups), server, round)
        state = replace(state, weights=whole.weights)
        if state.generator is None:
            return state
        counts_KC = counts_of(ups)
        members = [server.client_model(k, up.weights) for k, up in ups.items()]
        painter = self._painter(server, state.generator)
        student = server.load(state.weights)
        work = FineTuning(
            student, LogitEnsemble(members), counts_KC, painter, self.config, server
        )
        work.run(round.index)
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
        how, network = self.config.generator, self._network()
        return painter_of(server, weights, network.name, how.output, **network.options)

    def _network(self) -> ModelSpec:
        how = self.config.generator
        options = {"merge": how.merge} if how.kind == "acgan-generator" else {}
        sizes = {"latent_size": how.latent_size, "width": how.width}
        return ModelSpec(how.kind, {**sizes, **options})


FEDFTG_PAPER = Preset(
    FedFTG,
    PAPER_OPTIONS,
    doc="FedFTG with the losses of the paper and the amounts of its released code.",
    deviations=(
        "L_dis is that of the released code, undivided by the number of clients: the "
        "paper's could not be read",
        "the global model is in eval mode when it is fine-tuned",
        "clients train as the protocol says; in the released code by SGD at 0.1 * "
        "0.998^t with weight decay 1e-3, clipped at 10, for 5 epochs",
    ),
)

FEDFTG_PUBLISHED = Preset(
    FedFTG,
    PUBLISHED_OPTIONS,
    doc="FedFTG in our reading, with the amounts of the released code.",
    deviations=(
        "the divergence is KL(local || global); fedftg-paper has the other direction",
        "L_dis is that of the released code, undivided by the number of clients",
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
        "the classes that are drawn, and the shares tau of a class, are of the round's "
        "clients; there, of all clients, so that in a round without some of them the "
        "shares do not sum to 1",
        "the program is one-shot: run it with ``rounds: 1`` for that",
        "the average of the clients is fine-tuned; the program by default fine-tunes a "
        "randomly initialised global model",
        "clients train as the protocol says; there by SGD at 0.01 for 50 to 100 epochs",
    ),
)
