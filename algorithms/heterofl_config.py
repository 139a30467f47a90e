"""The hyper-parameters of HeteroFL, which FedRolex shares."""

from __future__ import annotations

from typing import Literal

from fedkd.config import Config


class HeteroFLConfig(Config):
    """Hyper-parameters of HeteroFL."""

    weights: Literal["uniform", "examples"] = "uniform"
    """The weight of a client in the mean of a coordinate: 1, as in the released code, or
    its number of images."""
    scaler: bool = True
    """Whether the outputs of narrowed layers are divided by the client's width in
    training, before normalisation and activation: the paper's Scaler. Not those that
    BatchNorm reads, which undoes any factor: with one after every layer (resnet18, vgg11,
    mobilenet) it changes nothing."""
    masked: bool = True
    """Whether the local loss sees 0 in place of the logits of classes that the client does
    not have: the paper's masked cross-entropy."""
    rows: Literal["owners", "all"] = "owners"
    """Who speaks for a class in the last layer: the clients that have it, as in the
    released code, or all. With ``owners`` a client tells which classes it has."""
