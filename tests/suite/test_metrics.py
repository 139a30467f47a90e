"""The key ``metrics`` of a suite: labels, columns, and what becomes of the hash."""

from pathlib import Path

import pytest

from fedkd.errors import ConfigError
from fedkd.plugins.registry import load_registry
from fedkd.suite.grid import grid
from fedkd.suite.overrides import Overrides, load_overridden

PLUGIN = Path(__file__).parents[1] / "plugins" / "toy_plugin.py"
TOY = """
rounds: 3
clients: 3
seeds: 0
datasets: [toy]
partitions: [iid]
models: [toy-linear]
training: {local_steps: 2, batch_size: 8, lr: 0.05}
strategies: [toy-mean]
"""


@pytest.fixture
def suite_of(tmp_path):
    """Return a suite with some metrics, and its cell."""
    registry = load_registry([PLUGIN])

    def make(metrics="", *assignments):
        path = tmp_path / "toy.yaml"
        path.write_text(TOY + (f"metrics: {metrics}\n" if metrics else ""))
        wishes = Overrides(assignments=assignments)
        suite = load_overridden(str(path), wishes, registry)
        (cell,) = grid(suite, registry)
        return suite, cell

    return make


@pytest.mark.parametrize("metrics", ["", "[]", "accuracy", "[accuracy]"])
def test_runs_that_measure_accuracy_alone_keep_their_names(suite_of, metrics):
    _, plain = suite_of()
    _, cell = suite_of(metrics)
    assert cell.config_hash == plain.config_hash
    assert list(cell.config) == [
        "strategy",
        "dataset",
        "partition",
        "models",
        "protocol",
        "seed",
        "plugins",
        "fedkd",
    ]
    assert cell.columns == ()


def test_other_metrics_are_part_of_what_a_run_is_told(suite_of):
    _, plain = suite_of()
    _, cell = suite_of("[accuracy, macro_f1, {name: rounds_to, target: 80}]")
    assert cell.config_hash != plain.config_hash
    assert cell.config["metrics"] == {
        "macro_f1": {"name": "macro_f1", "options": {}},
        "rounds_to_80": {
            "name": "rounds_to",
            "options": {"target": 80.0, "of": "global_accuracy"},
        },
    }
    names = [column.name for column in cell.columns]
    assert names == ["global_macro_f1", "local_macro_f1", "rounds_to_80"]


def test_what_is_not_shown_has_no_column(suite_of):
    _, cell = suite_of("[class_accuracy]")
    assert cell.columns == ()
    assert list(cell.config["metrics"]) == ["class_accuracy"]


@pytest.mark.parametrize(
    ("metric", "label"),
    [
        ("{name: ece, bins: 15}", "global_ece"),
        ("{name: ece, bins: 10}", "global_ece_10"),
        (
            "{name: rounds_to, target: 0.5, of: local_accuracy}",
            "rounds_to_0_5_local_ac",
        ),
        ("{name: rounds_to, target: 80, label: soon}", "soon"),
    ],
)
def test_a_label_is_the_name_with_the_options_that_differ(suite_of, metric, label):
    _, cell = suite_of(f"[{metric}]")
    assert cell.columns[0].name.startswith(label)


def test_a_suite_is_written_as_it_was_read(suite_of):
    suite, _ = suite_of("[loss, {name: rounds_to, target: 80, label: soon}]")
    assert suite.plain()["metrics"] == [
        "loss",
        {"name": "rounds_to", "label": "soon", "target": 80},
    ]


def test_metrics_can_be_set_on_the_command_line(suite_of):
    _, cell = suite_of("", "metrics=[ece, worst_client]")
    assert [c.name for c in cell.columns] == ["global_ece", "local_ece", "worst_client"]


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (
            "[macro_f2]",
            r"toy.yaml: metrics.macro_f2: unknown metric .* mean 'macro_f1'",
        ),
        ("[{name: ece, bin: 3}]", r"metrics.ece.bin: unknown key. Did you mean 'bins'"),
        ("[rounds_to]", r"toy.yaml: metrics.rounds_to.target: this key is missing"),
        ("[loss, loss]", r"toy.yaml: metrics: the label 'loss' comes twice"),
        ("[{name: worst_client, label: seed}]", r"toy.yaml: metrics.seed: .* is taken"),
        ("[{name: loss, label: My-Loss}]", r"metrics.My-Loss: found a label that is"),
        ("[{name: loss, label: 3}]", r"toy.yaml: metrics.loss.label: found 3"),
        (
            "[{name: rounds_to, target: 1, of: global_loss}]",
            r"toy.yaml: metrics.rounds_to_1_global_loss: reads 'global_loss', which",
        ),
        ("[3]", r"toy.yaml: metrics: found 3, expected a name, or a mapping"),
    ],
)
def test_what_cannot_be_measured_is_told_before_anything_runs(
    suite_of, metrics, message
):
    with pytest.raises(ConfigError, match=message):
        suite_of(metrics)
