"""Which axes of a model's weights belong together, found by watching the model run.

A channel of a hidden layer is a row of the layer that makes it, an entry of the
normalisation after it, and a column of each layer that reads it; a residual addition makes
the channels of its two sides one. Whoever takes some channels of a layer takes the same
ones everywhere: the axes form groups.

They are found without names and without rules for whole architectures. Each layer with
weights (convolution, linear layer, normalisation) is cut: whatever it reads, it answers a
constant. Between cuts only operations without weights are left, such as ReLU, pooling,
additions and flattening.

* One pass finds who reads whom: the graph of each layer's input ends in the layers before.
* Then channels are marked by NaN, which such operations pass on: by every bit of the
  channel's number and by its opposite, so that a channel that arrives elsewhere, or mixed
  with another, is noticed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedkd.data.inputs import InputShape
from fedkd.ops.layers import channels_last, is_by_channel, is_known, is_norm, sizes

Node: TypeAlias = tuple[str, str]
"""A layer's path, and ``in`` or ``out``."""
IMAGES = 2
"""Images in a pass; the values do not matter."""


@dataclass(frozen=True)
class Axis:
    """One axis of an entry."""

    group: int
    """Number of the group that it belongs to."""
    block: int = 1
    """Consecutive positions of each channel: the pixels of a flattened map."""


@dataclass(frozen=True)
class Axes:
    """The groups of a model, and which axis of which entry is in which."""

    channels: tuple[int, ...]
    """Number of channels of each group."""
    entries: Mapping[str, tuple[Axis | None, ...]]
    """By entry of the state, one for each dimension; None: belongs to no group."""
    producers: Mapping[str, int]
    """By path: the group that a convolution or linear layer makes. Without those that
    BatchNorm reads, which takes any scale away again."""
    output: int
    """The group of the logits, which no sub-model narrows; -1 if there is none."""
    unclear: Mapping[int, str]
    """Groups whose channels cannot be told apart, and why."""

    def of(self, entry: str) -> tuple[Axis | None, ...]:
        """Return the axes of an entry; empty for one that no group reaches."""
        return self.entries.get(entry, ())


def find_axes(model: nn.Module, input_shape: InputShape) -> Axes:
    """Return the groups of axes of a model; it is not changed.

    Args:
        model: Maps inputs to logits ``[B, classes]``.
        input_shape: ``(C, H, W)`` of its images, or ``(D,)`` of its vectors.
    """
    probe = _Probe(model, input_shape)
    probe.wire()
    probe.mark()
    return probe.axes()


@dataclass
class _Probe:
    """Passes through a model that is cut at its layers."""

    model: nn.Module
    input_shape: InputShape
    reads: dict[str, set[str]] = field(default_factory=dict)
    """By layer: the layers whose outputs reach its input."""
    blocks: dict[Node, int] = field(default_factory=dict)
    """Positions of each channel at a node."""
    unclear: dict[Node, str] = field(default_factory=dict)
    last: set[str] = field(default_factory=set)
    """The layers that make the model's output."""

    def __post_init__(self) -> None:
        self.model = (
            copy.deepcopy(self.model).cpu().float().eval().requires_grad_(False)
        )
        self.layers = {
            path: layer
            for path, layer in self.model.named_modules()
            if is_known(layer) and any(True for _ in layer.state_dict())
        }

    @torch.enable_grad()  # the graph is what is read, whatever the caller has set
    def wire(self) -> None:
        """Find out who reads whom."""
        constants: dict[int, tuple[str, Tensor]] = {}

        def answer(path: str, layer: nn.Module, x: Tensor, out: Tensor) -> Tensor:
            self._read(
                path, layer, {constants[i][0] for i in _ends(x) & set(constants)}
            )
            constant = torch.ones_like(out, requires_grad=True)
            constants[id(constant)] = (path, constant)
            return constant.clone()  # it may be changed in place

        out = self._run(answer)
        self.last = {constants[i][0] for i in _ends(out) & set(constants)}

    def _read(self, path: str, layer: nn.Module, sources: set[str]) -> None:
        """Note what a layer reads, and how many positions a channel has there."""
        self.reads.setdefault(path, set()).update(sources)
        size = sizes(layer)[0]
        blocks = {}
        for source in sources:
            before = sizes(self.layers[source])[1]
            blocks[source] = max(1, size // before) * self.blocks[source, "out"]
            if size % before:
                self._doubt(
                    path, sources, f"its {size} inputs are of {before} channels"
                )
        self.blocks[path, "in"] = min(blocks.values(), default=1)
        if len(set(blocks.values())) > 1:
            self._doubt(path, sources, "it reads layers of different sizes")
        own = is_by_channel(layer)
        self.blocks[path, "out"] = self.blocks[path, "in"] if own else 1

    def _doubt(self, path: str, sources: set[str], why: str) -> None:
        """Note that what a layer reads cannot be narrowed."""
        for node in [(path, "in"), *((source, "out") for source in sources)]:
            self.unclear.setdefault(node, f"at {path!r}: {why}")

    @torch.no_grad()
    def mark(self) -> None:
        """Check that every channel arrives where it is expected, and alone."""
        most = max((max(sizes(layer)) for layer in self.layers.values()), default=1)
        for bit in range(most.bit_length()):
            for wanted in (0, 1):
                self._run(self._marker(bit, wanted))

    def _marker(self, bit: int, wanted: int) -> _Answer:
        def marked(size: int, node: Node) -> Tensor:
            channels = torch.arange(size) // self.blocks[node]
            return (channels >> bit & 1) == wanted

        def answer(path: str, layer: nn.Module, x: Tensor, out: Tensor) -> Tensor:
            before, after = sizes(layer)
            seen = channels_last(x, layer).isnan().reshape(-1, before).any(0)
            expected = marked(before, (path, "in"))
            if self.reads[path] and not torch.equal(seen, expected):
                why = "its channels are moved or mixed before they are read"
                self._doubt(path, self.reads[path], why)
            constant = torch.ones_like(out)
            rows = channels_last(constant, layer)
            rows[..., marked(after, (path, "out"))] = torch.nan
            return constant

        return answer

    def _run(self, answer: _Answer) -> Tensor:
        """Run the model on an image, with the answers of all layers replaced."""
        handles = [
            layer.register_forward_hook(_hook(path, answer))
            for path, layer in self.layers.items()
        ]
        out: Tensor = self.model(torch.ones(IMAGES, *self.input_shape))
        for handle in handles:
            handle.remove()
        return out

    def axes(self) -> Axes:
        """Return the groups that the passes found."""
        groups = self._groups()
        numbers = {root: i for i, root in enumerate(dict.fromkeys(groups.values()))}
        of = {node: numbers[root] for node, root in groups.items()}
        channels = {group: self._channels(node) for node, group in of.items()}
        entries = {
            f"{path}.{entry}": self._axes_of(path, entry, value, of)
            for path in self.reads
            for entry, value in self.layers[path].state_dict().items()
        }
        last = {of[path, "out"] for path in self.last}
        return Axes(
            tuple(channels[group] for group in range(len(numbers))),
            entries,
            {
                path: of[path, "out"]
                for path in self.reads
                if not is_norm(self.layers[path]) and not self._is_normalised(path)
            },
            min(last, default=-1),
            {of[node]: why for node, why in self.unclear.items()},
        )

    def _is_normalised(self, path: str) -> bool:
        readers = [self.layers[p] for p, read in self.reads.items() if path in read]
        return bool(readers) and all(isinstance(r, _BatchNorm) for r in readers)

    def _channels(self, node: Node) -> int:
        path, side = node
        return sizes(self.layers[path])[side == "out"] // self.blocks[node]

    def _groups(self) -> dict[Node, Node]:
        """Return each node's group, by one of the nodes in it."""
        root = {node: node for node in self.blocks}

        def find(node: Node) -> Node:
            while root[node] != node:
                node = root[node]
            return node

        for path, sources in self.reads.items():
            for source in sorted(sources):
                if self._channels((path, "in")) == self._channels((source, "out")):
                    root[find((path, "in"))] = find((source, "out"))
            if is_by_channel(self.layers[path]):
                root[find((path, "out"))] = find((path, "in"))
        return {node: find(node) for node in root}

    def _axes_of(
        self, path: str, entry: str, value: Tensor, of: Mapping[Node, int]
    ) -> tuple[Axis | None, ...]:
        """Return the axes of an entry of a layer: output channels, then input ones."""
        layer = self.layers[path]
        sides = ["out"] if entry == "bias" or is_by_channel(layer) else ["out", "in"]
        known = [Axis(of[path, side], self.blocks[path, side]) for side in sides]
        rest = [None] * (value.ndim - len(known))
        return (*known, *rest)[: value.ndim]


_Answer: TypeAlias = Callable[[str, nn.Module, Tensor, Tensor], Tensor]
"""``answer(path, layer, input, output)`` replaces the output."""


def _hook(path: str, answer: _Answer) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def hook(layer: nn.Module, inputs: Any, out: Tensor) -> Tensor:
        return answer(path, layer, inputs[0], out)

    return hook


def _ends(x: Tensor) -> set[int]:
    """Return the ids of the constants that a value is made of."""
    reached: set[int] = set()
    seen: set[Any] = set()
    todo: list[Any] = [x.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            reached.add(id(node.variable))
        todo += [after for after, _ in node.next_functions]
    return reached
