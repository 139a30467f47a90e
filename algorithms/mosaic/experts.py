"""Mosaic, stage 3, aggregation: class experts, and the meta model that fuses them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedkd.algorithms.fleet import Fleet
from fedkd.algorithms.mosaic.config import MetaConfig, TeacherConfig
from fedkd.algorithms.mosaic.generators import ImageSource
from fedkd.ops.averaging import normalised, weighted_average
from fedkd.ops.ema import WeightAverage
from fedkd.ops.ensembles import LogitEnsemble
from fedkd.ops.optimisers import Adam
from fedkd.payload import Weights
from fedkd.strategy import Server, copy_weights

TeacherFunction = Callable[[Tensor, Tensor], Tensor]
"""``teacher(images [B, C, H, W], origin [B]) -> logits [B, classes]``."""


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


def with_weights(server: Server, weights: Weights) -> nn.Module:
    """Return a new copy of the server's model, in eval mode, with ``weights``."""
    model = copy.deepcopy(server.model)
    copy_weights(weights, model)
    return model.eval().requires_grad_(False)


def class_experts(
    states: Sequence[Weights], counts_KC: Tensor
) -> dict[int, dict[str, Tensor]]:
    """Return expert_c = sum_k n_kc w_k / sum_k n_kc by class (released code).

    An expert of a class that one client holds is that client's state bit for bit; a class
    that none holds has no expert. Classes that the clients hold in equal shares have one
    expert, which is there under each of them.

    Args:
        states: The clients' model states.
        counts_KC: Number of images of each client and class.

    Raises:
        ValueError: If the states differ in their entries or their number is not K.
    """
    experts: dict[int, dict[str, Tensor]] = {}
    by_shares: dict[tuple[float, ...], dict[str, Tensor]] = {}
    for c in torch.nonzero(counts_KC.sum(0)).flatten().tolist():
        shares = tuple(normalised(counts_KC[:, c]).tolist())
        if shares not in by_shares:
            by_shares[shares] = weighted_average(states, counts_KC[:, c])
        experts[c] = by_shares[shares]
    return experts


class Gate(nn.Module):
    """A small meta model: per class a convex mix of the experts' logits.

    t_c = s * sum_e A_ce z_ec + b_c, A = softmax of theta over experts; theta starts at
    ``start`` on the diagonal, so that expert c judges class c. Ours: C * (E + 1) + 1
    parameters instead of the transformer's 0.95 million.
    """

    def __init__(self, classes: Sequence[int], num_classes: int, start: float) -> None:
        """Args: ``classes[e]`` is the class of expert ``e``."""
        super().__init__()
        theta_CE = torch.zeros(num_classes, len(classes))
        for expert, label in enumerate(classes):
            theta_CE[label, expert] = start
        self.theta_CE = nn.Parameter(theta_CE)
        self.scale = nn.Parameter(torch.ones(()))
        self.bias_C = nn.Parameter(torch.zeros(num_classes))

    def forward(self, logits_EBC: Tensor) -> Tensor:
        """Map the experts' logits ``[E, B, C]`` to logits ``[B, C]``."""
        mix_CE = self.theta_CE.softmax(1)
        fused_BC = torch.einsum("ce,ebc->bc", mix_CE, logits_EBC)
        logits_BC: Tensor = self.scale * fused_BC + self.bias_C
        return logits_BC


class MetaTransformer(nn.Module):
    """The released code's meta model: a transformer over the experts.

    Linear C -> aC, ``nn.Transformer`` (1 encoder and 1 decoder layer, C heads, feed-
    forward 2048, dropout 0.2, source = target), sum or mean over experts, Linear
    aC -> C. Without the embedding it is invariant to the order of the experts.
    """

    def __init__(
        self, num_experts: int, num_classes: int, config: TeacherConfig
    ) -> None:
        super().__init__()
        size = config.expansion * num_classes
        self.pooling = config.pooling
        self.expand = nn.Linear(num_classes, size)
        self.embedding_ED = None
        if config.expert_embedding:
            self.embedding_ED = nn.Parameter(torch.randn(num_experts, 1, size))
        with warnings.catch_warnings():
            # PyTorch says that a fast path for padded batches is off; there are none.
            warnings.filterwarnings("ignore", "enable_nested_tensor")
            self.transformer = nn.Transformer(
                d_model=size,
                nhead=num_classes,
                num_encoder_layers=1,
                num_decoder_layers=1,
                dim_feedforward=2048,
                dropout=0.2,
            )
        self.reduce = nn.Linear(size, num_classes)

    def forward(self, logits_EBC: Tensor) -> Tensor:
        """Map the experts' logits ``[E, B, C]`` to logits ``[B, C]``."""
        tokens_EBD = self.expand(logits_EBC)
        if self.embedding_ED is not None:
            tokens_EBD = tokens_EBD + self.embedding_ED
        fused_EBD = self.transformer(tokens_EBD, tokens_EBD)
        pooled_BD = fused_EBD.sum(0) if self.pooling == "sum" else fused_EBD.mean(0)
        logits_BC: Tensor = self.reduce(pooled_BD)
        return logits_BC


def build_meta(
    classes: Sequence[int], num_classes: int, config: TeacherConfig
) -> nn.Module:
    """Return a new meta model for experts of the given classes."""
    if config.meta == "gate":
        return Gate(classes, num_classes, config.gate_start)
    return MetaTransformer(len(classes), num_classes, config)


@torch.no_grad()
def feature_prototypes(
    experts: LogitEnsemble, features: Mapping[int, Tensor], server: Server
) -> tuple[Tensor, Tensor]:
    """Return the heads' logits ``[E, N, C]`` and the labels ``[N]`` of sent features."""
    sent = sorted(features.items())
    features_ND = torch.cat([rows for _, rows in sent]).to(server.device)
    labels_N = torch.cat([torch.full((len(rows),), c) for c, rows in sent])
    return experts.heads(features_ND), labels_N.to(server.device)


@torch.no_grad()
def sample_prototypes(
    experts: nn.Module,
    source: ImageSource,
    members: Members,
    number: int,
    server: Server,
) -> tuple[Tensor, Tensor]:
    """Return experts' logits ``[E, N, C]`` and labels ``[N]`` of generated images.

    Each generator gives ``number`` images. The label is what the model of the image's own
    client says, among the classes that this client holds.
    """
    logits, labels = [], []
    for i, k in enumerate(source.clients):
        shares = [number if j == i else 0 for j in range(len(source.clients))]
        x, _ = source.draw(shares)
        own = members.client(k, server)
        missing_C = members.label_counts[k].to(server.device) == 0
        answers_BC = own(x).masked_fill(missing_C, -torch.inf)
        labels.append(answers_BC.argmax(1))
        logits.append(experts(x))
    return torch.cat(logits, dim=1), torch.cat(labels)


def train_meta(
    meta: nn.Module,
    logits_ENC: Tensor,
    labels_N: Tensor,
    config: MetaConfig,
    server: Server,
) -> nn.Module:
    """Train the meta model on prototypes; return its averaged copy in eval mode.

    Args:
        meta: Maps experts' logits ``[E, B, C]`` to ``[B, C]``.
        logits_ENC: The frozen experts' logits of all prototypes.
        labels_N: The prototypes' labels.
        config: Steps, rate, averaging and hold-out.
        server: Counts the examples; logs the accuracy on held-out prototypes of the
            meta model and of the plain mean of the experts.
    """
    number = len(labels_N)
    order = torch.randperm(number).to(labels_N.device)
    held = int(config.holdout * number)
    kept, rest = order[held:], order[:held]
    average = WeightAverage(meta, config.ema_decay, corrected=config.ema_correction)
    adam = Adam(lr=config.lr).start(meta.parameters())
    meta.train()
    for _ in range(config.steps):
        chosen = torch.randperm(len(kept))[: config.batch_size]
        pick = kept[chosen.to(kept.device, non_blocking=True)]
        adam.step(F.cross_entropy(meta(logits_ENC[:, pick]), labels_N[pick]))
        average.update(meta)
        server.count_examples(len(pick))
    if config.steps:
        average.copy_to(meta)
    meta.eval()
    server.log("prototypes", number)
    if held:
        _log_heldout(meta, logits_ENC[:, rest], labels_N[rest], server)
    return meta


@torch.no_grad()
def _log_heldout(
    meta: nn.Module, logits_ENC: Tensor, labels_N: Tensor, server: Server
) -> None:
    """Log accuracies, in percent, on prototypes that the meta model has not seen."""
    fused = meta(logits_ENC).argmax(1) == labels_N
    plain = logits_ENC.mean(0).argmax(1) == labels_N
    server.log("meta_heldout_accuracy", 100 * fused.float().mean())
    server.log("experts_heldout_accuracy", 100 * plain.float().mean())
