"""The server's entrance: every answer is held against what it should be like.

What the clients of a round have sent goes through :meth:`Entrance.let_in` once, between the
executor and the strategy's ``aggregate``, which sees those that are let in. It is the one
place where answers are looked at, left out, and the reason is kept.

An answer is judged by four things: the entries of the client's own model, where the
strategy says that a field holds such entries (``Strategy.model_fields``); what the strategy
says an honest one is like (``Strategy.expected``), where clients of a model disagree, are
less than three, or may be late; what more than half of the answers of clients of the same
model are like, but for what the strategy says differs (``Strategy.varying``); and the
suite's ``accept``.
Nothing is remembered from round to round, so a run that goes on judges as one that was not
interrupted.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedkd.errors import DivergedError, raised_in
from fedkd.payload import leaves
from fedkd.simulation.facts import (
    CLASSES,
    Facts,
    Rejection,
    difference,
    facts_of,
    forms_of,
    unlike,
    without,
)
from fedkd.simulation.protocol import AcceptConfig
from fedkd.simulation.sides import Sides
from fedkd.simulation.store.answers import Answers
from fedkd.simulation.totals import REJECTED
from fedkd.simulation.turns import Answer, Orders, TurnRecord
from fedkd.strategy import ModelSpec, Strategy

_FEW = 3
"""So many answers of clients of one model can outvote one of them; fewer cannot."""


@dataclass(frozen=True)
class Look:
    """What is kept of an answer while the others come."""

    facts: Facts
    """What it is like."""
    finite: bool = True
    """Whether all of its numbers are; true where nobody asks."""
    norm: float = 0.0
    """The norm of all of its floating tensors together; 0 where nobody asks."""


class Entrance:
    """Decides which answers of a run the server takes."""

    def __init__(self, strategy: Strategy[Any, Any, Any], sides: Sides) -> None:
        """Take what answers are held against.

        Args:
            strategy: Says which fields hold entries of the client's model, and what
                differs between clients.
            sides: Have the models, the protocol, and the place for large answers.
        """
        self._strategy = strategy
        self._sides = sides
        self._how: AcceptConfig = sides.protocol.accept
        self._known: dict[str, Facts] = {}
        faults = sides.protocol.faults
        # Where a suite asks for odd answers, nobody need be told of them.
        self._late = faults.late is not None
        self._warned = faults.corrupt is not None or self._late

    def let_in(
        self, arriving: Iterable[tuple[int, Answer]], orders: Orders
    ) -> tuple[Answers, dict[int, TurnRecord]]:
        """Take a round's answers as they arrive; return those let in, and all records.

        The record of a client whose answer is left out says why, as ``rejected``.

        Args:
            arriving: Clients and their answers, in any order; a client of the round may
                be missing.
            orders: The round, and what the server sent.

        Raises:
            DivergedError: If ``accept.finite`` holds and more than half of the answers
                have a value that is not finite: then it is training that diverged.
        """
        ups = Answers(self._sides.memories.folder)
        records: dict[int, TurnRecord] = {}
        looks: dict[int, Look] = {}
        for k, answer in arriving:
            if k in records:
                continue  # one answer of a client in a round: the first that arrives
            records[k] = answer.record
            looks[k] = look_at(answer.up, self._how)
            ups.add(k, answer.up, answer.record["bytes_up"])
        judged = self.judge(looks, lambda k: orders.broadcast(k)[0])
        for k, rejection in judged.items():
            ups.leave_out(k)
            records[k][REJECTED] = str(rejection)
        if judged:
            self._warn(orders.round.index, *next(iter(judged.items())))
        return ups, {k: records[k] for k in orders.round.clients if k in records}

    def _warn(self, index: int, client: int, rejection: Rejection) -> None:
        """Warn of the first answer of the run that is left out."""
        if not self._warned:
            warnings.warn(
                f"the server leaves out answers; the first one is client {client}'s in "
                f"round {index + 1}: {rejection}. metrics.jsonl has all of them. If they "
                "are in order, the strategy should say what they are like "
                "(Strategy.expected) and what differs between clients "
                "(Strategy.varying), or the suite not ask (accept.structure: false).",
                RuntimeWarning,
                stacklevel=4,
            )
        self._warned = True

    def judge(
        self, looks: Mapping[int, Look], sent: Callable[[int], Any]
    ) -> dict[int, Rejection]:
        """Return why answers are left out, by client; nothing of those let in.

        Args:
            looks: What the answers of a round are like, by client.
            sent: Gives what the server sent to a client.

        Raises:
            DivergedError: As :meth:`let_in`.
        """
        rejections: dict[int, Rejection] = {}
        if self._how.structure:
            rejections = self._misshapen(looks, sent)
        rest = {k: look for k, look in looks.items() if k not in rejections}
        return rejections | self._out_of_bounds(rest)

    def _misshapen(
        self, looks: Mapping[int, Look], sent: Callable[[int], Any]
    ) -> dict[int, Rejection]:
        groups: dict[str, dict[int, Facts]] = {}
        rejections: dict[int, Rejection] = {}
        for k, look in sorted(looks.items()):
            spec = self._sides.federation.client_models[k]
            rejection = self._unlike_model(k, look.facts, sent)
            rejection = rejection or self._of_no_class(look.facts)
            if rejection is not None:
                rejections[k] = rejection
            else:
                groups.setdefault(spec.key, {})[k] = look.facts
        for group in groups.values():
            # Late answers may be to another question, and the same of all clients.
            few = self._late or len(group) < _FEW
            if few or _disagree(group, self._strategy.varying):
                rejections |= self._unlike_expected(group, sent)
            rest = {k: facts for k, facts in group.items() if k not in rejections}
            rejections |= unlike_most(rest, self._strategy.varying)
        return rejections

    def _unlike_expected(
        self, group: Mapping[int, Facts], sent: Callable[[int], Any]
    ) -> dict[int, Rejection]:
        """Return the answers that the strategy says no honest client gives."""
        odd: dict[int, Rejection] = {}
        for k, facts in group.items():
            with raised_in(f"{type(self._strategy).__name__}.expected"):
                like = self._strategy.expected(sent(k), self._sides.party(k))
            rejection = unlike(facts, like, self._strategy.varying)
            if rejection is not None:
                odd[k] = rejection
        return odd

    def _unlike_model(
        self, k: int, facts: Facts, sent: Callable[[int], Any]
    ) -> Rejection | None:
        """Return the first entry that the client's model does not have so.

        A field in which the server itself sends something else is left alone.
        """
        if not self._strategy.model_fields:
            return None
        own = self._forms(self._sides.federation.client_models[k])
        for field in self._strategy.model_fields:
            first = _first_odd(facts, field, own)
            if first is None:
                continue
            down = dict(facts_of(getattr(sent(k), field, None), field))
            if _first_odd(down, field, own) is None:
                return first
        return None

    def _forms(self, spec: ModelSpec) -> Facts:
        """Return what the entries of a model are like, made once for each."""
        if spec.key not in self._known:
            self._known[spec.key] = forms_of(self._sides.shapes(spec))
        return self._known[spec.key]

    def _of_no_class(self, facts: Facts) -> Rejection | None:
        """Return the first mapping by class that has one which there is not."""
        most = self._sides.federation.data.num_classes - 1
        for path, found in facts.items():
            if path.endswith(CLASSES):
                low, _, high = found.partition(" to ")
                if int(low) < 0 or int(high) > most:
                    return Rejection(path, found, f"0 to {most}")
        return None

    def _out_of_bounds(self, looks: Mapping[int, Look]) -> dict[int, Rejection]:
        odd = [k for k, look in looks.items() if not look.finite]
        if 2 * len(odd) > len(looks):
            raise DivergedError(
                f"{len(odd)} of {len(looks)} answers of the round have values that are "
                "not finite, more than half. Lower training.lr or set "
                "training.clip_norm; answers of fewer clients would be left out "
                "(accept.finite)."
            )
        every = {
            k: Rejection("the answer", "a value that is not finite", "finite numbers")
            for k in odd
        }
        most = math.inf if self._how.norm is None else self._how.norm
        for k, look in looks.items():
            # No number is larger than the bound; neither is it at most that.
            if k not in every and not look.norm <= most:
                found = f"a norm of {look.norm:.6g}"
                every[k] = Rejection("the answer", found, f"at most {most:g}")
        return every


def _first_odd(facts: Facts, field: str, own: Facts) -> Rejection | None:
    """Return the first entry in a field that is not as ``own`` has it, by name."""
    for path, found in facts.items():
        if path.startswith(f"{field}."):
            expected = own.get(path.removeprefix(f"{field}."))
            if found != expected:
                return Rejection(path, found, expected or "no such entry")
    return None


def _disagree(group: Mapping[int, Facts], varying: tuple[str, ...]) -> bool:
    """Say whether two answers are not alike in something that both have."""
    usual: dict[str, str] = {}
    return any(
        usual.setdefault(path, found) != found
        for facts in group.values()
        for path, found in without(facts, varying).items()
    )


def unlike_most(
    group: Mapping[int, Facts], varying: Iterable[str]
) -> dict[int, Rejection]:
    """Return the answers that differ from what more than half of a group are like.

    Each path is judged by itself, among those that have it: what one client has beside,
    such as the mean of a class that the others lack, is no fault, but names are.

    Args:
        group: What the answers are like, by client.
        varying: Paths at and below which clients may differ in sizes.
    """
    usual: dict[str, str] = {}
    tops = tuple(varying)
    group = {k: without(facts, tops) for k, facts in group.items()}
    for path in dict.fromkeys(path for facts in group.values() for path in facts):
        counts = Counter(facts[path] for facts in group.values() if path in facts)
        value, number = counts.most_common(1)[0]
        if 2 * number > counts.total():
            usual[path] = value
    rejections = {}
    for k, facts in group.items():
        for path, found in facts.items():
            if usual.get(path, found) != found:
                rejections[k] = difference(path, found, usual[path])
                break
    return rejections


def look_at(up: Any, how: AcceptConfig) -> Look:
    """Return what an answer is like, as far as it is asked.

    Args:
        up: The payload.
        how: What is asked.
    """
    facts = dict(facts_of(up)) if how.structure else {}
    if not how.finite and how.norm is None:
        return Look(facts)
    every = [leaf for _, leaf in leaves(up, "an answer")]
    tensors = [t for t in every if isinstance(t, Tensor) and t.is_floating_point()]
    numbers = [n for n in every if isinstance(n, float)]
    finite = all(map(math.isfinite, numbers)) and all(
        bool(torch.isfinite(t).all()) for t in tensors
    )
    norm = math.sqrt(sum(float(t.double().square().sum()) for t in tensors))
    return Look(facts, finite or not how.finite, norm)
