"""Public data in a suite: a share of the training images, or another data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, model_validator

from fedkd.config import Config
from fedkd.data.dataset import DatasetConfig
from fedkd.errors import ConfigError
from fedkd.plugins.options import Resolved, resolve
from fedkd.plugins.registry import Registry

_SUBSETS = frozenset(DatasetConfig.model_fields)
"""Options that say which part of a data set is used, and not which set it is."""


class PublicEntry(Config):
    """Images without labels that everybody may see.

    ``{share: 0.1}``, or ``{dataset: NAME}`` with that set's options beside its name.
    """

    share: float | None = Field(None, gt=0, lt=1)
    """Share of the training images that is held out before the partition."""
    dataset: str | None = None
    """Another data set, whose training images are public; its images have the shape of
    the clients'."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of that data set."""

    @model_validator(mode="before")
    @classmethod
    def _options_beside(cls, raw: Any) -> Any:
        """Put what stands beside ``dataset`` into its options."""
        if not isinstance(raw, Mapping) or raw.get("dataset") is None:
            return raw
        beside = {k: v for k, v in raw.items() if k not in cls.model_fields}
        kept = {k: v for k, v in raw.items() if k in cls.model_fields}
        return {**kept, "options": {**kept.get("options", {}), **beside}}

    @model_validator(mode="after")
    def _one_of_both(self) -> PublicEntry:
        if (self.share is None) == (self.dataset is None):
            raise ValueError(
                "expected {share: 0.1}, or {dataset: NAME} and its options: exactly one "
                "of share and dataset"
            )
        return self

    @property
    def shown(self) -> str:
        """A short text: ``share 0.1``, ``mnist`` or ``mnist[fraction=0.1]``."""
        if self.dataset is None:
            return f"share {self.share:g}"
        options = ",".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.dataset}[{options}]" if options else self.dataset

    def plain(self) -> dict[str, Any]:
        """Return the form that a suite file holds."""
        if self.dataset is None:
            return {"share": self.share}
        return {"dataset": self.dataset, **self.options}


@dataclass(frozen=True)
class Public:
    """Where the public images of a run come from, options checked."""

    share: float | None = None
    """Share of the training images that is held out; None for another data set."""
    dataset: Resolved | None = None
    """The other data set; None for a share."""

    def plain(self) -> dict[str, Any]:
        """Return the form that run configurations hold."""
        if self.dataset is None:
            return {"share": self.share}
        return {"dataset": self.dataset.plain()}


def public_of(
    registry: Registry, entry: PublicEntry | None, where: str
) -> Public | None:
    """Return the public data that a suite declares; None if it declares none.

    Raises:
        ConfigError: Naming what cannot be used.
    """
    if entry is None or entry.dataset is None:
        return None if entry is None else Public(share=entry.share)
    at = f"{where}: public.dataset"
    return Public(
        dataset=resolve(registry, "datasets", entry.dataset, entry.options, at)
    )


def refuse_same(public: Public | None, dataset: Resolved, where: str) -> None:
    """Refuse public images that are the clients' own.

    Raises:
        ConfigError: If the public data set is, in whatever part, that of the clients.
    """
    other = None if public is None else public.dataset
    if other is not None and _files(other) == _files(dataset):
        raise ConfigError(
            f"{where}: public.dataset: found {dataset.name}, which is the clients' own, so "
            "that they would train on public images. Hold some out: public: {share: 0.1}; "
            "or name another data set."
        )


def _files(dataset: Resolved) -> tuple[str, dict[str, Any], str]:
    """Return what tells a data set from others, whatever part of it is used."""
    told = {k: v for k, v in dataset.options.items() if k not in _SUBSETS}
    return dataset.name, told, dataset.content


def public_text(entry: PublicEntry) -> str:
    """Return what a page says of the public data, as the end of a sentence."""
    if entry.dataset is None:
        return (
            f"{100 * (entry.share or 0):g} % of the training images, held out before the "
            "partition, without labels"
        )
    return f"the training images of {entry.shown}, without labels"
