"""Round robin: sample i goes to client i mod n."""

from __future__ import annotations

import numpy as np

from fedkd import ConfigError, Partition, Partitioner


class RoundRobin(Partitioner):
    """Deal the samples out in turn, as cards are dealt."""

    def split(
        self,
        labels: np.ndarray,
        clients: int,
        num_classes: int,
        rng: np.random.Generator,
    ) -> Partition:
        if not 1 <= clients <= len(labels):
            raise ConfigError(
                f"found {clients} clients for {len(labels)} images; expected one client "
                "at least, and an image for each."
            )
        indices = [np.arange(k, len(labels), clients) for k in range(clients)]
        return Partition.of(indices, labels, num_classes)
