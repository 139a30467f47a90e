"""FedAvg in fluke (``pip install fluke-fl``), by its programming interface.

It counts local work in epochs, so its loaders draw the share of a client's images that
the steps need. Evaluation is off.
"""

from __future__ import annotations

from typing import Any

import torch
from fluke import DDict, FlukeENV
from fluke.algorithms.fedavg import FedAVG
from fluke.data import DataContainer, DataSplitter
from fluke.utils import ServerObserver
from work import Clock, arguments, images, network


class Ticks(ServerObserver):
    """Tells the clock of each round."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def end_round(self, round: int) -> None:
        """A round has ended."""
        self.clock.tick()

    def __getattr__(self, name: str) -> Any:
        # Events of other versions are of no interest.
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: None


def main() -> None:
    """Run the rounds."""
    work, rounds = arguments()
    x, y = images(work)
    environment = FlukeENV()
    environment.set_seed(0)
    environment.set_device("cpu")
    environment.set_eval_cfg(locals=False, server=False, pre_fit=False, post_fit=False)
    data = DataSplitter(
        DataContainer(x, y, x[:1000], y[:1000], num_classes=10),
        distribution="iid",
        sampling_perc=min(1.0, work.steps * work.batch / work.images),
    )
    settings = DDict(
        client=DDict(
            batch_size=work.batch,
            local_epochs=1,
            loss=torch.nn.CrossEntropyLoss,
            optimizer=DDict(name="SGD", lr=0.01),
            scheduler=DDict(name="StepLR", step_size=1, gamma=1),
        ),
        server=DDict(weighted=True),
        model=network(work),
    )
    algorithm = FedAVG(work.clients, data, settings)
    clock = Clock()
    algorithm.attach(Ticks(clock))
    algorithm.run(rounds, work.sampled / work.clients)
    clock.report()


if __name__ == "__main__":
    main()
