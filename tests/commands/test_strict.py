"""What every command refuses before it does anything: empty texts, and values twice."""

import importlib

import click
import pytest

from fedkd.cli import COMMANDS, main
from fedkd.commands.common import Strict


def commands():
    for module, _ in COMMANDS.values():
        command = importlib.import_module(f"fedkd.commands.{module}").command
        yield from (
            command.commands.values() if isinstance(command, click.Group) else [command]
        )


def test_every_command_is_strict():
    assert {type(command) for command in commands()} == {Strict}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report", "x", "--methods", ""], "--methods: found an empty text"),
        (["report", "x", "--title="], "--title: found an empty text"),
        (["report", ""], "an argument is empty"),
        (["bench", "quick", "--out", "", "--plain"], "or leave --out out"),
        (["bench", "--set="], "--set: found an empty text"),
        (["data", "list", "--data-root", ""], "--data-root: found an empty text"),
        (["bench", "--observer", "csv", "--observer", "csv"], "'csv' twice"),
        (["bench", "--set", "rounds=2", "--set", "rounds=3"], "found 'rounds' twice"),
        (["report", "x", "--reported", "a", "--reported", "a"], "--reported: found 'a'"),
        (["bench", "--strategies", "fedavg,fedavg"], "--strategies: found 'fedavg' twice"),
        (["bench", "--datasets", " , "], "--datasets: found ' , ', expected names"),
        (["bench", "--datasets", "digits, digits"], "--datasets: found 'digits' twice"),
    ],
)  # fmt: skip
def test_an_empty_value_or_one_twice_is_an_error_that_names_the_option(
    capsys, arguments, said
):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
