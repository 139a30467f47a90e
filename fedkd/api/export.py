"""Models as files that others read: weights, torch.export, ONNX; and what they expect."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from fedkd._version import __version__
from fedkd.base.files import write_atomic
from fedkd.data.images import ImageSet, LabelledSet
from fedkd.errors import ConfigError, FedKDError, cause, listing
from fedkd.metrics.metric_set import BY_CLIENT
from fedkd.party import ModelSpec
from fedkd.suite.grid import TEST_FRACTION


@dataclass(frozen=True)
class Facts:
    """What is known of a model beside its weights."""

    data: LabelledSet
    """What it was trained on."""
    title: str
    """A model that the strategy names; of no client."""
    client: int | None
    """The client whose model it is; None of a named one."""
    architecture: ModelSpec | None
    """The registered model that it is; None if it is none."""
    config: Mapping[str, Any]
    """The run's configuration."""
    metrics: Mapping[str, Any]
    """The run's last line."""

    def plain(self) -> dict[str, Any]:
        """Return what is written beside the model."""
        data, own = self.data, self.architecture
        image = isinstance(data, ImageSet)
        return {
            "model": self.title if self.client is None else f"client {self.client}",
            "architecture": None
            if own is None
            else {"name": own.name, "options": dict(own.options)},
            "input": {
                "kind": "image" if image else "vector",
                "shape": list(data.shape),
                "dtype": "float32",
            },
            "normalisation": {
                "rule": "(input / scale - mean) / std, for each channel"
                if image
                else "(input / scale - mean) / std, for each value",
                "scale": 255 if image else 1,
                "mean": list(data.mean),
                "std": list(data.std),
            },
            "classes": list(data.classes),
            "output": "logits, one for each class",
            "measured": {"round": self.metrics.get("round"), **self._accuracy()},
            "run": {
                key: self.config.get(key)
                for key in ("suite", "label", "run_id", "config_hash", "seed")
            },
            "fedkd": __version__,
        }

    def _accuracy(self) -> dict[str, Any]:
        """Return what the run measured of this very model, in percent."""
        if self.client is not None:
            by_client = self.metrics.get(BY_CLIENT) or {}
            value, where = by_client.get(str(self.client)), "the client's test images"
        else:
            named = {**(self.metrics.get("measured") or {})}
            named["global"] = self.metrics.get("global_accuracy")
            value, where = named.get(self.title), self._tested_on()
        return {"accuracy": value, "on": where}

    def _tested_on(self) -> str:
        """Return which part of the test set models that are no client's are measured on."""
        options = (self.config.get("dataset") or {}).get("options") or {}
        share = options.get(TEST_FRACTION)
        if share is None or share == 1:
            return "the whole test set"
        return f"the part {share:g} of the test set, as {TEST_FRACTION} says"


def write_model(model: nn.Module, path: Path, facts: Facts) -> list[Path]:
    """Write a model as its suffix says, and beside it a JSON file of its name and .json.

    Args:
        model: In evaluation mode, on the CPU.
        path: The file.
        facts: What is known of the model.

    Returns:
        Both files.

    Raises:
        ConfigError: If the suffix is unknown.
        FedKDError: If the model cannot be written so, or a package is missing.
    """
    how = FORMATS.get(path.suffix)
    if how is None:
        raise ConfigError(
            f"{path}: found the suffix {path.suffix!r}, expected one of "
            f"{listing(FORMATS)}."
        )
    # Two: an exporter takes a batch of one for a constant.
    example = torch.zeros(2, *facts.data.shape)
    content = how(model, example)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The whole name: m.pt and m.onnx may lie side by side, of one model or of two.
    beside = path.with_name(f"{path.name}.json")
    write_atomic(path, content)
    write_atomic(beside, json.dumps(facts.plain(), indent=2, ensure_ascii=False) + "\n")
    return [path, beside]


def _state_dict(model: nn.Module, example: Tensor) -> bytes:
    """Return weights as ``torch.load(..., weights_only=True)`` reads them."""
    del example
    buffer = io.BytesIO()
    torch.save(_weights(model), buffer)
    return buffer.getvalue()


def _safetensors(model: nn.Module, example: Tensor) -> bytes:
    """Return weights as safetensors."""
    del example
    return save(_weights(model))


def _program(model: nn.Module, example: Tensor) -> bytes:
    """Return a program of torch.export, for batches of any size."""
    buffer = io.BytesIO()
    with _quiet(), _explained("torch.export"):
        torch.export.save(_exported(model, example), buffer)
    return buffer.getvalue()


def _onnx(model: nn.Module, example: Tensor) -> bytes:
    """Return an ONNX program, for batches of any size."""
    try:
        import onnxscript  # noqa: F401, PLC0415 - an extra
    except ImportError:
        raise FedKDError(
            "ONNX needs the packages onnx and onnxscript; install them by the extra: pip "
            "install 'fedkd[export]'. torch.export does without: --to model.pt2."
        ) from None
    buffer = io.BytesIO()
    with _quiet(), _explained("ONNX"):
        program = torch.onnx.export(
            _exported(model, example), (), dynamo=True, verbose=False
        )
        assert program is not None, "only the old exporter returns nothing"
        buffer.write(program.model_proto.SerializeToString())
    return buffer.getvalue()


FORMATS: dict[str, Callable[[nn.Module, Tensor], bytes]] = {
    ".pt": _state_dict,
    ".safetensors": _safetensors,
    ".pt2": _program,
    ".onnx": _onnx,
}
"""What makes the content of a file, by its suffix."""


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: tensor.detach().contiguous().clone()
        for name, tensor in model.state_dict().items()
    }


def _exported(model: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch")
    return torch.export.export(model, (example,), dynamic_shapes=({0: batch},))


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Say of whatever an exporter raises that weights can be had.

    Raises:
        FedKDError: If the block raises anything.
    """
    try:
        yield
    # A model may be a plug-in's, and exporters raise anything about what it does.
    except Exception as error:
        raise FedKDError(
            f"{what} cannot export this model: {cause(error)[:300]}. Its weights can be "
            "had: --to model.pt or model.safetensors."
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what exporters tell of themselves off the screen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
