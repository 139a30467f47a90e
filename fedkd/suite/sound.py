"""Says all at once what is wrong with the plug-ins that a suite names."""

from __future__ import annotations

from collections.abc import Iterator

from fedkd.errors import ContractError, FedKDError, PluginError
from fedkd.plugins.registry import Registry
from fedkd.suite.suite import Suite


def sound(suite: Suite, registry: Registry) -> Suite:
    """Return a suite, if all that it names is what its name must stand for.

    Raises:
        ContractError: With a line for each that lacks something or has it otherwise.
        PluginError: If all that is wrong is that things cannot be loaded.
    """
    faults: list[FedKDError] = []
    for kind, name in dict.fromkeys(_named(suite)):
        if name in registry.entries(kind):  # others are told with a suggestion, later
            try:
                registry.resolve(kind, name)
            except (ContractError, PluginError) as error:
                faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise type(faults[0])("\n".join(map(str, faults)))
    return suite


def _named(suite: Suite) -> Iterator[tuple[str, str]]:
    """Yield the kind and the name of what a suite lists."""
    for entry in suite.strategies:
        yield "strategies", entry.name
    for kind, listed in (
        ("datasets", suite.datasets),
        ("partitioners", suite.partitions),
        ("metrics", suite.metrics),
    ):
        for one in listed:
            yield kind, one.name.partition(":")[0]
    for mix in suite.models:
        for one in (*mix.clients, *([mix.server] if mix.server else [])):
            yield "models", one.name
