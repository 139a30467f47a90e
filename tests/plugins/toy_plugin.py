"""A plug-in with a small world for the tests of the bench: all that can happen to a cell.

Given to ``fedkd`` with ``--plugin``, so that worker processes load it too.
"""

import math
import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from pydantic import Field
from torch import nn

import fedkd
from fedkd.errors import DataError
from fedkd.payload import Weights
from fedkd.strategy import read_weights
from fedkd.testing import toy_images


@fedkd.hookimpl
def fedkd_register_strategies(register):
    for name in (
        "mean",
        "stopped",
        "vanishes",
        "fails",
        "startless",
        "dies",
        "diverges",
        "picky",
        "waits",
        "exits",
        "stops",
        "warns",
    ):
        register(f"toy-{name}", f":{name.capitalize()}")


@fedkd.hookimpl
def fedkd_register_datasets(register):
    register("toy", ":Toy")
    register("toy-missing", ":Missing")
    register("toy-written", ":Written")


@fedkd.hookimpl
def fedkd_register_models(register):
    register("toy-linear", ":Linear", kind="classifier")


@fedkd.hookimpl
def fedkd_round_ended(run, metrics):
    log = os.environ.get("TOY_LOG")
    if log:
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(f"{run.strategy} {run.seed} {metrics['round']}\n")


class ToyConfig(fedkd.Config):
    images: int = Field(24, ge=1)
    """Images of each class."""


class Toy(fedkd.Dataset):
    Config = ToyConfig

    def load(self, root):
        return toy_images(per_class=self.config.images)


class Written(fedkd.Dataset):
    """Toy images of three writers."""

    def load(self, root):
        images = toy_images(per_class=60)
        train, test = (torch.arange(90) % 3 for _ in range(2))
        return replace(images, groups=fedkd.Groups(train, test, ("anna", "ben", "cy")))


class Missing(fedkd.Dataset):
    def load(self, root):
        raise DataError(f"toy-missing: there is no file {root / 'toy.bin'}.")


class LinearConfig(fedkd.Config):
    width: float = 1.0
    """A number that changes nothing but the hash."""


class Linear(nn.Module):
    Config = LinearConfig
    feature_size = 64

    def __init__(self, image_shape, num_classes, config):
        super().__init__()
        self.width = config.width
        self.linear = nn.Linear(math.prod(image_shape), num_classes)

    def features(self, x):
        return x.flatten(1)

    def head(self, features):
        return self.linear(features)

    def forward(self, x):
        return self.head(self.features(x))


@dataclass(frozen=True)
class Message:
    weights: Weights


class MeanConfig(fedkd.Config):
    mu: float = Field(0.5, ge=0)
    """A number that changes nothing but the hash."""
    at_round: int = Field(1, ge=0)
    """The round, from 0, in which something happens."""
    flag: str = ""
    """A file that, if it exists, keeps it from happening."""


class Mean(fedkd.Strategy):
    """The plain mean of the clients' weights."""

    Config = MeanConfig

    def init(self, server):
        return Message(read_weights(server.model))

    def broadcast(self, state, client_id, round):
        self.round = round.index
        return state

    def local(self, down, client):
        if self.round == self.config.at_round and not self._flagged():
            self.happen()
        client.load(down.weights)
        client.train()
        return Message(read_weights(client.model))

    def happen(self):
        """Do what the strategy is named for."""

    def _flagged(self):
        return self.config.flag and Path(self.config.flag).exists()

    def aggregate(self, state, ups, server, round):
        every: Mapping = next(iter(ups.values())).weights
        return Message(
            {
                name: torch.stack([up.weights[name] for up in ups.values()]).mean(0)
                for name in every
            }
        )

    def predictors(self, state, server):
        return {"global": server.load(state.weights)}


class Fails(Mean):
    def happen(self):
        raise ValueError("this strategy\nfails on purpose")


class Startless(Mean):
    def init(self, server):
        raise ValueError("this strategy\nhas nothing to start from")


class Dies(Mean):
    def happen(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Diverges(Mean):
    def happen(self):
        raise fedkd.errors.DivergedError("the loss became nan.")


class Exits(Mean):
    def happen(self):
        sys.exit(3)


class Stop(BaseException):
    pass


class Stops(Mean):
    def happen(self):
        raise Stop("no ordinary error")


class Stopped(Mean):
    def init(self, server):
        raise Stop("nothing to start from")


class Vanishes(Mean):
    def happen(self):
        shutil.rmtree("out")


class Warns(Mean):
    def happen(self):
        for _ in range(2):
            warnings.warn("the toy is\nwarm in 1 round.", RuntimeWarning, stacklevel=1)


class Picky(Mean):
    requires = fedkd.Requires(batch_norm=True)


class Waits(Mean):
    def happen(self):
        time.sleep(60)
