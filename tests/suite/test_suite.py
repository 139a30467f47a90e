"""Suites: from YAML to cells, and what the command line changes on the way."""

import json
import re
from pathlib import Path

import pytest
import yaml

from fedkd.errors import ConfigError
from fedkd.plugins.registry import load_registry
from fedkd.suite.grid import grid
from fedkd.suite.overrides import Overrides, load_overridden
from fedkd.suite.suite import load_suite, suite_names

PLUGIN = Path(__file__).parents[1] / "plugins" / "toy_plugin.py"
TOY = """
description: Two contenders on toy images.
rounds: 3
clients: 3
seeds: 0-1
datasets: [toy]
partitions: [iid, {name: dirichlet, alpha: 0.5}]
models: [toy-linear]
training: {local_steps: 2, batch_size: 8, lr: 0.05}
strategies:
  - toy-mean
  - {name: toy-mean, label: longer, rounds: 5, mu: 1e-2}
"""


@pytest.fixture(scope="module")
def registry():
    return load_registry([PLUGIN])


@pytest.fixture
def cells_of(registry, tmp_path):
    """Return the cells of a suite text, with wishes of the command line."""

    def make(text=TOY, **wishes):
        path = tmp_path / "toy.yaml"
        path.write_text(text, encoding="utf-8")
        return grid(load_overridden(str(path), Overrides(**wishes), registry), registry)

    return make


def changed(**values):
    """Return the toy suite with other values."""
    return yaml.safe_dump({**yaml.safe_load(TOY), **values})


def labels(cells):
    return list(dict.fromkeys(cell.run.strategy for cell in cells))


@pytest.mark.parametrize("name", suite_names())
def test_a_packaged_suite_is_a_valid_grid(name, registry):
    suite = load_suite(name)
    cells = grid(suite, registry)
    assert suite.name == name
    assert suite.description
    assert len({cell.run_id for cell in cells}) == len(cells)


def test_the_grid_is_the_product_of_all_axes_with_strategies_innermost(cells_of):
    found = [
        (c.run.partition, c.run.alpha, c.run.seed, c.run.strategy) for c in cells_of()
    ]
    assert found == [
        ("iid", None, 0, "toy-mean"),
        ("iid", None, 0, "longer"),
        ("iid", None, 1, "toy-mean"),
        ("iid", None, 1, "longer"),
        ("dirichlet", 0.5, 0, "toy-mean"),
        ("dirichlet", 0.5, 0, "longer"),
        ("dirichlet", 0.5, 1, "toy-mean"),
        ("dirichlet", 0.5, 1, "longer"),
    ]


def test_the_suite_is_named_after_its_file(cells_of):
    assert {cell.run.suite for cell in cells_of()} == {"toy"}


def test_options_beside_a_name_reach_the_strategy_and_the_rest_is_filled_in(cells_of):
    plain, longer = cells_of()[:2]
    assert plain.config["strategy"]["options"]["mu"] == 0.5
    assert longer.config["strategy"]["options"] == {
        "mu": 0.01,
        "at_round": 1,
        "flag": "",
    }
    assert (plain.run.rounds, longer.run.rounds) == (3, 5)


def test_a_run_is_named_by_label_setting_seed_and_hash(cells_of):
    cell = cells_of()[5]
    assert cell.run_id == f"longer-toy-dirichlet-a0.5-s0-{cell.config_hash[:8]}"
    assert len(cell.config_hash) == 16


def test_equal_suites_have_equal_hashes(cells_of):
    first, second = cells_of(), cells_of()
    assert [c.config_hash for c in first] == [c.config_hash for c in second]


def test_a_default_written_out_changes_no_hash(cells_of):
    written = changed(strategies=[{"name": "toy-mean", "mu": 0.5}])
    assert cells_of(written)[0].config_hash == cells_of()[0].config_hash


@pytest.mark.parametrize(
    "change",
    [
        {"rounds": 4},
        {"clients": 2},
        {"participation": 1},
        {"buffers": "local"},
        {"test_shards": "iid"},
        {"precision": "bf16"},
        {"evaluation": {"every": 2}},
        {"training": {"local_steps": 2, "batch_size": 8, "lr": 0.06}},
        {"datasets": [{"name": "toy", "images": 25}]},
        {"models": [{"name": "toy-linear", "width": 0.5}]},
        {"strategies": [{"name": "toy-mean", "mu": 0.4}]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_can_change_a_result_changes_the_hash(cells_of, change):
    assert cells_of(changed(**change))[0].config_hash != cells_of()[0].config_hash


RECORDED = {
    "fedavg": "498ab873fd37b4a9",
    "fedprox": "73608fa43ac5c543",
    "fedbn": "735e90b93a25b23d",
    "fedrs": "85ed1e819352bae8",
}
"""Hashes of cells of ``quick`` with seed 0, in ``benchmarks/results/quick``."""


def test_cells_that_were_run_long_ago_have_the_hash_that_they_had(registry):
    cells = [c for c in grid(load_suite("quick"), registry) if c.run.seed == 0]
    now = {c.run.strategy: c.config_hash for c in cells}
    assert {name: now[name] for name in RECORDED} == RECORDED


def test_a_younger_option_is_in_the_hash_where_it_is_used(cells_of):
    def hash_of(**options):
        written = changed(models=[{"name": "cnn", **options}])
        return cells_of(written)[0].config_hash

    assert hash_of() == hash_of(projection_units=None)
    assert hash_of(features=8) != hash_of(features=8, projection_units=4)


def test_how_often_a_run_is_saved_changes_no_hash(cells_of):
    often = cells_of(changed(checkpoint_every=1))[0]
    assert often.config_hash == cells_of()[0].config_hash
    assert often.checkpoint_every == 1


def test_a_third_partys_things_are_named_with_version_in_the_configuration(cells_of):
    plugins = cells_of()[0].config["plugins"]
    assert set(plugins) == {"strategies.toy-mean", "datasets.toy", "models.toy-linear"}
    assert plugins["datasets.toy"].startswith("toy_plugin.py sha256:")


def test_the_configuration_is_plain_json(cells_of):
    config = cells_of()[0].config
    assert json.loads(json.dumps(config)) == config


def test_a_list_of_models_is_a_mix_and_options_tell_variants_apart(cells_of):
    narrow = {"name": "toy-linear", "width": 0.5}
    cells = cells_of(changed(models=["toy-linear", ["toy-linear", narrow]]))
    shown = list(dict.fromkeys(cell.run.models for cell in cells))
    assert shown == ["toy-linear", "toy-linear+toy-linear[width=0.5]"]


def test_partitions_that_differ_in_an_option_have_different_names(cells_of):
    two = [{"name": "classes", "per_client": k} for k in (1, 2)]
    cells = cells_of(changed(partitions=two))
    assert len({cell.run.partition for cell in cells}) == 2


def test_a_strategys_own_training_replaces_only_what_it_names(cells_of):
    own = {"name": "toy-mean", "training": {"lr_from_round": {2: 0.001}}}
    training = cells_of(changed(strategies=[own]))[0].config["protocol"]["training"]
    assert training["lr_from_round"] in ({2: 0.001}, {"2": 0.001})
    assert (training["lr"], training["local_steps"]) == (0.05, 2)


def test_epochs_of_a_strategy_replace_the_steps_of_the_suite(cells_of):
    own = {"name": "toy-mean", "training": {"local_epochs": 1}}
    training = cells_of(changed(strategies=[own]))[0].config["protocol"]["training"]
    assert (training["local_steps"], training["local_epochs"]) == (None, 1)


@pytest.mark.parametrize(
    ("written", "seeds"),
    [
        ("0-2", [0, 1, 2]),
        ("0,3", [0, 3]),
        ([4, 2], [4, 2]),
        (7, [7]),
        ("1,5-6", [1, 5, 6]),
        ("20261201", [20261201]),
        (10**18 - 1, [10**18 - 1]),
        (str(10**18 - 1), [10**18 - 1]),
    ],
)
def test_seeds_can_be_a_list_a_range_or_a_number(cells_of, written, seeds):
    cells = cells_of(changed(seeds=written, partitions=["iid"]))
    assert list(dict.fromkeys(cell.run.seed for cell in cells)) == seeds


@pytest.mark.parametrize(
    ("written", "found"),
    [
        (
            str(10**18),
            "'1000000000000000000'; expected whole numbers of at most 18 dig",
        ),
        ([10**18], "1000000000000000000. Expected less than 1000000000000000000"),
        ("010", "'010'; expected whole numbers of at most 18 digits, such as"),
        ("0-1000", "'0-1000'; expected a range upwards of at most 1000 seeds"),
        (True, "True; expected whole numbers"),
        ([0, 0], r"\[0, 0\]; a seed comes twice; remove one"),
    ],
)
def test_seeds_of_another_form_are_told_in_words(cells_of, written, found):
    with pytest.raises(ConfigError, match=f"seeds(.0)?: found {found}"):
        cells_of(changed(seeds=written))


def test_a_number_with_an_exponent_needs_no_point(cells_of):
    text = TOY.replace("lr: 0.05", "lr: 5e-2")
    assert cells_of(text)[0].config_hash == cells_of()[0].config_hash


def test_the_resolved_suite_is_a_suite_file_with_the_same_cells(cells_of, registry):
    from fedkd.base import yamlfile

    first = cells_of()
    suite = load_overridden("smoke", Overrides(), registry)
    text = yamlfile.dump(suite.plain())
    assert [c.run_id for c in cells_of(text)] == [
        c.run_id for c in grid(suite, registry)
    ]
    assert first == cells_of()


class TestOverrides:
    def test_strategies_are_picked_by_label_in_the_order_given(self, cells_of):
        assert labels(cells_of(strategies="longer,toy-mean")) == ["longer", "toy-mean"]

    def test_a_name_that_is_no_label_picks_all_its_strategies(self, cells_of):
        text = TOY.replace("  - toy-mean\n", "  - {name: toy-mean, label: short}\n")
        assert labels(cells_of(text, strategies="toy-mean")) == ["short", "longer"]

    def test_a_registered_strategy_can_be_added_by_name(self, cells_of):
        cells = cells_of(strategies="toy-mean,toy-picky")
        assert labels(cells) == ["toy-mean", "toy-picky"]

    def test_data_sets_can_be_swapped(self, cells_of):
        assert {cell.run.dataset for cell in cells_of(datasets="toy-missing")} == {
            "toy-missing"
        }

    def test_partitions_and_models_are_picked_by_label_or_name(self, cells_of):
        wide = {"clients": {"name": "mlp", "width": 0.5}, "label": "wide"}
        mix = {"clients": ["mlp", "toy-linear"], "label": "both"}
        strong = {"name": "dirichlet", "alpha": 0.1, "label": "strong"}
        text = changed(
            models=["toy-linear", "mlp", wide, mix],
            partitions=["iid", {"name": "dirichlet", "alpha": 0.5}, strong],
        )

        def found(**wishes):
            runs = [
                cell.run for cell in cells_of(text, strategies="toy-mean", **wishes)
            ]
            parts = dict.fromkeys((run.partition, run.alpha) for run in runs)
            return list(dict.fromkeys(run.models for run in runs)), list(parts)

        assert found(models="wide,both") == (["wide", "both"], found()[1])
        # A name means all of the suite that are of it alone.
        assert found(models="mlp")[0] == ["mlp", "wide"]
        # One that the suite does not list comes in by its registered name.
        assert found(models="cnn")[0] == ["cnn"]
        assert found(partitions="strong")[1] == [("strong", None)]
        assert found(partitions="dirichlet")[1] == [
            ("dirichlet", 0.5),
            ("strong", None),
        ]
        assert found(partitions="iid", models="both") == (["both"], [("iid", None)])

    def test_what_is_picked_by_name_is_set_too(self, cells_of):
        cells = cells_of(
            models="mlp",
            partitions="dirichlet",
            assignments=["model.width=0.5", "partition.alpha=0.1"],
        )
        assert {(cell.run.models, cell.run.alpha) for cell in cells} == {
            ("mlp[width=0.5]", 0.1)
        }

    def test_seeds_and_clients_replace_those_of_the_file(self, cells_of):
        cells = cells_of(seeds="3-4", clients=2)
        assert {(cell.run.seed, cell.run.clients) for cell in cells} == {(3, 2), (4, 2)}

    def test_rounds_hold_for_every_strategy(self, cells_of):
        assert {cell.run.rounds for cell in cells_of(rounds=2)} == {2}

    def test_a_shared_option_goes_to_every_entry_that_has_it(self, cells_of):
        cells = cells_of(assignments=["partition.alpha=0.1"])
        found = {(cell.run.partition, cell.run.alpha) for cell in cells}
        assert found == {("iid", None), ("dirichlet", 0.1)}

    def test_settings_that_become_equal_are_one(self, cells_of):
        two = [{"name": "dirichlet", "alpha": a} for a in (0.1, 0.5)]
        cells = cells_of(changed(partitions=two), assignments=["partition.alpha=0.3"])
        assert [cell.run.alpha for cell in cells] == [0.3] * 4

    def test_model_options_reach_every_entry_of_a_mix(self, cells_of):
        cells = cells_of(
            changed(models=[["toy-linear", "toy-linear"]]),
            assignments=["model.width=0.25"],
        )
        assert {cell.run.models for cell in cells} == {
            "toy-linear[width=0.25]+toy-linear[width=0.25]"
        }

    def test_a_strategys_option_is_set_by_label(self, cells_of):
        cells = cells_of(assignments=["strategies.longer.mu=0.2"])
        assert [c.config["strategy"]["options"]["mu"] for c in cells[:2]] == [0.5, 0.2]

    def test_a_strategys_training_and_rounds_are_set_by_label(self, cells_of):
        wishes = ["strategies.longer.training.lr=1e-3", "strategies.longer.rounds=9"]
        plain, longer = cells_of(assignments=wishes)[:2]
        assert plain.config["protocol"]["training"]["lr"] == 0.05
        assert longer.config["protocol"]["training"]["lr"] == 0.001
        assert longer.run.rounds == 9

    def test_a_nested_key_of_the_suite_is_set(self, cells_of):
        cells = cells_of(assignments=["training.lr=0.5", "evaluation.every=2"])
        protocol = cells[0].config["protocol"]
        assert (protocol["training"]["lr"], protocol["evaluation"]["every"]) == (0.5, 2)

    def test_setting_epochs_replaces_steps(self, cells_of):
        cells = cells_of(assignments=["training.local_epochs=2"])
        training = cells[0].config["protocol"]["training"]
        assert (training["local_steps"], training["local_epochs"]) == (None, 2)

    def test_epochs_of_a_strategy_replace_its_steps(self, cells_of):
        wish = "strategies.longer.training.local_"
        cells = cells_of(assignments=[f"{wish}steps=3", f"{wish}epochs=2"])
        training = cells[-1].config["protocol"]["training"]
        assert (training["local_steps"], training["local_epochs"]) == (None, 2)

    def test_steps_of_a_suite_that_says_nothing_of_training_can_be_set(self, cells_of):
        wishes = ["training=null", "training.local_steps=2", "training.lr=0.1"]
        training = cells_of(assignments=wishes)[0].config["protocol"]["training"]
        assert (training["local_steps"], training["lr"]) == (2, 0.1)

    def test_a_top_level_key_is_set(self, cells_of):
        cells = cells_of(assignments=["buffers=local", "participation=2"])
        protocol = cells[0].config["protocol"]
        assert (protocol["buffers"], protocol["participation"]) == ("local", 2)

    def test_the_later_of_two_assignments_wins(self, cells_of):
        cells = cells_of(assignments=["training.lr=1", "training.lr=2"])
        assert cells[0].config["protocol"]["training"]["lr"] == 2

    def test_what_is_wrong_on_the_command_line_is_named_as_such(self, cells_of):
        with pytest.raises(
            ConfigError, match=r"toy\.yaml with training\.lr=-1: training"
        ):
            cells_of(assignments=["training.lr=-1"])


@pytest.mark.parametrize(
    ("wishes", "assignment"),
    [
        ({"seeds": "0"}, "seeds=3-4"),
        ({"rounds": 3}, "rounds=5"),
        ({"rounds": 3}, "strategies.fedavg.rounds=5"),
        ({"clients": 5}, "clients=[3,4]"),
        ({"strategies": "fedavg"}, "strategies=[scaffold]"),
        ({"datasets": "digits"}, "datasets=[wine]"),
        ({"partitions": "iid"}, "partitions=[shards]"),
        ({"models": "mlp"}, "models=[cnn]"),
    ],
)
def test_what_is_asked_for_in_two_ways_is_refused(wishes, assignment):
    ((name, value),) = wishes.items()
    asked = Overrides(**wishes, assignments=[assignment])
    both = re.escape(f"found --{name} {value} and --set {assignment}, of which one")
    with pytest.raises(ConfigError, match=both):
        load_overridden("quick", asked, load_registry(quiet=True))


def test_a_member_of_a_list_that_is_set_is_picked():
    asked = Overrides(
        strategies="one", assignments=["strategies=[{name: fedavg, label: one}]"]
    )
    suite = load_overridden("quick", asked, load_registry(quiet=True))
    assert [entry.label for entry in suite.strategies] == ["one"]
