"""Who takes part in a round."""

from __future__ import annotations

from collections.abc import Sequence

from fedkd.base.randomness import numpy_stream
from fedkd.simulation.protocol import Protocol
from fedkd.strategy import Round


def sampled(
    protocol: Protocol,
    seed: int,
    index: int,
    count: int,
    here: Sequence[int] | None = None,
) -> Round:
    """Return a round with its clients; the stream is ``(seed, "sampling", index)``.

    Args:
        protocol: How many clients and rounds there are.
        seed: Of the run.
        index: Of the round, from 0.
        count: How many take part.
        here: Those that can be sampled; all of them if None. Where they are fewer than
            are to take part, all of them do.
    """
    rng = numpy_stream(seed, "sampling", index)
    if here is None:
        chosen = rng.choice(protocol.clients, count, replace=False)
    else:
        chosen = rng.permutation(here)[:count]
    clients = tuple(sorted(int(k) for k in chosen))
    return Round(index, protocol.rounds, clients)
