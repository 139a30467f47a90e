"""Puts clients and the server together: one working model per architecture."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, MutableMapping
from typing import Any

import torch
from torch import nn

from fedkd.base.randomness import torch_stream
from fedkd.errors import ContractError, raised_in
from fedkd.ops.training import TrainingConfig, train
from fedkd.party import ModelSpec, Party, Trainer
from fedkd.payload import Weights
from fedkd.simulation.federation import Federation
from fedkd.simulation.precision import arithmetic, widened
from fedkd.simulation.protocol import Protocol
from fedkd.simulation.store.memories import ClientMemories
from fedkd.simulation.untouched import Untouched, refuse_alias
from fedkd.strategy import Client, Round, Server, Strategy
from fedkd.weights import read_weights


class Sides:
    """Both sides of a run, made when they are called on; owns the clients' memories."""

    def __init__(self, federation: Federation, protocol: Protocol, seed: int) -> None:
        self.federation = federation
        self.protocol = protocol
        self.seed = seed
        self.memories = ClientMemories()
        self._models: dict[str, tuple[nn.Module, Weights]] = {}
        self._trainer: Trainer = train
        self._original: Sides | None = None
        self._shared = [Untouched(federation.data, "the images")]
        if federation.public is not None:
            public = Untouched(federation.public.pixels, "the public images")
            self._shared.append(public)
        self._server = self._build(federation.server_model)

    @contextlib.contextmanager
    def verb(
        self, *name: int | str, where: str, given: Untouched | None = None
    ) -> Iterator[None]:
        """Draw from the run's stream ``name`` and compute in the run's precision.

        Args:
            name: Names the stream.
            where: What messages call the verb: ``"fedprox.local (client 3, round 1)"``.
            given: What the verb is given and must leave alone.

        Raises:
            ContractError: If the verb has seeded torch, has asked Python to exit, or has
                changed what it was given, the initial weights, or the images.
        """
        device = self.federation.device
        with (
            raised_in(where),
            torch_stream(self.seed, *name, device=device),
            arithmetic(self.protocol.precision, device),
        ):
            seed = torch.initial_seed()
            yield
            if torch.initial_seed() != seed:
                raise ContractError(
                    f"{where} seeded torch, which already draws from a stream of the "
                    "run's seed, named after this verb. Leave out torch.manual_seed."
                )
        for untouched in (*([given] if given else []), *self._shared):
            untouched.check(where)

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
            public=federation.server_public,
        )

    def start(self, strategy: Strategy[Any, Any, Any], name: str) -> Any:
        """Return a strategy's state before the first round.

        Raises:
            ContractError: If the state aliases the working model, or as :meth:`verb`.
        """
        server, where = self.server(), f"{name}.init"
        with self.verb("server", "init", where=where):
            state = strategy.init(server)
        refuse_alias(state, server.model, where, "keeps in the state")
        return state

    def client(
        self,
        k: int,
        training: TrainingConfig,
        memory: MutableMapping[str, Any] | None = None,
        round: Round | None = None,
    ) -> Client:
        """Return the side of a client.

        Args:
            k: The client.
            training: Settings of this round.
            memory: What the client remembers, to be changed in place; a copy of what
                is kept here if None.
            round: The round, which says what images the client has where that changes;
                it has all of them if None.
        """
        federation = self.federation
        data = federation.clients[k] if round is None else federation.data_in(k, round)
        model, initial = self._of_spec(federation.client_models[k])
        return Client(
            model,
            initial,
            federation.device,
            federation.data.info,
            federation.build,
            self.protocol.buffers,
            id=k,
            data=data,
            memory=self.memories.recall(k) if memory is None else memory,
            training=training,
            trainer=self._trainer,
            public=federation.client_public,
        )

    def beside(self, trainer: Trainer) -> Sides:
        """Return these sides with working models, and a trainer, of their own.

        For a client whose turn overlaps with others'; the memories are shared.
        """
        other = copy.copy(self)
        other._models = {}
        other._trainer = trainer
        other._original = self
        return other

    def party(self, k: int) -> Party:
        """Return a side with the model of a client, without data and memory."""
        federation = self.federation
        model, initial = self._of_spec(federation.client_models[k])
        info, build = federation.data.info, federation.build
        return Party(
            model, initial, federation.device, info, build, self.protocol.buffers
        )

    def widened(self, state: Any, name: str) -> Any:
        """Return a strategy's state in float32, whatever it was computed in."""
        if self.protocol.precision != "bf16":
            return state
        return widened(state, f"{name}'s state")

    def shapes(self, spec: ModelSpec) -> Weights:
        """Return a state of an architecture, for the types and shapes of its entries."""
        if spec.key == self.federation.server_model.key:
            return self._server[1]
        return self._of_spec(spec)[1]

    def largest(self) -> int:
        """Return the number of parameters of the largest model that clients train."""
        specs = {spec.key: spec for spec in self.federation.client_models}
        models = [self._of_spec(spec)[0] for spec in specs.values()]
        return max(sum(p.numel() for p in model.parameters()) for model in models)

    def _of_spec(self, spec: ModelSpec) -> tuple[nn.Module, Weights]:
        """Return the working model of an architecture and its initial weights."""
        if spec.key not in self._models and self._original is not None:
            model, initial = self._original._of_spec(spec)
            self._models[spec.key] = (copy.deepcopy(model), initial)
        if spec.key not in self._models:
            self._models[spec.key] = self._build(spec)
        return self._models[spec.key]

    def _build(self, spec: ModelSpec) -> tuple[nn.Module, Weights]:
        """Return a working model and a copy of its initial weights."""
        model = self.federation.build_spec(spec, self.seed)
        initial = read_weights(model)
        self._shared.append(Untouched(initial, f"the initial weights of {spec.shown}"))
        return model, initial
