"""What tests of algorithms share."""

import pytest
import torch


@pytest.fixture
def double():
    """Compute in float64, as replays of whole stages do."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
