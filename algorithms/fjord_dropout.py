"""FjORD's ordered dropout: in every step, a prefix of the channels."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call


class OrderedDropout(nn.Module):
    """A model that in every step answers with itself or with one of its prefixes.

    A prefix has the first entries along every dimension of the model's parameters, as
    views, so that its gradients are the model's; its buffers are its own.
    """

    def __init__(
        self, model: nn.Module, prefixes: Mapping[float, nn.Module], distil: bool
    ) -> None:
        """Put a model and its prefixes together.

        Args:
            model: The widest network; the only one whose parameters are used.
            prefixes: Narrower networks by width, of which buffers are used.
            distil: Whether a drawn prefix learns from the widest network, too.
        """
        super().__init__()
        self.model = model
        # Not registered: their parameters must reach no optimiser.
        self._prefixes = [prefixes[p] for p in sorted(prefixes)]
        self._distil = distil
        self._soft: Tensor | None = None

    def train(self, mode: bool = True) -> OrderedDropout:
        """Switch the prefixes, too."""
        for prefix in self._prefixes:
            prefix.train(mode)
        super().train(mode)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Map images to the logits of a width drawn uniformly; ``[B, classes]``.

        With self-distillation, to those of the widest network; the drawn one's part of
        the loss waits in :meth:`distillation`.
        """
        drawn = int(torch.randint(len(self._prefixes) + 1, ()))
        if self._distil:
            logits_BC: Tensor = self.model(x)
            soft = (
                self.narrow(drawn, x) if drawn < len(self._prefixes) else self.model(x)
            )
            self._soft = soft_cross_entropy(soft, logits_BC.detach())
            return logits_BC
        if drawn == len(self._prefixes):
            whole: Tensor = self.model(x)
            return whole
        return self.narrow(drawn, x)

    def narrow(self, number: int, x: Tensor) -> Tensor:
        """Return the logits of prefix ``number``, in ascending width."""
        prefix = self._prefixes[number]
        own = dict(self.model.named_parameters())
        views = {
            name: own[name][tuple(slice(size) for size in like.shape)]
            for name, like in prefix.named_parameters()
        }
        logits_BC: Tensor = functional_call(prefix, views, (x,))
        return logits_BC

    def distillation(self, model: nn.Module) -> Tensor:
        """Return the drawn network's part of the loss of this step; a scalar."""
        del model
        assert self._soft is not None, "asked for before a forward pass"
        return self._soft


def soft_cross_entropy(logits_BC: Tensor, teacher_BC: Tensor) -> Tensor:
    """Return -mean_b sum_c softmax(teacher)_c log softmax(logits)_c; a scalar."""
    return F.cross_entropy(logits_BC, teacher_BC.softmax(1))
