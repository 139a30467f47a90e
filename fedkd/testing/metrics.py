"""Promises that every metric keeps, one function each: ``check(make, folder)``.

``make()`` gives the metric. What it is asked to measure depends on its place: 60 test
images of 3 classes, 5 clients, or the rounds of a toy run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fedkd.errors import ContractError
from fedkd.metrics.base import Line, Metric, Predictions
from fedkd.metrics.metric_set import Value, plain
from fedkd.simulation.simulator import simulate
from fedkd.testing.foreign import (
    called,
    no_global_touched,
    options_have_descriptions,
    untouched,
)
from fedkd.testing.runs import NotApplicable
from fedkd.testing.toys import toy_federation, toy_protocol, toy_registry

MetricFactory: TypeAlias = Callable[[], Metric]
IMAGES, CLASSES = 60, 3
ACCURACIES = (80.0, 35.5, 60.0, 100.0, 0.0)
"""Percent, of five clients."""
SIZES = (10, 40, 25, 5, 20)
"""Training images of the five clients."""
_UNDEFINED = "Return None for what is not defined."


def options_are_documented(make: MetricFactory, folder: Path) -> None:
    """Every option has a description, which its card shows."""
    del folder
    options_have_descriptions(type(make()).Config)


def it_measures_in_one_place(make: MetricFactory, folder: Path) -> None:
    """It implements exactly one of the four methods."""
    del folder
    _place(make())


def it_says_what_it_measures(make: MetricFactory, folder: Path) -> None:
    """Its docstring is a sentence, it has a unit, and decimals from 0 on."""
    del folder
    metric = make()
    _place(metric)
    title = type(metric).__name__
    about = metric.columns("it")[0].about
    assert about.endswith("."), (
        f"{title} has the docstring {about!r}, which stands under its tables. Say in a "
        "sentence, with a full stop, what is measured."
    )
    assert metric.unit, f"{title}.unit is {metric.unit!r}; expected a text such as '%'."
    assert metric.decimals in range(16), (
        f"{title}.decimals is {metric.decimals!r}; expected a whole number from 0 on."
    )


def it_gives_numbers(make: MetricFactory, folder: Path) -> None:
    """It returns a number, one for each class, or None."""
    del folder
    metric = make()
    question = _usual(metric)
    many = len(_numbers(_answer(metric, question)))
    by_class = _place(metric) == "of_test_set"
    assert many in ((1, CLASSES) if by_class else (1,)), (
        f"{question.title} returned {many} numbers; expected one"
        + (f", or {CLASSES}, one for each class." if by_class else ".")
    )


def what_is_measured_is_left_alone(make: MetricFactory, folder: Path) -> None:
    """It writes into nothing that it is given: other metrics are given the same."""
    del folder
    metric = make()
    question = _usual(metric)
    remedy = "Other metrics are given the same: work on a copy."
    with untouched(question.title, remedy, **question.things):
        _answer(metric, question)


def one_question_has_one_answer(make: MetricFactory, folder: Path) -> None:
    """Asked again, or of another object, it gives the same number."""
    del folder
    metric = make()
    question = _usual(metric)
    first = _answer(metric, question)
    for who, other in (("the same object", metric), ("another object", make())):
        again = _answer(other, question)
        assert first == again, (
            f"{question.title} gave {first} and then {again}, of {who}. Draw nothing at "
            "random, and keep nothing in self."
        )


def nothing_is_kept_in_self(make: MetricFactory, folder: Path) -> None:
    """No question changes the metric."""
    del folder
    metric = make()
    question = _usual(metric)
    remedy = "A resumed run starts without it: keep nothing in it."
    with untouched(question.title, remedy, self=vars(metric)):
        _answer(metric, question)


def global_generators_are_left_alone(make: MetricFactory, folder: Path) -> None:
    """No question seeds torch, or touches a global generator or setting."""
    del folder
    metric = make()
    question = _usual(metric)
    with no_global_touched(question.title):
        _answer(metric, question)


def order_is_irrelevant(make: MetricFactory, folder: Path) -> None:
    """Images and clients in another order give the same number."""
    del folder
    metric = make()
    question, other = _usual(metric), _backwards(metric)
    what = "test images" if _place(metric) == "of_test_set" else "clients"
    first, again = _answer(metric, question), _answer(metric, other)
    assert _near(first, again), (
        f"{question.title} gave {first}, and {again} when the {what} came in reverse. Do "
        "not rely on their order."
    )


def nothing_to_measure_is_no_error(make: MetricFactory, folder: Path) -> None:
    """No test image, one client, or a round that was not measured is no error."""
    del folder
    metric = make()
    question = _least(metric)
    called(question.title, lambda: question.asked(metric), _UNDEFINED)
    _answer(metric, question)


def what_is_not_defined_is_none(make: MetricFactory, folder: Path) -> None:
    """Where there is no test image of a class, its number is None and not infinite."""
    del folder
    metric = make()
    if _place(metric) != "of_test_set":
        raise NotApplicable("it sees no test images.")
    what = f" (no image of class {CLASSES - 1})"
    labels = _labels().clamp(max=CLASSES - 2)
    question = _of_test_set(_logits(), labels, what)
    value = called(question.title, lambda: question.asked(metric), _UNDEFINED)
    assert _infinite(value) is None, (
        f"{question.title} returned {_infinite(value)}. {_UNDEFINED}"
    )


def its_direction_is_right(make: MetricFactory, folder: Path) -> None:
    """A model that is always right is no worse than one that is always wrong."""
    del folder
    metric = make()
    best, worst = (_mean(_answer(metric, q)) for q in _extremes(metric))
    if best is None or worst is None:
        raise NotApplicable(
            "it is not defined of a model that is always right or wrong."
        )
    sign = 1 if metric.higher_is_better else -1
    assert sign * (best - worst) >= 0, (
        f"{type(metric).__name__}.higher_is_better is {metric.higher_is_better}, and "
        f"{_place(metric)} gives {best:g} where all is right and {worst:g} where all is "
        f"wrong. Set it to {not metric.higher_is_better}, or turn the sign."
    )


def a_run_measures_it(make: MetricFactory, folder: Path) -> None:
    """A run has numbers in each of its columns."""
    del folder
    metric = make()
    _place(metric)
    lines = called("a run", lambda: toy_lines(metric.reads(), {"it": metric}))
    for column in metric.columns("it"):
        values = [column.value(line) for line in lines]
        assert values != [None] * len(lines) or _place(metric) == "of_rounds", (
            f"{column.name} is empty in every round of a run. Leave columns() as it is: "
            "its names are made of the label."
        )


METRIC_CHECKS: tuple[Callable[[Any, Path], None], ...] = (
    options_are_documented,
    it_measures_in_one_place,
    it_says_what_it_measures,
    it_gives_numbers,
    what_is_measured_is_left_alone,
    one_question_has_one_answer,
    nothing_is_kept_in_self,
    global_generators_are_left_alone,
    order_is_irrelevant,
    nothing_to_measure_is_no_error,
    what_is_not_defined_is_none,
    its_direction_is_right,
    a_run_measures_it,
)
"""Every promise of a metric, one function each: ``check(make, folder)``."""


def toy_lines(reads: Sequence[str], metrics: Mapping[str, Metric]) -> list[Line]:
    """Return the lines of metrics.jsonl of a toy run of FedAvg.

    Args:
        reads: Columns that it must have; those that nobody registered are left out.
        metrics: What it measures besides, by label.

    Raises:
        FedKDError: If the run refuses a metric, or what it gives.
    """
    registry = toy_registry()
    read = {name: registry.metric(name)[0] for name in _registered(reads)}
    read.pop("accuracy", None)  # every run has it
    strategy, _ = registry.strategy("fedavg")
    world = (toy_federation(), toy_protocol(3))
    return list(simulate(strategy, *world, 0, metrics={**read, **metrics}).history)


def _registered(reads: Sequence[str]) -> list[str]:
    """Return the registered metrics that fill some columns."""
    names = (n.removeprefix("global_").removeprefix("local_") for n in reads)
    return [n for n in names if n in toy_registry().entries("metrics")]


@dataclass(frozen=True)
class _Question:
    """Something that a metric is asked."""

    title: str
    """What sentences call it."""
    asked: Callable[[Metric], Any]
    things: Mapping[str, Any]
    """What it is given, by the name of the argument."""


def _place(metric: Metric) -> str:
    try:
        return metric.place()
    except ContractError as error:
        raise AssertionError(str(error)) from None


def _usual(metric: Metric) -> _Question:
    """Return what the metric is asked as a rule."""
    place = _place(metric)
    if place == "of_test_set":
        return _of_test_set(_logits(), _labels())
    if place == "of_clients":
        return _of_clients(ACCURACIES)
    if place == "of_trained":
        return _of_trained(ACCURACIES, SIZES)
    return _of_rounds(toy_lines(metric.reads(), {}), metric)


def _backwards(metric: Metric) -> _Question:
    """Return the usual question with images, or clients, in reverse."""
    place = _place(metric)
    if place == "of_test_set":
        return _of_test_set(_logits().flip(0), _labels().flip(0))
    if place == "of_clients":
        return _of_clients(ACCURACIES[::-1])
    if place == "of_trained":
        return _of_trained(ACCURACIES[::-1], SIZES[::-1])
    raise NotApplicable("rounds have an order.")


def _least(metric: Metric) -> _Question:
    """Return the question with the least to measure."""
    place = _place(metric)
    if place == "of_test_set":
        return _of_test_set(_logits()[:0], _labels()[:0], " (no image)")
    if place == "of_clients":
        return _of_clients(ACCURACIES[:1], " (1 client)")
    if place == "of_trained":
        return _of_trained(ACCURACIES[:1], SIZES[:1], " (1 client)")
    first = toy_lines(metric.reads(), {})[0]
    unmeasured = {**first, **dict.fromkeys(metric.reads())}
    return _of_rounds([unmeasured], metric, " (round 1, not measured)")


def _extremes(metric: Metric) -> tuple[_Question, _Question]:
    """Return the questions of models that are always right, and always wrong."""
    place, number = _place(metric), len(SIZES)
    if place == "of_test_set":
        right = torch.nn.functional.one_hot(_labels(), CLASSES) * 20.0 - 10
        return _of_test_set(right, _labels()), _of_test_set(right.roll(1, 1), _labels())
    if place == "of_clients":
        return _of_clients((100.0,) * number), _of_clients((0.0,) * number)
    if place == "of_trained":
        ends = (100.0,) * number, (0.0,) * number
        return _of_trained(ends[0], SIZES), _of_trained(ends[1], SIZES)
    raise NotApplicable("it is of a run, not of a model.")


def _of_test_set(logits: Tensor, labels: Tensor, what: str = "") -> _Question:
    given = Predictions.of([logits], labels)
    things = {"logits": given.logits, "labels": labels, "predicted": given.predicted}
    return _Question(f"of_test_set{what}", lambda m: m.of_test_set(given), things)


def _of_clients(accuracies: Sequence[float], what: str = "") -> _Question:
    given = list(accuracies)
    things = {"accuracies": given}
    return _Question(f"of_clients{what}", lambda m: m.of_clients(given), things)


def _of_trained(
    accuracies: Sequence[float], sizes: Sequence[int], what: str = ""
) -> _Question:
    given, numbers = list(accuracies), list(sizes)
    things = {"accuracies": given, "sizes": numbers}
    return _Question(
        f"of_trained{what}", lambda m: m.of_trained(given, numbers), things
    )


def _of_rounds(lines: list[Line], metric: Metric, what: str = "") -> _Question:
    columns = {c.name: c for c in metric.columns("it")}
    for name in _registered(metric.reads()):
        read, _ = toy_registry().metric(name)
        columns |= {c.name: c for c in read.columns(name)}
    things = {"lines": lines}
    return _Question(f"of_rounds{what}", lambda m: m.of_rounds(lines, columns), things)


def _answer(metric: Metric, question: _Question) -> Value:
    """Return what a metric answers, in the form that is written.

    Raises:
        AssertionError: If it raises, or gives no number.
    """
    value = called(question.title, lambda: question.asked(metric))
    try:
        return plain(value, "it")
    except ContractError:
        raise AssertionError(
            f"{question.title} returned {value!r}; expected a number, one for each "
            f"class, or None. {_UNDEFINED}"
        ) from None


def _labels() -> Tensor:
    return torch.arange(IMAGES) % CLASSES


def _logits() -> Tensor:
    """Return logits that are right more often than not, ``[60, 3]``."""
    noise = torch.randn(IMAGES, CLASSES, generator=torch.Generator().manual_seed(1))
    return noise + torch.nn.functional.one_hot(_labels(), CLASSES)


def _numbers(value: Any) -> list[Any]:
    if isinstance(value, Tensor):
        value = value.tolist()
    return list(value) if isinstance(value, list | tuple) else [value]


def _mean(value: Value) -> float | None:
    """Return the mean of what is defined of an answer; None if nothing is."""
    numbers = [n for n in _numbers(value) if n is not None]
    return sum(numbers) / len(numbers) if numbers else None


def _infinite(value: Any) -> float | None:
    """Return an infinite number of an answer; None if there is none."""
    return next((n for n in _numbers(value) if n is not None and math.isinf(n)), None)


def _near(one: Value, other: Value) -> bool:
    """Say whether two answers are equal but for the order of sums."""
    pairs = list(zip(_numbers(one), _numbers(other), strict=True))
    if any((a is None) != (b is None) for a, b in pairs):
        return False
    return all(
        math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-6)
        for a, b in pairs
        if a is not None
    )
