"""Every strategy on another device, without one: what is mixed up there is seen here.

Tensors "on the device" are wrappers that say they are on torch's device ``lazy`` and hold
their values in memory. Operations compute with these values and refuse what CUDA refuses:
operands on two devices, but for scalars and indices.
"""

import sys
from dataclasses import replace

import pytest
import torch
from strategy_settings import SETTINGS, each_strategy
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fedkd import PublicData, testing
from fedkd.data.images import Augmentation
from fedkd.plugins.registry import load_registry
from fedkd.simulation import evaluate
from fedkd.simulation import measure as measurement
from fedkd.simulation.federation import Federation
from fedkd.simulation.simulator import simulate

DEVICE = torch.device("lazy")
REGISTRY = load_registry()
CROSSING = {"aten::copy_", "aten::_to_copy", "aten::_local_scalar_dense"}
INDEXED = {
    "aten::index",
    "aten::index_put_",
    "aten::index_put",
    "aten::_index_put_impl_",
}


class There(Tensor):
    """A tensor on the device; its values are ``here``."""

    @staticmethod
    def __new__(cls, here):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            here.shape,
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=DEVICE,
        )

    def __init__(self, here):
        self.here = here

    def __repr__(self):
        return f"There({self.here})"

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return THIS.dispatch(function, args, kwargs or {})


def mapped(change, value):
    """Apply ``change`` to what is in lists: arguments of operations are no deeper trees."""
    if isinstance(value, list | tuple):
        return type(value)([mapped(change, item) for item in value])
    return change(value)


def tensors_in(*values):
    found = []
    mapped(lambda v: found.append(v) if isinstance(v, Tensor) else None, values)
    return found


def dispatched(function, args, kwargs):
    tensors = tensors_in(args, list(kwargs.values()))
    there = [t for t in tensors if isinstance(t, There)]
    name = function._schema.name
    check(name, args, tensors, there)
    device = kwargs.get("device")
    to_there = bool(there) if device is None else torch.device(device) == DEVICE
    plain_args = mapped(values_of, args)
    plain_kwargs = {key: mapped(values_of, value) for key, value in kwargs.items()}
    found = function(*plain_args, **plain_kwargs)
    if name == "aten::_to_copy" and found is plain_args[0]:
        found = found.clone()
    known = {id(t.here): t for t in there}

    def back(value):
        if not isinstance(value, Tensor) or isinstance(value, There):
            return value
        if id(value) in known:
            return known[id(value)]
        if any(value is t for t in tensors):
            return value
        return There(value) if to_there else value

    return mapped(back, found)


def values_of(value):
    if isinstance(value, There):
        return value.here
    return torch.device("cpu") if isinstance(value, torch.device) else value


def check(name, args, tensors, there):
    if not there or len(there) == len(tensors) or name in CROSSING:
        return
    strangers = [t for t in tensors if not isinstance(t, There) and t.ndim > 0]
    if name in INDEXED and isinstance(args[0], There):
        own = [t for t in args[1] if isinstance(t, Tensor)]
        strangers = [t for t in strangers if not any(t is o for o in own)]
    if strangers:
        shapes = [tuple(t.shape) for t in strangers]
        raise RuntimeError(f"{name}: tensors {shapes} are on the CPU, others are not")


class Factories(TorchDispatchMode):
    """Sends what is made on the device, or moved to it, there."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return THIS.dispatch(function, args, kwargs or {})


dispatch = dispatched
THIS = sys.modules[__name__]


@pytest.fixture
def device(monkeypatch):
    # A wrapper made in inference mode cannot be.
    plain = torch.no_grad()(evaluate.predictions.__wrapped__)
    monkeypatch.setattr(measurement, "predictions", plain)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)
    # These two make their values past all modes.
    tensor = torch.tensor

    def made(data, *, device=None, **options):
        found = tensor(data, **options)
        return found if device is None else found.to(device)

    def alike(self, data, *, dtype=None, device=None):
        return made(data, dtype=dtype or self.dtype, device=device or self.device)

    monkeypatch.setattr(torch, "tensor", made)
    monkeypatch.setattr(Tensor, "new_tensor", alike)
    with Factories():
        yield DEVICE


def test_the_stand_in_computes_and_refuses_like_a_device(device):
    a = torch.arange(3.0).to(device)
    assert a.device == device
    assert (a * 2 + torch.tensor(1.0)).cpu().tolist() == [1, 3, 5]
    assert torch.ones(2, device=device).sum().item() == 2
    assert a[torch.tensor([1, 2])].cpu().tolist() == [1, 2]
    with pytest.raises(RuntimeError, match="are on the CPU"):
        a + torch.ones(3)
    with pytest.raises(RuntimeError, match="are on the CPU"):
        torch.arange(3)[torch.tensor([0]).to(device)]
    with pytest.raises((TypeError, RuntimeError)):
        a.numpy()
    w = torch.ones(3, device=device, requires_grad=True)
    (w * a).sum().backward()
    assert w.grad.device == device
    assert w.grad.cpu().tolist() == [0, 1, 2]


def on_device(federation, device):
    """Return the same federation with its data on the device."""
    return Federation(
        federation.data.to(device),
        [client.indices.numpy() for client in federation.clients],
        [shard.numpy() for shard in federation.test_shards],
        federation.client_models,
        REGISTRY.model,
        server=federation.server_model,
        public=PublicData(federation.public.pixels, federation.data.to(device)),
    )


def run(name, device, folder=None, *, federation=None, executor="serial", **protocol):
    strategy, _ = REGISTRY.strategy(name, SETTINGS.get(name, {}))
    there = on_device(federation or testing.toy_federation(), device)
    assert isinstance(there.data.x_train, There)
    setting = testing.toy_protocol(2, **protocol)
    engine = REGISTRY.executor(executor)
    result = simulate(strategy, there, setting, 0, folder=folder, executor=engine)
    assert result.metrics["global_accuracy"] is not None
    return result


def _one_a_class():
    """Return the name of a strategy of each class; presets run through the same code."""
    names = {}
    for name in REGISTRY.entries("strategies"):
        strategy, _ = REGISTRY.strategy(name, SETTINGS.get(name, {}))
        names.setdefault(type(strategy), name)
    return [*names.values(), "mosaic-code", "dense-code", "fedftg-official"]


@pytest.mark.parametrize("name", each_strategy(_one_a_class()))
def test_every_strategy_runs_where_its_device_is_not_the_cpu(name, device, tmp_path):
    run(name, device, tmp_path)


@pytest.mark.parametrize("buffers", ["local", "reestimate"])
def test_buffers_are_treated_there_too(buffers, device):
    run("fedavg", device, buffers=buffers)


@pytest.mark.parametrize(
    "name", ["mosaic", "dense", "coboosting", "fedgen", "dfrd", "ensemble"]
)
def test_mixed_architectures_work_there(name, device):
    strategy, _ = REGISTRY.strategy(name, SETTINGS.get(name, {}))
    if strategy.requires.one_architecture:
        pytest.skip("needs one architecture")
    run(name, device, federation=testing.toy_federation(models=("cnn", "cnn-plain")))


@pytest.mark.parametrize("executor", ["graphs"])  # others start threads
def test_executors_give_there_what_they_give_on_the_cpu(executor, device):
    there = run("fedavg", device, executor=executor).state.weights
    strategy, _ = REGISTRY.strategy("fedavg", {})
    here = simulate(strategy, testing.toy_federation(), testing.toy_protocol(2), 0)
    assert {type(value) for value in there.values()} == {Tensor}
    torch.testing.assert_close(
        dict(there), dict(here.state.weights), rtol=1e-4, atol=1e-5
    )


def test_images_are_augmented_there(device):
    how = Augmentation(1, flip=True)
    data = replace(testing.toy_images(), augmentation=how)
    for executor in ("serial", "graphs"):
        run("dense", device, federation=testing.toy_federation(data=data))
        run(
            "fedavg",
            device,
            federation=testing.toy_federation(data=data),
            executor=executor,
        )


WAITS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::_unique2"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("fedavg", "fedgen", "mosaic"),
        *(pytest.param(name, marks=pytest.mark.thorough) for name in ("dense", "dfrd")),
    ],
)
def test_no_step_waits_for_the_device(name, device, monkeypatch):
    """More steps of training must not be more moments in which the program waits."""
    counts = []
    for factor in (1, 2):
        waits = []

        def spied(function, args, kwargs, waits=waits):
            if waits_for_device(function, args, kwargs):
                waits.append(function._schema.name)
            return dispatched(function, args, kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(THIS, "dispatch", spied)
            options = longer(SETTINGS.get(name, {}), factor)
            strategy, _ = REGISTRY.strategy(name, options)
            training = {"local_steps": 2 * factor, "batch_size": 30, "lr": 0.05}
            there = on_device(testing.toy_federation(), device)
            protocol = testing.toy_protocol(2, training=training)
            simulate(strategy, there, protocol, 0)
        counts.append(len(waits))
    assert counts[1] == counts[0]


def waits_for_device(function, args, kwargs):
    name = function._schema.name
    there = isinstance(args[0], There) if args else False
    if name in WAITS:
        return there
    if name == "aten::copy_":
        crosses = isinstance(args[0], There) != isinstance(args[1], There)
        return crosses and not (len(args) > 2 and args[2])
    if name != "aten::_to_copy" or kwargs.get("device") is None:
        return False
    crosses = there != (torch.device(kwargs["device"]) == DEVICE)
    # From memory to the device and not the other way: safe without waiting.
    return crosses and not (kwargs.get("non_blocking") and not there)


def longer(options, factor):
    """Return options with ``factor`` times as many steps."""
    steps = ("steps", "generator_steps", "global_steps")
    return {
        key: longer(value, factor)
        if isinstance(value, dict)
        else factor * value
        if key in steps and isinstance(value, int)
        else value
        for key, value in options.items()
    }
