"""What a results page says of itself: protocol, where numbers come from, warnings."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedkd.base.bounds import parse_json, read_bytes
from fedkd.data.shift import ShiftConfig
from fedkd.errors import BoundsError, ConfigError, counted
from fedkd.ops.training import TrainingConfig
from fedkd.plugins.registry import Registry
from fedkd.report.results import Row
from fedkd.simulation.faults.config import NO_FAULTS
from fedkd.suite.axes import axis_text
from fedkd.suite.entries import AMOUNTS, ListedStrategy, MetricEntry
from fedkd.suite.labels import label_lines
from fedkd.suite.models import Models, models_of
from fedkd.suite.public import public_text
from fedkd.suite.searched import Searched, searched_by
from fedkd.suite.suite import Suite

PRECISIONS = {
    "tf32": "tf32 (float32, products on tensor cores with 10 bits of fraction)",
    "bf16": "bf16 (autocast; weights and payloads are float32)",
}
"""What the page says of arithmetic other than float32."""

STARTED = "started, fedkd"
"""What a log says where a run starts, or starts again."""
KIND = RuntimeWarning
"""What this package warns with."""

EARLIER = "earlier"
"""Key of ``environment.json``: where earlier calls ran, as far as it was elsewhere."""

LISTED = 20
"""Clients up to which a page lists them one by one."""


def protocol_lines(suite: Suite, registry: Registry) -> list[str]:
    """Return what all strategies of a suite share, and who departs from it.

    Args:
        suite: As it was run.
        registry: Says what the models of packaged mixes are.
    """
    share, searched = suite.participation, searched_by(suite, registry)
    who = (
        counted(share, "client")
        if isinstance(share, int)
        else f"{100 * share:g} % of them"
    )
    lines = [
        f"{counted(suite.rounds, 'round')}, {counted(suite.clients, 'client')}, {who} in "
        "each round.",
        f"Local training: {_training(suite.training, searched.training)}.",
        f"BatchNorm statistics: {suite.buffers}. Test images of a client: "
        f"{suite.test_shards}.",
        f"Seeds: {', '.join(map(str, suite.seeds))}; a seed names the data split, the "
        "initial weights, the sampled clients and all training noise.",
    ]
    lines += _grid_and_validation(suite) + searched.lines()
    lines += _faults_and_time(suite)
    if suite.public is not None:
        lines.append(f"Public data: {public_text(suite.public)}.")
    lines += [
        f"Clients with {one.shown}: {_seen(one)}." for one in suite.shifts if one.shown
    ]
    if suite.metrics:
        lines.append(f"Measured: {_measured(suite)}.")
    if suite.precision != "fp32":
        lines.append(f"Arithmetic: {PRECISIONS[suite.precision]}.")
    lines += label_lines(suite, registry) + _models(suite, registry)
    departures = (_departures(entry, searched) for entry in suite.strategies)
    return lines + [text for text in departures if text]


def _grid_and_validation(suite: Suite) -> list[str]:
    """Return what the grid goes through, and what is held out for validation."""
    lines = []
    if suite.axes:
        several = (
            f"{path} {', '.join(axis_text(value, path) for value in values)}"
            for path, values in suite.axes.items()
        )
        lines.append(
            f"The grid goes through {'; '.join(several)}; these lines have the first of "
            "each."
        )
    if suite.validation is not None:
        lines.append(
            f"Validation: {100 * suite.validation:g} % of every client's training images, "
            "class by class, which nobody trains on; columns that begin with validation "
            "are of them, all together or each client's own."
        )
    return lines


def _faults_and_time(suite: Suite) -> list[str]:
    """Return what goes wrong in every cell, and what simulated time is made of."""
    lines = []
    if suite.faults != NO_FAULTS:
        lines.append(f"Faults: {suite.faults.shown}.")
    if suite.clock is not None:
        speeds = suite.clock.model_dump(mode="json", exclude_none=True)
        lines.append(
            f"Simulated time, in images and bytes a second: {json.dumps(speeds)}."
        )
    return lines


def _seen(shift: ShiftConfig) -> str:
    """Return what a shift does, in words."""
    parts = []
    if shift.features:
        parts.append("each client's images are changed in a way of its own")
    if shift.concepts > 1:
        parts.append(f"client k calls classes as cluster k mod {shift.concepts} does")
    if shift.features or shift.concepts > 1:
        parts.append("the test set is the clients' own test images as they see them")
    if shift.periods > 1:
        parts.append(
            f"clients train on another part of their images in each of "
            f"{shift.periods} periods"
        )
    return "; ".join(parts)


def _models(suite: Suite, registry: Registry) -> list[str]:
    """Return a line for each mix of models: which clients have what, and the server."""
    lines = []
    for entry in suite.models:
        try:
            mix = models_of(registry, entry, suite.clients, suite.where)
        except ConfigError:
            continue  # of a plug-in that is not loaded: results can still be reported
        if len(mix.every) > 1:
            lines.append(f"Models {mix.shown}: {mix_text(mix, suite.clients)}.")
    return lines


def mix_text(mix: Models, clients: int) -> str:
    """Return who has which model: ``clients 0, 2: cnn; 1: mlp; server: cnn``."""
    names = [model.shown() for model in mix.clients]
    size = len(names)
    by_pattern = size < clients and clients > LISTED
    holders: dict[str, list[int]] = {}
    for k in range(size if by_pattern else clients):
        holders.setdefault(names[k % size], []).append(k)
    start = f"clients i with i mod {size} = " if by_pattern else "clients "
    text = "; ".join(f"{_cut(numbers)}: {name}" for name, numbers in holders.items())
    server = mix.server.shown() if mix.server else names[0]
    parts = [start + text, f"server: {server}"]
    idle = [name for name in dict.fromkeys(names) if name not in holders]
    parts += [f"no client has: {', '.join(idle)}"] if idle else []
    return "; ".join(parts)


def _cut(numbers: Sequence[int]) -> str:
    """Return numbers: a range, or of many the first ones and how many there are."""
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]}-{numbers[-1]}"
    text = ", ".join(map(str, numbers[:LISTED]))
    more = len(numbers) > LISTED
    return f"{text}, … ({len(numbers)} in all)" if more else text


def provenance_lines(path: Path) -> list[str]:
    """Return where numbers come from, read from ``environment.json``; none without.

    None, too, of a damaged one; see :mod:`fedkd.base.sums` for how that is said.
    """
    try:
        places = places_of(parse_json(read_bytes(path)))
        return list(dict.fromkeys(line for one in places for line in _provenance(one)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def places_of(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return where the runs of a folder were made, the place of the last call last.

    Args:
        facts: What its ``environment.json`` holds.
    """
    earlier = facts.get(EARLIER)
    others = earlier if isinstance(earlier, list) else []
    last = {name: value for name, value in facts.items() if name != EARLIER}
    return [*(one for one in others if isinstance(one, Mapping)), last]


def _provenance(facts: Mapping[str, Any]) -> list[str]:
    packages = facts.get("packages") or {}
    commit = f", commit {facts['commit']}" if facts.get("commit") else ""
    device = facts.get("gpu") or facts.get("cpu")
    lines = [
        f"fedkd {facts.get('fedkd')}{commit}, torch {packages.get('torch')}, "
        f"Python {facts.get('python')}.",
        f"{facts.get('device')}: {device}, {_threads(facts)} a cell, "
        f"{facts.get('jobs')} side by side.",
    ]
    others = [
        f"{plugin['distribution']} {plugin['version']}"
        for plugin in facts.get("plugins", [])
        if plugin["distribution"] != "fedkd"
    ]
    if others:
        lines.append(f"Plug-ins: {', '.join(sorted(set(others)))}.")
    return lines


def _threads(facts: Mapping[str, Any]) -> str:
    threads = facts.get("threads_per_cell")
    return counted(threads, "thread") if isinstance(threads, int) else "? threads"


def _measured(suite: Suite) -> str:
    """Return the metrics as the suite says them: ``macro_f1, rounds_to (target 80)``."""
    return ", ".join(map(_metric, suite.metrics))


def _metric(entry: MetricEntry) -> str:
    parts = [] if entry.label in (None, entry.name) else [entry.name]
    parts += [f"{key} {value}" for key, value in entry.options.items()]
    shown = entry.label or entry.name
    return f"{shown} ({', '.join(parts)})" if parts else shown


def _training(training: TrainingConfig, searched: Collection[str]) -> str:
    """Return local training, without the keys that are searched for every strategy."""
    decay = training.lr_decay
    parts = {
        "lr": f"SGD {training.lr:g}",
        "momentum": f"momentum {training.momentum:g}",
        "weight_decay": f"weight decay {training.weight_decay:g}",
        "clip_norm": f"gradient norm at most {training.clip_norm or 0:g}",
        "lr_decay": f"rate times {decay:g} a round",
    }
    unsaid = set(searched)
    unsaid |= {"clip_norm"} if training.clip_norm is None else set()
    unsaid |= {"lr_decay"} if decay == 1 else set()
    texts = [_work(training, searched), "SGD" if "lr" in searched else ""]
    texts += [text for key, text in parts.items() if key not in unsaid]
    if "lr_from_round" not in searched:
        texts += [f"{r:g} from round {i}" for i, r in training.lr_from_round.items()]
    return ", ".join(filter(None, texts))


def _work(training: TrainingConfig, searched: Collection[str]) -> str:
    """Return ``20 steps of 32 images``, as far as that is not searched."""
    amount = (
        counted(training.local_steps, "step")
        if training.local_steps is not None
        else counted(training.local_epochs or 0, "epoch")
    )
    images = counted(training.batch_size, "image")
    if any(key in searched for key in AMOUNTS):
        return "" if "batch_size" in searched else f"batches of {images}"
    return amount if "batch_size" in searched else f"{amount} of {images}"


def _departures(entry: ListedStrategy, searched: Searched) -> str:
    """Return how a strategy departs from the suite; empty if it does not."""
    options, training = searched.fixed(entry)
    parts = [] if entry.label == entry.name else [entry.name]
    parts += [] if entry.rounds is None else [counted(entry.rounds, "round")]
    parts += [f"{key} {value}" for key, value in options.items()]
    parts += [f"training.{key} {value}" for key, value in training.items()]
    return f"{entry.label}: {', '.join(parts)}." if parts else ""


def said_since_start(log: Path) -> str:
    """Return what the log of a run says since it was started last; nothing without it."""
    try:
        text = read_bytes(log).decode("utf-8", errors="replace")
    except (OSError, BoundsError):
        return ""
    return text.rpartition(STARTED)[2]


def warnings_in(log: Path) -> list[str]:
    """Return what a run has warned of since it was started last; none without a log."""
    mark = f" {KIND.__name__}: "
    lines = said_since_start(log).splitlines()
    # Before the mark there is the time, which has no space.
    said = (line.partition(mark) for line in lines)
    return [sentence for time, mark_, sentence in said if mark_ and " " not in time]


def warned_lines(runs: Iterable[tuple[Row, Path]]) -> list[str]:
    """Return every different warning of some runs, once, after the runs that gave it.

    Args:
        runs: Rows, each with the log of its run.
    """
    runs_of: dict[str, list[Row]] = {}
    for row, log in runs:
        for sentence in warnings_in(log):
            runs_of.setdefault(sentence, []).append(row)
    return [f"{_named(rows)}: {sentence}" for sentence, rows in runs_of.items()]


def _named(rows: list[Row]) -> str:
    """Return what to call runs: the first one's name, and how many there are beside."""
    more = len(rows) - 1
    return rows[0].title + (f", and {more} more" if more else "")
