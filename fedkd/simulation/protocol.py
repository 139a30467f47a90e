"""What all strategies of a table share: rounds, sampling, training, measuring."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from fedkd.config import Config
from fedkd.errors import ConfigError
from fedkd.ops.training import TrainingConfig
from fedkd.simulation.faults.clock import ClockConfig
from fedkd.simulation.faults.config import NO_FAULTS, FaultConfig, parse_faults
from fedkd.simulation.precision import Precision


class EvaluationConfig(Config):
    """When and how models are measured."""

    every: int = Field(1, ge=1)
    """Rounds between measurements; the last round is always measured."""
    batch_size: int = Field(1000, ge=1)
    """Test images at once."""


class AcceptConfig(Config):
    """Which answers of clients the server takes; the others it leaves out."""

    structure: bool = True
    """Whether names, types and shapes are to be those of the client's model and of most
    answers."""
    finite: bool = False
    """Whether all numbers are to be finite. Where those of more than half of the answers
    are not, training has diverged, and the run ends as without it."""
    norm: float | None = Field(None, gt=0)
    """The largest norm of all floating tensors of an answer together; none by default."""


class Protocol(Config):
    """What all strategies of a table share."""

    rounds: int = Field(ge=1)
    """Rounds of communication."""
    clients: int = Field(ge=1)
    """Clients in the federation."""
    participation: float | int = Field(1.0, gt=0)
    """Clients of a round: a fraction (a number with a point, at most 1.0) or how many
    (a whole number). A fraction gives the nearest number, one at least; of two that are as
    near the even one, so that 0.25 of 10 are 2."""
    training: TrainingConfig
    """Local training."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Measuring."""
    buffers: Literal["average", "local", "reestimate"] = "average"
    """What becomes of BatchNorm statistics: averaged like weights; kept by each client;
    or averaged, and the global model, if there is one, measured with statistics
    re-estimated on the clients' data."""
    test_shards: Literal["matched", "iid"] = "matched"
    """Test images of a client: with the label mix of its training data, or an even share
    of every class."""
    accept: AcceptConfig = AcceptConfig()
    """Which answers of clients the server takes."""
    faults: Annotated[FaultConfig, BeforeValidator(parse_faults)] = NO_FAULTS
    """What goes wrong: ``{drop: 0.3}``, or several faults together; a list of such is an
    axis, in which each may have a ``label``. Nothing by default, or ``none``."""
    clock: ClockConfig | None = None
    """Clients' speeds for simulated time: ``{compute: 500, bandwidth: 1e6}``, in images
    and bytes a second; no such time by default."""
    precision: Precision = "fp32"
    """Arithmetic of training, aggregating and measuring: float32; ``tf32``, float32 with
    the shortened products of a GPU's tensor cores; or ``bf16``, autocast to bfloat16.
    Weights and payloads are float32 in all of them."""

    def clients_per_round(self) -> int:
        """Return how many clients take part in a round.

        Raises:
            ConfigError: If ``participation`` asks for more than there are.
        """
        asked = self.participation
        number = asked if isinstance(asked, int) else round(asked * self.clients)
        if number > self.clients:
            raise ConfigError(
                f"participation: found {asked}, which is {number} of {self.clients} "
                "clients; expected a fraction up to 1.0 or at most that many clients."
            )
        return max(1, int(number))
