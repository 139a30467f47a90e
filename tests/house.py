"""The house: which modules there are, who imports whom, and on which floor each stands.

``python tests/house.py`` prints the map: modules and lines a folder, packages and arrows.

The folders ``algorithms``, ``datasets``, ``models`` and ``benchmarks/suites`` are read
where they are; their modules are named as they are imported, ``fedkd.algorithms.fedavg``.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {
    "fedkd.algorithms": "algorithms",
    "fedkd.datasets": "datasets",
    "fedkd.models": "models",
    "fedkd.suites": "benchmarks/suites",
    "fedkd.reported": "benchmarks/reported",
}
"""Packages that lie beside the folder ``fedkd``, which has links to them."""
FLOORS = (
    ("errors", "_version"),
    ("base",),
    ("config", "payload", "weights", "hookspecs"),
    ("partition",),
    ("data",),
    ("ops",),
    ("robust",),
    ("metrics",),
    ("party",),
    ("strategy",),
    ("calibration", "averaged"),
    ("datasets", "models", "algorithms", "suites", "reported"),
    ("simulation",),
    ("engines",),
    ("observers",),
    ("plugins",),
    ("suite",),
    ("report",),
    ("harness",),
    ("api",),
    ("testing",),
    ("commands",),
    ("cli", "__main__"),
)
"""From the ground up. A module imports from its own floor and from those below."""


def _modules():
    found = {}
    tops = {"fedkd": ROOT / "fedkd"} | {p: ROOT / f for p, f in OUTSIDE.items()}
    for package, top in tops.items():
        for path in sorted(top.rglob("*.py")):
            inside = path.relative_to(top).with_suffix("").parts
            linked = package == "fedkd" and f"fedkd.{inside[0]}" in OUTSIDE
            if linked or "__pycache__" in inside:
                continue
            name = ".".join((package, *inside)).removesuffix(".__init__")
            found[name] = path
    return found


MODULES = _modules()
"""Paths by the names of modules."""


def imports_of(tree):
    """Return the modules of fedkd that a tree imports, as ``{module: line}``."""
    found = {}
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else node.module for name in whole]
        found |= {n: node.lineno for n in names if n and n.split(".")[0] == "fedkd"}
    return found


def room_of(module):
    """Return the package directly under ``fedkd``, or the module there, of a module."""
    return module.split(".")[1] if "." in module else "__init__"


def floor_of(module):
    """Return the number of a module's floor, from 0; of ``fedkd`` itself: above all.

    Raises:
        KeyError: If its package is on no floor.
    """
    room = room_of(module)
    if room == "__init__":
        return len(FLOORS)
    for number, rooms in enumerate(FLOORS):
        if room in rooms:
            return number
    raise KeyError(f"{module}: name its package {room!r} in FLOORS of tests/house.py")


def arrows():
    """Return the imports between rooms: ``{(from, to): number of modules}``."""
    found = {}
    for module, path in MODULES.items():
        rooms = {room_of(m) for m in imports_of(ast.parse(path.read_text("utf-8")))}
        for room in rooms - {room_of(module), "__init__"}:
            key = (room_of(module), room)
            found[key] = found.get(key, 0) + 1
    return found


def main():
    lines = {m: len(p.read_text("utf-8").splitlines()) for m, p in MODULES.items()}
    folders = {}
    for module, path in MODULES.items():
        folder = str(path.parent.relative_to(ROOT))
        folders.setdefault(folder, []).append(lines[module])
    print("modules  lines  folder")
    for folder, sizes in sorted(folders.items()):
        print(f"{len(sizes):7}  {sum(sizes):5}  {folder}")
    print(f"{len(lines):7}  {sum(lines.values()):5}  in all\n")
    found = arrows()
    print("rooms, from the top floor down, and what each imports (modules that do)")
    for rooms in reversed(FLOORS):
        for room in rooms:
            below = sorted((to, n) for (of, to), n in found.items() if of == room)
            print(f"  {room:<11} {', '.join(f'{to} {n}' for to, n in below)}")
    print(f"\n{sum(map(len, FLOORS))} rooms, {len(found)} arrows")


if __name__ == "__main__":
    main()
