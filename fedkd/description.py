"""What a results page says of itself: the protocol, and where the numbers come from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedkd.ops.training import TrainingConfig
from fedkd.suite import Suite
from fedkd.suite_entries import StrategyEntry

PRECISIONS = {
    "tf32": "tf32 (float32, products on tensor cores with 10 bits of fraction)",
    "bf16": "bf16 (autocast; weights and payloads are float32)",
}
"""What the page says of arithmetic other than float32."""


def protocol_lines(suite: Suite) -> list[str]:
    """Return what all strategies of a suite share, and who departs from it."""
    share = suite.participation
    who = f"{share} clients" if isinstance(share, int) else f"{100 * share:g} % of them"
    lines = [
        f"{suite.rounds} rounds, {suite.clients} clients, {who} in each round.",
        f"Local training: {_training(suite.training)}.",
        f"BatchNorm statistics: {suite.buffers}. Test images of a client: "
        f"{suite.test_shards}.",
        f"Seeds: {', '.join(map(str, suite.seeds))}; a seed names the data split, the "
        "initial weights, the sampled clients and all training noise.",
    ]
    if suite.precision != "fp32":
        lines.append(f"Arithmetic: {PRECISIONS[suite.precision]}.")
    return lines + [text for entry in suite.strategies if (text := _departures(entry))]


def provenance_lines(path: Path) -> list[str]:
    """Return where numbers come from, read from ``environment.json``; none without."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return _provenance(found) if isinstance(found, Mapping) else []


def _provenance(found: Mapping[str, Any]) -> list[str]:
    packages = found.get("packages") or {}
    commit = f", commit {found['commit']}" if found.get("commit") else ""
    device = found.get("gpu") or found.get("cpu")
    lines = [
        f"fedkd {found.get('fedkd')}{commit}, torch {packages.get('torch')}, "
        f"Python {found.get('python')}.",
        f"{found.get('device')}: {device}, {found.get('threads_per_cell')} thread a cell, "
        f"{found.get('jobs')} side by side.",
    ]
    others = [
        f"{plugin['distribution']} {plugin['version']}"
        for plugin in found.get("plugins", [])
        if plugin["distribution"] != "fedkd"
    ]
    if others:
        lines.append(f"Plug-ins: {', '.join(sorted(set(others)))}.")
    return lines


def _training(training: TrainingConfig) -> str:
    amount = (
        f"{training.local_steps} steps"
        if training.local_steps is not None
        else f"{training.local_epochs} epochs"
    )
    parts = [
        f"{amount} of {training.batch_size} images",
        f"SGD {training.lr:g}",
        f"momentum {training.momentum:g}",
        f"weight decay {training.weight_decay:g}",
    ]
    if training.clip_norm is not None:
        parts.append(f"gradient norm at most {training.clip_norm:g}")
    if training.lr_decay != 1:
        parts.append(f"rate times {training.lr_decay:g} a round")
    parts += [f"{r:g} from round {i}" for i, r in training.lr_from_round.items()]
    return ", ".join(parts)


def _departures(entry: StrategyEntry) -> str:
    """Return how a strategy departs from the suite; empty if it does not."""
    parts = [f"{key} {value}" for key, value in entry.options.items()]
    if entry.rounds is not None:
        parts.insert(0, f"{entry.rounds} rounds")
    parts += [f"training.{key} {value}" for key, value in entry.training.items()]
    return f"{entry.label}: {', '.join(parts)}." if parts else ""
