"""What goes wrong in a run, as a suite says it: ``faults: {drop: 0.3}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from fedkd.config import Config
from fedkd.simulation.faults.files import FileConfig, with_checksum

FACTOR = 1000.0


class ShareConfig(Config):
    """Clients that a fault hits."""

    share: float = Field(gt=0, le=1)
    """Share of the clients that are hit: of those of a round, or of all where they are
    drawn for the run. Of n clients it is share n; what is not whole is drawn: the next
    larger number with the probability of the fraction."""


class DrawnConfig(ShareConfig):
    """Clients that a fault hits, drawn for each round."""

    drawn: Literal["round", "run"] = "round"
    """Whether clients are drawn anew in every ``round``, or once for the ``run``, as slow
    devices are."""


class StraggleConfig(DrawnConfig):
    """Clients that do a part of their local work."""

    work: float = Field(0.25, gt=0, lt=1)
    """Part of the local steps that they do, rounded down; one step at least."""


class LateConfig(DrawnConfig):
    """Clients whose answer arrives in a later round."""

    rounds: int = Field(1, ge=1)
    """Rounds by which it is late. Where a newer answer of the client arrives in the same
    round, the newer one counts."""


Kind = Literal[
    "nan", "inf", "scale", "sign", "noise", "shape", "missing", "extra", "dtype"
]


class CorruptConfig(ShareConfig):
    """Clients whose answer is another than they made."""

    kind: Kind
    """What becomes of its tensors. ``nan``, ``inf``: all floating values. Of the update,
    the difference to what the server has sent under the same name, else the value itself:
    ``scale``, ``factor`` times as much; ``sign``, its negative; ``noise``, Gaussian noise
    beside it of ``factor`` times its root mean square. ``shape``: a dimension more, of
    one; ``dtype``: float64; ``missing``, ``extra``: the first mapping lacks an entry or has
    one more."""
    factor: float = Field(FACTOR, gt=0)
    """Of ``scale`` and ``noise``."""
    drawn: Literal["round", "run"] = "run"
    """Whether clients are drawn once for the ``run``, as attackers are, or anew in every
    ``round``."""

    @model_validator(mode="after")
    def _every_option_counts(self) -> CorruptConfig:
        if self.kind not in ("scale", "noise") and self.factor != FACTOR:
            raise ValueError(f"factor is of scale and noise, found {self.kind}")
        return self


class BackdoorConfig(ShareConfig):
    """Clients that teach the model to see ``target`` where there is a patch."""

    target: int = Field(0, ge=0)
    """The class that images with the patch are to be taken for."""
    poisoned: float = Field(0.5, gt=0, le=1)
    """Part of such a client's images that get the patch and the label; one at least."""
    size: int = Field(3, ge=1)
    """Side of the patch, in pixels: a white square in the lower right corner."""


def _share(value: Any) -> Any:
    """Return the options of a fault of which the share alone is given."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return {"share": value} if is_number else value


Short = BeforeValidator(_share)


class FaultConfig(Config):
    """What goes wrong in a run; by default nothing does. A number is a share."""

    drop: Annotated[DrawnConfig | None, Short] = None
    """Answers that never arrive, of clients that have worked: ``{drop: 0.3}``."""
    straggle: Annotated[StraggleConfig | None, Short] = None
    """Clients that do a part of their steps: ``{straggle: {share: 0.3, work: 0.25}}``."""
    late: Annotated[LateConfig | None, Short] = None
    """Answers that arrive rounds later: ``{late: {share: 0.3, rounds: 2}}``."""
    corrupt: CorruptConfig | None = None
    """Answers that are changed: ``{corrupt: {share: 0.1, kind: scale}}``."""
    duplicate: Annotated[DrawnConfig | None, Short] = None
    """Answers that arrive twice; the server takes them once."""
    label_flip: Annotated[ShareConfig | None, Short] = None
    """Clients that train on the labels C - 1 - y for the whole run."""
    backdoor: Annotated[BackdoorConfig | None, Short] = None
    """Clients that train on images with a patch and another label for the whole run."""
    availability: Annotated[FileConfig | None, BeforeValidator(with_checksum)] = None
    """A CSV file of the rounds, from 1, in which clients can be sampled:
    ``client,first,last``, a line for each span. A client without a line never is."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """What goes wrong, by name."""
        return tuple(name for name in KINDS if getattr(self, name) is not None)

    @property
    def shown(self) -> str:
        """What pages call it: ``drop 0.3 + corrupt 0.1 scale``."""
        return faults_text(self.model_dump(mode="json", exclude_defaults=True))

    def plain(self) -> dict[str, Any]:
        """Return what goes wrong, as JSON has it, without what does not."""
        return self.model_dump(mode="json", exclude_none=True)


KINDS = tuple(FaultConfig.model_fields)
"""Names of all faults."""
NO_FAULTS = FaultConfig()
"""A run in which every client answers, on time and in good faith."""
ARRIVED, OUTDATED = "arrived", "outdated"
"""Late answers that were taken in a round, and those in whose place a newer one was."""
PREFIX = "faults"
"""Key of a round's line: who was hit; with a name behind it, how many so far."""
COUNTED = tuple(f"{PREFIX}_{name}" for name in (*KINDS, ARRIVED, OUTDATED))
"""Keys of a round's line that count, and columns of results.csv."""


def parse_faults(value: object) -> object:
    """Return the options of faults: ``none`` stands for no fault."""
    return {} if value in ("none", None) else value


def faults_text(value: Any) -> str:
    """Return faults as tables have them: ``drop 0.3 + corrupt 0.1 scale``."""
    if not isinstance(value, Mapping) or not value:
        return "none"
    if isinstance(value.get("label"), str):
        return str(value["label"])
    return " + ".join(f"{kind} {_words(one)}" for kind, one in value.items())


def _words(options: Any) -> str:
    if not isinstance(options, Mapping):
        return f"{options}"
    bare = [f"{options[key]}" for key in ("share", "kind", "file") if key in options]
    named = (k for k in options if k not in ("share", "kind", "file", "sha256"))
    return " ".join([*bare, *(f"{key} {options[key]}" for key in named)])
