"""The bare loop: what a user would write without a framework."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from work import Clock, arguments, images, network


def main() -> None:
    """Run the rounds."""
    work, rounds = arguments()
    x, y = images(work)
    clients = list(zip(x.split(work.images), y.split(work.images), strict=True))
    torch.manual_seed(0)
    model = network(work)
    weights = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    rng = np.random.default_rng(0)
    clock = Clock()
    for _ in range(rounds):
        total, seen = torch.zeros_like(weights), 0
        for k in rng.choice(work.clients, work.sampled, replace=False):
            x, y = clients[k]
            torch.nn.utils.vector_to_parameters(weights.clone(), model.parameters())
            optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
            for chosen in torch.randperm(len(x)).split(work.batch)[: work.steps]:
                optimizer.zero_grad()
                F.cross_entropy(model(x[chosen]), y[chosen]).backward()
                optimizer.step()
            trained = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
            total += len(x) * trained
            seen += len(x)
        weights = total / seen
        clock.tick()
    clock.report()


if __name__ == "__main__":
    main()
