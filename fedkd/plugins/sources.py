"""What the sources of a plug-in are, where no version tells one state from the next.

The version of a distribution that is installed in place, ``pip install -e``, stays while
its files change; a plug-in file has none. A hash of what is run stands for it, so that
runs of other code have other hashes. It is taken once in a process, as modules are
imported once.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import json
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

DIGITS = 12
"""Digits of a hash that are told."""


def in_place(point: EntryPoint) -> bool:
    """Whether the distribution of an entry point is installed in place."""
    try:
        told = json.loads(
            (point.dist and point.dist.read_text("direct_url.json")) or "{}"
        )
        return bool(told["dir_info"]["editable"])
    # Metadata is what any tool wrote; without it, nothing says so.
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return False


@functools.cache
def digest_of_package(module: str) -> str:
    """Return the hash of the Python files of a module's outermost package.

    Returns:
        Its first digits; nothing if it is not found.
    """
    try:
        spec = importlib.util.find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        return ""
    if spec is None:
        return ""
    folders = list(spec.submodule_search_locations or ())
    files = [path for folder in folders for path in sorted(Path(folder).rglob("*.py"))]
    if not folders and spec.origin is not None:
        files = [Path(spec.origin)]
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:DIGITS] if files else ""


def digest_of_file(path: Path, text: bytes) -> str:
    """Return the hash of a plug-in file and of the modules beside it that it imports.

    Args:
        path: The file.
        text: What is in it.

    Returns:
        Its first digits; those of the text alone if it imports none of these.
    """
    digest = hashlib.sha256(text)
    for neighbour in sorted(_neighbours(path, text, {path})):
        digest.update(neighbour.name.encode() + b"\0" + _read(neighbour))
    return digest.hexdigest()[:DIGITS]


def _neighbours(path: Path, text: bytes, known: set[Path]) -> Iterator[Path]:
    """Yield the modules beside a file that it imports, and what these import."""
    for name in sorted(_imported(text)):
        module, package = path.parent / f"{name}.py", path.parent / name
        inside = sorted(package.rglob("*.py")) if package.is_dir() else []
        for found in [*([module] if module.is_file() else []), *inside]:
            if found not in known:
                known.add(found)
                yield found
                yield from _neighbours(path.parent / found.name, _read(found), known)


def _imported(text: bytes) -> set[str]:
    """Return the outermost names that a module imports; none if it is no Python."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return set()
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {one.name.partition(".")[0] for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


@functools.cache
def _read(path: Path) -> bytes:
    """Return what is in a module, as it was when it was first asked for."""
    return path.read_bytes()
