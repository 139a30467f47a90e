"""Reasons to skip a strategy name models as tables do."""

import pytest

from fedkd import Requires, testing
from fedkd.party import ModelSpec
from fedkd.simulation.requirements import reason_to_skip

HALF = ModelSpec("cnn", {"width": 0.5})


@pytest.mark.parametrize(
    ("needs", "models", "reason"),
    [
        (
            {"one_architecture": True},
            ("cnn", HALF),
            "needs one architecture, but the models are cnn, cnn[width=0.5].",
        ),
        (
            {"nested_widths": True},
            (HALF, "mlp"),
            "needs one family at nested widths, but the models are cnn[width=0.5], mlp.",
        ),
        (
            {"batch_norm": True},
            (ModelSpec("mlp", {"hidden": [8]}),),
            "needs batch normalisation, but mlp[hidden=[8]] has none.",
        ),
        (
            {"equal_feature_size": True},
            ("cnn", ModelSpec("mlp", {"hidden": [8]})),
            "needs features of one size, but they are cnn: 64, mlp[hidden=[8]]: 8; give "
            "every model the option features, say features: 64.",
        ),
    ],
)
def test_a_reason_has_the_labels_of_tables(needs, models, reason):
    federation = testing.toy_federation(models=models)
    assert reason_to_skip(Requires(**needs), federation, "average") == reason
