"""The contract between an algorithm and the simulator: four verbs and no loop.

One round, drawn once::

            ┌─ server ─┐    Down     ┌─ client k ─┐     Up     ┌─ server ─┐
    init ─▶ │  State   │ ─broadcast▶ │   local    │ ─────────▶ │ aggregate│ ─▶ State
            └──────────┘             └────────────┘  counted   └──────────┘

* ``init`` says what the server remembers.
* ``broadcast`` says what the server sends to one client.
* ``local`` says what a client does with it, and what it sends back.
* ``aggregate`` says what the server makes of the answers.

Besides, ``predictors`` names the models that are measured. Four more are optional:
``personal`` gives a client's own model, ``milestone`` says which rounds are measured in
any case, ``gallery`` gives images, ``expected`` an answer that honest ones are like.

A strategy never loops over rounds or clients, never measures, never sees a file, a
process or the other side's data. :class:`Client` is all that ``local`` may touch;
:class:`Server` has no data at all. ``Down`` and ``Up`` are frozen dataclasses
(:mod:`fedkd.payload`), and so is ``State``: that is what makes a run resumable.

The smallest strategy there is counts the samples of the clients and trains nothing::

    @dataclass(frozen=True)
    class Count:
        samples: int

    class Counting(Strategy[Count, Count, Count]):
        def init(self, server):
            return Count(0)

        def broadcast(self, state, client_id, round):
            return state

        def local(self, down, client):
            return Count(len(client.data))

        def aggregate(self, state, ups, server, round):
            return Count(state.samples + sum(up.samples for up in ups.values()))

        def predictors(self, state, server):
            return {"global": server.load(server.initial)}
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor, nn

from fedkd.base.shown import brief, changed_facts
from fedkd.config import Config, options_text
from fedkd.party import (
    Client,
    ModelBuilder,
    ModelSpec,
    Party,
    Server,
)
from fedkd.robust.rule import MEAN, Rule
from fedkd.weights import copy_weights, read_weights

__all__ = [
    "Client",
    "ModelBuilder",
    "ModelSpec",
    "Party",
    "Preset",
    "Requires",
    "Round",
    "Server",
    "Strategy",
    "copy_weights",
    "read_weights",
]

State = TypeVar("State")
Down = TypeVar("Down")
Up = TypeVar("Up")


@dataclass(frozen=True)
class Round:
    """Where in the run a call belongs."""

    index: int
    """Number of this round, from 0."""
    total: int
    """Number of rounds of the run."""
    clients: tuple[int, ...]
    """The clients that take part, in ascending order."""

    def __repr__(self) -> str:
        """Return its number, counted from 1 as in metrics, and how many clients it has."""
        where = f"{self.index + 1} of {self.total}"
        return brief(self, where, f"{len(self.clients)} clients")


@dataclass(frozen=True)
class Requires:
    """What a strategy needs; elsewhere the bench skips the cell and says why."""

    one_architecture: bool = False
    """All clients and the server have the same model."""
    nested_widths: bool = False
    """All models are of one family with equal options but ``width``, and the server's is
    the widest. One architecture is that, too."""
    equal_feature_size: bool = False
    """All models are made of features and a head, and have features of one size."""
    shared_layers: int = 0
    """All models have the same upper so many layers, by name and shape; those below may
    differ. One architecture is that, too."""
    batch_norm: bool = False
    """Every model has batch normalisation."""
    images: bool = False
    """The inputs are images, not vectors."""
    public_data: bool = False
    """Public images without labels at the server, ``server.public``. A world has them
    where it says so: ``public: {share: 0.1}`` in a suite."""
    public_data_at_clients: bool = False
    """The same at the server and at every client, ``client.public``."""
    buffers: tuple[str, ...] = ("average", "local", "reestimate")
    """The buffer policies under which the strategy means something."""
    rounds: int = 1
    """The least number of rounds in which it does what it is for."""
    clients: int = 1
    """The least number of clients in a round with which it means something."""
    builds: tuple[ModelSpec, ...] = ()
    """Registered models, such as a generator, that its verbs will build for the inputs of
    the run. One that cannot be built for them is found out before the first round."""

    def __repr__(self) -> str:
        """Return what is needed, and nothing else."""
        return brief(self, *changed_facts(self))


class Strategy(ABC, Generic[State, Down, Up]):
    """An algorithm: a frozen config and four verbs. Subclasses are final."""

    Config: ClassVar[type[Config]] = Config
    """The documented hyper-parameters; one field each."""
    requires: Requires = Requires()
    """What the strategy needs; may be set from the config in ``__init__``."""
    is_reference: ClassVar[bool] = False
    """Whether tables mark this strategy as a reference and not as a competitor."""

    pools_clients: ClassVar[bool] = False
    """Whether the simulator puts all clients' data into one client first: central
    training, which is a reference and no federated method."""

    last_asks_all: ClassVar[bool] = False
    """Whether all clients take part in the last round, whatever ``participation`` says."""

    last_answer: ClassVar[type | None] = None
    """What clients send in the last round, where that is another payload; for the card."""

    model_fields: tuple[str, ...] = ()
    """Fields of an answer that hold entries of the client's own model, by name, with its
    types and shapes: the server takes no others."""
    varying: tuple[str, ...] = ()
    """Paths in an answer at and below which tensors of honest clients of one model differ
    in size, or are taken apart by some. Elsewhere an answer that is unlike most is left
    out."""
    no_average: ClassVar[str] = "its server makes no average that could be replaced"
    """Why the option ``average`` cannot be given, as the end of a sentence. Empty where
    the server averages what clients sent by ``self.rule``."""
    rule: Rule = MEAN
    """How the server averages, where ``no_average`` is empty."""

    def __init__(self, config: Any = None) -> None:
        self.config: Any = self.Config() if config is None else config

    def __repr__(self) -> str:
        """Return the class, and the options that differ from their defaults."""
        return brief(self, options_text(self.config))

    @abstractmethod
    def init(self, server: Server) -> State:
        """Return the state before the first round, from ``server.initial``."""

    @abstractmethod
    def broadcast(self, state: State, client_id: int, round: Round) -> Down:
        """Return what the server sends to one client."""

    @abstractmethod
    def local(self, down: Down, client: Client) -> Up:
        """Do a client's work of one round and return what it sends back."""

    @abstractmethod
    def aggregate(
        self, state: State, ups: Mapping[int, Up], server: Server, round: Round
    ) -> State:
        """Return the next state from the answers, by client in ascending order."""

    @abstractmethod
    def predictors(self, state: State, server: Server) -> Mapping[str, nn.Module]:
        """Return the models that are measured on the global test set.

        ``global`` is what the strategy offers to a newcomer; without it the global
        accuracy is the mean over the clients' personal models. Other names (a teacher,
        the model before a stage) are measured for information. Each maps normalised
        inputs, ``[B, C, H, W]`` or ``[B, D]``, to logits ``[B, classes]``.
        """

    def expected(self, down: Down, party: Party) -> Up | None:
        """Return an answer that is like an honest one to ``down`` in all but its values.

        The server holds answers against it where clients of one model disagree, are too
        few to outvote one of them, or may be late: class of the payload, entries, types
        and shapes, but for the sizes of what is :attr:`varying`. What is None or empty in
        it is open; all is, if it is None.

        Args:
            down: What the server sends to the client.
            party: A side with the client's model, and without data.
        """
        del down, party
        return None

    def personal(self, state: State, client: Client) -> nn.Module | None:
        """Return the model that this client predicts with, or None for ``global``.

        It is called whenever models are measured. It may train, which is counted each
        time, in ``client_examples`` and apart in ``personal_examples``; it may read what
        the client remembers but not change it, for training must not hang on how often
        models are measured.
        """
        del state, client
        return None

    def milestone(self, state: State, round: Round) -> bool:
        """Say whether this round is measured whatever the protocol's rhythm."""
        del state, round
        return False

    def gallery(self, state: State, server: Server) -> Mapping[str, Tensor]:
        """Return images to draw at the end, by title: ``[N, C, H, W]``, normalised.

        It is not called where the data are vectors.
        """
        del state, server
        return {}


@dataclass(frozen=True)
class Preset:
    """A named set of options of a strategy, registered under a name of its own."""

    strategy: type[Strategy[Any, Any, Any]]
    options: Mapping[str, Any] = field(default_factory=dict)
    deviations: tuple[str, ...] = ()
    """What the preset does differently from the paper or from the released code."""
    doc: str = ""
    """What it is, for its card."""

    def __repr__(self) -> str:
        """Return the strategy and its options."""
        options = (f"{name}={value!r}" for name, value in self.options.items())
        return brief(self, self.strategy.__name__, *options)
