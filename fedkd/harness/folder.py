"""What a results folder holds beside the cells of this call."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from fedkd.base import yamlfile
from fedkd.errors import ConfigError
from fedkd.harness.cell import FINAL, RESULT
from fedkd.report.text import counted

SUITE = "suite.yaml"


def refuse_other_suite(out: Path, name: str) -> None:
    """Refuse a results folder that holds the runs of another suite.

    Raises:
        ConfigError: Naming that suite and how many finished runs it has there.
    """
    try:
        found = yamlfile.read_mapping(out / SUITE, SUITE).get("name", name)
    except (OSError, ConfigError):
        return  # nothing that a user could tell from a folder of this suite
    if found != name:
        number = counted(finished_beside(out / "runs"), "run")
        raise ConfigError(
            f"{out} holds the suite {found!r} ({number}); choose another --out, or "
            "delete it."
        )


def finished_beside(runs: Path, known: Collection[str] = ()) -> int:
    """Return how many finished runs are in a folder, without the ``known`` ones.

    Args:
        runs: Folder of the run folders.
        known: Names of run folders that do not count.
    """
    paths = runs.glob(f"*/{RESULT}")
    return sum(_is_finished(p) for p in paths if p.parent.name not in known)


def _is_finished(path: Path) -> bool:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("status") in FINAL
