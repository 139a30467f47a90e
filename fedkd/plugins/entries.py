"""What is registered: a name, an owner and a target that is imported on demand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from fedkd.base.signatures import faults_of_verbs
from fedkd.errors import ContractError, PluginError, listing, suggestion
from fedkd.plugins.builders import check_builder
from fedkd.plugins.loader import Offer, load_target

KINDS = {
    "strategies": "strategy",
    "datasets": "data set",
    "models": "model",
    "partitioners": "partitioner",
    "executors": "executor",
    "metrics": "metric",
    "observers": "observer",
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
    "metrics": "fedkd.metrics.base:Metric",
    "observers": "fedkd.observers.base:Observer",
}
# By name, because these modules import torch and a listing must not.
_JOINTS = {"metrics": ("_", "underscores", "macro_f1")}
"""How words of a name are joined, in words, and an example; metrics name columns."""
_TARGET = re.compile(r"\w+(\.\w+)*:\w+(\.\w+)*")


@dataclass(frozen=True)
class Entry:
    """Something registered under a name, not yet imported."""

    name: str
    kind_of_thing: str
    """A key of :data:`KINDS`."""
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
            thing = load_target(self.target)
        except PluginError as error:
            raise PluginError(f"{self.title}: {error}") from error
        _check(self, thing)
        return thing


def problem_of(offer: Offer) -> str | None:
    """Return what is wrong with what a plug-in registered, looked at on its own."""
    word = KINDS[offer.thing]
    joint, joints, example = _JOINTS.get(offer.thing, ("-", "hyphens", "mosaic-code"))
    name = rf"[a-z0-9]+({joint}[a-z0-9]+)*"
    if not isinstance(offer.name, str) or not re.fullmatch(name, offer.name):
        near = joint.join(re.findall("[a-z0-9]+", str(offer.name).lower()))
        return (
            f"{word} name {offer.name!r} is not lower-case words joined by {joints}; "
            f"write it like {(near or example)!r}."
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


def _check(entry: Entry, thing: Any) -> None:
    """Hold a target against what its hook registers.

    Raises:
        ContractError: If it is something else, an abstract class, or a strategy with
            a verb that cannot be called.
    """
    if entry.kind == "mix":
        if not _is_mix(thing):
            raise ContractError(
                f"{entry.title}: {entry.target} is {_shown(thing)}; expected a tuple of "
                "mappings, each with the 'name' of a model and its options."
            )
        return
    if entry.kind_of_thing == "models":
        check_builder(thing, f"{entry.title}: {entry.target}")
        return
    base = load_target(_BASES[entry.kind_of_thing])
    also = ""
    if entry.kind_of_thing == "strategies":
        also = " or a fedkd.Preset of one"
        if isinstance(thing, load_target("fedkd.strategy:Preset")):
            thing = thing.strategy
    if not (isinstance(thing, type) and issubclass(thing, base)):
        raise ContractError(
            f"{entry.title}: {entry.target} is {_shown(thing)}; expected a subclass of "
            f"fedkd.{base.__name__}{also}."
        )
    faults = list(_faults(entry, thing, base))
    if faults:
        raise ContractError(f"{entry.title}: {' Also: '.join(faults)}")


def _faults(entry: Entry, cls: Any, base: type) -> Iterator[str]:
    """Yield a sentence for each thing that a class lacks or has otherwise."""
    lacking = sorted(getattr(cls, "__abstractmethods__", ()))
    if lacking:
        yield f"{cls.__name__} lacks {listing(lacking)}; implement them."
    yield from faults_of_verbs(cls, base)
    executes = entry.kind_of_thing == "executors"
    own = getattr(cls, "name", None) if executes else entry.name
    if own != entry.name:
        yield (
            f"{cls.__name__}.name is {own!r}; expected {entry.name!r}, for results say it."
        )
    if entry.kind_of_thing == "metrics":
        try:
            cls.place()
        except ContractError as error:
            yield str(error)


def _is_mix(thing: Any) -> bool:
    return (
        isinstance(thing, tuple)
        and bool(thing)
        and all(isinstance(one, Mapping) and "name" in one for one in thing)
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
