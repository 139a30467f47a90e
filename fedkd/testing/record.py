"""What a toy run shows of a strategy: what it gave, and which promises it broke."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

from fedkd.errors import ContractError
from fedkd.party import Party
from fedkd.payload import decode, encode, seal
from fedkd.simulation.federation import Federation
from fedkd.simulation.simulator import RunResult
from fedkd.strategy import Client, Strategy
from fedkd.testing.prints import Print, difference, fingerprint
from fedkd.testing.watching import AnyStrategy, Call, Watcher

SENDING = ("init", "broadcast", "local", "aggregate")
"""Verbs whose results cross the wire, or go into a checkpoint."""
_REMEDIES = {
    "inputs": "Others are given the same: work on a copy.",
    "shared": "All clients share it: work on a copy.",
    "self": "A resumed run and a worker process start without it: keep it in the state, "
    "or in client.memory.",
    "settings": "All clients share them: give client.train a copy, "
    "client.training.model_copy(update=...).",
    "generators": "Draw from torch's default generator, which the simulator has seeded, "
    "and leave torch's settings as they are.",
    "work": "Give count_examples the images of each training step.",
    "kept": "Somebody writes into the same memory: keep a copy, "
    "fedkd.read_weights(model) or value.clone().",
}


class Record(Watcher):
    """Notes what every call gives, and compares what it must leave alone."""

    def __init__(
        self,
        strategy: AnyStrategy,
        federation: Federation,
        leftover: float | None = None,
    ) -> None:
        """Start a record.

        Args:
            strategy: Whose calls are watched.
            federation: The world it runs in.
            leftover: Fills the working models before each call; None to leave in them
                what is in them.
        """
        super().__init__()
        self.result: RunResult | None = None
        """What the run left, at its end."""
        self.given: dict[str, Print] = {}
        """Fingerprints of results, by call."""
        self.ups: list[tuple[Call, Any]] = []
        """What the clients sent."""
        self.sizes: dict[str, int] = {}
        """Bytes of what was sent, by call."""
        self.faults: dict[str, str] = {}
        """The first fault of each kind, as a sentence."""
        self._strategy = strategy
        self.federation = federation
        """The world that the strategy runs in."""
        self._leftover = leftover
        self._kept: dict[str, Print] = {}
        self._arrived: dict[frozenset[tuple[str, str]], Print] = {}

    def around(self, call: Call, proceed: Callable[[], Any]) -> Any:
        """Do the call, and compare before and after."""
        if self._leftover is not None and call.party is not None:
            _fill(call.party.model, self._leftover)
        self._compare_kept(call)
        look = self._look(call)
        before = {kind: fingerprint(see()) for kind, see in look.items()}
        with _backward_passes() as passes:
            result = proceed()
        if passes and call.party is not None and not call.party.examples:
            self._note("work", call.verb, f"{call} trained and counted no image")
        for kind, see in look.items():
            path = difference(before[kind], fingerprint(see()))
            self._note(kind, path, f"{call} changed {path}")
        self._keep(call, result)
        return result

    def _look(self, call: Call) -> dict[str, Callable[[], Any]]:
        """Return what the call must leave alone, by kind."""
        party = call.party
        inputs = {n: v for n, v in call.args.items() if not isinstance(v, Party)}
        shared: dict[str, Any] = {"images": self.federation.data}
        if self.federation.public is not None:
            shared["public images"] = self.federation.public.pixels
        look: dict[str, Callable[[], Any]] = {
            "inputs": lambda: inputs,
            "self": lambda: _attributes(self._strategy),
            "generators": global_settings,
        }
        if party is not None:
            shared["initial weights"] = party.initial
        look["shared"] = lambda: shared
        if isinstance(party, Client):
            settings = {"client.training": party.training}
            look["settings"] = lambda: settings
        return look

    def _compare_kept(self, call: Call) -> None:
        for name, tree in _keeping(call).items():
            if name in self._kept:
                path = difference(self._kept[name], fingerprint(tree))
                self._note("kept", path, f"before {call}, {path} of {name} had changed")

    def _keep(self, call: Call, result: Any) -> None:
        title = str(call)
        self.given[title] = fingerprint(result)
        if call.verb in ("init", "aggregate"):
            self._kept["the state"] = self.given[title]
        if call.verb == "local":
            self.ups.append((call, result))
            client = call.party
            assert isinstance(client, Client)
            self._kept[_memory_of(client)] = fingerprint(dict(client.memory))
        if call.verb in SENDING:
            self._travel(title, result)

    def _travel(self, title: str, payload: Any) -> None:
        try:
            self.sizes[title] = seal(payload, title)
            arrived = self._over_the_wire(title, payload)
        except ContractError as error:
            self.faults.setdefault("travel", str(error))
            return
        path = difference(self.given[title], arrived)
        if path:
            sentence = (
                f"{title} gave {path} that is another after the wire. Use tensors, "
                "numbers, texts, None, dicts, lists, tuples and frozen dataclasses."
            )
            self.faults.setdefault("travel", sentence)

    def _over_the_wire(self, title: str, payload: Any) -> Print:
        """Return what a payload is after the wire; of equal ones, one goes."""
        known = frozenset(self.given[title].items())
        if known not in self._arrived:
            self._arrived[known] = fingerprint(decode(encode(payload, title)))
        return self._arrived[known]

    def _note(self, kind: str, path: str | None, sentence: str) -> None:
        if path is not None:
            self.faults.setdefault(kind, f"{sentence}. {_REMEDIES[kind]}")


@contextlib.contextmanager
def _backward_passes() -> Iterator[list[int]]:
    """Give a list that has an entry for every backward pass inside the block."""
    passes: list[int] = []
    real = torch.autograd.backward

    def noted(*args: Any, **options: Any) -> None:
        passes.append(1)
        real(*args, **options)

    with mock.patch.object(torch.autograd, "backward", noted):
        yield passes


def _keeping(call: Call) -> dict[str, Any]:
    """Return what was kept since an earlier call and is given to this one, by name."""
    kept: dict[str, Any] = {}
    if call.verb not in ("init", "local") and call.args:
        kept["the state"] = next(iter(call.args.values()))
    if isinstance(call.party, Client) and call.verb == "local":
        kept[_memory_of(call.party)] = dict(call.party.memory)
    return kept


def _memory_of(client: Client) -> str:
    return f"the memory of client {client.id}"


def _attributes(strategy: AnyStrategy) -> dict[str, Any]:
    """Return what a strategy and its own classes hold."""
    classes = [c for c in type(strategy).__mro__ if c not in Strategy.__mro__]
    own = {
        f"{c.__name__}.{name}": value
        for c in classes
        for name, value in vars(c).items()
        if not name.startswith("__") and name != "_abc_impl"
    }
    return own | {f"self.{name}": value for name, value in vars(strategy).items()}


def global_settings() -> dict[str, Any]:
    """Return the state of what is global and no stream of the run."""
    _, numbers, place, *_ = np.random.get_state()
    return {
        "torch's seed": torch.initial_seed(),
        "NumPy's global generator": hash((np.asarray(numbers).tobytes(), place)),
        "Python's global generator": hash(random.getstate()),
        "torch's default type": repr(torch.get_default_dtype()),
        "whether torch takes gradients": torch.is_grad_enabled(),
        "the number of torch's threads": torch.get_num_threads(),
    }


@torch.no_grad()
def _fill(model: nn.Module, value: float) -> None:
    for tensor in model.state_dict(keep_vars=True).values():
        tensor.fill_(value if tensor.is_floating_point() else int(10 * value))


def first_change(one: dict[str, Print], other: dict[str, Print]) -> str | None:
    """Return the first call whose result differs, and in what; None if none does."""
    for title, result in one.items():
        path = difference(result, other.get(title, {}))
        if path is not None:
            return f"{title} gave another {path}"
    return None
