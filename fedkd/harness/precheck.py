"""What can be known before the first cell of a suite runs: is it all there, does it fit?"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from fedkd.errors import (
    ConfigError,
    DataError,
    FedKDError,
    NotApplicableError,
    counted,
    told,
)
from fedkd.harness.builder import RunBuilder
from fedkd.plugins.options import Resolved
from fedkd.simulation.faults.poisoning import require_room
from fedkd.simulation.requirements import check_files, fitted
from fedkd.simulation.sides import Sides
from fedkd.suite.grid import Cell

_T = TypeVar("_T")


@dataclass
class Foreseen:
    """What will not run, and why."""

    lost: list[str] = field(default_factory=list)
    """A line for each data set that is missing or damaged: its cells will fail with this
    reason, and the others can run."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Why a strategy cannot run in a cell, by ``run_id``."""
    failing: dict[str, str] = field(default_factory=dict)
    """Why a strategy will fail in a cell before its first round, by ``run_id``."""
    all_lost: bool = False
    """Whether no cell has its data."""

    def require_data(self) -> None:
        """Refuse to run where no cell has its data.

        Raises:
            DataError: Naming all that is missing or damaged.
        """
        if self.all_lost:
            raise DataError("\n".join(self.lost))


def check_cells(
    cells: Sequence[Cell], builder: RunBuilder, where: str, lenient: bool = False
) -> Foreseen:
    """Put together what each cell runs on, and hold it against its strategy's needs.

    Args:
        cells: The cells that are to run.
        builder: Where their data and models come from.
        where: How messages call the suite.
        lenient: Whether a cell fails, and not all, whose strategy and training cannot be.

    Raises:
        ConfigError: If data cannot be split as asked, batches are too small for a model,
            or faults or speeds are not of these data and clients.
        FedKDError: If every cell has a partitioner or a model that fails.
    """
    foreseen = Foreseen()
    broken: dict[Hashable, str] = {}
    fits: dict[Hashable, _Fit] = {}
    lost: dict[Resolved, DataError] = {}
    several = len({cell.run.dataset for cell in cells}) > 1
    for cell in cells:
        parts, run = cell.parts, cell.run
        name = f"{run.dataset}: " if several else ""
        drawn = (parts.shift, parts.validation)
        shared = (parts.dataset, parts.public, parts.partition, *drawn)
        world = (*shared, parts.models, run.clients)
        key = (*world, run.seed)
        if not _all_there(parts.datasets, builder, lost):
            continue
        if key not in broken:
            broken[key] = _said_of(name, _fault_of_world, cell, builder, where)
        if broken[key]:
            foreseen.failing[cell.run_id] = broken[key]
            continue
        # What a strategy needs hangs on no seed.
        fit = (*world, parts.strategy, parts.protocol.model_dump_json())
        if fit not in fits:
            fits[fit] = _said_of(
                name, partial(_fit, lenient=lenient), cell, builder, where
            )
        if fits[fit].skips:
            foreseen.skipped[cell.run_id] = fits[fit].skips
        if fits[fit].fails:
            foreseen.failing[cell.run_id] = fits[fit].fails
    losing = [cell for cell in cells if lost.keys() & set(cell.parts.datasets)]
    _require_world(broken)
    foreseen.all_lost = 0 < len(losing) == len(cells)
    foreseen.lost = [str(error) for error in lost.values()]
    return foreseen


def _said_of(
    name: str,
    check: Callable[[Cell, RunBuilder, str], _T],
    cell: Cell,
    builder: RunBuilder,
    where: str,
) -> _T:
    """Return what a check does; its errors and warnings begin with a name, if not empty."""
    if not name:
        return check(cell, builder, f"{where}: ")
    with warnings.catch_warnings(record=True) as caught:
        checked = check(cell, builder, f"{where}: {name}")
    for one in caught:
        warnings.warn(f"{name}{one.message}", one.category, stacklevel=2)
    return checked


def _all_there(
    datasets: Sequence[Resolved], builder: RunBuilder, lost: dict[Resolved, DataError]
) -> bool:
    """Say whether data sets can be read; those that cannot are added to ``lost``."""
    for dataset in datasets:
        if dataset not in lost:
            try:
                builder.data(dataset, beside=dataset != datasets[0])
            except DataError as error:
                lost[dataset] = error
    return not lost.keys() & set(datasets)


@dataclass(frozen=True)
class _Fit:
    """Why a strategy does not fit a cell; nothing if it does."""

    skips: str = ""
    fails: str = ""


def _fit(cell: Cell, builder: RunBuilder, where: str, lenient: bool) -> _Fit:
    """Hold the strategy of a cell against its world, and start it there.

    Raises:
        ConfigError: If no strategy could, unless it is to be lenient.
    """
    federation, _ = builder.federation(cell)
    protocol, run = cell.parts.protocol, cell.run
    try:
        strategy = builder.strategy(cell)
        require_room(federation.data, protocol.faults)
        world = fitted(strategy, federation, protocol, run.seed, run.strategy)
        check_files(*world)
    except NotApplicableError as error:
        return _Fit(skips=error.reason)
    except ConfigError as error:
        if lenient:
            return _Fit(fails=str(error))
        raise ConfigError(f"{where}{error}") from None
    except KeyboardInterrupt:
        raise
    # A strategy's code may raise anything; its cell fails then, and the others run.
    except BaseException as error:
        return _Fit(fails=_told(error))
    try:
        Sides(*world, run.seed).start(strategy, run.strategy)
    except NotApplicableError as error:
        return _Fit(skips=error.reason)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return _Fit(fails=_told(error))
    return _Fit()


def _told(error: BaseException) -> str:
    return str(error) if isinstance(error, FedKDError) else f"{told(error)}."


def _fault_of_world(cell: Cell, builder: RunBuilder, where: str) -> str:
    """Return why nothing can run in the world of a cell; "" if it is sound.

    Raises:
        ConfigError: If what the user wrote cannot be had.
    """
    run = cell.run
    try:
        federation, _ = builder.federation(cell)
        for spec in federation.specs:
            federation.build_spec(spec, run.seed)
    except NotApplicableError:
        return ""  # such inputs are a reason to skip, which each strategy's fit tells
    except ConfigError as error:
        raise ConfigError(f"{where}{error}") from None
    except KeyboardInterrupt:
        raise
    # A model or a partitioner may be a plug-in's and raise anything.
    except BaseException as error:
        clients = f"{counted(run.clients, 'client')}, seed {run.seed}"
        said = f"{told(error).rstrip('.')}."
        return (
            f"{run.dataset}, {run.partition} and {run.models} do not go together "
            f"({clients}): {said}"
        )
    return ""


def _require_world(broken: Mapping[Hashable, str]) -> None:
    """Refuse to run where no cell has a world.

    Raises:
        FedKDError: Saying why.
    """
    reasons = dict.fromkeys(broken.values())
    if reasons and "" not in reasons:
        raise FedKDError("\n".join(reasons))
