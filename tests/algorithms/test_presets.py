"""Every strategy's options, resolved, against a table of literal values.

A preset is a registered strategy with some options set; the others are defaults. A
change of either is a change of results, so all of them are written out in presets.yaml.
After a change that is meant: ``python tests/algorithms/test_presets.py`` writes the table
anew; read the difference before it is committed.
"""

from pathlib import Path

import pytest
import yaml

from fedkd.algorithms import STRATEGIES
from fedkd.plugins.registry import load_registry

TABLE = Path(__file__).with_name("presets.yaml")
REGISTRY = load_registry()
NAMES = sorted(STRATEGIES)


def resolved(name):
    strategy, _ = REGISTRY.strategy(name, {})
    return strategy.config.model_dump(mode="json")


@pytest.mark.parametrize("name", NAMES)
def test_the_options_of_a_strategy_are_those_of_the_table(name):
    known = yaml.safe_load(TABLE.read_text("utf-8"))
    assert resolved(name) == known.get(name), f"see the head of {Path(__file__).name}"


def test_the_table_has_no_strategy_that_is_gone():
    assert sorted(yaml.safe_load(TABLE.read_text("utf-8"))) == NAMES


if __name__ == "__main__":
    head = "# The options of every strategy; test_presets.py writes and checks them.\n"
    table = {name: resolved(name) for name in NAMES}
    TABLE.write_text(head + yaml.safe_dump(table, sort_keys=False), "utf-8")
