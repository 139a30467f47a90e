"""The averages by name, and the option that asks for one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from fedkd.config import build
from fedkd.errors import ConfigError, listing, suggestion
from fedkd.robust.coordinates import Median, TrimmedMean
from fedkd.robust.distances import Bulyan, Krum, MultiKrum
from fedkd.robust.moves import GeometricMedian, NormClip
from fedkd.robust.rule import Mean, Rule

KINDS: tuple[type[Rule], ...] = (
    Mean,
    Median,
    TrimmedMean,
    Krum,
    MultiKrum,
    GeometricMedian,
    NormClip,
    Bulyan,
)
RULES: dict[str, type[Rule]] = {
    kind.model_fields["name"].default: kind for kind in KINDS
}
"""The classes of all averages, by name."""


def rule_of(written: Any) -> Rule:
    """Return the average that an option asks for: a name, or a name with options.

    Args:
        written: ``median``, or ``{name: trimmed_mean, share: 0.1}``.

    Raises:
        ValueError: If there is no such average, or an option of it is wrong.
    """
    if isinstance(written, Rule):
        return written
    options = written if isinstance(written, Mapping) else {"name": written}
    name = str(options.get("name", ""))
    if name not in RULES:
        raise ValueError(
            f"Expected the name of an average, or {{name: NAME, OPTION: ...}}."
            f"{suggestion(name, RULES)} Known: {listing(RULES)}"
        )
    try:
        return build(RULES[name], options, name)
    except ConfigError as error:
        raise ValueError(str(error)) from None


Asked = Annotated[
    Rule, BeforeValidator(rule_of), PlainSerializer(lambda rule: rule.plain())
]
"""The type of the option ``average``."""
