"""What a strategy needs, held against a federation: a reason to skip, or None."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedkd.party import ModelSpec
from fedkd.simulation.federation import Federation
from fedkd.strategy import Requires

WIDTH = "width"
"""The option of a model that says how wide it is."""


def reason_to_skip(
    requires: Requires, federation: Federation, buffers: str
) -> str | None:
    """Return why a strategy cannot run here, as the end of a sentence; None if it can.

    Args:
        requires: What the strategy needs.
        federation: The world it would run in.
        buffers: The run's buffer policy.
    """
    if requires.public_data:
        return "needs public data at the server, and the simulator has none."
    if buffers not in requires.buffers:
        return (
            f"supports the buffer policies {', '.join(requires.buffers)}; "
            f"the run has {buffers!r}."
        )
    return _reason_in_models(requires, federation)


def _reason_in_models(requires: Requires, federation: Federation) -> str | None:
    specs = {spec.key: spec for spec in federation.client_models}
    specs.setdefault(federation.server_model.key, federation.server_model)
    if requires.one_architecture and len(specs) > 1:
        return f"needs one architecture, but the models are {_titles(specs.values())}."
    if requires.nested_widths:
        reason = _reason_in_widths(list(specs.values()), federation.server_model)
        if reason:
            return reason
    if not (requires.batch_norm or requires.equal_feature_size):
        return None
    models = {spec.shown: federation.build_spec(spec, 0) for spec in specs.values()}
    sizes = {
        name: getattr(model, "feature_size", None) for name, model in models.items()
    }
    if requires.equal_feature_size and len(set(sizes.values())) > 1:
        found = ", ".join(f"{name}: {size}" for name, size in sizes.items())
        return (
            f"needs features of one size, but they are {found}; give every model the "
            "option features, say features: 64."
        )
    plain = [name for name, model in models.items() if not _has_batch_norm(model)]
    if requires.batch_norm and plain:
        return f"needs batch normalisation, but {plain[0]} has none."
    return None


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
