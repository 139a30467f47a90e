"""What all tests share: one thread, no network, real data only where it is given."""

import gc
import os
import random
import signal
import socket
from pathlib import Path

# What a shell starts with & is told to ignore Ctrl-C, and so are the processes that it
# starts; tests send it to theirs.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Before torch is imported, and for the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Nothing of the user's own settings may change what a test sees, but where data is.
for _name in [n for n in os.environ if n.startswith("FEDKD_") and n != "FEDKD_DATA"]:
    del os.environ[_name]

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

from fedkd.base.machine import cores  # noqa: E402

# The same examples each time, and few; HYPOTHESIS_PROFILE=long draws many new ones.
hypothesis.settings.register_profile(
    "short", derandomize=True, max_examples=20, deadline=None, database=None
)
hypothesis.settings.register_profile("long", max_examples=2000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))

torch.set_num_threads(1)

_given = os.environ.get("FEDKD_DATA")
DATA = Path(_given).expanduser().resolve() if _given else None
"""Folder of the real data files, or None."""
if DATA is not None:
    os.environ["FEDKD_DATA"] = str(DATA)  # tests change the working folder


@pytest.hookimpl(optionalhook=True)  # there is no such hook without pytest-xdist
def pytest_xdist_auto_num_workers():
    """Return one process more than cores: many tests wait for others that they start."""
    given = os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS")
    return None if given else cores() + 1  # None: as pytest-xdist itself says


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Collect no garbage among eleven thousand tests and what they import: all stays.

    That took a quarter of the time in which a process collects its tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        # Ten times what Python has: tests make what is short-lived.
        gc.set_threshold(7000)
        gc.enable()


def pytest_collection_modifyitems(items):
    """Skip the tests on real data where there is none."""
    if DATA is not None and DATA.is_dir():
        return
    found = "is not set" if DATA is None else f"names {DATA}, which is no folder"
    skip = pytest.mark.skip(reason=f"needs real data files, and FEDKD_DATA {found}")
    for item in items:
        if item.get_closest_marker("data"):
            item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def _no_network():
    """Fail a test that calls another machine; sockets on this one are allowed."""
    real = socket.socket.connect

    def connect(self, address):
        host = address[0] if isinstance(address, tuple) else "localhost"
        if host not in ("localhost", "127.0.0.1", "::1"):
            raise AssertionError(f"a test calls {address}; tests use no network")
        return real(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        yield


@pytest.fixture(scope="session")
def data_folder():
    """The folder of the real data files; for tests marked ``data``."""
    assert DATA is not None, "mark the test with pytest.mark.data"
    return DATA


@pytest.fixture
def globals_put_back():
    """Put back what a planted fault may change for all.

    Each generator is moved on first: one that a test before has seeded with 0 would not
    show that it is seeded with 0 again.
    """
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    threads = torch.get_num_threads()
    random.random(), np.random.rand(), torch.rand(())
    yield
    random.setstate(before[0])
    np.random.set_state(before[1])
    torch.set_rng_state(before[2])
    torch.set_num_threads(threads)
