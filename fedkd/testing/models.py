"""Promises that every model keeps, one function each: ``check(make, folder)``.

``make(input_shape, num_classes)`` gives a new model, as ``registry.model(name)`` and
``MyModel.build`` do. There is a list of checks for each kind of model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedkd.errors import ContractError
from fedkd.payload import decode, encode
from fedkd.plugins.builders import config_of
from fedkd.testing.foreign import (
    called,
    no_global_touched,
    options_have_descriptions,
    untouched,
)
from fedkd.testing.made_models import (
    CLASSES,
    ModelFactory,
    built,
    built_classifier,
    class_behind,
    inputs_for,
    outputs,
    require_shape,
    shape_of,
    shapes_of,
)
from fedkd.testing.prints import difference, fingerprint
from fedkd.weights import copy_weights, read_weights


def options_are_documented(make: ModelFactory, folder: Path) -> None:
    """Every option has a description, which its card shows."""
    del folder
    options_have_descriptions(config_of(class_behind(make)))


def a_seed_fixes_the_weights(make: ModelFactory, folder: Path) -> None:
    """Initial weights are drawn from torch's generator: equal for equal seeds."""
    del folder
    first, again = (fingerprint(built(make, seed=1)) for _ in range(2))
    entry = difference(first, again)
    assert entry is None, (
        f"two models of one seed differ in {entry}. Draw initial weights from torch's "
        "default generator."
    )
    other = fingerprint(built(make, seed=2))
    assert difference(first, other) is not None, (
        "two models of different seeds have equal weights. Draw initial weights from "
        "torch's default generator, and seed nothing."
    )


def global_generators_are_left_alone(make: ModelFactory, folder: Path) -> None:
    """Making a model and calling it seeds nothing, and changes no setting of torch."""
    del folder
    with no_global_touched("the constructor"):
        model = called("the constructor", lambda: make(shape_of(make), CLASSES))
    with no_global_touched("forward"):
        outputs(model.train())


def every_parameter_gets_a_gradient(make: ModelFactory, folder: Path) -> None:
    """The gradient of the output reaches every parameter, and is finite."""
    del folder
    model = built(make).train()
    out = outputs(model)
    called("backward", lambda: (out * torch.randn_like(out)).sum().backward())
    for entry, parameter in model.named_parameters():
        gradient = parameter.grad
        assert gradient is not None, (
            f"no gradient reaches {entry}. Use it in forward, or make it a buffer."
        )
        assert torch.isfinite(gradient).all(), f"the gradient of {entry} is not finite."
        # A bias before a normalisation has gradient 0.
        assert gradient.any() or parameter.ndim == 1, (
            f"the gradient of {entry} is 0 everywhere. Look for detach() and for what is "
            "multiplied by 0."
        )


def two_inputs_are_a_batch(make: ModelFactory, folder: Path) -> None:
    """A batch of two is enough to train on: outputs and statistics stay finite."""
    del folder
    model = built(make).train()
    out = outputs(model, number=2)
    assert torch.isfinite(out).all(), "the output of a batch of two is not finite."
    for entry, buffer in model.named_buffers():
        assert torch.isfinite(buffer).all(), (
            f"buffer {entry} is not finite after a batch of two. Clamp what is divided by."
        )


def evaluating_changes_nothing(make: ModelFactory, folder: Path) -> None:
    """In eval mode no entry changes, and a call gives the same again."""
    del folder
    model = built(make).eval()
    remedy = "In eval mode a model must stay as it is: look at self.training."
    with torch.no_grad(), untouched("forward in eval mode", remedy, model=model):
        first, again = (outputs(model) for _ in range(2))
    assert torch.equal(first, again), (
        "forward in eval mode gave two results for one input. Draw nothing there: dropout "
        "and noise are for training."
    )


def inputs_are_seen_one_at_a_time(make: ModelFactory, folder: Path) -> None:
    """In eval mode, what comes out for an input does not hang on the others."""
    del folder
    model = built(make).eval()
    given = inputs_for(model)
    with torch.no_grad():
        together = outputs(model)
        rows = [[one[i : i + 1] for one in given] for i in range(len(together))]
        alone = called(
            "forward (a batch of one)", lambda: torch.cat([model(*row) for row in rows])
        )
    assert alone.shape == together.shape, (
        f"forward in eval mode gave shape {list(alone.shape)} when inputs came one by one, "
        f"and {list(together.shape)} together. Look for squeeze() without an axis."
    )
    gap = float((together - alone).abs().max())
    assert gap < 1e-4, (
        f"forward in eval mode gave outputs that differ by {gap:.2g} when inputs came one "
        "by one. Take no statistics of the batch there."
    )


def inputs_are_left_alone(make: ModelFactory, folder: Path) -> None:
    """Forward writes nothing into its inputs."""
    del folder
    model = built(make).train()
    given = inputs_for(model)
    remedy = "Strategies use it again: no in-place layer may come first."
    with torch.no_grad(), untouched("forward", remedy, input=given):
        called("forward", lambda: model(*given))


def weights_travel(make: ModelFactory, folder: Path) -> None:
    """All that decides the output is in ``state_dict``, and travels."""
    del folder
    model, other = built(make, seed=1), built(make, seed=2)
    outputs(model.train())  # statistics that are not those of the start
    try:
        copy_weights(decode(encode(read_weights(model))), other)
    except ContractError as error:
        raise AssertionError(f"the weights do not travel: {error}") from error
    with torch.no_grad():
        first, again = outputs(model.eval()), outputs(other.eval())
    assert torch.equal(first, again), (
        "two models with equal state_dict gave different outputs. Register what forward "
        "uses as a parameter or a buffer."
    )


def a_copy_is_the_same_model(make: ModelFactory, folder: Path) -> None:
    """A deep copy gives the same output, and shares no memory with the model."""
    del folder
    model = built(make).eval()
    twin = called("copy.deepcopy", lambda: copy.deepcopy(model))
    with torch.no_grad():
        before = outputs(model)
        assert torch.equal(before, outputs(twin)), (
            "a deep copy gave another output. Keep no reference to modules elsewhere."
        )
        for parameter in twin.parameters():
            parameter.zero_()
        assert torch.equal(before, outputs(model)), (
            "changing a deep copy changed the model. Keep tensors in the module only."
        )
        assert not torch.equal(before, outputs(twin)), (
            "a deep copy with other weights gave the same output. Keep layers in the "
            "module only, not in a list or dict beside it."
        )


def images_of_every_size_become_logits(make: ModelFactory, folder: Path) -> None:
    """Inputs of usual sizes become one finite logit a class."""
    del folder
    for shape in shapes_of(make):
        model = built(make, shape).eval()
        with torch.no_grad():
            require_shape(outputs(model, shape=shape), (4, CLASSES), shape)


def logits_are_no_probabilities(make: ModelFactory, folder: Path) -> None:
    """The head gives logits: losses apply the softmax."""
    del folder
    with torch.no_grad():
        out = outputs(built(make).eval())
    sums = out.sum(1)
    as_shares = bool((out >= 0).all()) and torch.allclose(sums, torch.ones_like(sums))
    as_logs = bool((out <= 0).all()) and torch.allclose(
        out.logsumexp(1), torch.zeros_like(sums), atol=1e-5
    )
    assert not as_shares, (
        "forward gave probabilities, which sum to 1. Leave out the softmax: losses apply "
        "it."
    )
    assert not as_logs, (
        "forward gave logarithms of probabilities. Leave out log_softmax: losses apply it."
    )


def features_and_head_make_the_logits(make: ModelFactory, folder: Path) -> None:
    """``head(features(x))`` is the output, with features of the declared size."""
    del folder
    model = built_classifier(make)
    x = inputs_for(model)[0]
    with torch.no_grad():
        features = called("features", lambda: model.features(x))
        expected = (len(x), model.feature_size)
        assert tuple(features.shape) == expected, (
            f"features gave shape {list(features.shape)}; expected {list(expected)}, as "
            "feature_size says. Flatten them, or tell the constructor their length."
        )
        logits = called("head", lambda: model.head(features))
        assert torch.equal(logits, model(x)), (
            "head(features(x)) is not the output. Leave forward to fedkd.ImageModel."
        )


def the_head_is_the_last_linear_layer(make: ModelFactory, folder: Path) -> None:
    """The last linear layer maps features to logits: methods train and read it."""
    del folder
    model = built_classifier(make)
    layers = [m for m in model.named_modules() if isinstance(m[1], nn.Linear)]
    assert layers, (
        "it has no linear layer. End in nn.Linear(feature_size, num_classes)."
    )
    name, last = layers[-1]
    expected = (model.feature_size, CLASSES)
    assert (last.in_features, last.out_features) == expected, (
        f"the last linear layer, {name}, maps {last.in_features} to {last.out_features}; "
        f"expected {expected[0]} to {expected[1]}. Make the head last."
    )


def what_it_says_of_itself_is_so(make: ModelFactory, folder: Path) -> None:
    """``input_shape``, ``num_classes`` and ``nonnegative_features`` are right."""
    del folder
    model = built_classifier(make)
    said, expected = (model.input_shape, model.num_classes), (shape_of(make), CLASSES)
    assert said == expected, (
        f"input_shape and num_classes are {said}; expected {expected}. Hand both to the "
        "constructor of fedkd.ImageModel."
    )
    with torch.no_grad():
        least = float(model.features(inputs_for(model, 32)[0]).min())
    assert least >= 0 or not model.nonnegative_features, (
        f"nonnegative_features is True, and a feature is {least:.3g}. Set it to False."
    )


def noise_becomes_images(make: ModelFactory, folder: Path) -> None:
    """Noise ``[B, latent_size]`` becomes inputs of every usual shape, finite."""
    del folder
    for shape in shapes_of(make):
        model = built(make, shape).eval()
        with torch.no_grad():
            require_shape(outputs(model), (4, *shape), shape)


def images_become_one_logit_each(make: ModelFactory, folder: Path) -> None:
    """Inputs of usual sizes become one finite logit each, ``[B]``."""
    del folder
    for shape in shapes_of(make):
        model = built(make, shape).eval()
        with torch.no_grad():
            require_shape(outputs(model, shape=shape), (4,), shape)


_EVERY: tuple[Callable[[Any, Path], None], ...] = (
    options_are_documented,
    a_seed_fixes_the_weights,
    global_generators_are_left_alone,
    every_parameter_gets_a_gradient,
    two_inputs_are_a_batch,
    evaluating_changes_nothing,
    inputs_are_seen_one_at_a_time,
    inputs_are_left_alone,
    weights_travel,
    a_copy_is_the_same_model,
)
MODEL_CHECKS: Mapping[str, tuple[Callable[[Any, Path], None], ...]] = {
    "classifier": (
        *_EVERY,
        images_of_every_size_become_logits,
        logits_are_no_probabilities,
        features_and_head_make_the_logits,
        the_head_is_the_last_linear_layer,
        what_it_says_of_itself_is_so,
    ),
    "generator": (*_EVERY, noise_becomes_images),
    "conditional-generator": (*_EVERY, noise_becomes_images),
    "feature-generator": _EVERY,
    "discriminator": (*_EVERY, images_become_one_logit_each),
}
"""Every promise of a model, one function each, by kind: ``check(make, folder)``."""
