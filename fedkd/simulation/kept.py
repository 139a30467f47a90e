"""The models of a run: those that were measured, as modules of one's own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from torch import nn

from fedkd.base.folders import RunFolder
from fedkd.errors import ConfigError, DataError, listing, suggestion
from fedkd.simulation.identity import identity, require_same
from fedkd.simulation.measure import Measuring
from fedkd.simulation.simulator import Run
from fedkd.simulation.store import checkpoint as store
from fedkd.simulation.untouched import Untouched
from fedkd.strategy import Round


def model_of(
    run: Run, state: Any, round: Round, title: str = "global", client: int | None = None
) -> nn.Module:
    """Return a model as it was measured after a round: a copy, in evaluation mode.

    Args:
        run: Has the strategy, the world and what clients remember.
        state: The strategy's, after the round.
        round: Which one that is.
        title: Of a model that the strategy names; without a client.
        client: Whose model is wanted: its own, or the global one if it has none.

    Raises:
        ConfigError: If there is no such model or client.
    """
    sides, where = run.sides, f"{run.name}.predictors or .personal"
    number = len(sides.federation)
    if client is not None and not 0 <= client < number:
        raise ConfigError(f"client: found {client}, expected 0 to {number - 1}.")
    given = Untouched(state, "the state")
    # What measuring drew is drawn again, in its order: some train a client's model then.
    with sides.verb("measure", round.index, where=where, given=given):
        measuring = Measuring(run.strategy, state, sides, round, run.name, run.asked)
        named, _, _ = measuring.models()
        if client is None:
            return _own(_named(named, title, run.name))
        shared = copy.deepcopy(named.get("global"))
        own = [measuring.personal(k) for k in range(client + 1)][-1]
        model = shared if own is None else own
    if model is None:
        raise ConfigError(f"{run.name} has no model of client {client}.")
    return _own(model)


def stored_state(run: Run, folder: Path) -> Any:
    """Return the state that a run ended with; its clients remember what they did then.

    Args:
        run: The run that was made in the folder, put together anew.
        folder: Its own folder; nothing is written there.

    Raises:
        ConfigError: If the checkpoint is another run's, or of a round that is not the
            last.
        DataError: If there is no checkpoint that can be read.
    """
    files = RunFolder(folder)
    checkpoint = store.read(files.checkpoint)
    if checkpoint is None:
        raise DataError(
            f"{folder} has no checkpoint that can be read, which holds the models. Remove "
            f"{files.result.name} there, if it has one, and run the bench again: it goes "
            "on from the checkpoint before, and keeps the one of its last round."
        )
    require_same(folder, checkpoint.identity, identity(run.strategy, run.sides))
    if checkpoint.rounds_done != run.protocol.rounds:
        raise ConfigError(
            f"{folder}: found a run of {checkpoint.rounds_done} of {run.protocol.rounds} "
            "rounds, expected a finished one. Run the bench again; it goes on there."
        )
    kept = (checkpoint.memories, checkpoint.store, checkpoint.store_checksum)
    if not run.sides.memories.restore(folder, *kept):
        raise DataError(f"{folder / checkpoint.store} is missing or damaged.")
    return checkpoint.state


def _named(models: dict[str, nn.Module], title: str, strategy: str) -> nn.Module:
    if title not in models:
        hint = suggestion(title, models)
        own = " Its clients have models of their own: client=0." if not models else ""
        raise ConfigError(
            f"{strategy} has no model {title!r}.{hint} It names: "
            f"{listing(models) or 'none'}.{own}"
        )
    return models[title]


def _own(model: nn.Module) -> nn.Module:
    """Return a copy that no later round changes."""
    return copy.deepcopy(model).cpu().eval()
