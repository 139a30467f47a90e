"""Options that change any strategy: how the server averages, and a last step."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

_STEPS = {
    "average": ("fedkd.averaged", "averaged"),
    "calibrate": ("fedkd.calibration", "calibrated"),
}
"""What changes any strategy, by its option, in this order."""


def composed(kind: str, cls: Any, options: Mapping[str, Any]) -> Any:
    """Return the class that options ask for: two keys change any strategy.

    Args:
        kind: ``strategies``, or another kind, whose class is returned as it is.
        cls: What is registered.
        options: ``average`` is how the server averages; ``calibrate`` makes the last
            round CCVR's. A strategy's own option of such a name goes first.
    """
    own = cls.Config.model_fields if kind == "strategies" else options
    for option, (module, step) in _STEPS.items():
        if option in options and option not in own:
            cls = getattr(importlib.import_module(module), step)(cls)
    return cls
