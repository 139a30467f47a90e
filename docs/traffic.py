"""What leaves a client, and what reaches it, as toy runs of each strategy show it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fedkd.payload import leaves
from fedkd.plugins.cards import card
from fedkd.plugins.entries import Entry
from fedkd.plugins.registry import Registry
from fedkd.simulation.simulator import simulate
from fedkd.testing import Call, Watcher, watched
from fedkd.testing.runs import ROUNDS, world_for

ROOT = Path(__file__).resolve().parents[1]
SENDERS = {"broadcast": "server", "local": "client"}
HEAD = f"""\
# What leaves a client

Each strategy was run for {ROUNDS} rounds in the toy world of `fedkd.testing`: three clients
with tiny grey images of three classes, model `cnn`. What the verbs gave was written down:
the entries of their payloads, and the bytes of the tensors, which are the bytes that every
bench counts. Numbers and texts travel in the header of a message and are not counted.

- **Bytes** are of one client's turn, the largest that occurred. They grow with model and
  options, so compare rows with each other; `bytes_up` of a bench has your setting's.
- **Kind** matters more than bytes. Weights, counts of labels, means of features, generators
  and synthetic images each tell something else about a client's data. No strategy here
  claims privacy: [protocol and honesty](protocol.md).
- Options that make stages short, where a strategy has such stages, stand in its section.
- References (`local`, `central`, `ensemble`) are bounds to compare with, and no federated
  methods.
"""


@dataclass
class Sent:
    """What one field of a payload held, over all turns of a run."""

    bytes: int = 0
    """Of the tensors in one turn, the most that occurred."""
    shapes: str = ""
    """What travelled in that turn, in words."""
    rounds: set[int] = field(default_factory=set)
    """The rounds in which it was not empty, from 1."""


class Ledger(Watcher):
    """Writes down what server and clients send."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[tuple[str, str], Sent] = {}
        """By sender and name of the field."""
        self.most = dict.fromkeys(SENDERS.values(), 0)
        """Bytes of the largest turn, by sender."""

    def around(self, call: Call, proceed: Callable[[], Any]) -> Any:
        """Do the call, and note what it sends."""
        result = proceed()
        if call.verb in SENDERS:
            self._note(SENDERS[call.verb], call.round or 0, result)
        return result

    def _note(self, sender: str, round: int, payload: Any) -> None:
        groups: dict[str, list[Any]] = {}
        for path, leaf in leaves(payload, sender):
            groups.setdefault(path.partition(".")[0], []).append(leaf)
        total = 0
        for name, values in groups.items():
            there = [value for value in values if value is not None]
            size = sum(map(_bytes, there))
            total += size
            sent = self.fields.setdefault((sender, name), Sent())
            if there:
                sent.rounds.add(round)
            if there and (size > sent.bytes or not sent.shapes):
                sent.bytes, sent.shapes = size, in_words(there)
        self.most[sender] = max(self.most[sender], total)


def in_words(values: Iterable[Any]) -> str:
    """Return what values are: ``14 tensors (float32, int64)``, ``1 int``."""
    kinds: dict[str, int] = {}
    types: set[str] = set()
    for value in values:
        kind = "tensor" if isinstance(value, torch.Tensor) else type(value).__name__
        kinds[kind] = kinds.get(kind, 0) + 1
        if isinstance(value, torch.Tensor):
            types.add(str(value.dtype).removeprefix("torch."))
    of = f" ({', '.join(sorted(types))})" if types else ""
    return ", ".join(
        f"{number} {kind}{'s' if number > 1 and kind == 'tensor' else ''}"
        f"{of if kind == 'tensor' else ''}"
        for kind, number in kinds.items()
    )


def ledger_of(registry: Registry, name: str, options: dict[str, Any]) -> Ledger:
    """Run a strategy in the toy world and return what was sent."""
    strategy, _ = registry.strategy(name, options)
    ledger = Ledger()
    world = world_for(strategy)
    simulate(watched(strategy, ledger), *world, seed=0, executor="serial")
    return ledger


def traffic_page(registry: Registry, entries: Iterable[Entry]) -> Iterator[str]:
    """Yield the lines of the page, with a section for each strategy."""
    settings = quick_settings()
    ledgers = {
        e.name: ledger_of(registry, e.name, settings.get(e.name, {})) for e in entries
    }
    yield HEAD
    yield from ("| strategy | a client sends | bytes up | bytes down |",)
    yield "| --- | --- | ---: | ---: |"
    for name, ledger in ledgers.items():
        up, down = ledger.most["client"], ledger.most["server"]
        sent = ", ".join(
            f"`{entry}`" for (who, entry), s in ledger.fields.items()
            if who == "client" and s.rounds
        )  # fmt: skip
        yield f"| [`{name}`](#{name}) | {sent or 'nothing'} | {up:,} | {down:,} |"
    for name, ledger in ledgers.items():
        record = card(registry.entries("strategies")[name])
        yield from _section(record, ledger, settings.get(name, {}))


def _section(
    record: dict[str, Any], ledger: Ledger, options: dict[str, Any]
) -> Iterator[str]:
    name = record["name"]
    yield from (
        "",
        f"## {name}",
        "",
        f"[Card](strategies/{name}.md). {record['summary']}",
    )
    if options:
        yield from ("", f"Options: `{json.dumps(options)}`.")
    yield from ("", "| from | entry | what it is | it held | bytes | rounds |")
    yield "| --- | --- | --- | --- | ---: | --- |"
    for way, sender in (("up", "client"), ("down", "server")):
        said = {f["name"]: f["description"] for f in record["sends"][way]["fields"]}
        for (who, entry), sent in ledger.fields.items():
            if who != sender or not sent.rounds:
                continue
            text = " ".join(said.get(entry, "").replace("``", "`").split())
            rounds = ", ".join(map(str, sorted(sent.rounds)))
            text = text.replace("|", "\\|")
            yield (
                f"| {sender} | `{entry}` | {text} | {sent.shapes} | {sent.bytes:,} "
                f"| {rounds} |"
            )


def quick_settings() -> dict[str, dict[str, Any]]:
    """Return the options with which the contract tests run strategies in a moment."""
    path = ROOT / "tests" / "contract" / "strategy_settings.py"
    spec = importlib.util.spec_from_file_location("strategy_settings", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    settings: dict[str, dict[str, Any]] = module.SETTINGS
    return settings


def _bytes(value: Any) -> int:
    if not isinstance(value, torch.Tensor):
        return 0
    return value.numel() * value.element_size()
