"""What the protocol of a page says of labels, and of values that a search chooses."""

import pytest
import yaml

from fedkd.plugins.registry import load_registry
from fedkd.report.description import protocol_lines
from fedkd.suite.suite import load_suite

SUITE = {
    "rounds": 2,
    "clients": 4,
    "seeds": [0],
    "datasets": ["digits"],
    "partitions": ["iid"],
    "models": ["cnn"],
    "training": {"local_steps": 2, "batch_size": 8, "lr": 0.05},
    "strategies": ["fedavg"],
    "validation": 0.2,
}
SEARCH = {"trials": 2, "seeds": 100}


@pytest.fixture
def lines_of(tmp_path):
    def lines(**values):
        path = tmp_path / "some.yaml"
        path.write_text(yaml.safe_dump({**SUITE, **values}), encoding="utf-8")
        return protocol_lines(load_suite(str(path)), load_registry())

    return lines


def test_a_label_of_data_partition_model_and_faults_is_explained(lines_of):
    lines = lines_of(
        datasets=[{"name": "digits", "per_class": 12, "label": "figures"}],
        partitions=[
            {"name": "dirichlet", "alpha": 0.3, "label": "strong"},
            {"name": "dirichlet", "alpha": [1, 5], "label": "mild"},
            "iid",
        ],
        models=[
            {"name": "cnn", "width": 0.25, "label": "small"},
            {"clients": ["cnn", "mlp"], "label": "mixed"},
            "mlp",
        ],
        faults=[
            "none",
            {"label": "scaled", "corrupt": {"share": 0.1, "kind": "scale"}},
            {"label_flip": 0.3},
        ],
        metrics=[
            {"name": "slope", "label": "gain"},
            {"name": "rounds_to", "target": 80, "label": "soon"},
            "macro_f1",
        ],
    )
    told = [
        line for line in lines if line.split()[0] in ("Data", "Partition", "Models")
    ]
    assert told == [
        "Data set figures: digits[per_class=12].",
        "Partition strong: dirichlet 0.3.",
        "Partition mild alpha=1: dirichlet 1.",
        "Partition mild alpha=5: dirichlet 5.",
        "Models small: cnn[width=0.25].",
        "Models mixed: clients 0, 2: cnn; 1, 3: mlp; server: cnn.",
    ]
    assert [line for line in lines if line.startswith("Faults")] == [
        "Faults scaled: corrupt 0.1 scale."
    ]
    assert "Measured: gain (slope), soon (rounds_to, target 80), macro_f1." in lines


def test_a_label_of_a_strategy_is_explained(lines_of):
    lines = lines_of(
        strategies=[
            "fedavg",
            {"name": "fedavg", "label": "mean"},
            {"name": "fedavg", "label": "longer", "rounds": 4},
        ]
    )
    assert lines[-2:] == ["mean: fedavg.", "longer: fedavg, 4 rounds."]
    assert not [line for line in lines if line.startswith("fedavg")]


def test_a_label_of_what_is_not_loaded_is_left_out(lines_of):
    lines = lines_of(
        datasets=[{"name": "elsewhere", "label": "figures"}],
        models=[{"name": "elsewhere", "label": "small"}],
    )
    assert not [line for line in lines if "figures" in line or "small" in line]


def test_a_value_that_is_searched_is_told_as_one_and_nowhere_else(lines_of):
    lines = lines_of(
        search={**SEARCH, "training.lr": [0.1, 0.2], "strategy.mu": [0.1, 1]},
        strategies=[
            "fedavg",
            {"name": "fedprox", "mu": 0.5},
            {
                "name": "mosaic",
                "generator": {"width": 16, "steps": 9},
                "training": {"lr": 0.3, "momentum": 0.9},
                "search": {"strategy.generator.width": [8, 16]},
            },
        ],
    )
    assert (
        "Local training: 2 steps of 8 images, SGD, momentum 0, weight decay 0.0001."
        in lines
    )
    assert (
        "Searched: training.lr; strategy.mu of fedprox; strategy.generator.width of "
        'mosaic. The values are those under Tuning, where "as it was" is training.lr '
        "0.05, strategy.mu 0.5 of fedprox, training.lr 0.3 of mosaic, "
        "strategy.generator.width 16 of mosaic."
    ) in lines
    assert lines[-1] == "mosaic: generator {'steps': 9}, training.momentum 0.9."
    assert not [line for line in lines if line.startswith("fedprox")]


def test_what_one_strategy_searches_alone_is_still_that_of_the_others(lines_of):
    lines = lines_of(
        search=SEARCH,
        strategies=["fedavg", {"name": "fedprox", "search": {"training.lr": [0.1]}}],
    )
    assert lines[1].startswith("Local training: 2 steps of 8 images, SGD 0.05,")
    assert (
        "Searched: training.lr of fedprox. The values are those under Tuning." in lines
    )


def test_an_amount_of_training_that_is_searched_is_told_in_place_of_both(lines_of):
    lines = lines_of(
        search={**SEARCH, "training.local_epochs": [1, 2]},
        strategies=["fedavg", {"name": "fedprox", "training": {"local_steps": 9}}],
    )
    assert (
        "Searched: training.local_epochs. The values are those under Tuning, where "
        '"as it was" is training.local_steps 2, training.local_steps 9 of fedprox.'
    ) in lines
    assert not [line for line in lines if line.startswith("fedprox")]


@pytest.mark.parametrize(
    ("searched", "said"),
    [
        ({"training.local_steps": [1, 2]}, "batches of 8 images, SGD 0.05"),
        ({"training.batch_size": [4, 8]}, "2 steps, SGD 0.05"),
        (
            {"training.batch_size": [4], "training.local_steps": [1]},
            "SGD 0.05, momentum 0",
        ),
        ({"training.momentum": [0.9]}, "2 steps of 8 images, SGD 0.05, weight decay"),
        ({"training.weight_decay": [0.1]}, "SGD 0.05, momentum 0."),
    ],
)
def test_each_key_of_training_may_be_searched(lines_of, searched, said):
    (line,) = [
        one
        for one in lines_of(search={**SEARCH, **searched})
        if one.startswith("Local training: ")
    ]
    assert said in line
    assert "searched" not in line
