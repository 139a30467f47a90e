"""Mosaic where the clients' architectures differ."""

import pytest
import torch

from fedkd import testing
from fedkd.algorithms.fleet import assemble
from fedkd.algorithms.mosaic.config import (
    DistilConfig,
    GeneratorConfig,
    MosaicConfig,
    TeacherConfig,
)
from fedkd.algorithms.mosaic.experts import Members
from fedkd.algorithms.mosaic.strategy import Mosaic
from fedkd.algorithms.mosaic.teacher import build_experts
from fedkd.ops.ensembles import apart, mixed_logits
from fedkd.party import ModelSpec
from fedkd.simulation.federation import Federation
from fedkd.simulation.requirements import reason_to_skip
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import simulate
from fedkd.strategy import read_weights

MIXED = ("cnn", "mlp")


def config(kind="meta", **teacher):
    return MosaicConfig(
        warmup=2,
        generator=GeneratorConfig(steps=2, batch_size=8, width=2, latent_size=4),
        teacher=TeacherConfig(kind=kind, steps=2, samples_per_client=4, **teacher),
        distil=DistilConfig(steps=3, batch_size=8),
    )


def own_server(models, server):
    toy = testing.toy_federation()
    return Federation(
        toy.data,
        [c.indices.numpy() for c in toy.clients],
        [shard.numpy() for shard in toy.test_shards],
        [ModelSpec(name) for name in models],
        toy._factory,
        server=ModelSpec(server),
    )


def members(models, counts):
    federation = testing.toy_federation(models=models)
    server = Sides(federation, testing.toy_protocol(), 0).server()
    weights = {}
    for k in range(3):
        model = server.client_model(k)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.1 * (k + 1))
        weights[k] = read_weights(model)
    labels = dict(enumerate(torch.tensor(counts)))
    return Members(assemble(server), weights, labels, 0), server


def test_a_logit_expert_is_the_mix_of_the_clients_that_hold_its_class():
    known, server = members(MIXED, [[3, 0, 0], [1, 0, 2], [0, 0, 2]])
    experts = build_experts(known, TeacherConfig(), server).eval()
    assert experts.fuse.func is mixed_logits
    x = torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        first, second, third = (known.client(k, server)(x) for k in range(3))
        answers_EBC = experts(x)
    assert known.expert_classes() == [0, 2]  # nobody holds class 1
    torch.testing.assert_close(answers_EBC[0], 0.75 * first + 0.25 * second)
    torch.testing.assert_close(answers_EBC[1], 0.5 * second + 0.5 * third)


def test_experts_of_one_architecture_are_averages_unless_asked_otherwise():
    known, server = members(("cnn",), [[3, 0, 0], [1, 0, 2], [0, 0, 2]])
    assert build_experts(known, TeacherConfig(), server).fuse is apart
    logits = TeacherConfig(experts="logits")
    assert build_experts(known, logits, server).fuse.func is mixed_logits


def test_both_kinds_of_expert_agree_where_one_client_holds_the_class():
    known, server = members(("cnn",), [[3, 0, 0], [0, 2, 0], [0, 0, 2]])
    x = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        answers = [
            build_experts(known, TeacherConfig(experts=how), server).eval()(x)
            for how in ("parameters", "logits")
        ]
    torch.testing.assert_close(*answers)


@pytest.mark.parametrize(
    "kind", ["meta", "experts", "diagonal", "clients", "global", "own_client"]
)
@pytest.mark.parametrize("origin_prior", [False, True])
def test_every_teacher_can_teach_clients_of_several_architectures(kind, origin_prior):
    federation = testing.toy_federation(models=MIXED)
    strategy = Mosaic(config(kind, origin_prior=origin_prior))
    result = simulate(strategy, federation, testing.toy_protocol(4), seed=0)
    assert "before_distillation" in result.history[1]["measured"]
    assert result.state.fleet.distilled
    assert result.metrics["global_accuracy"] is not None


def test_the_student_may_have_an_architecture_that_no_client_has():
    federation = own_server(MIXED, "lenet4")
    strategy = Mosaic(config())
    result = simulate(strategy, federation, testing.toy_protocol(4), seed=0)
    before = Sides(federation, testing.toy_protocol(), 0).server().initial
    after = result.state.fleet.whole
    assert result.state.fleet.server_is_new
    moved = {
        name for name, value in before.items() if not torch.equal(value, after[name])
    }
    # Its BatchNorm has no statistics of the clients' data, so it learns them too.
    assert "num_batches_tracked" in {name.rsplit(".", 1)[-1] for name in moved}


def test_a_student_with_statistics_keeps_them_unless_asked_otherwise():
    for asked, moves in (("auto", False), ("eval", False), ("train", True)):
        distil = DistilConfig(steps=2, batch_size=8, batch_norm=asked)
        settings = config().model_copy(update={"distil": distil, "warmup": 1})
        federation, protocol = testing.toy_federation(), testing.toy_protocol(1)
        result = simulate(Mosaic(settings), federation, protocol, seed=0)
        before = result.state.stage.members.fleet.whole
        name = next(name for name in before if name.endswith("running_mean"))
        assert torch.equal(before[name], result.state.weights[name]) != moves


def test_a_client_of_another_architecture_predicts_with_that_ones_average():
    federation = testing.toy_federation(models=MIXED)
    protocol = testing.toy_protocol(2)
    result = simulate(Mosaic(config()), federation, protocol, seed=0)
    sides = Sides(federation, protocol, 0)
    strategy = Mosaic(config())
    assert strategy.personal(result.state, sides.client(0, protocol.training)) is None
    other = sides.client(1, protocol.training)
    assert type(strategy.personal(result.state, other)) is type(other.model)


def test_feature_prototypes_need_features_of_one_size():
    strategy = Mosaic(config(prototypes="features"))
    federation = testing.toy_federation(models=MIXED)
    reason = reason_to_skip(strategy.requires, federation, "average")
    assert "needs features of one size" in reason


def test_feature_prototypes_of_one_size_teach_heads_of_several_architectures():
    mlp = ModelSpec("mlp", {"hidden": [64]})
    federation = testing.toy_federation(models=("cnn", mlp))
    strategy = Mosaic(config(prototypes="features", per_class=2))
    result = simulate(strategy, federation, testing.toy_protocol(3), seed=0)
    assert result.history[1]["logged"]["prototypes"] > 0


def test_averages_of_parameters_are_refused_for_several_architectures():
    strategy = Mosaic(config(experts="parameters"))
    federation = testing.toy_federation(models=MIXED)
    reason = reason_to_skip(strategy.requires, federation, "average")
    assert "needs one architecture" in reason
