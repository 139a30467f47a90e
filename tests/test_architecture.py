"""How the code may be built: who may import whom, how long, how deep, how wide."""

import ast
import functools

from house import FLOORS, MODULES, OUTSIDE, ROOT, floor_of, imports_of, room_of

BUILT_IN = ("algorithms", "datasets", "models", "engines")
"""Rooms that the others reach through the registry only, and each other not at all."""
CATCH_ALL = {
    "fedkd.api.export",  # a model may be a plug-in's, and exporters raise anything
    "fedkd.errors",  # tells what a plug-in's code raised
    "fedkd.harness.precheck",  # checks cells first: a plug-in's model may raise anything
    "fedkd.harness.cell",  # a cell that fails is a row
    "fedkd.engines.turn_thread",  # a strategy's fault travels to the main thread
    "fedkd.simulation.executors.worker",  # a strategy's fault travels to the main process
    "fedkd.plugins.loader",  # loading a plug-in, or its target, runs its modules
    "fedkd.payload",  # damaged bytes fail in any of three readers
    "fedkd.testing.foreign",  # what a plug-in raises is a finding
    "fedkd.testing.report",  # what a plug-in raises is a finding
    "fedkd.plugins.registry",  # an observer that fails harms no run
    "fedkd.harness.builder",  # a data set's reader may be a plug-in's
    "fedkd.report.plots",  # a picture that cannot be drawn costs no table
}
"""Modules that may catch every exception, and why."""
MANY_PARAMETERS = 6
MOST_MODULES = 24
CATALOGUE = "algorithms"
"""The folder that may hold more: it is a catalogue."""
LONGEST_FILE = 400
LONGEST_FUNCTION = 40
DEEPEST = 3
BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

SCRIPTS = {
    str(path.relative_to(ROOT)): path
    for path in sorted((ROOT / "benchmarks").rglob("*.py"))
    if path not in MODULES.values()
}
"""No part of the package, by path: only their length, depth and width are limited."""
FILES = MODULES | SCRIPTS
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}
TESTS = sorted((ROOT / "tests").rglob("*.py")) + sorted((ROOT / "docs").glob("*.py"))
PACKAGED = (ROOT / "pyproject.toml").read_text("utf-8")


def of_all(names):
    """Make one test of a check of each name, which tells all that fail it."""

    def decorate(check):
        @functools.wraps(check)
        def test():
            faults = []
            for name in names:
                try:
                    check(name)
                except AssertionError as error:
                    faults.append(f"{name}: {error}")
            assert not faults, "\n\n".join(faults)

        del test.__wrapped__  # else pytest asks for the name
        return test

    return decorate


every_module = of_all(MODULES)
every_file = of_all(FILES)


def is_in(module, packages):
    """Say whether a module is one of some modules, or inside one of some packages."""
    return any(module == p or module.startswith(f"{p}.") for p in packages)


def bodies_of(node):
    """Yield the nodes one level further in that are not functions or classes."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
            yield child


def depth_of(node):
    """Return how deep blocks are nested in a function; ``elif`` adds nothing."""
    deepest = 0
    for child in bodies_of(node):
        is_elif = (
            isinstance(node, ast.If)
            and isinstance(child, ast.If)
            and node.orelse == [child]
        )
        own = 1 if isinstance(child, BLOCKS) and not is_elif else 0
        deepest = max(deepest, own + depth_of(child))
    return deepest


def length_of(function):
    """Return the lines of a function without its docstring."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        text = function.body[0]
        lines -= text.end_lineno - text.lineno + 1
    return lines


def is_command(function):
    """Say whether a function is a click command: one parameter an option."""
    return any("command" in ast.unparse(d) for d in function.decorator_list)


def positional(function):
    """Return the parameters of a function that a call may give by position."""
    named = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
    return [name for name in named if name not in ("self", "cls")]


def functions_of(name):
    return [node for node in ast.walk(TREES[name]) if isinstance(node, FUNCTIONS)]


def at(name, node):
    return f"{FILES[name].relative_to(ROOT)}:{node.lineno}"


@every_module
def test_imports_are_absolute(name):
    relative = [
        at(name, node)
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


@every_module
def test_no_module_goes_by_the_name_of_its_folder_in_the_checkout(name):
    """``import algorithms.fedavg`` would make a second class of the same file."""
    own = {"algorithms", "datasets", "models", "benchmarks"}
    imported = {
        (alias.name if isinstance(node, ast.Import) else node.module or "").split(".")[
            0
        ]
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported & own == set()


@every_module
def test_a_module_imports_from_its_own_floor_and_from_those_below(name):
    above = [m for m in imports_of(TREES[name]) if floor_of(m) > floor_of(name)]
    assert above == [], f"floors, from the ground up: {FLOORS}"


@every_module
def test_nobody_knows_an_algorithm_data_set_or_model_but_its_own_kind(name):
    if name == "fedkd":
        return  # the face, which shows type checkers what it imports when it is asked
    known = {room_of(module) for module in imports_of(TREES[name])}
    assert known & set(BUILT_IN) <= {room_of(name)}


def test_a_folder_holds_no_more_modules_than_can_be_overlooked():
    folders = {}
    for path in MODULES.values():
        folders.setdefault(path.parent.relative_to(ROOT), []).append(path.name)
    full = {str(f): len(names) for f, names in folders.items()}
    assert {f: n for f, n in full.items() if n > MOST_MODULES} == {
        f: n for f, n in full.items() if n > MOST_MODULES and f == CATALOGUE
    }


def test_no_module_imports_itself_by_a_detour():
    below = {
        name: {m for m in imports_of(tree) if m in MODULES and m != "fedkd"}
        for name, tree in TREES.items()
        # The public names of ``fedkd`` are imported when they are used.
        if name != "fedkd"
    }
    left = dict(below)
    while True:
        free = {n for n, needs in left.items() if not needs & left.keys()}
        if not free:
            break
        left = {n: needs for n, needs in left.items() if n not in free}
    assert sorted(left) == []


@every_file
def test_a_file_is_short_enough_to_be_read(name):
    assert len(FILES[name].read_text("utf-8").splitlines()) <= LONGEST_FILE


@every_file
def test_a_function_fits_on_a_screen(name):
    limit = LONGEST_FUNCTION
    long = {
        at(name, f): length_of(f)
        for f in functions_of(name)
        # The signature of a command is its list of options, one a line.
        if length_of(f) > limit and not is_command(f)
    }
    assert long == {}, f"expected at most {limit} lines without the docstring"


@every_file
def test_blocks_are_nested_at_most_three_deep(name):
    deep = {at(name, f): depth_of(f) for f in functions_of(name)}
    assert {where: d for where, d in deep.items() if d > DEEPEST} == {}


@every_file
def test_a_call_gives_at_most_six_values_by_position(name):
    wide = {
        at(name, f): positional(f)
        for f in functions_of(name)
        if len(positional(f)) > MANY_PARAMETERS and not is_command(f)
    }
    assert wide == {}, "make the others keyword-only, or put them into a dataclass"


@every_module
def test_only_commands_print(name):
    if is_in(name, ["fedkd.commands"]):
        return
    calls = [
        at(name, node)
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    ]
    assert calls == []


def catch_alls(name):
    """Return the handlers of a module that swallow whatever comes."""
    handlers = [n for n in ast.walk(TREES[name]) if isinstance(n, ast.ExceptHandler)]
    return [
        at(name, handler)
        for handler in handlers
        if _takes_all(handler) and not _only_cleans_up(handler)
    ]


def _takes_all(handler):
    kinds = "" if handler.type is None else ast.unparse(handler.type)
    words = kinds.strip("()").replace(",", " ").split()
    return not words or bool({"Exception", "BaseException"} & set(words))


def _only_cleans_up(handler):
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


@every_module
def test_every_exception_is_caught_only_where_foreign_code_runs(name):
    found = catch_alls(name)
    assert not found or name in CATCH_ALL, f"{found}: name the exceptions"


def test_the_list_of_modules_that_catch_everything_is_not_longer_than_it_must_be():
    assert sorted(name for name in CATCH_ALL if not catch_alls(name)) == []


@every_module
def test_nothing_is_evaluated_or_unpickled(name):
    """Names are resolved by the registry; bytes are read by safetensors and JSON."""
    pickles = {"pickle", "dill", "shelve", "marshal"}
    found = []
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("eval", "exec"):
            found.append(at(name, node))
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {a.name for a in node.names} | {getattr(node, "module", None)}
            found += [at(name, node)] if names & pickles else []
    # The loader runs the file that the user names with --plugin.
    assert not found or name == "fedkd.plugins.loader"


def test_the_map_of_the_house_names_every_room():
    page = (ROOT / "docs" / "all-of-fedkd.md").read_text("utf-8")
    inner = {"_version", "toys", "suites", "reported", "__main__"}
    rooms = {room for rooms in FLOORS for room in rooms} - inner
    assert {
        r for r in rooms if f"{r}/`" not in page and f"{r}.py`" not in page
    } == set()


@every_module
def test_a_module_is_in_a_folder_that_is_packaged(name):
    """A sub-package that pyproject.toml does not name is missing from the wheel."""
    is_package = MODULES[name].name == "__init__.py"
    package = name if is_package else name.rpartition(".")[0]
    assert f'    "{package}",\n' in PACKAGED


def test_the_links_name_the_folders_that_lie_outside():
    for package, folder in OUTSIDE.items():
        assert (ROOT / package.replace(".", "/")).resolve() == ROOT / folder


@of_all(TESTS)
def test_a_test_file_parses_and_holds_no_init(path):
    """``tests/__init__.py`` would put the checkout, and its ``datasets``, on the path."""
    ast.parse(path.read_text("utf-8"))
    in_plugin = "plugins" in path.parts
    assert path.name != "__init__.py" or in_plugin


def test_conftest_is_in_tests_and_not_at_the_root():
    assert not (ROOT / "conftest.py").exists()
    assert (ROOT / "tests" / "conftest.py").is_file()
