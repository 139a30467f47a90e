"""Flower's client side: in a module of its own, so that actors can import it."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from work import WORKS, images, network

client_app = ClientApp()


@functools.cache
def at_hand(name: str) -> tuple[Any, ...]:
    """Return model and images, made once in each process."""
    work = WORKS[name]
    return work, network(work), *images(work)


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Train on the images of one client."""
    work, model, x, y = at_hand(str(message.content["config"]["work"]))
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    k = int(context.node_config["partition-id"])
    own = slice(k * work.images, (k + 1) * work.images)
    xs, ys = x[own], y[own]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for chosen in torch.randperm(len(xs)).split(work.batch)[: work.steps]:
        optimizer.zero_grad()
        F.cross_entropy(model(xs[chosen]), ys[chosen]).backward()
        optimizer.step()
    content = RecordDict(
        {
            "arrays": ArrayRecord(model.state_dict()),
            "metrics": MetricRecord({"num-examples": len(xs)}),
        }
    )
    return Message(content=content, reply_to=message)
