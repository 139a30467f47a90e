"""The hyper-parameters of FjORD."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fedkd.config import Config


class FjORDConfig(Config):
    """Hyper-parameters of FjORD."""

    widths: list[Annotated[float, Field(gt=0, le=1)]] | None = None
    """P, the widths of ordered dropout over the global one; a client draws among those up
    to its own, its own included. The paper's experiments use 0.2, 0.4, 0.6, 0.8 and 1.
    None: the widths that the federation's clients have."""
    distil: bool = False
    """Whether a narrower draw learns from the client's widest net, too: both losses of a
    step are added."""
