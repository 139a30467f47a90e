"""Puts all clients' data into one client, for references that train on all of it."""

from __future__ import annotations

from typing import Any

from fedkd.simulation.federation import Federation
from fedkd.simulation.protocol import Protocol
from fedkd.strategy import Strategy


def arranged(
    strategy: Strategy[Any, Any, Any], federation: Federation, protocol: Protocol
) -> tuple[Federation, Protocol]:
    """Return the world that a strategy runs in: as it is, or pooled into one client.

    Pooled, the one client has the server's model and takes as many local steps a round
    as the clients of a round take together.
    """
    if not strategy.pools_clients:
        return federation, protocol
    steps = protocol.training.local_steps
    more = None if steps is None else steps * protocol.clients_per_round()
    training = protocol.training.model_copy(update={"local_steps": more})
    return federation.pooled(), protocol.model_copy(
        update={"clients": 1, "participation": 1.0, "training": training}
    )
