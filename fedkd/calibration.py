"""Calibration: the last layer trained anew on virtual features, as a method's last round.

``calibrate: {}`` beside any strategy of one architecture with a global model makes its
last round that of CCVR (Luo et al., NeurIPS 2021, arXiv:2106.05001, Algorithm 1): every
client, whatever the participation, computes count, mean and covariance of the model's
features by class (Eq. 3) and sends them; the server pools them (Eqs. 4 and 5), draws M_c
virtual features of each class c from N(mu_c, Sigma_c), and trains the classifier on them
with the cross-entropy. A class that no answer is of, where answers are lost, is left out
of the softmax: its row stays. The buffer policy ``reestimate`` is refused: features would
be measured with other statistics than those with which their moments were taken.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, ClassVar

import torch
from pydantic import Field, create_model
from torch import Tensor, nn

from fedkd.averaged import OPTION, Composed, averaged, plain_class
from fedkd.errors import NotApplicableError
from fedkd.ops.gaussians import FeatureMoments, draw, moments, pooled
from fedkd.ops.heads import HeadTraining, train_head
from fedkd.payload import Weights
from fedkd.strategy import (
    Client,
    Party,
    Round,
    Server,
    Strategy,
    read_weights,
)

_FORWARD = 256
"""Images in a forward pass at a client."""


class Calibration(HeadTraining):
    """How the last layer is calibrated (``calibrate: {}`` beside a strategy)."""

    per_class: int = Field(200, ge=1)
    """M_c, the number of virtual features of each class that any client has."""


@dataclass(frozen=True)
class Calibrating:
    """The server's state."""

    method: Any
    """The state of the method that is calibrated."""
    trained: Weights
    """The method's global model, which is calibrated when its rounds are over."""
    calibrated: Weights | None = None
    """The same model with a new last layer; after the last round only, if any client
    has answered in it."""


@dataclass(frozen=True)
class Question:
    """What a client is asked in the last round: the moments of its features."""

    weights: Weights
    """The model that makes the features."""


class _Calibrated(Composed, Strategy[Calibrating, Any, Any]):
    """A method, and calibration in its last round."""

    last_asks_all = True
    last_answer = FeatureMoments
    method_class: ClassVar[type[Strategy[Any, Any, Any]]]

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        cls = self.method_class
        options = {name: getattr(self.config, name) for name in cls.Config.model_fields}
        self.method = cls(cls.Config(**options))
        self.how: Calibration = self.config.calibrate
        # Moments have a row for each class that a client has.
        self.varying = (*self.method.varying, *(f.name for f in fields(FeatureMoments)))
        self.model_fields = self.method.model_fields
        needs = self.method.requires
        self.requires = replace(
            needs,
            buffers=tuple(one for one in needs.buffers if one != "reestimate"),
            one_architecture=True,
            equal_feature_size=True,
            rounds=needs.rounds + 1,  # the method has one round less, and one at least
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the method and its options: the class itself is made when needed."""
        return _made, (plain_class(self.method_class), self.config.model_dump())

    def init(self, server: Server) -> Calibrating:
        """Start the method, and make sure that there will be a layer to calibrate.

        Raises:
            NotApplicableError: If its global model is not of the server's architecture.
        """
        method = self.method.init(server)
        return Calibrating(method, _global_weights(self.method, method, server))

    def broadcast(self, state: Calibrating, client_id: int, round: Round) -> Any:
        """Send what the method sends; in the last round its model and the question."""
        if _is_last(round):
            return Question(state.trained)
        return self.method.broadcast(state.method, client_id, _without_last(round))

    def local(self, down: Any, client: Client) -> Any:
        """Do the method's work, or answer with the moments of the features."""
        if not isinstance(down, Question):
            return self.method.local(down, client)
        client.load(down.weights).eval()
        return moments(_features(client), client.num_classes)

    def aggregate(
        self, state: Calibrating, ups: Mapping[int, Any], server: Server, round: Round
    ) -> Calibrating:
        """Go on as the method does; in the last round calibrate."""
        if _is_last(round):
            known = pooled(ups.values(), server.num_classes)
            model = server.load(state.trained)
            server.count_examples(calibrate(model, known, self.how))
            return replace(state, calibrated=read_weights(model))
        inner = _without_last(round)
        method = self.method.aggregate(state.method, ups, server, inner)
        # In every round: nobody may answer in those that are left.
        return Calibrating(method, _global_weights(self.method, method, server))

    def expected(self, down: Any, party: Party) -> Any:
        """What the method expects; or moments, of as many classes as the client has."""
        if not isinstance(down, Question):
            return self.method.expected(down, party)
        rows, table = torch.zeros(1, dtype=torch.int64), torch.zeros(1, 1)
        return FeatureMoments(rows, rows, table, table, False)

    def predictors(self, state: Calibrating, server: Server) -> Mapping[str, nn.Module]:
        """Measure the calibrated model, and the one before; until then, the method's."""
        if state.calibrated is None:
            return self.method.predictors(state.method, server)
        before = copy.deepcopy(server.load(state.trained))
        return {"global": server.load(state.calibrated), "uncalibrated": before}

    def personal(self, state: Calibrating, client: Client) -> nn.Module | None:
        """Return the method's personal model; the calibrated one is everybody's."""
        if state.calibrated is not None:
            return None
        return self.method.personal(state.method, client)

    def milestone(self, state: Calibrating, round: Round) -> bool:
        """Measure what the method measures, and the model before calibration."""
        inner = _without_last(round)
        if _is_last(round) or round.index == inner.total - 1:
            return True
        return self.method.milestone(state.method, inner)

    def gallery(self, state: Calibrating, server: Server) -> Mapping[str, Tensor]:
        """Show the method's images."""
        return self.method.gallery(state.method, server)


@cache
def calibrated(cls: type[Strategy[Any, Any, Any]]) -> type[Strategy[Any, Any, Any]]:
    """Return a strategy with calibration as its last round and an option for it.

    Args:
        cls: Any strategy that offers a global model of the server's architecture.

    Returns:
        A strategy class whose ``Config`` has the options of ``cls`` and ``calibrate``,
        a :class:`Calibration`.
    """
    config = create_model(
        f"Calibrated{cls.Config.__name__}",
        __base__=cls.Config,
        calibrate=(
            Calibration,
            Field(Calibration(), description="How the last layer is trained anew."),
        ),
    )
    attributes = {
        "Config": config,
        "method_class": cls,
        "is_reference": cls.is_reference,
        "pools_clients": cls.pools_clients,
        "__doc__": f"{cls.__name__}, and calibration in its last round.",
        "__module__": cls.__module__,
    }
    return type(f"Calibrated{cls.__name__}", (_Calibrated,), attributes)


def _made(
    cls: type[Strategy[Any, Any, Any]], options: Mapping[str, Any]
) -> Strategy[Any, Any, Any]:
    """Return a calibrated strategy with its options, in another process."""
    made = calibrated(averaged(cls) if OPTION in options else cls)
    return made(made.Config(**options))


def calibrate(model: nn.Module, known: FeatureMoments, how: Calibration) -> int:
    """Train the last layer of a model, in place, on virtual features of known classes.

    The others have no part in the softmax: pushed down by every step, they would never be
    predicted again.

    Args:
        model: Made of features and a head; the features are left alone.
        known: Moments of its features by class.
        how: Amounts.

    Returns:
        The virtual features that went through a step.
    """
    return train_head(model, *draw(known, how.per_class), how, known.classes)


def _features(client: Client) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield features and labels of a client's images, without augmentation."""
    model: Any = client.model
    with torch.no_grad():
        for x, y in client.data.inputs(_FORWARD):
            yield model.features(x), y


def _global_weights(
    method: Strategy[Any, Any, Any], state: Any, server: Server
) -> Weights:
    """Return the weights of the method's global model.

    Raises:
        NotApplicableError: If it has none of the server's architecture.
    """
    model = method.predictors(state, server).get("global")
    like = server.initial
    weights = {} if model is None else read_weights(model)
    shapes = {name: value.shape for name, value in weights.items()}
    if shapes != {name: value.shape for name, value in like.items()}:
        what = "no global model" if model is None else f"a {type(model).__name__}"
        if model is None and server.buffers == "local":
            what += (
                "; under the run's buffer policy 'local' the statistics of batch "
                "normalisation stay with the clients"
            )
        raise NotApplicableError(
            plain_class(type(method)).__name__,
            "with calibration needs a global model of the server's architecture, whose "
            f"last layer is trained anew, but has {what}.",
        )
    return weights


def _is_last(round: Round) -> bool:
    return round.index == round.total - 1


def _without_last(round: Round) -> Round:
    """Return the round as the method sees it, whose run is one round shorter."""
    return replace(round, total=round.total - 1)
