"""What a verb must leave alone, compared around every verb of every run.

Only what costs next to nothing is compared here: torch counts the writes into each
tensor. :mod:`fedkd.testing` compares bytes, and so sees also what torch does not count:
writes through ``.data`` or NumPy.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from fedkd.errors import ContractError
from fedkd.payload import is_frozen_dataclass, leaves
from fedkd.weights import entries


class Untouched:
    """Tensors that nobody may write into from now on."""

    def __init__(self, tree: object, what: str) -> None:
        """Note how often each tensor was written into.

        Args:
            tree: Holds the tensors (:mod:`fedkd.payload`).
            what: What messages call the tree: ``"what the server sent"``.
        """
        self._what = what
        self._tree = tree
        self._tensors = [t for t in tensors_of(tree) if not t.is_inference()]
        self._versions = [tensor._version for tensor in self._tensors]

    def check(self, where: str) -> None:
        """Refuse that one was written into.

        Args:
            where: Who may have done it: ``"fedprox.local (client 3, round 1)"``.

        Raises:
            ContractError: Naming the first such tensor.
        """
        versions = [tensor._version for tensor in self._tensors]
        if versions == self._versions:
            return
        changed = [
            tensor
            for tensor, now, before in zip(
                self._tensors, versions, self._versions, strict=True
            )
            if now != before
        ]
        raise ContractError(
            f"{where} changed {_path_of(changed[0], self._tree)} of {self._what} in "
            "place, and others are given the same tensor. Work on a copy: "
            "value.clone()."
        )


def tensors_of(tree: object) -> list[Tensor]:
    """Return the tensors of a tree that are in memory, in a fixed order.

    A mapping that is no ``dict``, as the answers that lie in a file, gives new tensors at
    every access; it is passed over.
    """
    tensors: list[Tensor] = []
    _collect([tree], tensors)
    return tensors


def _collect(trees: Iterable[object], tensors: list[Tensor]) -> None:
    # By a list that grows, and without paths: it runs several times in every turn.
    for tree in trees:
        if isinstance(tree, Tensor):
            tensors.append(tree)
        elif isinstance(tree, dict):
            _collect(tree.values(), tensors)
        elif isinstance(tree, tuple | list):
            _collect(tree, tensors)
        elif is_frozen_dataclass(tree):
            names = tree.__dataclass_fields__  # type: ignore[attr-defined]
            _collect([getattr(tree, name) for name in names], tensors)


def _path_of(tensor: Tensor, tree: object) -> str:
    """Return where a tensor is in a tree."""
    return next(path for path, leaf in leaves(tree, "it") if leaf is tensor)


def refuse_alias(tree: object, model: nn.Module, where: str, how: str) -> None:
    """Refuse a tree that shares memory with a working model, which is reused.

    Args:
        tree: What is sent or kept.
        model: The working model.
        where: Who made the tree: ``"fedprox.local (client 3, round 1)"``.
        how: What became of the tree: ``"sent"``.

    Raises:
        ContractError: Naming the first tensor that is, or is a view of, the model's own.
    """
    kept = [tensor for tensor in tensors_of(tree) if tensor.numel()]
    if not kept:
        return
    own = {_address_of(t) for _, t in entries(model) if t.numel()} - {None}
    for tensor in kept:
        if _address_of(tensor) in own:
            raise ContractError(
                f"{where} {how} {_path_of(tensor, tree)}, which is the working model's "
                "own memory and will be overwritten. Take a copy: "
                "fedkd.read_weights(model), or value.clone()."
            )


def _address_of(tensor: Tensor) -> int | None:
    """Return where the memory starts that a tensor is a view of; None without any.

    A tensor of a wrapping class stands for one that lies elsewhere.
    """
    try:
        return tensor.untyped_storage().data_ptr()
    except RuntimeError:
        return None
