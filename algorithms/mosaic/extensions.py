"""Ours, beyond the paper: several architectures, nested widths, the origin prior.

A reader of the paper may skip this module: with one architecture, and without
``teacher.origin_prior``, it changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from fedkd.algorithms.mosaic.config import TeacherConfig
from fedkd.algorithms.mosaic.experts import Members, TeacherFunction, with_weights
from fedkd.ops.averaging import class_weights
from fedkd.ops.ensembles import LogitEnsemble, apart, mixed_logits
from fedkd.strategy import Server


def mixes_logits(members: Members, config: TeacherConfig) -> bool:
    """Say whether experts are mixtures of the clients' logits, z_c = sum_k tau_kc f_k(x).

    This is all that clients with several architectures leave.
    """
    mixed = members.fleet.mixed
    return config.experts == "logits" or (config.experts == "auto" and mixed)


def mixed_experts(members: Members, server: Server) -> LogitEnsemble:
    """Return z_c = sum_k tau_kc f_k(x), tau_kc = n_kc / sum_j n_jc."""
    share_KE = class_weights(members.counts())[:, members.expert_classes()]
    mixed = partial(mixed_logits, share_KE=share_KE.float().to(server.device))
    return LogitEnsemble(members.clients(server), mixed)


def nested_experts(members: Members, server: Server) -> LogitEnsemble:
    """Return expert_c averaged, at each coordinate, over those who hold it.

    A coordinate that nobody with the class holds is that of the global model.
    """
    fleet = members.fleet
    assert fleet.nested is not None
    experts = fleet.nested.experts(
        fleet.whole, members.models, members.counts(), members.round
    )
    models = [with_weights(server, weights) for weights in experts.values()]
    return LogitEnsemble(models, apart)


def averages(members: Members, server: Server) -> list[nn.Module]:
    """Return what stands for "the global model": the average of each architecture.

    With one architecture it is the global model. With several, a server's model of which
    no client has the architecture knows nothing yet and is left out.
    """
    fleet = members.fleet
    if fleet.nested is not None:
        return [with_weights(server, fleet.whole)]
    kinds = {kind: k for k, kind in enumerate(fleet.kinds)}
    return [
        server.client_model(kinds[kind], fleet.weights[kind]) for kind in fleet.heard
    ]


def log_prior(counts_C: Tensor, epsilon: float) -> Tensor:
    """Return log((p_k(c) + eps) / (1 + C eps)), p_k = n_kc / n_k; ``[C]``."""
    share_C = counts_C / counts_C.sum()
    return torch.log((share_C + epsilon) / (1 + len(counts_C) * epsilon))


def with_origin_prior(
    teacher: TeacherFunction, counts: Sequence[Tensor], epsilon: float, server: Server
) -> TeacherFunction:
    """Add log p_k(c) of the client whose generator made an image to its logits.

    Args:
        teacher: Gives logits for images and their origin.
        counts: n_kc of client k, by origin, ``[C]`` each.
        epsilon: The floor of the prior.
        server: The server's side.
    """
    priors = [log_prior(counts_C, epsilon) for counts_C in counts]
    priors_KC = torch.stack(priors).to(server.device)
    return lambda x, origin: teacher(x, origin) + priors_KC[origin]
