"""The conformance suite: promises that every strategy keeps, as functions to call.

For authors of plug-ins, in pytest::

    from fedkd import testing

    @pytest.mark.parametrize("check", testing.STRATEGY_CHECKS, ids=lambda c: c.__name__)
    def test_my_strategy_keeps_the_contract(check, tmp_path):
        check(lambda: MyStrategy(), tmp_path)

Each check builds strategies with the given function, runs them on a toy federation and
raises ``AssertionError`` with the promise that was broken.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fedkd.base.folders import RunFolder
from fedkd.errors import ConfigError
from fedkd.payload import decode, encode, leaves, seal
from fedkd.simulation.federation import Federation
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import Metrics, Run, RunResult, simulate
from fedkd.strategy import Client, Round, Server, Strategy
from fedkd.toys import toy_federation, toy_images, toy_protocol

AnyStrategy: TypeAlias = Strategy[Any, Any, Any]
Factory: TypeAlias = Callable[[], AnyStrategy]
TIMES = ("seconds",)


def same_seed_gives_equal_bits(make: Factory, folder: Path) -> None:
    """Two runs with one seed end in equal states; another seed ends elsewhere."""
    del folder
    first, second, other = (_run(make(), seed=seed) for seed in (1, 1, 2))
    assert encode(first.state) == encode(second.state), "one seed gave two results"
    # A strategy whose server learns nothing shows the seed in what its clients log.
    same = encode(first.state) == encode(other.state)
    assert not same or _untimed(first) != _untimed(other), "the seed changes nothing"


def order_of_clients_is_irrelevant(make: Factory, folder: Path) -> None:
    """Visiting the clients backwards changes no bit."""
    del folder
    states = []
    for backwards in (False, True):
        run = _Ordered(make(), Sides(toy_federation(), toy_protocol(), 0), "toy")
        run.backwards = backwards
        states.append(encode(run.execute(None, 0, lambda _: None).state))
    assert states[0] == states[1], "the result depends on the order of the clients"


def inputs_are_left_alone(make: Factory, folder: Path) -> None:
    """No verb changes the state or the payload that it is given."""
    del folder
    _run(_Watch(make()))


def payloads_travel(make: Factory, folder: Path) -> None:
    """Payloads and states are frozen, detached, and equal after the wire."""
    del folder
    watch = _Watch(make())
    _run(watch)
    for payload in watch.seen:
        seal(payload, "the strategy")
        assert encode(decode(encode(payload))) == encode(payload), "the wire changed it"


def no_image_leaves_a_client(make: Factory, folder: Path) -> None:
    """No payload of a client contains one of its images, raw or normalised."""
    del folder
    federation = toy_federation()
    watch = _Watch(make())
    _run(watch, federation)
    raw = federation.data.x_train.flatten(1).float()
    normal = federation.data.normalise(federation.data.x_train).flatten(1)
    private = torch.cat([raw, normal])
    sent = [pair for up in watch.ups for pair in leaves(up, "up")]
    for path, leaf in sent:
        if isinstance(leaf, Tensor) and leaf.numel() >= private.shape[1]:
            gaps = torch.cdist(_rows(leaf.float(), private.shape[1]), private)
            assert gaps.min() > 1e-4, f"{path} holds a training image"


def resuming_changes_nothing(make: Factory, folder: Path) -> None:
    """A run killed after round 3 and resumed from round 2 equals the straight one."""
    straight, broken = folder / "straight", folder / "broken"
    straight.mkdir(parents=True)
    broken.mkdir()
    whole = _run(make(), rounds=5, folder=straight, checkpoint_every=2)
    with contextlib.suppress(InterruptedError):
        _run(make(), rounds=5, folder=broken, checkpoint_every=2, on_round=_stop_at(3))
    resumed = _run(make(), rounds=5, folder=broken, checkpoint_every=2)
    assert encode(whole.state) == encode(resumed.state), "resuming changed the state"
    first, second = (_lines(RunFolder(f).metrics) for f in (straight, broken))
    assert first == second, "resuming changed the metrics"


def needs_are_refused_with_a_reason(make: Factory, folder: Path) -> None:
    """Where a declared need is not met, the simulator says so before any round."""
    del folder
    strategy = make()
    if not strategy.requires.one_architecture:
        return
    mixed = toy_federation(models=("cnn", "mlp"))
    refusal = ""
    try:
        _run(strategy, mixed)
    except ConfigError as error:
        refusal = str(error)
    assert "needs one architecture" in refusal, "a need that was not met went unsaid"


def partial_participation_works(make: Factory, folder: Path) -> None:
    """With one client of three in a round, every round has a measured model."""
    del folder
    result = _run(make(), participation=1, rounds=4)
    for line in result.history:
        assert line["global_accuracy"] is not None, "nothing was measured"
        assert len(line["clients"]) == 1, "more than one client took part"


def work_is_counted(make: Factory, folder: Path) -> None:
    """Bytes go both ways and are the sum of the clients'; examples do not shrink."""
    del folder
    result = _run(make())
    total = {"bytes_up": 0, "bytes_down": 0}
    for line in result.history:
        for key, before in total.items():
            total[key] = before + sum(row[key] for row in line["clients"].values())
            assert line[key] == total[key], f"{key} is not the sum of the clients'"
    examples = [line["client_examples"] for line in result.history]
    assert examples == sorted(examples), "client_examples shrank"


__all__ = ["STRATEGY_CHECKS", "toy_federation", "toy_images", "toy_protocol"]

STRATEGY_CHECKS: tuple[Callable[[Factory, Path], None], ...] = (
    same_seed_gives_equal_bits,
    order_of_clients_is_irrelevant,
    inputs_are_left_alone,
    payloads_travel,
    no_image_leaves_a_client,
    resuming_changes_nothing,
    needs_are_refused_with_a_reason,
    partial_participation_works,
    work_is_counted,
)
"""Every promise, one function each: ``check(make, folder)``."""


def _run(
    strategy: AnyStrategy,
    federation: Federation | None = None,
    *,
    seed: int = 0,
    rounds: int = 3,
    participation: float | int = 1.0,
    **options: Any,
) -> RunResult:
    protocol = toy_protocol(rounds, participation=participation)
    return simulate(strategy, federation or toy_federation(), protocol, seed, **options)


class _Ordered(Run):
    """A run that can visit its clients backwards."""

    backwards = False

    def sample(self, index: int) -> Round:
        round = super().sample(index)
        return replace(round, clients=round.clients[::-1]) if self.backwards else round


class _Watch(Strategy[Any, Any, Any]):
    """Wraps a strategy, keeps what it sends, and checks that inputs stay as they are."""

    def __init__(self, inner: AnyStrategy) -> None:
        super().__init__(inner.config)
        self.inner = inner
        self.requires = inner.requires
        self.seen: list[Any] = []
        self.ups: list[Any] = []

    def init(self, server: Server) -> Any:
        return self._keep(self.inner.init(server))

    def broadcast(self, state: Any, client_id: int, round: Round) -> Any:
        before = encode(state)
        down = self.inner.broadcast(state, client_id, round)
        assert encode(state) == before, "broadcast changed the state"
        return self._keep(down)

    def local(self, down: Any, client: Client) -> Any:
        before = encode(down)
        up = self.inner.local(down, client)
        assert encode(down) == before, "local changed what the server sent"
        self.ups.append(up)
        return self._keep(up)

    def aggregate(
        self, state: Any, ups: Mapping[int, Any], server: Server, round: Round
    ) -> Any:
        before = encode([state, dict(ups)])
        after = self.inner.aggregate(state, ups, server, round)
        assert encode([state, dict(ups)]) == before, "aggregate changed its inputs"
        return self._keep(after)

    def predictors(self, state: Any, server: Server) -> Any:
        before = encode(state)
        found = self.inner.predictors(state, server)
        assert encode(state) == before, "predictors changed the state"
        return found

    def personal(self, state: Any, client: Client) -> Any:
        return self.inner.personal(state, client)

    def milestone(self, state: Any, round: Round) -> bool:
        return self.inner.milestone(state, round)

    def _keep(self, payload: Any) -> Any:
        self.seen.append(payload)
        return payload


def _rows(leaf: Tensor, width: int) -> Tensor:
    flat = leaf.flatten()
    return flat[: len(flat) // width * width].view(-1, width)


def _stop_at(number: int) -> Callable[[Metrics], None]:
    def on_round(metrics: Metrics) -> None:
        if metrics["round"] == number:
            raise InterruptedError

    return on_round


def _lines(path: Path) -> list[str]:
    """Return metrics lines without times."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [_without_times(json.loads(line)) for line in lines]


def _untimed(result: RunResult) -> list[str]:
    """Return the metrics of a run without times."""
    return [_without_times(json.loads(json.dumps(line))) for line in result.history]


def _without_times(line: Metrics) -> str:
    for row in [line, *line["clients"].values()]:
        for key in TIMES:
            row.pop(key, None)
    return json.dumps(line, sort_keys=True)
