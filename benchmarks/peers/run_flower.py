"""FedAvg in Flower's simulation (``pip install 'flwr[simulation]'``), on Ray actors.

Each actor has one core, and keeps images and model between clients.
"""

from __future__ import annotations

import os
import sys

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

from flower_client import client_app
from flwr.app import ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from work import Clock, arguments, network

server_app = ServerApp()


class Ticking(FedAvg):
    """Tells the clock of each round."""

    clock: Clock

    def aggregate_train(self, server_round, replies):  # type: ignore[no-untyped-def]
        """Average, then tick."""
        found = super().aggregate_train(server_round, replies)
        self.clock.tick()
        return found


@server_app.main()
def serve(grid: Grid, context: Context) -> None:
    """Run the rounds."""
    work, rounds = arguments()
    strategy = Ticking(
        fraction_train=work.sampled / work.clients,
        fraction_evaluate=0.0,
        min_available_nodes=work.clients,
    )
    strategy.clock = Clock()
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(network(work).state_dict()),
        train_config=ConfigRecord({"work": sys.argv[1]}),
        num_rounds=rounds,
    )
    strategy.clock.report()


if __name__ == "__main__":
    run_simulation(
        server_app=server_app,
        client_app=client_app,
        num_supernodes=arguments()[0].clients,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0}},
    )
