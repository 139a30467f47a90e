"""The command line: a group whose sub-commands are imported when they are called."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import click

from fedkd._version import __version__
from fedkd.base.ending import ends_in_order, exit_code
from fedkd.base.streams import make_patient
from fedkd.commands.common import plugin_option
from fedkd.errors import FedKDError, suggestion

COMMANDS = {
    "bench": ("bench", "Run a suite: every strategy on every cell of a grid."),
    "list": (
        "listing",
        "List what is registered: strategies, data sets, models, metrics.",
    ),
    "show": ("show", "Show what a strategy or another registered thing is."),
    "new": ("new", "Write a plug-in to begin with: a strategy, a data set, a model."),
    "check": ("check", "Hold a strategy or another registered thing to its promises."),
    "cite": ("cite", "Print BibTeX of all that results used."),
    "plugins": ("plugins", "List the plug-ins: version, hooks, status."),
    "data": ("data", "Prepare, check and list the data sets' files."),
    "partition": (
        "partition",
        "Show how a partition spreads the classes over clients.",
    ),
    "report": ("report", "Draw tables and figures from the results of bench."),
    "compare": ("compare", "Say what changed between two results, beyond seed noise."),
    "export": (
        "export",
        "Write a model of a finished run: weights, torch.export, ONNX.",
    ),
}
"""Sub-commands: the module of :mod:`fedkd.commands` that holds each, and its help."""


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of use."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command and return the command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"fedkd.commands.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments call; suggest one if there is none."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            ctx.fail(f"unknown command {name!r}.{suggestion(name, COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write the commands with their short help, without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@click.version_option(__version__, prog_name="fedkd")
@plugin_option
@click.pass_context
def cli(context: click.Context, plugin_files: tuple[str, ...]) -> None:
    """Benchmark federated learning with heterogeneous data and models.

    'fedkd bench' runs the suite 'quick' on data that needs no download.
    """
    del plugin_files  # sub-commands read them from this context
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    A problem is one line on stderr; ``FEDKD_DEBUG=1`` adds the traceback.

    Args:
        arguments: What follows the program's name; from ``sys.argv`` if None.
    """
    sys.excepthook = _report_bug
    warnings.showwarning = _show_warning
    if arguments is None:
        make_patient()
    argv = None if arguments is None else list(arguments)
    try:
        with ends_in_order():
            result = cli.main(argv, prog_name="fedkd", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        return _complain(_usage(error), error, error.exit_code)
    except FedKDError as error:
        return _complain(str(error), error, error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        return _complain("interrupted.", error, exit_code(error))
    except OSError as error:
        return _complain(_system_problem(error), error, 1)


def is_debugging() -> bool:
    """Say whether ``FEDKD_DEBUG`` asks for tracebacks."""
    return os.environ.get("FEDKD_DEBUG", "") not in ("", "0")


def _complain(message: str, error: BaseException, code: int) -> int:
    if is_debugging():
        traceback.print_exception(error)
    click.echo(f"fedkd: {message}", err=True)
    return code


def _usage(error: click.ClickException) -> str:
    """Return a click error on one line, with where to find help."""
    message = error.format_message()
    context = getattr(error, "ctx", None)
    if context is None:
        return message
    return f"{message} (run '{context.command_path} --help')"


def _system_problem(error: OSError) -> str:
    """Return what the operating system refused, where, and what to do."""
    advice = {
        errno.ENOSPC: "free some space or choose another folder.",
        errno.EDQUOT: "free some space or choose another folder.",
        errno.EACCES: "choose a folder that you may write to and files you may read.",
        errno.EPERM: "choose a folder that you may write to and files you may read.",
        errno.EROFS: "choose a folder that can be written to.",
    }
    reason = error.strerror or str(error) or type(error).__name__
    where = f"{error.filename}: " if error.filename else ""
    hint = advice.get(error.errno or 0)
    return f"{where}{reason}" + (f"; {hint}" if hint else ".")


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Show a warning as one line, without its place in the code."""
    click.echo(f"fedkd: warning: {' '.join(str(message).split())}", err=True)


def _report_bug(
    kind: type[BaseException],
    error: BaseException,
    trace: TracebackType | None,
) -> None:
    """Show an exception nobody expected: one line, or all of it when debugging."""
    if is_debugging():
        sys.__excepthook__(kind, error, trace)
        return
    text = " ".join(str(error).split())
    click.echo(
        f"fedkd: internal error: {kind.__name__}: {text} "
        "(this is a bug; run again with FEDKD_DEBUG=1 and report what it prints)",
        err=True,
    )


if __name__ == "__main__":
    sys.exit(main())
