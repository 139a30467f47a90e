"""Mosaic, server side: the client models of the distillation round, and the experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedkd.algorithms.fleet import Fleet
from fedkd.algorithms.mosaic import teacher as teaching
from fedkd.algorithms.mosaic.config import TeacherConfig
from fedkd.ops.averaging import class_experts, class_weights
from fedkd.payload import Weights
from fedkd.strategy import Server


@dataclass(frozen=True)
class Members:
    """The models that the server has when warm-up ends."""

    fleet: Fleet
    """The averages of this round, by architecture."""
    models: Mapping[int, Weights]
    """This round's client models, by client."""
    label_counts: Mapping[int, Tensor]
    """n_kc by client, int64 ``[C]`` each."""
    round: int
    """The number of the round."""

    def counts(self) -> Tensor:
        """Return n_kc of the clients in ``models``, ``[K, C]``."""
        return torch.stack([self.label_counts[k] for k in self.models])

    def expert_classes(self) -> list[int]:
        """Return the class of each expert: those of which some client has images."""
        present: list[int] = torch.nonzero(self.counts().sum(0)).flatten().tolist()
        return present

    def client(self, k: int, server: Server) -> nn.Module:
        """Return the model of client ``k``, frozen, in eval mode.

        A client that sat this round out is spoken for by its architecture's average.
        """
        weights = self.models.get(k, self.fleet.of(k, self.round))
        return server.client_model(k, weights).requires_grad_(False)

    def clients(self, server: Server) -> list[nn.Module]:
        """Return the models of this round's clients, frozen, in eval mode."""
        return [self.client(k, server) for k in self.models]

    def averages(self, server: Server) -> list[nn.Module]:
        """Return what stands for "the global model": the average of each architecture.

        With one architecture it is the global model. With several, a server's model of
        which no client has the architecture knows nothing yet and is left out.
        """
        if self.fleet.nested is not None:
            return [teaching.with_weights(server, self.fleet.whole)]
        kinds = {kind: k for k, kind in enumerate(self.fleet.kinds)}
        return [
            server.client_model(kinds[kind], self.fleet.weights[kind])
            for kind in self.fleet.heard
        ]


def build_experts(members: Members, config: TeacherConfig, server: Server) -> nn.Module:
    """Return the class experts: images to logits ``[E, B, C]``.

    By parameters, expert_c = sum_k n_kc w_k / sum_k n_kc (the paper's setting), over
    those who hold a coordinate where models nest; a coordinate that nobody with the class
    holds is that of the global model. By logits, z_c = sum_k tau_kc f_k(x) (ours), which
    is all that clients with several architectures leave.
    """
    counts_KC = members.counts()
    by_logits = config.experts == "logits" or (
        config.experts == "auto" and members.fleet.mixed
    )
    if by_logits:
        share_KE = class_weights(counts_KC)[:, members.expert_classes()]
        return teaching.LogitExperts(
            members.clients(server), share_KE.float().to(server.device)
        )
    fleet = members.fleet
    if fleet.nested is not None:
        nested = fleet.nested.experts(
            fleet.whole, members.models, counts_KC, members.round
        )
        return teaching.ParameterExperts(
            [teaching.with_weights(server, weights) for weights in nested.values()]
        )
    averages = class_experts(list(members.models.values()), counts_KC)
    return teaching.ParameterExperts(
        [server.client_model(0, weights) for weights in averages.values()]
    )
