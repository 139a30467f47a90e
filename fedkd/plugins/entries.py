"""What is registered: a name, an owner and a target that is imported on demand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from fedkd.base.signatures import check_verbs
from fedkd.errors import ContractError, PluginError, listing, suggestion
from fedkd.plugins.loader import Offer, load_target

KINDS = {
    "strategies": "strategy",
    "datasets": "data set",
    "models": "model",
    "partitioners": "partitioner",
    "executors": "executor",
}
"""What can be registered, with the word for one of each."""
MODEL_KINDS = (
    "classifier",
    "generator",
    "conditional-generator",
    "feature-generator",
    "discriminator",
    "mix",
)
_BASES = {
    "strategies": "fedkd.strategy:Strategy",
    "datasets": "fedkd.data.dataset:Dataset",
    "partitioners": "fedkd.partition.base:Partitioner",
    "executors": "fedkd.simulation.executors.base:Executor",
}
# By name, because these modules import torch and a listing must not.
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_TARGET = re.compile(r"\w+(\.\w+)*:\w+(\.\w+)*")


@dataclass(frozen=True)
class Entry:
    """Something registered under a name, not yet imported."""

    name: str
    kind_of_thing: str
    """One of :data:`KINDS`."""
    target: str
    """``"module:attribute"``."""
    summary: str
    """One line for listings."""
    kind: str
    """For models: one of ``MODEL_KINDS``, or empty for ``classifier``."""
    owner: str
    """The distribution or file that registered it; ``fedkd`` for built-ins."""
    version: str
    """Version of the owner."""
    rivals: tuple[str, ...] = ()
    """Other owners that claim the name."""

    @property
    def title(self) -> str:
        """What messages call it: ``strategy 'median' of fedkd-example 0.1``."""
        word = KINDS[self.kind_of_thing]
        return f"{word} {self.name!r} of {self.owner} {self.version}"

    def resolve(self) -> Any:
        """Import the target and return it.

        Raises:
            PluginError: If two plug-ins claim the name, or the target cannot be
                imported; names the owners.
            ContractError: If the target is not what its hook registers.
        """
        if self.rivals:
            raise PluginError(
                f"{KINDS[self.kind_of_thing]} {self.name!r} is claimed by {self.owner} "
                f"and by {listing(self.rivals)}; uninstall one of them or name it in "
                "FEDKD_DISABLE_PLUGINS."
            )
        try:
            found = load_target(self.target)
        except PluginError as error:
            raise PluginError(f"{self.title}: {error}") from error
        _check(self, found)
        return found


def problem_of(offer: Offer) -> str | None:
    """Return what is wrong with what a plug-in registered, looked at on its own."""
    word = KINDS[offer.thing]
    if not isinstance(offer.name, str) or not _NAME.fullmatch(offer.name):
        return (
            f"{word} name {offer.name!r} is not lower-case words joined by hyphens; "
            "write it like 'mosaic-code'."
        )
    if not isinstance(offer.target, str) or not _TARGET.fullmatch(offer.target):
        return (
            f"target {offer.target!r} of {word} {offer.name!r} is not of the form "
            "'package.module:attribute'."
        )
    if offer.kind and offer.thing == "models" and offer.kind not in MODEL_KINDS:
        hint = suggestion(offer.kind, MODEL_KINDS)
        return (
            f"model {offer.name!r} is of the unknown kind {offer.kind!r}.{hint} "
            f"Known: {listing(MODEL_KINDS)}."
        )
    return None


def _check(entry: Entry, found: Any) -> None:
    """Hold a target against what its hook registers.

    Raises:
        ContractError: If it is something else, an abstract class, or a strategy with
            a verb that cannot be called.
    """
    if entry.kind == "mix":
        if not _is_mix(found):
            raise ContractError(
                f"{entry.title}: {entry.target} is {_shown(found)}; expected a tuple of "
                "mappings, each with the 'name' of a model and its options."
            )
        return
    if entry.kind_of_thing == "models":
        if not callable(found):
            raise ContractError(
                f"{entry.title}: {entry.target} is {_shown(found)}; expected a "
                "callable (image_shape, num_classes, **options) that returns a module."
            )
        return
    _check_class(entry, found)


def _check_class(entry: Entry, found: Any) -> None:
    """Hold a target that has to be a class against what its hook registers.

    Raises:
        ContractError: If it is something else or lacks something.
    """
    base = load_target(_BASES[entry.kind_of_thing])
    also = ""
    if entry.kind_of_thing == "strategies":
        also = " or a fedkd.Preset of one"
        if isinstance(found, load_target("fedkd.strategy:Preset")):
            found = found.strategy
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ContractError(
            f"{entry.title}: {entry.target} is {_shown(found)}; expected a subclass of "
            f"fedkd.{base.__name__}{also}."
        )
    lacking = sorted(getattr(found, "__abstractmethods__", ()))
    if lacking:
        raise ContractError(
            f"{entry.title}: {found.__name__} lacks {listing(lacking)}; implement them."
        )
    if entry.kind_of_thing == "strategies":
        check_verbs(found, base, entry.title)
    if entry.kind_of_thing == "executors":
        _check_name(entry, found)


def _check_name(entry: Entry, executor: Any) -> None:
    """Hold the name that an executor gives itself, and results, against its entry's.

    Raises:
        ContractError: If they differ.
    """
    own = vars(executor).get("name")
    if own != entry.name:
        raise ContractError(
            f"{entry.title}: {executor.__name__}.name is {own!r}; expected "
            f"{entry.name!r}, for results say it."
        )


def _is_mix(found: Any) -> bool:
    return (
        isinstance(found, tuple)
        and bool(found)
        and all(isinstance(one, Mapping) and "name" in one for one in found)
    )


def _shown(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"of type {type(value).__name__}"


def first_line(suite: str) -> str:
    """Return the first line of the description in the text of a suite."""
    content = yaml.safe_load(suite)
    lines = str(content.get("description") or "").strip().splitlines()
    return lines[0] if lines else ""
