"""What ``fedkd data`` says of data sets, as records: at hand, sound, prepared."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedkd.data.prepared.files import folders_under, pair_in, require_sound
from fedkd.errors import ConfigError, DataError, FedKDError
from fedkd.plugins.entries import Entry
from fedkd.plugins.registry import Registry

if TYPE_CHECKING:
    from fedkd.data.dataset import Dataset

BUILT_IN = "built in"
"""Status of a data set that needs no files."""
NEEDS_PATH = "needs path"
"""Status of a data set that is named with the path of its files."""
PART = "part"
"""Status of a data set whose files hold a part of what is published."""
Record = dict[str, Any]
Show = Callable[[str, int, int], None]


def presence(entry: Entry, root: Path) -> Record:
    """Return whether the files of a data set are under ``root``, by their sizes.

    The status is ``ready``, ``missing``, ``incomplete``, ``damaged``, ``part``,
    ``built in``, ``needs path``, or ``broken`` if the plug-in that brings the set does
    not work.
    ``bytes`` is the size on the disk, or of what is to be fetched if all is missing.
    """
    record: Record = {
        "name": entry.name,
        "summary": entry.summary,
        "status": "broken",
        "folder": None,
        "bytes": 0,
        "files": [],
        "prepared": [],
        "error": None,
    }
    try:
        dataset = entry.resolve()
    except FedKDError as error:
        return {**record, "error": str(error)}
    record["prepared"] = [
        _prepared(dataset, folder) for folder in _folders(root, dataset)
    ]
    if dataset.files:
        there = _by_files(dataset.files, root)
        if there["status"] == "damaged" and _holds_part(dataset, root):
            there["status"] = PART
        return {**record, "folder": str(root), **there}
    if not dataset.places and dataset.argument:
        return {**record, "status": NEEDS_PATH}
    if not dataset.places:
        return {**record, "status": BUILT_IN}
    place = next((root / p for p in dataset.places if (root / p).exists()), None)
    return {
        **record,
        "status": _status_of(dataset, root),
        "folder": str(root),
        "bytes": 0 if place is None else _bytes_in(place),
    }


def _by_files(expected: Mapping[str, int], root: Path) -> Record:
    files: list[Record] = [
        {"path": name, "expected": size, "found": _size(root / name)}
        for name, size in expected.items()
    ]
    sizes = [file["found"] for file in files if file["found"] is not None]
    total = sum(sizes) if sizes else sum(expected.values())
    return {"files": files, "status": _status(files), "bytes": total}


def _status(files: Sequence[Mapping[str, Any]]) -> str:
    absent = sum(file["found"] is None for file in files)
    if absent:
        return "missing" if absent == len(files) else "incomplete"
    sound = all(file["found"] == file["expected"] for file in files)
    return "ready" if sound else "damaged"


def _status_of(cls: Any, root: Path) -> str:
    """Return the status of a set that tells itself whether its files are there."""
    if not any((root / place).exists() for place in cls.places):
        return "missing"
    try:
        cls().fingerprint(root)
    except DataError:
        return "incomplete"
    return PART if _holds_part(cls, root) else "ready"


def _holds_part(cls: Any, root: Path) -> bool:
    """Say whether the files are sound, but a part of the set."""
    try:
        part: bool = cls().holds_part(root)
    except (AttributeError, OSError, DataError):
        return False  # a set that cannot say, or damaged files
    return part


def _size(path: Path) -> int | None:
    # What a listing finds may be gone when it is looked at, or a link to nothing.
    with suppress(FileNotFoundError):
        return path.stat().st_size if path.is_file() else None
    return None


def _bytes_in(place: Path) -> int:
    """Return the size of a file, or of all files in a folder."""
    if place.is_file():
        return _size(place) or 0
    return sum(
        _size(Path(folder) / name) or 0
        for folder, _, names in os.walk(place)
        for name in names
    )


def _folders(root: Path, cls: Any) -> list[Path]:
    """Return the folders of a set's prepared files; none for sets that have none."""
    name = getattr(cls, "name", None)
    return list(folders_under(root, name)) if isinstance(name, str) else []


def _prepared(cls: Any, folder: Path) -> Record:
    """Return what is in a folder of prepared files, by headers and sizes."""
    pair = pair_in(folder)
    record: Record = {"folder": str(folder), "status": "ready", "options": {}}
    if pair is None:
        parts = list(folder.glob("*.part"))
        finals = list(folder.glob("*.safetensors"))
        status = "unfinished" if parts else "damaged" if finals else "empty"
        size = sum(_size(path) or 0 for path in [*parts, *finals])
        return {**record, "status": status, "bytes": size}
    options = _changed(cls, pair[0].header.options)
    return {**record, "options": options, "bytes": sum(file.bytes for file in pair)}


def _changed(cls: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that differ from their defaults."""
    fields = cls.Config.model_fields
    return {
        k: v for k, v in options.items() if k not in fields or fields[k].default != v
    }


def checked(
    registry: Registry, root: Path, name: str, options: Mapping[str, Any], named: bool
) -> Record:
    """Verify a data set's source files and its prepared ones.

    The status is ``ok``, ``missing`` or ``broken``; ``prepared`` if the source files are
    missing, but prepared ones can be used; ``needs path`` if there is nothing to check.

    Args:
        registry: Where the set is registered.
        root: The data root.
        name: The set, or ``NAME:VALUE``.
        options: Its options, for the source files; prepared files tell their own.
        named: Whether the user asked for this set; an error says then what is missing.
    """
    bare = name.partition(":")[0]
    there = presence(registry.entry("datasets", bare), root)
    record: Record = {"name": name, "status": there["status"], "error": there["error"]}
    if there["status"] != "broken" and (named or there["status"] != NEEDS_PATH):
        record |= _checked_source(registry, root, name, options)
        if there["status"] == "missing" and record["status"] == "broken":
            error = record["error"] if named else None
            record |= {"status": "missing", "error": error}
    folders = [v["folder"] for v in there["prepared"] if v["status"] != "empty"]
    if there["status"] != "broken" and named:
        folders = _of_it(reader_of(registry, name, options), folders, root)
    variants = [_checked_variant(registry, root, bare, Path(f)) for f in folders]
    wrong = next((v for v in variants if v["status"] == "damaged"), None)
    if wrong is not None and record["status"] != "broken":
        record |= {"status": "broken", "error": wrong["error"]}
    return {**record, "prepared": variants}


def _of_it(reader: Dataset, folders: Sequence[str], root: Path) -> list[str]:
    """Return the folders of prepared files that are of the path a set is named with.

    What does not say whose it is is of the set whose place it has. Sets that are not
    named with a path have all of them.
    """
    from fedkd.data.dataset import FileDataset  # noqa: PLC0415
    from fedkd.data.prepared.store import folder_of_set  # noqa: PLC0415

    key = reader.argument
    if not key or not isinstance(reader, FileDataset):
        return list(folders)
    own, place = reader.key_options()[key], str(folder_of_set(reader, root))
    pairs = {folder: pair_in(Path(folder)) for folder in folders}
    return [
        folder
        for folder, pair in pairs.items()
        if folder == place or (pair and pair[0].header.options.get(key) == own)
    ]


def _checked_source(
    registry: Registry, root: Path, name: str, options: Mapping[str, Any]
) -> Record:
    # Imported here, as below: torch takes a second, and not every command needs it.
    from fedkd.data.prepared import store as prepared  # noqa: PLC0415
    from fedkd.harness.builder import named_faults  # noqa: PLC0415

    reader = reader_of(registry, name, options)
    try:
        with named_faults(registry, name.partition(":")[0]):
            status = "ok"
            if prepared.has_sources(reader, root):
                reader.check(root)
            elif prepared.usable_pair(reader, root) is not None:
                status = "prepared"
            return {"status": status, "error": None, **prepared.facts(reader, root)}
    except FedKDError as error:
        return {"status": "broken", "error": str(error)}


def _checked_variant(registry: Registry, root: Path, name: str, folder: Path) -> Record:
    """Hold prepared files against their checksums and the source files."""
    from fedkd.data.prepared import store as prepared  # noqa: PLC0415

    record: Record = {"folder": str(folder), "options": {}, "error": None}
    pair = pair_in(folder)
    if pair is None:
        if any(folder.glob("*.part")):
            return {**record, "status": "unfinished"}
        problem = f"{name}: {folder} holds no whole prepared files"
        advice = "Remove it; it is prepared again at its next use."
        return {**record, "status": "damaged", "error": f"{problem}. {advice}"}
    options = pair[0].header.options
    record["options"] = _changed(registry.resolve("datasets", name), options)
    try:
        for file in pair:
            require_sound(file)
    except DataError as error:
        return {**record, "status": "damaged", "error": str(error)}
    try:
        reader = reader_of(registry, name, options)
    except ConfigError:
        return {**record, "status": "unused"}  # of a version with other options
    content = None
    with suppress(DataError, OSError):  # what is gone is said of the source files
        content = reader.content()
    current = prepared.is_current(reader, root, pair[0], content)
    return {**record, "status": "ok" if current else "outdated"}


def fetched(
    registry: Registry, root: Path, name: str, options: Mapping[str, Any], show: Show
) -> Record:
    """Fetch the files of a data set, prepare it, and return what came of it."""
    from fedkd.data.dataset import FileDataset  # noqa: PLC0415
    from fedkd.data.prepared import store as prepared  # noqa: PLC0415
    from fedkd.harness.builder import named_faults  # noqa: PLC0415

    reader = reader_of(registry, name, options)
    try:
        with named_faults(registry, name.partition(":")[0]):
            reader.prepare(root)
            if isinstance(reader, FileDataset):
                prepared.discard_damaged(reader, root)
                prepared.prepare(reader, root, show, reader.content())
            facts = prepared.facts(reader, root)
    except FedKDError as error:
        return {"name": name, "status": "broken", "error": str(error)}
    return {"name": name, "status": "ok", "error": None, **facts}


def reader_of(registry: Registry, name: str, options: Mapping[str, Any]) -> Dataset:
    """Return a data set by ``NAME`` or ``NAME:VALUE`` and the options beside it.

    Raises:
        ConfigError: If the name or an option is wrong.
    """
    from fedkd.plugins.options import resolve  # noqa: PLC0415

    resolved = resolve(registry, "datasets", name, options, f"data set {name!r}")
    return registry.dataset(resolved.name, resolved.options)[0]
