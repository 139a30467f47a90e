"""The executors that the simulator comes with."""

from __future__ import annotations

from fedkd.hookspecs import Register, hookimpl

EXECUTORS = {
    "serial": ("Serial", "One client after another, in this process: the reference."),
    "processes": ("Processes", "In worker processes of this machine."),
    "ray": ("Cluster", "As tasks of Ray, on this machine or on a cluster."),
}


@hookimpl
def fedkd_register_executors(register: Register) -> None:
    """Register the simulator's executors."""
    for name, (target, summary) in EXECUTORS.items():
        register(name, f"fedkd.simulation.executors:{target}", summary=summary)
