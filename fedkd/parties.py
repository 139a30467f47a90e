"""Puts clients and the server together: one working model per architecture."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from torch import nn

from fedkd.federation import Federation
from fedkd.memories import Memories
from fedkd.ops.training import TrainingConfig
from fedkd.party import ModelSpec
from fedkd.payload import Weights
from fedkd.protocol import Protocol
from fedkd.strategy import Client, Server
from fedkd.weights import read_weights


class Parties:
    """Both sides of a run, made when they are called on; owns the clients' memories."""

    def __init__(self, federation: Federation, protocol: Protocol, seed: int) -> None:
        self.federation = federation
        self.protocol = protocol
        self.seed = seed
        self.memories = Memories()
        self._models: dict[str, tuple[nn.Module, Weights]] = {}
        self._server = self._build(federation.server_model)

    def server(self) -> Server:
        """Return the server's side."""
        model, initial = self._server
        federation = self.federation
        return Server(
            model,
            initial,
            federation.device,
            federation.data.info,
            federation.build,
            self.protocol.buffers,
            spec=federation.server_model,
            clients=federation.client_models,
            models=self._of_spec,
        )

    def client(
        self,
        k: int,
        training: TrainingConfig,
        memory: MutableMapping[str, Any] | None = None,
    ) -> Client:
        """Return the side of a client.

        Args:
            k: The client.
            training: Settings of this round.
            memory: What the client remembers, to be changed in place; a copy of what
                is kept here if None.
        """
        federation = self.federation
        model, initial = self._of_spec(federation.client_models[k])
        return Client(
            model,
            initial,
            federation.device,
            federation.data.info,
            federation.build,
            self.protocol.buffers,
            id=k,
            data=federation.clients[k],
            memory=self.memories.recall(k) if memory is None else memory,
            training=training,
        )

    def _of_spec(self, spec: ModelSpec) -> tuple[nn.Module, Weights]:
        """Return the working model of an architecture and its initial weights."""
        if spec.key not in self._models:
            self._models[spec.key] = self._build(spec)
        return self._models[spec.key]

    def _build(self, spec: ModelSpec) -> tuple[nn.Module, Weights]:
        """Return a working model and a copy of its initial weights."""
        model = self.federation.build_spec(spec, self.seed)
        return model, read_weights(model)
