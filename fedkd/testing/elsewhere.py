"""A toy run in another interpreter, in which texts have other hashes.

Python draws the hashes of texts anew in each process. One interpreter is started, with
``PYTHONHASHSEED``, when it is first needed, and does all the runs: starting one takes
seconds, a run a fraction of one.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

import torch

from fedkd.calibration import calibrated
from fedkd.testing.prints import Print
from fedkd.testing.runs import recorded
from fedkd.testing.watching import AnyStrategy

Prints = dict[str, Print]
"""Fingerprints of results, by call."""
# The working directory comes last: a clone called fedkd, there, would hide the package.
_FIND = (
    "import sys; sys.path = [p for p in sys.path if p]; import fedkd; sys.path += ['']"
)
_SERVE = f"{_FIND}; from fedkd.testing.elsewhere import serve; serve()"


def prints_elsewhere(strategy: AnyStrategy) -> Prints | str:
    """Return what a strategy's toy run gives there; a sentence if it cannot run there.

    Raises:
        RuntimeError: If the run fails there; the traceback is on stderr.
    """
    kind = getattr(type(strategy), "method_class", type(strategy))
    if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
        return (
            f"{kind.__name__} cannot be imported by another process; define it at the "
            "top of a module."
        )
    request = {
        "module": kind.__module__,
        "file": getattr(sys.modules.get(kind.__module__), "__file__", None),
        "name": kind.__qualname__,
        "calibrated": kind is not type(strategy),
        "config": strategy.config.model_dump(mode="json"),
        "threads": torch.get_num_threads(),
    }
    answer: Prints | str = _asked(request)
    return answer


def _asked(request: dict[str, Any]) -> Any:
    process = _interpreter()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        _interpreter.cache_clear()
        raise RuntimeError(
            f"the toy run of {request['name']} failed in another interpreter; the "
            "traceback is above."
        )
    return json.loads(answer)


@functools.lru_cache(maxsize=1)
def _interpreter() -> subprocess.Popen[str]:
    """Start the other interpreter; it ends when this process does."""
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    paths = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(_end, process)
    return process


def _end(process: subprocess.Popen[str]) -> None:
    with process:
        process.kill()


def serve() -> None:
    """Answer requests, one a line, until there are no more."""
    # What strategies print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(_answer(json.loads(line))) + "\n")
        answers.flush()


def _answer(request: dict[str, Any]) -> Prints | str:
    torch.set_num_threads(request["threads"])
    try:
        kind = _class_of(request)
        kind = calibrated(kind) if request["calibrated"] else kind
    except (ImportError, AttributeError, OSError) as error:
        return f"another process cannot import {request['name']}: {error}."
    config = kind.Config.model_validate(request["config"])
    return recorded(lambda: kind(config)).given


def _class_of(request: dict[str, Any]) -> Any:
    """Import a class, from its file where its module is not on the path.

    Raises:
        ImportError: If neither can be imported.
        AttributeError: If the module has no such class.
    """
    try:
        module = importlib.import_module(request["module"])
    except ImportError:
        spec = importlib.util.spec_from_file_location(
            request["module"], request["file"] or ""
        )
        if spec is None or spec.loader is None:
            raise
        module = importlib.util.module_from_spec(spec)
        sys.modules[request["module"]] = module
        spec.loader.exec_module(module)
    return functools.reduce(getattr, request["name"].split("."), module)
