"""What is measured after a round: the global model, the clients', and named others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from fedkd.errors import ContractError, DivergedError, raised_in
from fedkd.metrics.base import Predictions
from fedkd.metrics.classification import Accuracy
from fedkd.metrics.metric_set import ACCURACY, BY_CLIENT, MetricSet, Value, mean
from fedkd.payload import leaves
from fedkd.simulation.evaluate import predictions, reestimated
from fedkd.simulation.faults.poisoning import ATTACK
from fedkd.simulation.federation import Exam
from fedkd.simulation.knobs import remedy
from fedkd.simulation.sides import Sides
from fedkd.simulation.totals import MeasuringCost
from fedkd.simulation.untouched import Untouched
from fedkd.strategy import Client, Round, Strategy

Scores = dict[str, Value]
"""What one model scores on one test set, by the label of the metric."""


@dataclass(frozen=True)
class Measured:
    """What a round's models are worth, and what measuring itself cost."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """By key of metrics.jsonl: ``global_accuracy``, ``local_accuracy`` and so on."""
    others: Mapping[str, float | None] = field(default_factory=dict)
    """Accuracy, in percent, of whatever else the strategy names."""
    cost: MeasuringCost = field(default_factory=MeasuringCost)
    """What measuring sent and trained."""


@dataclass
class _Marks:
    """What models score on one set of images."""

    prefix: str
    """What its columns begin with; empty for the test set."""
    exam: Exam
    whole: Predictions | None = None
    """What the global model says of all images; None where no model is global."""
    everywhere: list[Scores] = field(default_factory=list)
    """On all images: of the global model or, without one, of each client's."""
    local: list[Scores] = field(default_factory=list)
    """Of each client, on its own images."""


class Measuring:
    """Measures the models of one round."""

    def __init__(
        self,
        strategy: Strategy[Any, Any, Any],
        state: Any,
        sides: Sides,
        round: Round,
        name: str,
        asked: MetricSet,
    ) -> None:
        """Measure nothing yet.

        Args:
            strategy: Whose models are measured.
            state: Its state after the round.
            sides: Make both sides.
            round: Which round that is.
            name: What messages call the strategy.
            asked: What is measured of a model.
        """
        self._strategy = strategy
        self._state = state
        self._sides = sides
        self._round = round
        self._name = name
        self._asked = asked
        self._odd: Sequence[str] = ()
        self._examples = 0
        self._fooled: list[float | None] = []
        """Success of a backdoor: of the global model or, without one, of each client's."""

    def measure(self, odd: Sequence[str] = ()) -> Measured:
        """Measure the strategy's predictors: one forward pass a model and test set.

        Logits are held, where they were computed, until all metrics have had them; they
        are put together and moved only if a metric reads them.

        Args:
            odd: Names of what was logged in the round and not finite.

        Raises:
            ContractError: If there is nothing to measure, or something that is no model
                of this data; or if ``personal`` changes the client's memory.
            DivergedError: If a predictor gives logits that are not finite.
        """
        self._odd = odd
        models, up, down = self.models()
        federation = self._sides.federation
        exams = [_Marks(prefix, exam) for prefix, exam in federation.exams.items()]
        others = {}
        for title, model in models.items():
            where = f"{self._where('predictors')}, model {title!r}"
            if title == "global":
                for one in exams:
                    one.whole = self._said(model, where, one.exam)
                self._attack(model, where)
            elif "" in federation.exams:
                said = self._said(model, where, federation.exams[""])
                others[title] = Accuracy().of_test_set(said)
        self._of_clients(exams)
        values: dict[str, Any] = {}
        for one in exams:
            values |= _values(one, self._asked)
        values["global_of"] = "model" if "global" in models else "clients"
        if federation.attack is not None:
            values[ATTACK] = mean(self._fooled)
        return Measured(values, others, MeasuringCost(up, down, self._examples))

    def models(self) -> tuple[dict[str, nn.Module], int, int]:
        """Return the strategy's models by name, the global one as it is measured.

        Beside them stand the bytes, up and down, that re-estimating its statistics sent.

        Raises:
            ContractError: If the strategy names something that is no model.
        """
        federation, protocol = self._sides.federation, self._sides.protocol
        models = self._predictors()
        up = down = 0
        if protocol.buffers == "reestimate" and "global" in models:
            model, size = models["global"], protocol.training.batch_size
            shards = [federation.data_in(k, self._round) for k in self._round.clients]
            renewed = reestimated(model, shards, size)
            models["global"] = renewed.model
            down, up = len(shards) * renewed.bytes_down, len(shards) * renewed.bytes_up
        return models, up, down

    def _where(self, verb: str, k: int | None = None) -> str:
        client = "" if k is None else f"client {k}, "
        return f"{self._name}.{verb} ({client}round {self._round.index + 1})"

    def _said(
        self, model: nn.Module, where: str, exam: Exam, shard: Tensor | None = None
    ) -> Predictions:
        """Return what a model says of test images; of all of them without a shard."""
        how = self._sides.protocol.evaluation
        with raised_in(where):
            try:
                return predictions(model, exam.data, how.batch_size, shard)
            except DivergedError as error:
                text = f"{error} {remedy(self._strategy.config, self._odd)}"
                raise DivergedError(text) from None

    def _attack(self, model: nn.Module, where: str) -> None:
        """Add the share of test images with the patch that a model takes for the target."""
        exam = self._sides.federation.attack
        if exam is not None:
            said = self._said(model, where, exam)
            self._fooled.append(Accuracy().of_test_set(said))

    def _predictors(self) -> dict[str, nn.Module]:
        """Return the models that the strategy names."""
        where = self._where("predictors")
        server = self._sides.server()
        with raised_in(where):
            models = self._strategy.predictors(self._state, server)
        if not isinstance(models, Mapping):
            raise ContractError(
                f"{where} returned {_kind_of(models)}; expected a mapping of names to "
                'models. Return {"global": model}.'
            )
        for title, model in models.items():
            if not isinstance(model, nn.Module):
                raise ContractError(
                    f"{where} returned {_kind_of(model)} as {title!r}; expected a model, "
                    'a torch.nn.Module. Return {"global": server.load(weights)}.'
                )
        _refuse_same(models, server.model, where)
        return dict(models)

    def _of_clients(self, exams: Sequence[_Marks]) -> None:
        """Add scores on the whole test set, and each client's on its shard of it.

        A client predicts with its personal model if it has one, else with the global
        one. The whole test set is the global model's; where no model is global, each
        client's. Of a client without test images nothing is defined.
        """
        for one in exams:
            if one.whole is not None:
                one.everywhere.append(self._asked.of_test_set(one.whole))
        for k in range(len(self._sides.federation)):
            # What it loads may be the working model, which the next client's replaces.
            own = self.personal(k)
            for one in exams:
                self._of_client(k, own, one)
            if own is not None and all(one.whole is None for one in exams):
                self._attack(own, self._where("personal", k))

    def _of_client(self, k: int, own: nn.Module | None, marks: _Marks) -> None:
        """Add what a client's model scores; see :meth:`_of_clients`."""
        asked, where = self._asked, self._where("personal", k)
        exam, whole, shard = marks.exam, marks.whole, marks.exam.shards[k]
        if own is not None and whole is not None:
            said = self._said(own, where, exam, shard)
            marks.local.append(asked.of_test_set(said))
            return
        mine = whole if own is None else self._said(own, where, exam)
        if mine is None:
            raise ContractError(
                f"{self._name} offers neither a 'global' predictor nor a personal "
                f"model for client {k}; return one of them."
            )
        marks.local.append(asked.of_test_set(mine.part(shard)))
        if whole is None:
            marks.everywhere.append(asked.of_test_set(mine))

    def personal(self, k: int) -> nn.Module | None:
        """Return a client's own model, if it has one; what it trains there is counted."""
        training = self._sides.protocol.training.at_round(self._round.index)
        client = self._sides.client(k, training, round=self._round)
        where = self._where("personal", k)
        with raised_in(where), _memory_kept(client, where):
            own = self._strategy.personal(self._state, client)
        self._examples += client.examples
        if own is not None and not isinstance(own, nn.Module):
            raise ContractError(
                f"{where} returned {_kind_of(own)}; expected a model, a "
                "torch.nn.Module, or None for the global one. Return "
                "client.load(weights)."
            )
        return own


def _refuse_same(
    models: Mapping[str, nn.Module], working: nn.Module, where: str
) -> None:
    """Refuse the working model under two names: only what was loaded last is in it."""
    titles = [title for title, model in models.items() if model is working]
    if len(titles) > 1:
        raise ContractError(
            f"{where} returned the working model as {titles[0]!r} and as {titles[1]!r}; "
            "what was loaded first is overwritten. Put the second one into a model of "
            "its own: copy.deepcopy(server.load(weights))."
        )


@contextmanager
def _memory_kept(client: Client, where: str) -> Iterator[None]:
    """Refuse that the block changes what a client remembers.

    Measuring hangs on the rhythm of the protocol, and training must not hang on it.

    Raises:
        ContractError: Naming the first entry that came, went or changed.
    """
    given = Untouched(dict(client.memory), "client.memory")
    before = dict(leaves(client.memory, where))
    yield
    given.check(where)
    after = dict(leaves(client.memory, where))
    for path in dict.fromkeys([*before, *after]):
        old, new = before.get(path, _Missing), after.get(path, _Missing)
        if old is not new and (isinstance(old, Tensor) or old != new):
            raise ContractError(
                f"{where} changed {path} of client.memory, which lasts over rounds; "
                "measuring must not change the training that follows. Remember it in "
                "local."
            )


class _Missing:
    """Stands for an entry that is not there."""


def _kind_of(value: object) -> str:
    """Return what a message calls a value: its class."""
    return f"an object of class {type(value).__name__}"


def _values(marks: _Marks, asked: MetricSet) -> dict[str, Any]:
    """Return the means over models, and what is said of the clients together.

    Clients without a value are left out of means.
    """
    values: dict[str, Any] = {}
    everywhere, local = marks.everywhere, marks.local
    for label in local[0]:
        values[f"global_{label}"] = mean([scores[label] for scores in everywhere])
        values[f"local_{label}"] = mean([scores[label] for scores in local])
    by_client = [scores[ACCURACY] for scores in local]
    values[BY_CLIENT] = dict(enumerate(by_client))
    defined = [one for one in by_client if isinstance(one, int | float)]
    values |= asked.of_clients(defined)
    if not marks.prefix:
        return values
    return {f"{marks.prefix}_{name}": value for name, value in values.items()}
