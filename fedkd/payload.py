"""What crosses the wire: trees of tensors and scalars, sealed, counted, serialisable.

A payload is a frozen dataclass whose fields are tensors, scalars, strings, ``None``,
or mappings, tuples, lists and frozen dataclasses of these. Tensors are dense, of a type
that safetensors holds; a subclass of dict, tuple or list, such as a named tuple, would
come back as the plain one and is refused, and so are NumPy's arrays and numbers. Other
mappings come back as dicts; what is a number or a text of Python too, such as a member of
``IntEnum`` or ``StrEnum`` and ``numpy.float64``, as a plain one. Strategy states and client
memories follow the same rule, so one codec serves the wire and the checkpoint. Nothing
here uses pickle: tensors go through safetensors, the structure through JSON.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from fedkd.base.bounds import HEADER, parse_json
from fedkd.errors import ContractError, listing

Weights: TypeAlias = Mapping[str, torch.Tensor]
"""A model's state by entry name, as ``state_dict`` gives it: parameters and buffers."""

_SCALARS = (bool, int, float, str, type(None))
_BUILT_IN = (dict, tuple, list)
_PLAIN = (*_BUILT_IN, OrderedDict, torch.Size)
"""Beside the built-in ones what PyTorch gives: copies are equal to them in all we read."""
_SEAL = rb"\"checksum\": \"%08x\""
_UNSEALED = _SEAL % 0
"""What the header has in place of the checksum while that is computed."""


def seal(payload: object, sender: str) -> int:
    """Check that ``payload`` may travel and return its size in bytes.

    The size is the sum of the real element sizes of its tensors. Python scalars travel
    in the message header and are not counted.

    Args:
        payload: A frozen dataclass.
        sender: Who sends it, for messages: ``"fedprox.local (client 3)"``.

    Raises:
        ContractError: If it is not a frozen dataclass, or holds anything but detached
            dense CPU tensors, scalars and containers of these that come back as they are.
    """
    if not is_frozen_dataclass(payload):
        raise ContractError(
            f"{sender} sent {type(payload).__name__}; a payload is a frozen dataclass. "
            "Return an instance of one."
        )
    total = 0
    for path, leaf in leaves(payload, sender):
        if isinstance(leaf, torch.Tensor):
            if leaf.requires_grad:
                raise ContractError(
                    f"{sender} sent {path} with its graph; a payload is detached. "
                    "Call .detach() on it."
                )
            if leaf.device.type != "cpu":
                raise ContractError(
                    f"{sender} sent {path} on {leaf.device}; payloads travel on the "
                    "CPU. Call .cpu() on it."
                )
            total += leaf.numel() * leaf.element_size()
    return total


def is_frozen_dataclass(value: object) -> bool:
    """Say whether ``value`` is an instance of a frozen dataclass."""
    params = getattr(type(value), "__dataclass_params__", None)
    return params is not None and bool(params.frozen)


def leaves(value: object, sender: str, path: str = "") -> list[tuple[str, Any]]:
    """Return every ``(path, leaf)`` of a tree, in a fixed order.

    Raises:
        ContractError: If a leaf, a container or a key has a type that cannot travel.
    """
    if isinstance(value, torch.Tensor):
        _require_portable(value, sender, path)
        return [(path or "value", value)]
    if isinstance(value, _SCALARS):
        return [(path or "value", value)]
    return [
        leaf
        for name, child in _children(value, sender, path)
        for leaf in leaves(child, sender, f"{path}.{name}" if path else str(name))
    ]


def _children(value: object, sender: str, path: str) -> list[tuple[Any, Any]]:
    if is_frozen_dataclass(value):
        return [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]  # type: ignore[arg-type]
    _require_plain(value, sender, path)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, _SCALARS):
                raise ContractError(
                    f"{sender} holds the key {key!r} ({type(key).__name__}) at "
                    f"{path or 'its root'}; keys are numbers of Python, strings or None. "
                    "Make it one, or a field of a frozen dataclass."
                )
        return list(value.items())
    if isinstance(value, tuple | list):
        return list(enumerate(value))
    raise ContractError(
        f"{sender} holds {type(value).__name__} at {path or 'its root'}; allowed are "
        "tensors, numbers of Python, strings, None, and mappings, tuples, lists and "
        "frozen dataclasses of these."
    )


def _require_plain(value: object, sender: str, path: str) -> None:
    """Refuse a container that would come back as one of another kind."""
    plain = next((kind for kind in _BUILT_IN if isinstance(value, kind)), None)
    if plain is not None and type(value) not in _PLAIN:
        raise ContractError(
            f"{sender} holds {type(value).__name__} at {path or 'its root'}, which would "
            f"come back as a plain {plain.__name__}. Make it one, or a frozen dataclass."
        )


def _require_portable(tensor: torch.Tensor, sender: str, path: str) -> None:
    """Refuse a tensor that would not come back."""
    if tensor.is_nested:  # and strided, as it says
        found, way = "nested", ".unbind()"
    elif tensor.layout is not torch.strided:
        found, way = str(tensor.layout), ".to_dense()"
    elif tensor.is_quantized:
        found, way = str(tensor.dtype), ".dequantize()"
    elif not _held(tensor.dtype):
        found, way = str(tensor.dtype), ".to() with another type"
    else:
        return
    raise ContractError(
        f"{sender} holds {path or 'a tensor'} as {found}; tensors that travel are dense, "
        f"of a type that safetensors holds. Call {way} on it, or send its parts."
    )


@cache
def _held(dtype: torch.dtype) -> bool:
    """Say whether safetensors, which lists them nowhere, holds values of a type."""
    try:
        load_tensors(save_tensors({"value": torch.empty(1, dtype=dtype)}))
    except KeyError:
        return False
    return True


def encode(tree: object, sender: str = "tree") -> bytes:
    """Serialise a tree without pickle; a checksum covers all of it.

    Tensors keep their strides: a sum over them runs in the same order afterwards, and
    gives the same bits.

    Raises:
        ContractError: If a leaf, a container or a key has a type that cannot travel.
    """
    structure, tensors = take_apart(tree, sender)
    # Copies: safetensors refuses tensors that share memory.
    own = [dense(t.detach().cpu()).clone() for t in tensors]
    layout = [[list(t.shape), list(t.stride())] for t in own]
    named = {str(i): t.as_strided((t.numel(),), (1,)) for i, t in enumerate(own)}
    facts = {"checksum": f"{0:08x}", "layout": layout, "tree": structure}
    # One entry: those of several come in a random order.
    data = save_tensors(named, metadata={"tree": json.dumps(facts)})
    return data.replace(_UNSEALED, _SEAL % zlib.crc32(data), 1)


def dense(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor whose elements fill its memory without gaps, in their order."""
    fills = fills_memory(tensor.shape, tensor.stride())
    return tensor if fills else tensor.clone()


def fills_memory(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Say whether elements at these strides follow each other without gaps."""
    expected = 1
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True


def decode(data: bytes) -> Any:
    """Rebuild the tree that :func:`encode` wrote.

    Dataclasses are looked up among the modules that are already imported and must be
    frozen dataclasses there; nothing is imported, and no code is run, in the data or of
    the classes that it names.

    Raises:
        ContractError: If the data is damaged, or no such tree; if it names an unknown
            dataclass, or other fields than that has.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        if length > min(HEADER, len(data) - 8):
            raise ValueError(
                f"found a header of {length:,} bytes, expected a shorter one"
            )
        header = parse_json(data[8 : 8 + length], HEADER)
        facts = parse_json(header["__metadata__"]["tree"], HEADER)
        _check(data, int(facts["checksum"], 16))
        structure, layout = parse_json(facts["tree"], HEADER), facts["layout"]
        flat = load_tensors(data)
        tensors = [_laid_out(flat[str(i)], *each) for i, each in enumerate(layout)]
    except Exception as error:
        raise ContractError(f"not a tree written by fedkd: {error}") from error
    return _rebuilt(structure, tensors)


def _laid_out(flat: torch.Tensor, shape: list[int], strides: list[int]) -> torch.Tensor:
    """Return a tensor of all elements of ``flat``, each once."""
    require_layout(shape, strides)
    if math.prod(shape) != flat.numel() or flat.dim() != 1:
        raise ValueError(f"found {flat.numel()} elements for a shape of {shape}")
    return flat.as_strided(shape, strides)


def require_layout(shape: Sequence[int], strides: Sequence[int]) -> None:
    """Refuse a shape that no tensor of :func:`dense` has, or strides that do not fit it.

    Else a few bytes could stand for a tensor of any size, whose copy fills the memory.

    Raises:
        ValueError: If it does not fit, or is no shape at all.
    """
    listed = isinstance(shape, list | tuple) and isinstance(strides, list | tuple)
    every = (0, *shape, *strides)
    whole = listed and {*map(type, every)} == {int} and min(every) >= 0
    if not whole or max(every) >> 48 or len(shape) != len(strides):
        raise ValueError(f"found a shape of {shape}, expected whole numbers")
    if math.prod(shape) and not fills_memory(shape, strides):
        raise ValueError(f"found strides {strides} for a shape of {shape}")


def _check(data: bytes, checksum: int) -> None:
    """Refuse data that is not what :func:`encode` wrote."""
    start = data.index(_SEAL % checksum)
    rest = memoryview(data)[start + len(_UNSEALED) :]
    before = zlib.crc32(_UNSEALED, zlib.crc32(memoryview(data)[:start]))
    if zlib.crc32(rest, before) != checksum:
        raise ContractError("it is damaged; its checksum does not fit.")


def take_apart(tree: object, sender: str = "tree") -> tuple[str, list[torch.Tensor]]:
    """Return the JSON form of a tree without its tensors, and the tensors themselves.

    Raises:
        ContractError: If a leaf, a container or a key has a type that cannot travel.
    """
    tensors: list[torch.Tensor] = []
    return json.dumps(_describe(tree, sender, "", tensors)), tensors


def put_together(structure: str, tensors: Sequence[torch.Tensor]) -> Any:
    """Rebuild the tree that :func:`take_apart` was given.

    Raises:
        ContractError: If the structure is none, or names an unknown dataclass.
    """
    try:
        node = json.loads(structure)
    except (ValueError, RecursionError) as error:
        raise ContractError(f"not a tree written by fedkd: {error}") from error
    return _rebuilt(node, tensors)


def _rebuilt(structure: Any, tensors: Sequence[torch.Tensor]) -> Any:
    """Return the tree of a structure.

    Raises:
        ContractError: If the structure is none, or names an unknown dataclass.
    """
    try:
        return _rebuild(structure, {str(i): each for i, each in enumerate(tensors)})
    except ContractError:
        raise
    except Exception as error:
        kind = type(error).__name__
        raise ContractError(f"not a tree written by fedkd: {kind}: {error}") from error


def _describe(value: Any, sender: str, path: str, tensors: list[torch.Tensor]) -> Any:
    """Return the JSON form of a tree and add its tensors, by number, to ``tensors``."""
    if isinstance(value, torch.Tensor):
        _require_portable(value, sender, path)
        tensors.append(value)
        return {"t": str(len(tensors) - 1)}
    if isinstance(value, float):
        return {"f": value.hex()}
    if isinstance(value, _SCALARS):
        return {"s": value}
    items = [
        [key, _describe(child, sender, f"{path}.{key}" if path else str(key), tensors)]
        for key, child in _children(value, sender, path)
    ]
    if is_frozen_dataclass(value):
        kind = type(value)
        return {"d": f"{kind.__module__}:{kind.__qualname__}", "v": items}
    if isinstance(value, Mapping):
        return {"m": items}
    return {"l" if isinstance(value, list) else "u": [child for _, child in items]}


def _rebuild(node: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if "t" in node:
        return tensors[node["t"]]
    if "f" in node:
        return float.fromhex(node["f"])
    if "s" in node:
        if not isinstance(node["s"], _SCALARS):
            raise TypeError(f"found {type(node['s']).__name__}, expected a scalar")
        return node["s"]
    if "d" in node:
        fields = {key: _rebuild(child, tensors) for key, child in node["v"]}
        return _made(_dataclass_named(node["d"]), fields)
    if "m" in node:
        return {key: _rebuild(child, tensors) for key, child in node["m"]}
    items = [_rebuild(child, tensors) for child in node["l" if "l" in node else "u"]]
    return items if "l" in node else tuple(items)


def _made(kind: type, given: Mapping[str, Any]) -> Any:
    """Return an instance of a dataclass as it was; no method of the class is called.

    A field that was added since has its default.
    """
    known = dataclasses.fields(kind)
    if odd := given.keys() - {field.name for field in known}:
        raise ContractError(
            f"the data names fields that {kind.__qualname__} has not: "
            f"{listing(sorted(odd))}; load the version of the plug-in that wrote it."
        )
    made: Any = object.__new__(kind)
    for field in known:
        value = given[field.name] if field.name in given else _default(field)
        object.__setattr__(made, field.name, value)
    return made


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    raise ContractError(
        f"the data has no field {field.name!r}, which has no default; load the version "
        "of the plug-in that wrote it."
    )


def _dataclass_named(name: str) -> type:
    module, _, qualname = name.partition(":")
    kind: Any = sys.modules.get(module)
    for part in qualname.split("."):
        # Not getattr: a module may import another one, or run anything, when asked.
        kind = getattr(kind, "__dict__", {}).get(part)
    params = isinstance(kind, type) and getattr(kind, "__dataclass_params__", None)
    if not params or not params.frozen:
        raise ContractError(
            f"the data names {name!r}, which is no frozen dataclass of an imported "
            "module; load the plug-in that wrote it first."
        )
    known: type = kind
    return known
