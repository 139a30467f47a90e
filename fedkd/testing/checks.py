"""Promises that every strategy keeps, one function each: ``check(make, folder)``.

A check raises ``AssertionError`` with a sentence that says which promise was broken, by
which call and, where it is known, at which entry; or :class:`NotApplicable`. Rounds count
from 1, as in ``metrics.jsonl``. Checks that look at the same run share it, if ``make`` is
the same object.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedkd.base.folders import RunFolder
from fedkd.errors import NotApplicableError
from fedkd.payload import encode, leaves
from fedkd.simulation.simulator import Metrics, simulate
from fedkd.testing.elsewhere import prints_elsewhere
from fedkd.testing.foreign import called
from fedkd.testing.needs import VIOLATIONS, needs_of
from fedkd.testing.prints import difference, fingerprint
from fedkd.testing.record import Record, first_change
from fedkd.testing.runs import Factory, NotApplicable, recorded, run
from fedkd.testing.watching import watched

TIMES = ("seconds",)
LEFTOVER = 0.37
"""What the working models are filled with, to see whether it matters."""


def same_seed_gives_equal_bits(make: Factory, folder: Path) -> None:
    """Two runs with one seed end in equal states."""
    del folder
    first, again = recorded(make), recorded.__wrapped__(make)
    change = first_change(first.given, again.given)
    assert change is None, (
        f"one seed gave two results: {change} the second time. Draw from torch's default "
        "generator, and keep nothing outside the state and client.memory."
    )


def another_seed_ends_elsewhere(make: Factory, folder: Path) -> None:
    """A run with another seed trains or draws otherwise."""
    del folder
    first, other = recorded(make), recorded(make, seed=1)
    # A strategy whose server learns nothing shows the seed in what its clients log.
    same = first_change(first.given, other.given) is None
    assert not same or _untimed(first) != _untimed(other), (
        "the seed changes nothing: neither training nor a draw depends on it. Draw from "
        "torch's default generator, and let client.train shuffle."
    )


def order_of_clients_is_irrelevant(make: Factory, folder: Path) -> None:
    """Visiting the clients backwards changes no bit."""
    del folder
    _needs_clients(make)
    change = _compared(make, backwards=True)
    assert change is None, (
        f"the result depends on the order of the clients: {change} when they took their "
        "turns backwards. Go through the answers by number, and keep nothing in between."
    )


def inputs_are_left_alone(make: Factory, folder: Path) -> None:
    """No verb changes the state, the payloads, the initial weights or the images."""
    del folder
    _no_fault(recorded(make), "an input was changed", "inputs", "shared")


def what_is_kept_stays(make: Factory, folder: Path) -> None:
    """State and memories are as they were left, when they are given to a verb again."""
    del folder
    _no_fault(recorded(make), "what was kept is the working model's memory", "kept")


def nothing_is_kept_in_self(make: Factory, folder: Path) -> None:
    """No verb changes the strategy itself, or its class."""
    del folder
    _no_fault(recorded(make), "something was kept in the strategy", "self")


def weights_left_over_are_irrelevant(make: Factory, folder: Path) -> None:
    """What the working model held before a verb changes no bit."""
    del folder
    change = _compared(make, leftover=LEFTOVER)
    assert change is None, (
        f"weights left over were used: {change} when the working model held other "
        "weights before. Load every entry first: client.load(...), server.load(...)."
    )
    # Filled, a working model that is kept is seen where training leaves it as it was.
    filled = recorded(make, leftover=LEFTOVER)
    _no_fault(filled, "what was kept is the working model's memory", "kept")


def training_settings_are_left_alone(make: Factory, folder: Path) -> None:
    """No client changes the training settings, which it shares with all clients.

    A client may be given other settings for one call, ``client.training = ...``: a client
    lasts for one call only.
    """
    del folder
    _no_fault(recorded(make), "training settings were changed", "settings")


def global_generators_are_left_alone(make: Factory, folder: Path) -> None:
    """No verb seeds torch, or touches other global generators and settings of torch."""
    del folder
    _no_fault(recorded(make), "a global setting was changed", "generators")


def hashes_of_texts_are_irrelevant(make: Factory, folder: Path) -> None:
    """Another process, in which texts have other hashes, gives the same bits.

    Python orders sets of texts by their hashes. Two orders of few texts are often equal:
    a fault may be missed, but none is invented.
    """
    del folder
    strategy = make()
    again = type(strategy)(strategy.config)
    own = fingerprint(vars(strategy))
    path = difference(own, fingerprint(vars(again)))
    if path:
        raise NotApplicable(
            "its class makes another strategy from the same config: "
            f"{_made_anew(path, own.get(path, ''))}."
        )
    here = recorded(make).given  # first: what cannot run here cannot run there
    elsewhere = prints_elsewhere(strategy)
    if isinstance(elsewhere, str):
        raise NotApplicable(elsewhere)
    change = first_change(here, elsewhere)
    assert change is None, (
        f"the result depends on hashes of texts: {change} in another process. Leave out "
        "hash(), and sort sets before going through them."
    )


def _made_anew(path: str, text: str) -> str:
    """Return what is at a path that two strategies of one config do not share."""
    if "<lambda>" in text or "<locals>" in text:
        return (
            f"a lambda or a function within a function in {path}; use a method or a "
            "module-level function"
        )
    return f"{path} differs"


def payloads_travel(make: Factory, folder: Path) -> None:
    """Payloads and states are frozen, detached, and equal after the wire."""
    del folder
    _no_fault(recorded(make), "a payload does not travel", "travel")


def no_image_leaves_a_client(make: Factory, folder: Path) -> None:
    """No payload of a client contains one of its images, raw or normalised."""
    del folder
    record = recorded(make)
    data = record.federation.data
    raw = data.x_train.flatten(1).float()
    private = torch.cat([raw, data.normalise(data.x_train).flatten(1)])
    for call, up in record.ups:
        for path, leaf in leaves(up, str(call)):
            if isinstance(leaf, Tensor) and leaf.numel() >= private.shape[1]:
                gaps = torch.cdist(_rows(leaf.float(), private.shape[1]), private)
                assert gaps.min() > 1e-4, (
                    f"an image left its client: {call} sent {path}, which holds a "
                    "training image. Send what was learnt of them."
                )


def resuming_changes_nothing(make: Factory, folder: Path) -> None:
    """A run killed after round 3 and resumed from round 2 equals the straight one."""
    straight, broken = folder / "straight", folder / "broken"
    straight.mkdir(parents=True)
    leave = _copying(straight, broken, after=3)
    whole = run(make(), rounds=4, folder=straight, checkpoint_every=2, on_round=leave)
    numbers: list[int] = []
    resumed = run(
        make(),
        rounds=4,
        folder=broken,
        checkpoint_every=2,
        on_round=lambda metrics: numbers.append(metrics["round"]),
    )
    assert numbers == [3, 4], (
        f"resuming ran the rounds {numbers} and not [3, 4]: the checkpoint after round 2 "
        "could not be read."
    )
    path = difference(fingerprint(whole.state), fingerprint(resumed.state))
    remedy = "Keep all that lasts over rounds in the state, or in client.memory."
    assert path is None, f"resuming changed the state, at {path}. {remedy}"
    assert encode(whole.state) == encode(resumed.state), "resuming changed the state"
    first, second = (_lines(RunFolder(f).metrics) for f in (straight, broken))
    assert len(first) == len(second), (
        f"resuming left {len(second)} of {len(first)} rounds. {remedy}"
    )
    for one, other in zip(first, second, strict=True):
        path = difference(fingerprint(one), fingerprint(other))
        assert path is None, (
            f"resuming changed the metrics: {path} of round {one['round']}. {remedy}"
        )


def needs_are_refused_with_a_reason(make: Factory, folder: Path) -> None:
    """Where a declared need is not met, the simulator says so before any verb."""
    del folder
    strategy = make()
    needs = needs_of(strategy.requires)
    if strategy.pools_clients:
        needs = [need for need in needs if not VIOLATIONS[need].mixes]
    if not needs:
        raise NotApplicable("it declares no need that a federation could fail to meet.")
    for need in needs:
        federation, protocol = VIOLATIONS[need].world(strategy.requires)
        record = Record(strategy, federation)
        refusal = ""
        try:
            simulate(watched(strategy, record), federation, protocol, 0)
        except NotApplicableError as error:
            refusal = str(error)
        # A stricter need may speak for a weaker one.
        named = any(VIOLATIONS[other].words in refusal for other in needs)
        assert named, (
            f"a need that was not met went unsaid: {need}. Set ``requires`` on the class, "
            "or in __init__."
        )
        assert not record.given, f"{next(iter(record.given))} came before the refusal"


def partial_participation_works(make: Factory, folder: Path) -> None:
    """With one client of three in a round, every round has a measured model."""
    del folder
    _needs_clients(make)
    result = called(
        "a run with one client of three in a round",
        lambda: run(make(), participation=1, rounds=4),
        "The clients of a round, round.clients, are those that ups has: go through ups.",
    )
    for line in result.history:
        assert line["global_accuracy"] is not None, (
            f"nothing was measured in round {line['round']} with one client of three. "
            "Return a model from predictors, or from personal for every client."
        )
        everyone = make().last_asks_all and line["round"] == 4
        assert everyone or len(line["clients"]) == 1, "more than one client took part"


def work_is_counted(make: Factory, folder: Path) -> None:
    """What is written of bytes, examples and seconds is so, and no training goes uncounted.

    Bytes are held against the payloads, sums against the clients' rows.
    """
    del folder
    record = recorded(make)
    _no_fault(record, "work is not counted", "work")
    history = _history(record)
    total = dict.fromkeys(_SENT, 0)
    for line in history:
        for key, verb in _SENT.items():
            total[key] += _counted(line, key, verb, record.sizes)
            assert line[key] == total[key], f"{key} is not the sum of the clients'"
    for key in ("client_examples", "personal_examples", "server_examples", "seconds"):
        sums = [line[key] for line in history]
        assert sums == sorted(sums), (
            f"{key} shrank from round to round: {sums}. Let count_examples alone count."
        )
    rows = [row for line in history for row in line["clients"].values()]
    last = history[-1] if history else {"client_examples": 0, "personal_examples": 0}
    examples = sum(row["examples"] for row in rows) + last["personal_examples"]
    assert examples == last["client_examples"], (
        "client_examples is not the clients' sum"
    )


_SENT = {"bytes_up": "local", "bytes_down": "broadcast"}
"""What is counted of a payload, and the verb that makes it."""


def _counted(line: Metrics, key: str, verb: str, sizes: Mapping[str, int]) -> int:
    """Return the bytes of a round's payloads, which the clients' rows must have."""
    for k, row in line["clients"].items():
        title = f"{verb} (client {k}, round {line['round']})"
        assert row[key] == sizes[title], (
            f"{key}: {title} gave {sizes[title]} bytes, and {row[key]} are written"
        )
    return sum(row[key] for row in line["clients"].values())


STRATEGY_CHECKS: tuple[Callable[[Factory, Path], None], ...] = (
    same_seed_gives_equal_bits,
    another_seed_ends_elsewhere,
    order_of_clients_is_irrelevant,
    inputs_are_left_alone,
    what_is_kept_stays,
    nothing_is_kept_in_self,
    weights_left_over_are_irrelevant,
    training_settings_are_left_alone,
    global_generators_are_left_alone,
    hashes_of_texts_are_irrelevant,
    payloads_travel,
    no_image_leaves_a_client,
    resuming_changes_nothing,
    needs_are_refused_with_a_reason,
    partial_participation_works,
    work_is_counted,
)
"""Every promise, one function each: ``check(make, folder)``."""


def _compared(make: Factory, **differing: Any) -> str | None:
    """Return the first change in a run that differs from the plain one, if any."""
    return first_change(recorded(make).given, recorded(make, **differing).given)


def _needs_clients(make: Factory) -> None:
    """Raise :class:`NotApplicable` for a strategy that has one client only."""
    if make().pools_clients:
        raise NotApplicable("it pools all clients into one, which is in every round.")


def _no_fault(record: Record, promise: str, *kinds: str) -> None:
    faults = [record.faults[kind] for kind in kinds if kind in record.faults]
    assert not faults, f"{promise}: {' '.join(faults)}"


def _rows(leaf: Tensor, width: int) -> Tensor:
    flat = leaf.flatten()
    return flat[: len(flat) // width * width].view(-1, width)


def _copying(folder: Path, to: Path, after: int) -> Callable[[Metrics], None]:
    """Return what copies a run's folder after a round, as it is left by a kill then."""

    def on_round(metrics: Metrics) -> None:
        if metrics["round"] == after:
            shutil.copytree(folder, to)

    return on_round


def _lines(path: Path) -> list[Metrics]:
    """Return metrics lines without times."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [_without_times(json.loads(line)) for line in lines]


def _untimed(record: Record) -> list[Metrics]:
    """Return the metrics of a run without times."""
    lines = _history(record)
    return [_without_times(json.loads(json.dumps(line))) for line in lines]


def _history(record: Record) -> tuple[Metrics, ...]:
    return record.result.history if record.result else ()


def _without_times(line: Metrics) -> Metrics:
    for row in [line, *line["clients"].values()]:
        for key in TIMES:
            row.pop(key, None)
    return line
