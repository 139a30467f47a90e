"""What can be known before the first cell of a suite runs: is it all there, does it fit?"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from fedkd.errors import ConfigError, DataError, FedKDError
from fedkd.harness.builder import RunBuilder
from fedkd.plugins.loader import cause
from fedkd.plugins.options import Resolved
from fedkd.suite.grid import Cell


def check_cells(cells: Sequence[Cell], builder: RunBuilder, where: str) -> list[str]:
    """Put together what each cell runs on.

    Args:
        cells: The cells that are to run.
        builder: Where their data and models come from.
        where: How messages call the suite.

    Returns:
        A line for each data set that is missing or damaged: its cells will fail with
        this reason, and the others can run.

    Raises:
        DataError: If no cell can run, because all data is missing or damaged.
        FedKDError: If data cannot be split as asked, or a model does not fit it.
    """
    seen: set[Hashable] = set()
    lost: dict[Resolved, DataError] = {}
    for cell in cells:
        parts, run = cell.parts, cell.run
        dataset = parts.dataset
        key = (dataset, parts.partition, parts.models, run.clients, run.seed)
        if key in seen or dataset in lost:
            continue
        seen.add(key)
        try:
            builder.data(dataset)
        except DataError as error:
            lost[dataset] = error
        else:
            _check_cell(cell, builder, where)
    losing = [cell for cell in cells if cell.parts.dataset in lost]
    if losing and len(losing) == len(cells):
        raise next(iter(lost.values()))
    return [str(error) for error in lost.values()]


def _check_cell(cell: Cell, builder: RunBuilder, where: str) -> None:
    try:
        federation, _ = builder.federation(cell)
        for spec in federation.specs:
            federation.build_spec(spec, cell.run.seed)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    except FedKDError:
        raise
    # A model or a partitioner may be a plug-in's and raise anything.
    except Exception as error:
        raise FedKDError(
            f"{where}: {cell.run.dataset}, {cell.run.partition} and {cell.run.models} "
            f"do not go together: {cause(error)}."
        ) from error
