"""Models in two parts, one of the clients' own and one of all; which layers are which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain

from pydantic import Field
from torch import nn

from fedkd.algorithms.averaging import PlainConfig, private_buffers
from fedkd.errors import ConfigError, counted
from fedkd.ops.layers import entries_by_layer
from fedkd.strategy import Party


class PartsConfig(PlainConfig):
    """Where a model is cut. A layer is a module with weights and what normalises it."""

    layers: int = Field(1, ge=0)
    """Number of layers in the upper part, from the classifier down; 1 is the classifier
    alone, as in most public code."""

    def lower(self, party: Party) -> frozenset[str]:
        """Return the entries of the lower part, and what the buffer policy keeps."""
        below, _ = self._cut(party)
        return frozenset(chain(*below)) | private_buffers(party)

    def upper(self, party: Party) -> frozenset[str]:
        """Return the entries of the upper part, and what the buffer policy keeps."""
        _, above = self._cut(party)
        return frozenset(chain(*above)) | private_buffers(party)

    def _cut(self, party: Party) -> tuple[list[list[str]], list[list[str]]]:
        """Return the layers below and above the cut.

        Raises:
            ConfigError: If the model has fewer layers.
        """
        every = entries_by_layer(party.model)
        place = len(every) - self.layers
        if place < 0:
            raise ConfigError(
                f"layers: found {self.layers}, expected at most {len(every)}: the model "
                f"{type(party.model).__name__} has {counted(len(every), 'layer')} with "
                "weights. Give a smaller number."
            )
        return every[:place], every[place:]


@contextmanager
def frozen(model: nn.Module, names: Iterable[str]) -> Iterator[None]:
    """Let no step change the parameters ``names`` of a model inside the block."""
    every = [model.get_parameter(name) for name in names]
    parameters = [p for p in every if p.requires_grad]
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)
