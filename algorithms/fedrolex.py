"""FedRolex: HeteroFL with a window of channels that rolls on with every round.

Paper: Alam, Liu, Yan, Zhang, "FedRolex: Model-Heterogeneous Federated Learning with
    Rolling Sub-Model Extraction", NeurIPS 2022, arXiv:2212.01548v2.
Algorithm: Algorithm 1: in round t a client of width r holds the channels (t + i) mod C,
    i < ceil(r C), of every hidden layer; each coordinate is averaged over those who hold
    it.
Code: github.com/AIoT-MLSys-Lab/FedRolex, here ``code``.
Deviations: ``code`` rolls the other way, (i - t) mod C, which covers the same. That code
    can also weight clients by how often a coordinate was updated, with counts that change
    while they are read; here the mean is uniform, its default for convolutions, or by
    images. The rest is HeteroFL's, see there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import nn

from fedkd.algorithms.fedavg import Global
from fedkd.algorithms.heterofl import Broadcast, HeteroFL, Update
from fedkd.algorithms.heterofl_config import HeteroFLConfig
from fedkd.strategy import Client, Requires, Round, Server, Strategy


class FedRolexConfig(HeteroFLConfig):
    """Hyper-parameters of FedRolex: those of HeteroFL and the direction."""

    variant: Literal["paper", "code"] = "paper"
    """Whether the window moves up by a channel a round or, as in the code, down."""


class FedRolex(Strategy[Global, Broadcast, Update]):
    """Averages of nested sub-models that hold a rolling window of channels."""

    requires = Requires(nested_widths=True, buffers=("average", "reestimate"))
    Config = FedRolexConfig
    config: FedRolexConfig

    def __init__(self, config: FedRolexConfig | None = None) -> None:
        super().__init__(config)
        back = self.config.variant == "code"
        self._heterofl = HeteroFL(self.config, "rolling-back" if back else "rolling")
        self.requires = self._heterofl.requires

    def init(self, server: Server) -> Global:
        """As HeteroFL."""
        return self._heterofl.init(server)

    def broadcast(self, state: Global, client_id: int, round: Round) -> Broadcast:
        """Send this round's window."""
        return self._heterofl.broadcast(state, client_id, round)

    def local(self, down: Broadcast, client: Client) -> Update:
        """As HeteroFL."""
        return self._heterofl.local(down, client)

    def aggregate(
        self, state: Global, ups: Mapping[int, Update], server: Server, round: Round
    ) -> Global:
        """Average every coordinate over those who held it in this round."""
        return self._heterofl.aggregate(state, ups, server, round)

    def predictors(self, state: Global, server: Server) -> Mapping[str, nn.Module]:
        """Measure the global model."""
        return self._heterofl.predictors(state, server)

    def personal(self, state: Global, client: Client) -> nn.Module | None:
        """As HeteroFL."""
        return self._heterofl.personal(state, client)
