"""torch's two switches for tensor cores that round float32 to tf32."""

from __future__ import annotations

import torch


def tf32_flags() -> tuple[bool, bool]:
    """Say whether tf32 is allowed in products, and in convolutions."""
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def set_tf32_flags(flags: tuple[bool, bool]) -> None:
    """Set what :func:`tf32_flags` gives."""
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = flags
