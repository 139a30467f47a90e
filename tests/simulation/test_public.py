"""Public data in a world: who sees it, who may not have it, and which run it belongs to."""

import numpy as np
import pytest

from fedkd import ConfigError, ContractError, PublicData, Requires, simulate, testing
from fedkd.algorithms.central import Central
from fedkd.algorithms.local import Local
from fedkd.simulation.executors import Choice
from fedkd.simulation.federation import Federation
from fedkd.simulation.requirements import fitted
from fedkd.testing.toys import _model

AT_SERVER, EVERYWHERE = {"public_data": True}, {"public_data_at_clients": True}


class Reading(Local):
    """Logs how many public images a side has."""

    def local(self, down, client):
        client.log("public", len(client.public))
        return super().local(down, client)

    def aggregate(self, state, ups, server, round):
        server.log("public", len(server.public))
        return super().aggregate(state, ups, server, round)


class ReadingServer(Local):
    def aggregate(self, state, ups, server, round):
        server.log("public", len(server.public))
        return super().aggregate(state, ups, server, round)


def run(kind, needs, **options):
    strategy = type(kind.__name__, (kind,), {"requires": Requires(**needs)})()
    world = (testing.toy_federation(), testing.toy_protocol(1))
    return simulate(strategy, *world, 0, **options).metrics


@pytest.mark.parametrize("needs", [AT_SERVER, EVERYWHERE])
def test_a_server_has_it_where_it_is_declared(needs):
    assert run(ReadingServer, needs)["logged"]["public"] == 12


def test_a_client_has_it_where_that_is_declared():
    metrics = run(Reading, EVERYWHERE)
    assert [row["logged"]["public"] for row in metrics["clients"].values()] == [12] * 3


def test_other_processes_have_it_too():
    metrics = run(Reading, EVERYWHERE, executor=Choice("processes", 2))
    assert [row["logged"]["public"] for row in metrics["clients"].values()] == [12] * 3


def test_who_does_not_declare_it_has_none():
    with pytest.raises(ContractError, match=r"Requires\(public_data_at_clients=True\)"):
        run(Reading, AT_SERVER)
    with pytest.raises(ContractError, match=r"server.public.*Requires\(public_data=Tr"):
        run(ReadingServer, {})


def test_a_pooled_world_has_it_too():
    class Pooled(Central):
        requires = Requires(public_data=True)

    world = (testing.toy_federation(), testing.toy_protocol(1))
    federation, _ = fitted(Pooled(), *world, 0, "pooled")
    assert len(federation) == 1
    assert len(federation.server_public) == 12
    assert federation.client_public is None


def test_a_world_without_it_is_told_how_to_have_it():
    world = testing.toy_federation(public=False)
    strategy = type("Needy", (Local,), {"requires": Requires(**AT_SERVER)})()
    with pytest.raises(ConfigError, match=r"public: {share: 0.1}.*1x8x8.*{dataset: NA"):
        simulate(strategy, world, testing.toy_protocol(1), 0)


def test_clients_may_have_no_public_image():
    images = testing.toy_images()
    public = PublicData.of_share(images, np.array([4, 9]))
    shards = [np.array([1, 2]), np.array([3, 4])]
    toy = testing.toy_federation()
    with pytest.raises(
        ConfigError, match=r"client 1 has 1 of the public images.* 4 of"
    ):
        Federation(images, shards, shards, toy.client_models, _model, public=public)


def test_clients_may_have_no_public_image_in_any_period():
    images = testing.toy_images()
    public = PublicData.of_share(images, np.array([4, 9]))
    toy = testing.toy_federation()
    shards = [np.array([1, 2]), np.array([3, 5])]
    periods = [[np.array([1]), np.array([2])], [np.array([3]), np.array([9])]]
    rest = (toy.client_models, _model)
    Federation(images, shards, shards, *rest, public=public)
    with pytest.raises(
        ConfigError, match=r"client 1 has 1 of the public images.* 9 of"
    ):
        Federation(images, shards, shards, *rest, public=public, periods=periods)


def test_public_images_may_not_be_changed():
    class Vandal(ReadingServer):
        requires = Requires(**AT_SERVER)

        def aggregate(self, state, ups, server, round):
            server.public.pixels.zero_()
            return state

    with pytest.raises(
        ContractError, match="changed value of the public images in place"
    ):
        simulate(Vandal(), testing.toy_federation(), testing.toy_protocol(1), 0)


def test_a_checkpoint_belongs_to_its_public_images(tmp_path):
    images = testing.toy_images()
    toy = testing.toy_federation()

    def world(*positions):
        return Federation(
            images,
            [np.array([1, 2])],
            [np.arange(5)],
            toy.client_models,
            _model,
            public=PublicData.of_share(images, np.array(positions)),
        )

    protocol = testing.toy_protocol(1, 1)
    simulate(Local(), world(4, 9), protocol, 0, folder=tmp_path)
    assert simulate(Local(), world(4, 9), protocol, 0, folder=tmp_path).history == ()
    with pytest.raises(ConfigError, match="differs in: public data"):
        simulate(Local(), world(4, 8), protocol, 0, folder=tmp_path)


def test_a_world_gives_the_same_bits_with_and_without_it():
    results = [
        simulate(
            Local(), testing.toy_federation(public=p), testing.toy_protocol(1), 0
        ).metrics["clients"]
        for p in (True, False)
    ]
    logged = [[row["logged"] for row in rows.values()] for rows in results]
    assert logged[0] == logged[1]
