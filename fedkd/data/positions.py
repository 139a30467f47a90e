"""Which images of a set a client has: positions, in any form that lists them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedkd.errors import ConfigError


def positions_in(size: int, given: Any, where: str) -> Tensor:
    """Return positions in a set, int64 ``[n]`` on the CPU.

    Args:
        size: Of the set.
        given: A list, an array or a tensor of whole numbers, ``[n]``.
        where: What messages begin with: ``"shards: client 0"``.

    Raises:
        ConfigError: If they are no whole numbers, or one is not in the set.
    """
    try:
        found = np.asarray(given.cpu() if isinstance(given, Tensor) else given)
    except ValueError:  # lists of several lengths
        found = np.asarray(None)
    if found.ndim == 1 and found.size == 0:
        return torch.zeros(0, dtype=torch.int64)
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        raise ConfigError(
            f"{where}: found {found.dtype} of shape {list(found.shape)}, expected the "
            "positions of images, whole numbers in one row."
        )
    outside = found[(found < 0) | (found >= size)]
    if outside.size:
        raise ConfigError(
            f"{where}: found position {outside[0]}, expected 0 to {size - 1}."
        )
    # Torch warns of memory that may not be written.
    own = found if found.flags.writeable else found.copy()
    return torch.from_numpy(own.astype(np.int64, copy=False))
