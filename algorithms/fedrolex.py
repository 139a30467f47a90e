"""FedRolex: HeteroFL with a window of channels that rolls on with every round.

Paper: Alam, Liu, Yan, Zhang, "FedRolex: Model-Heterogeneous Federated Learning with
    Rolling Sub-Model Extraction", NeurIPS 2022, arXiv:2212.01548v2.
Algorithm: Algorithm 1: in round t a client of width r holds the channels (t + i) mod C,
    i < ceil(r C), of every hidden layer; each coordinate is averaged over those who hold
    it. Besides models there cross what HeteroFL sends.
Code: github.com/AIoT-MLSys-Lab/FedRolex, here ``code``.
Deviations: ``code`` rolls the other way, (i - t) mod C, which covers the same. That code
    can also weight clients by how often a coordinate was updated, with counts that change
    while they are read; here the mean is uniform, its default for convolutions, or by
    images. The rest is HeteroFL's, its deviations too.
"""

from __future__ import annotations

from typing import Literal

from fedkd.algorithms.heterofl import Narrowed
from fedkd.algorithms.heterofl_config import HeteroFLConfig
from fedkd.ops.submodels import Scheme
from fedkd.strategy import Requires


class FedRolexConfig(HeteroFLConfig):
    """Hyper-parameters of FedRolex: those of HeteroFL and the direction."""

    variant: Literal["paper", "code"] = "paper"
    """Whether the window moves up by a channel a round or, as in the code, down."""


class FedRolex(Narrowed):
    """Averages of nested sub-models that hold a rolling window of channels."""

    requires = Requires(nested_widths=True, buffers=("average", "reestimate"))
    Config = FedRolexConfig

    @staticmethod
    def scheme(config: FedRolexConfig) -> Scheme:
        """Move the window by one channel a round."""
        return "rolling-back" if config.variant == "code" else "rolling"
