"""What tests of the contract share."""

import random

import numpy as np
import pytest
import torch


@pytest.fixture
def globals_put_back():
    """Put back what a planted fault may change for all."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    threads = torch.get_num_threads()
    yield
    random.setstate(before[0])
    np.random.set_state(before[1])
    torch.set_rng_state(before[2])
    torch.set_num_threads(threads)
