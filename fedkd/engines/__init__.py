"""Executors for GPUs: plain training steps replayed as a graph, or clients stacked.

Nobody else knows them: they are registered, as a plug-in's are.
"""

from __future__ import annotations

from fedkd.hookspecs import Register, hookimpl


@hookimpl
def fedkd_register_executors(register: Register) -> None:
    """Register the engines."""
    register(
        "graphs",
        "fedkd.engines.graphs:Graphs",
        summary="One after another, with plain steps replayed as CUDA graphs.",
    )
    register(
        "stacked",
        "fedkd.engines.stacked:StackedClients",
        summary="Clients of one architecture train together, in batched steps.",
    )
