"""What a metric is: it measures one thing, in one place, and declares how it is shown."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from fedkd.base.shown import brief
from fedkd.config import Config, options_text
from fedkd.errors import ContractError, listing
from fedkd.metrics.columns import Column, Scope

Line: TypeAlias = Mapping[str, Any]
"""A line of metrics.jsonl: what is known of one round."""
PLACES = ("of_test_set", "of_clients", "of_trained", "of_rounds")
"""The methods of which a metric has exactly one."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says of N test images, and what they are: from one forward pass."""

    predicted: Tensor
    """The class with the largest logit, int64 ``[N]``, on the CPU."""
    labels: Tensor
    """The true classes, int64 ``[N]``, on the CPU."""
    num_classes: int
    """C."""
    _read: Callable[[], Tensor] = field(repr=False)

    @classmethod
    def of(cls, batches: Sequence[Tensor], labels: Tensor) -> Predictions:
        """Put together what a model has said, batch by batch.

        Args:
            batches: Logits ``[n, C]`` that add up to N; at least one batch, which may
                be empty.
            labels: The true classes, int64 ``[N]``.
        """

        @functools.cache
        def logits() -> Tensor:
            return torch.cat(list(batches)).float().cpu()

        predicted = torch.cat([batch.argmax(1) for batch in batches]).cpu()
        return cls(predicted, labels.cpu(), batches[0].shape[1], logits)

    def __repr__(self) -> str:
        """Return how many images and classes there are."""
        return brief(
            self, f"{len(self.labels):,} images", f"{self.num_classes} classes"
        )

    @property
    def logits(self) -> Tensor:
        """The logits, float32 ``[N, C]``, on the CPU; put together when first read."""
        return self._read()

    def part(self, rows: Tensor) -> Predictions:
        """Return what is said of some images only, at positions ``[n]``."""
        return Predictions(
            self.predicted[rows],
            self.labels[rows],
            self.num_classes,
            lambda: self._read()[rows],
        )


class Metric:
    """A number that says how good a run is. Subclasses are final.

    It implements one of four methods: :meth:`of_test_set`, :meth:`of_clients`,
    :meth:`of_trained` or :meth:`of_rounds`. The first paragraph of its docstring stands
    under its tables.
    """

    Config: ClassVar[type[Config]] = Config
    """Options of the metric."""
    unit: ClassVar[str] = "%"
    """Of its values."""
    higher_is_better: ClassVar[bool] = True
    """Its direction: which value is best in a table."""
    decimals: ClassVar[int] = 2
    """In tables."""
    shown: ClassVar[bool] = True
    """Whether it has columns in ``results.csv``, and so tables and curves; otherwise it
    is in metrics.jsonl only."""

    def __init__(self, config: Any = None) -> None:
        self.config: Any = self.Config() if config is None else config

    def __repr__(self) -> str:
        """Return the class, and the options that differ from their defaults."""
        return brief(self, options_text(self.config))

    def of_test_set(
        self, predictions: Predictions
    ) -> float | Tensor | Sequence[Any] | None:
        """Measure a model on a test set: the whole one, or a client's.

        Args:
            predictions: What the model says; there may be no image at all.

        Returns:
            One number, or one for each class: a tensor ``[C]`` or a sequence. What is
            not defined is None or nan.
        """
        raise NotImplementedError

    def of_clients(self, accuracies: Sequence[float]) -> float | None:
        """Reduce the clients' accuracies to one number.

        Args:
            accuracies: Percent, of every client that has test images, on its own test
                shard; at least one.
        """
        raise NotImplementedError

    def of_trained(
        self, accuracies: Sequence[float], sizes: Sequence[int]
    ) -> float | None:
        """Reduce to one number what models are worth as the round's clients trained them.

        Args:
            accuracies: Percent, of the round's clients that have trained and have test
                images: the working model as ``local`` left it, on the client's test
                shard; at least one.
            sizes: Training images of each, n_k.
        """
        raise NotImplementedError

    def of_rounds(
        self, lines: Sequence[Line], columns: Mapping[str, Column]
    ) -> float | None:
        """Reduce the rounds so far to one number, None if it is not defined.

        Args:
            lines: A line of metrics.jsonl for each round, from the first on.
            columns: What the run measures, by name; keys of the lines.
        """
        raise NotImplementedError

    def reads(self) -> tuple[str, ...]:
        """Return the columns that :meth:`of_rounds` reads; a run must measure them."""
        return ()

    def check(self, columns: Mapping[str, Column]) -> None:
        """Refuse options that mean nothing for the columns of a run, before it starts.

        Raises:
            ConfigError: Saying which option, what was found and what was expected.
        """
        del columns

    @classmethod
    def place(cls) -> str:
        """Return which of :data:`PLACES` it implements.

        Raises:
            ContractError: If it is not exactly one.
        """
        own = [p for p in PLACES if getattr(cls, p) is not getattr(Metric, p)]
        if len(own) != 1:
            raise ContractError(
                f"{cls.__name__} implements {listing(own) or 'nothing'}; implement "
                f"exactly one of {listing(PLACES)}."
            )
        return own[0]

    def columns(self, label: str) -> tuple[Column, ...]:
        """Return the columns that it fills under a label."""
        place = self.place()
        if place == "of_test_set":
            return (
                self._column(f"global_{label}", "global"),
                self._column(f"local_{label}", "local"),
            )
        return (self._column(label, "rounds" if place == "of_rounds" else "clients"),)

    def _column(self, name: str, scope: Scope) -> Column:
        about = inspect.cleandoc(type(self).__doc__ or "").split("\n\n")[0]
        return Column(
            name,
            name.replace("_", " ").capitalize(),
            " ".join(about.split()),
            self.unit,
            self.decimals,
            self.higher_is_better,
            self.shown,
            scope,
            self.reads(),
        )
