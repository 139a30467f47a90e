"""What a run must be before it starts, and what its strategy needs of it.

All of it is checked before anything is trained or written.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedkd.base.signatures import check_verbs
from fedkd.data.inputs import described, fully_described, kind_of
from fedkd.errors import ConfigError, NotApplicableError, counted, listing
from fedkd.ops.layers import entries_by_layer
from fedkd.party import ModelSpec
from fedkd.simulation.faults.config import NO_FAULTS
from fedkd.simulation.faults.plan import Plan
from fedkd.simulation.federation import Federation
from fedkd.simulation.protocol import Protocol
from fedkd.strategy import Requires, Strategy

WIDTH = "width"
"""The option of a model that says how wide it is."""


def fitted(
    strategy: Strategy[Any, Any, Any],
    federation: Federation,
    protocol: Protocol,
    seed: int,
    name: str,
) -> tuple[Federation, Protocol]:
    """Return the world that a strategy runs in, if it can run there.

    Raises:
        ConfigError: If the number of clients cannot be right.
        NotApplicableError: If the strategy has a need that is not met.
        ContractError: If a verb cannot be called as it will be.
    """
    check_verbs(type(strategy), Strategy, name)
    if len(federation) != protocol.clients:
        raise ConfigError(
            f"the federation has {len(federation)} clients and the protocol "
            f"{protocol.clients}; give both the same number."
        )
    federation, protocol = arranged(strategy, federation, protocol)
    reason = _reason_in_inputs(strategy.requires, federation)
    if reason:
        raise NotApplicableError(name, reason)
    check_batches(federation, protocol)
    world = (federation, protocol.buffers, protocol.rounds)
    reason = reason_to_skip(strategy.requires, *world, protocol.clients_per_round())
    if reason:
        raise NotApplicableError(name, reason)
    return federation, protocol


def warn_untested(federation: Federation) -> None:
    """Warn of clients that have no test images."""
    untested = [k for k, shard in enumerate(federation.test_shards) if not len(shard)]
    if untested:
        warnings.warn(
            f"no test image is of a class that client {listing(map(str, untested))} "
            "has: local accuracy is not defined there and is left out of means.",
            RuntimeWarning,
            stacklevel=4,
        )


def check_batches(federation: Federation, protocol: Protocol) -> None:
    """Refuse batches of one image where a model's batch normalisation has single values.

    Raises:
        ConfigError: Naming the model.
    """
    if protocol.training.batch_size > 1:
        return
    one = torch.zeros(1, *federation.data.shape, device=federation.device)
    for spec in {spec.key: spec for spec in federation.client_models}.values():
        model = federation.build_spec(spec, 0).train()
        try:
            with torch.no_grad():
                model(one)
        except ValueError as error:
            raise ConfigError(
                "training.batch_size: found 1, expected at least 2: the batch "
                f"normalisation of {spec.shown} has a single value a channel for one "
                f"of {described(federation.data.shape)} ({error}). Give a larger "
                "batch_size."
            ) from None


def check_files(federation: Federation, protocol: Protocol) -> None:
    """Refuse files of faults and speeds that are not of these clients.

    Raises:
        ConfigError: If the file of availability names a client that there is not, or the
            one of devices lacks one.
    """
    Plan(protocol.faults, 0, len(federation)).available(0)
    if protocol.clock is not None:
        protocol.clock.check(len(federation))


def arranged(
    strategy: Strategy[Any, Any, Any], federation: Federation, protocol: Protocol
) -> tuple[Federation, Protocol]:
    """Return the world that a strategy runs in: as it is, or pooled into one client.

    Pooled, the one client has all data and the server's model. It takes as many
    ``local_steps`` a round as the clients of a round take together; of ``local_epochs``
    as many as each of them, over all data. Each side has the public images that the
    strategy declares. Where all data are in one place no answer is on its way: faults and
    simulated time are left out there, but for poisoned data.
    """
    if not strategy.pools_clients:
        return federation.offering(strategy.requires), protocol
    steps = protocol.training.local_steps
    more = None if steps is None else steps * protocol.clients_per_round()
    training = protocol.training.model_copy(update={"local_steps": more})
    pooled = federation.pooled().offering(strategy.requires)
    return pooled, protocol.model_copy(
        update={
            "clients": 1,
            "participation": 1.0,
            "training": training,
            "faults": NO_FAULTS,
            "clock": None,
        }
    )


def reason_to_skip(
    requires: Requires,
    federation: Federation,
    buffers: str,
    rounds: int | None = None,
    clients: int | None = None,
) -> str | None:
    """Return why a strategy cannot run here, as the end of a sentence; None if it can.

    Args:
        requires: What the strategy needs.
        federation: The world it would run in.
        buffers: The run's buffer policy.
        rounds: How many the run has; enough if None.
        clients: How many take part in a round; enough if None.
    """
    if clients is not None and clients < requires.clients:
        return (
            f"needs {counted(requires.clients, 'client')} in a round, and there "
            f"{'is' if clients == 1 else 'are'} {clients}; let more take part, or "
            "choose options that need fewer."
        )
    if rounds is not None and rounds < requires.rounds:
        return (
            f"needs {counted(requires.rounds, 'round')}, and the run has {rounds}; give "
            "it more, or choose options that need fewer."
        )
    wanting = requires.public_data or requires.public_data_at_clients
    if wanting and federation.public is None:
        return (
            "needs public data, and the world has none; give it a share of the training "
            f"{federation.data.noun}s, public: {{share: 0.1}}, or another data set with "
            f"{fully_described(federation.data.shape)}, public: {{dataset: NAME}}."
        )
    if buffers not in requires.buffers:
        return (
            f"supports the buffer policies {', '.join(requires.buffers)}; "
            f"the run has {buffers!r}."
        )
    reason = _reason_in_models(requires, federation)
    return reason or _reason_in_builds(requires.builds, federation)


def _reason_in_builds(
    builds: Sequence[ModelSpec], federation: Federation
) -> str | None:
    """Return why a model that the strategy will build cannot be; None if all can."""
    for spec in builds:
        try:
            federation.build_spec(spec, 0)
        except NotApplicableError as error:
            return f"builds {spec.shown}, which {error.reason}."
        except ConfigError as error:
            inputs = described(federation.data.shape)
            return f"will build {spec.shown} for {inputs}: {error}"
    return None


def _reason_in_inputs(requires: Requires, federation: Federation) -> str | None:
    """Return why the inputs do not suit the strategy or a model; None if they do."""
    shape = federation.data.shape
    if kind_of(shape) == "images":
        return None  # every model that cannot do with images is found by its shape
    if requires.images:
        return f"needs images, and the data are {described(shape)}."
    for spec in federation.specs:
        try:
            federation.build_spec(spec, 0)
        except NotApplicableError as error:
            return (
                f"has the model {spec.shown}, which {error.reason}; give models for "
                "vectors, such as mlp or linear."
            )
    return None


def _reason_in_models(requires: Requires, federation: Federation) -> str | None:
    specs = {spec.key: spec for spec in federation.client_models}
    specs.setdefault(federation.server_model.key, federation.server_model)
    if requires.one_architecture and len(specs) > 1:
        return f"needs one architecture, but the models are {_titles(specs.values())}."
    if requires.nested_widths:
        reason = _reason_in_widths(list(specs.values()), federation.server_model)
        if reason:
            return reason
    count = requires.shared_layers if len(specs) > 1 else 0
    if not (requires.batch_norm or requires.equal_feature_size or count):
        return None
    models = {spec.shown: federation.build_spec(spec, 0) for spec in specs.values()}
    reason = _reason_in_features(models) if requires.equal_feature_size else None
    reason = reason or _reason_in_layers(models, count)
    if reason:
        return reason
    plain = [name for name, model in models.items() if not _has_batch_norm(model)]
    if requires.batch_norm and plain:
        return f"needs batch normalisation, but {plain[0]} has none."
    return None


def _reason_in_features(models: Mapping[str, nn.Module]) -> str | None:
    """Return why models, by title, have no features of one size; None if they do."""
    sizes = {name: getattr(m, "feature_size", None) for name, m in models.items()}
    for name, model in models.items():
        if sizes[name] is None or not hasattr(model, "head"):
            return (
                f"needs models made of features and a head, but {name} is of one piece; "
                "give it feature_size, features and head."
            )
    if len(set(sizes.values())) > 1:
        each = ", ".join(f"{name}: {size}" for name, size in sizes.items())
        return (
            f"needs features of one size, but they are {each}; give every model the "
            "option features, say features: 64."
        )
    return None


def _reason_in_layers(models: Mapping[str, nn.Module], count: int) -> str | None:
    """Return why models, by title, have not the same upper layers; None if they have."""
    layers = {name: _upper(model, count) for name, model in models.items()}
    first, *others = layers
    for name in others:
        if layers[name] != layers[first]:
            upper = "last layer" if count == 1 else f"last {count} layers"
            return (
                f"needs models with the same {upper}, but {first} has "
                f"{_shapes(layers[first])} and {name} {_shapes(layers[name])}; give "
                "every model the option features, say features: 64, and share no more "
                "layers than the models have in common."
            )
    return None


def _upper(model: nn.Module, count: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the entries of the upper layers, by name."""
    state = model.state_dict()
    some = entries_by_layer(model)[-count:] if count else []
    return {name: tuple(state[name].shape) for layer in some for name in layer}


def _shapes(entries: Mapping[str, tuple[int, ...]]) -> str:
    shown = (f"{name} {list(shape)}" for name, shape in entries.items())
    return listing(shown)


def _titles(specs: Iterable[ModelSpec]) -> str:
    """Return what to call models, as tables do."""
    return ", ".join(sorted(spec.shown for spec in specs))


def _reason_in_widths(specs: Sequence[ModelSpec], server: ModelSpec) -> str | None:
    """Return why models are no nested sub-models of the server's; None if they are."""
    families = {ModelSpec(s.name, {**s.options, WIDTH: None}).key for s in specs}
    if len(families) > 1:
        return (
            f"needs one family at nested widths, but the models are {_titles(specs)}."
        )
    widest = max(_width(spec) for spec in specs)
    if _width(server) < widest:
        return (
            f"needs the server's model to be the widest, but its width is "
            f"{_width(server):g} and a client's is {widest:g}."
        )
    return None


def _width(spec: ModelSpec) -> float:
    return float(spec.options.get(WIDTH, 1.0))


def _has_batch_norm(model: nn.Module) -> bool:
    return any(isinstance(layer, _BatchNorm) for layer in model.modules())
