"""Losses that train image generators; each returns a scalar.

Losses on predictions work with logarithms of probabilities throughout, so that a
prediction of 0 gives neither NaN nor an infinite gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle


def discriminator_loss(real_B: Tensor, fake_B: Tensor) -> Tensor:
    """Return L_D = -mean log D(x) - mean log(1 - D(G(z))), D = sigmoid of the logits.

    Source: Goodfellow et al., "Generative Adversarial Nets", 2014, Eq. 1.
    """
    return F.softplus(-real_B).mean() + F.softplus(fake_B).mean()


def adversarial_loss(fake_B: Tensor) -> Tensor:
    """Return L_adv = -mean log D(G(z)), D = sigmoid of the logits.

    Source: Goodfellow et al. 2014, section 3 (the form that does not saturate).
    """
    return F.softplus(-fake_B).mean()


def class_evidence_logit(logits_BC: Tensor) -> Tensor:
    """Return the logit ``[B]`` of D(x) = Z/(Z + 1), Z = sum_c exp(z_c).

    It makes a classifier a discriminator without a further output. Source: Salimans et
    al., "Improved Techniques for Training GANs", 2016, section 5. The text of Mosaic that
    could be read does not say how its local model judges images; this is our choice.
    """
    return torch.logsumexp(logits_BC, dim=1)


def prediction_entropy(logits_BC: Tensor) -> Tensor:
    """Return L_ent = mean_b -sum_c p_bc log p_bc, p = softmax of the logits."""
    log_p_BC = F.log_softmax(logits_BC, dim=1)
    return -_p_log_p(log_p_BC).sum(dim=1).mean()


def diversity_from_uniform(logits_BC: Tensor) -> Tensor:
    """Return L_div = sum_c m_c log m_c, m = mean_b p_b; least, -ln C, when m is uniform.

    Source: released Mosaic code (commit a7f8b5b, ``degan.py``), without its NaN where a
    class is never predicted.
    """
    log_m_C = _log_mean_prediction(logits_BC)
    return _p_log_p(log_m_C).sum()


def diversity_from_mix(logits_BC: Tensor, mix_C: Tensor) -> Tensor:
    """Return KL(q || m) = sum_c q_c (log q_c - log m_c), m = mean_b p_b.

    A class with q_c = 0 adds nothing; one with q_c > 0 that is never predicted costs
    much and keeps its gradient.

    Args:
        logits_BC: A classifier's logits of generated images.
        mix_C: q, the wanted shares of the classes.
    """
    log_m_C = _log_mean_prediction(logits_BC)
    q_C = mix_C.to(log_m_C)
    return (torch.xlogy(q_C, q_C) - q_C * log_m_C).sum()


def _log_mean_prediction(logits_BC: Tensor) -> Tensor:
    """Return log mean_b p_bc, ``[C]``; the least finite number instead of -inf."""
    log_p_BC = F.log_softmax(logits_BC, dim=1)
    log_m_C = torch.logsumexp(log_p_BC, dim=0) - math.log(len(logits_BC))
    return log_m_C.clamp(min=torch.finfo(log_m_C.dtype).min)


def _p_log_p(log_p: Tensor) -> Tensor:
    """Return p log p, with 0 log 0 = 0."""
    finite = log_p.clamp(min=torch.finfo(log_p.dtype).min)
    return finite.exp() * finite


class BatchNormMatcher:
    """Measures how far a batch is from the running statistics of a model.

    L_inv = sum_l ||var_l - running_var_l||_2 + ||mean_l - running_mean_l||_2 over the
    BatchNorm layers l, with biased variances and norms that are not squared. Source: Yin
    et al., "Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion", CVPR
    2020, Eq. 4. Forward passes are watched inside the ``with`` block only::

        with BatchNormMatcher(model) as matcher:
            logits = model(images)
        loss = matcher.loss()
    """

    def __init__(self, model: nn.Module, active: bool = True) -> None:
        """Find the layers to watch.

        Args:
            model: The classifier; it is not changed.
            active: Whether to watch at all.
        """
        self.layers: list[_BatchNorm] = [
            layer
            for layer in model.modules()
            if isinstance(layer, _BatchNorm) and layer.running_mean is not None
        ]
        """The layers with statistics. If there are none, the loss is 0 and says nothing."""
        self._active = active
        self._handles: list[RemovableHandle] = []
        self._distances: list[Tensor] = []

    def __enter__(self) -> BatchNormMatcher:
        """Start to watch; what was seen before is forgotten."""
        self._distances = []
        if self._active:
            # Before the layer runs: in train mode it then moves its statistics.
            self._handles = [
                layer.register_forward_pre_hook(self._watch) for layer in self.layers
            ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop watching and leave no hook behind."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def loss(self) -> Tensor:
        """Return L_inv of the passes watched; 0 if inactive or without BatchNorm.

        Raises:
            RuntimeError: If layers were to be watched and none has run.
        """
        if self._active and self.layers and not self._distances:
            raise RuntimeError(
                "no forward pass was watched; run the model inside the 'with' block of "
                "BatchNormMatcher before asking for the loss."
            )
        if not self._distances:
            return torch.zeros(())
        return torch.stack(self._distances).sum()

    def _watch(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        # A copy: in train mode the layer moves its statistics before the backward pass.
        mean_C = layer.get_buffer("running_mean").clone()
        variance_C, gap_C = _Moments.apply(inputs[0], mean_C)
        for gap in (variance_C - layer.get_buffer("running_var"), gap_C):
            self._distances.append(torch.linalg.vector_norm(gap))


class _Moments(torch.autograd.Function):
    """Biased variance and mean per channel, the mean less a given centre.

    The gradient of both is one affine map of the input, so one pass gives it; that of
    ``torch.var_mean`` takes ten times as long on maps in the channels-last format.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, centre_C: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[B, C, ...]`` and ``[C]`` to two vectors ``[C]``."""
        dims = [0, *range(2, x.ndim)]
        # Near the centre, the difference of squares loses no digits.
        moved = x - _per_channel(centre_C, x)
        gap_C = moved.mean(dims)
        variance_C = moved.square_().mean(dims) - gap_C.square()
        ctx.save_for_backward(x, centre_C + gap_C)
        return variance_C, gap_C

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, variance_C: Tensor, gap_C: Tensor) -> tuple[Tensor, None]:
        """Return 2 g_var (x - mean)/n + g_mean/n, n the values of a channel."""
        x, mean_C = ctx.saved_tensors
        number = x.numel() // x.shape[1]
        slope_C = 2 * variance_C / number
        start_C = gap_C / number - slope_C * mean_C
        return torch.addcmul(
            _per_channel(start_C, x), x, _per_channel(slope_C, x)
        ), None


def _per_channel(values_C: Tensor, x: Tensor) -> Tensor:
    """Return ``[C]`` in a shape that broadcasts with ``[B, C, ...]``."""
    return values_C.view(1, -1, *[1] * (x.ndim - 2))


def to_classifier_range(
    images: Tensor, mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """Return ((x + 1)/2 - mean)/std: images in [-1, 1] as classifiers see them.

    Args:
        images: A generator's output, ``[B, C, H, W]``.
        mean: Per channel, of images scaled to [0, 1].
        std: Per channel, of images scaled to [0, 1].
    """
    # Sent without waiting for the device: this is done at every step.
    facts = torch.tensor([*mean, *std], dtype=images.dtype)
    facts = facts.to(images.device, non_blocking=True).view(2, 1, -1, 1, 1)
    centre, spread = facts[0], facts[1]
    return ((images + 1) / 2 - centre) / spread


@torch.no_grad()
def all_finite(module: nn.Module) -> bool:
    """Return whether every parameter of a module is a finite number."""
    return all(bool(torch.isfinite(p).all()) for p in module.parameters())
