"""Writes a new plug-in: a package that passes its own tests, or a single file."""

from __future__ import annotations

import importlib.resources
import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from fedkd.errors import ConfigError
from fedkd.plugins.entries import KINDS, problem_of
from fedkd.plugins.loader import Offer
from fedkd.plugins.registry import Registry

THINGS = {
    "strategy": "strategies",
    "dataset": "datasets",
    "model": "models",
    "partitioner": "partitioners",
    "metric": "metrics",
}
"""What can be written, with its name in the registry."""
_SUMMARIES = {
    "strategy": "Federated averaging with a step at the server.",
    "dataset": "Generated 9x9 images of bars in three places.",
    "model": "One hidden layer on pixels.",
    "partitioner": "Clients of falling sizes, images in random order.",
    "metric": "Mean probability of the true class.",
}
_USES = {
    "strategy": "fedkd bench quick --strategies fedavg,{name}",
    "dataset": "fedkd bench quick --datasets {name}",
    "model": "fedkd bench quick --set 'models=[{name}]'",
    "partitioner": "fedkd bench quick --set 'partitions=[{name}]'",
    "metric": "fedkd bench quick --set 'metrics=[{name}]'",
}
"""How each is used in a suite; brackets are quoted, which some shells want."""
_TESTED = {
    "strategy": "import torch",
    "dataset": "import torch",
    "model": "import torch",
    "partitioner": "import numpy as np",
    "metric": "import pytest\nimport torch",
}
"""What the tests import of others; parts of the example are imported where they are used,
so that the rest of the file survives a change of it."""
_FACE = {"strategy", "dataset", "metric"}
"""Kinds whose tests use ``fedkd`` beside ``fedkd.testing``."""


@dataclass(frozen=True)
class NewPlugin:
    """A plug-in to be written, under a name that was checked."""

    thing: str
    """A key of :data:`THINGS`."""
    name: str
    """What it is registered under: ``median-avg``."""

    @property
    def module(self) -> str:
        """The module that it is in: ``median_avg``."""
        return self.name.replace("-", "_")

    @property
    def class_name(self) -> str:
        """Its class: ``MedianAvg``."""
        return "".join(word.capitalize() for word in self.module.split("_"))

    @property
    def distribution(self) -> str:
        """The distribution, and the folder that is written: ``fedkd-median-avg``."""
        return f"fedkd-{self.name.replace('_', '-')}"

    @property
    def use(self) -> str:
        """A command that uses it in a suite."""
        return _USES[self.thing].format(name=self.name)

    def single_file(self) -> dict[str, str]:
        """Return the text of a plug-in of one file, by its path."""
        hook = self._filled("hook", target=f":{self.class_name}")
        return {f"{self.module}.py": f"{self._filled(self.thing)}\n\n{hook}"}

    def package(self) -> dict[str, str]:
        """Return the texts of a plug-in package, by path."""
        top, source = self.distribution, f"src/{self._package}"
        target = f"{self._package}.{self.module}:{self.class_name}"
        hook = self._filled("hook", target=target)
        code = self._filled(self.thing).replace("import fedkd\n", "", 1)
        use = f"\nIn a suite: `{self.use}`."
        files = {
            "pyproject.toml": self._filled("pyproject"),
            "README.md": self._filled("readme", use=use),
            ".github/workflows/test.yml": self._filled("workflow"),
            f"{source}/__init__.py": self._filled("init") + hook,
            f"{source}/{self.module}.py": code,
            f"tests/test_{self.module}.py": self._tests(),
        }
        return {f"{top}/{path}": text for path, text in files.items()}

    def _tests(self) -> str:
        others = _TESTED[self.thing]
        face = "import fedkd\n" if self.thing in _FACE else ""
        title = (
            f"{self.class_name}: the promises of the contract, and equations by hand.\n\n"
            "TestContract and the hook's test stay; replace the other tests by your own\n"
            "equations.\n"
        )
        head = (
            f'"""{title}"""\n\n{face}{others}\nfrom fedkd import testing\n\n'
            f"import {self._package}\n"
            f"from {self._package}.{self.module} import {self.class_name}\n\n\n"
        )
        body = self._filled(f"{self.thing}_tests")
        return head + body + self._filled("registered_test")

    @property
    def _package(self) -> str:
        return f"fedkd_{self.module}"

    def _filled(self, template: str, **more: str) -> str:
        """Return the text of a template with the names of this plug-in."""
        plural = THINGS[self.thing]
        names = {
            "name": self.name,
            "Class": self.class_name,
            "module": self.module,
            "package": self._package,
            "distribution": self.distribution,
            "plural": plural,
            "word": KINDS[plural],
            "summary": _SUMMARIES[self.thing],
        }
        return Template(_template(template)).substitute(names, **more)


def _template(name: str) -> str:
    folder = importlib.resources.files("fedkd.plugins").joinpath("templates")
    return folder.joinpath(f"{name}.txt").read_text("utf-8")


def new_plugin(thing: str, name: str, registry: Registry) -> NewPlugin:
    """Return a plug-in to be written.

    Args:
        thing: A key of :data:`THINGS`.
        name: What it is to be registered under.
        registry: Where the name must be free.

    Raises:
        ConfigError: If the name is none, is taken, or gives names that Python cannot
            have or that its module needs.
    """
    kind = THINGS[thing]
    problem = problem_of(Offer(kind, name, "module:attribute", "", ""))
    if problem is not None:
        raise ConfigError(problem)
    owner = registry.entries(kind).get(name)
    if owner is not None:
        raise ConfigError(
            f"{KINDS[kind]} {name!r} is already registered by {owner.owner}. Choose "
            "another name."
        )
    made = NewPlugin(thing, name)
    if not made.module.isidentifier() or keyword.iskeyword(made.module):
        raise ConfigError(
            f"{name!r} would be the module {made.module!r}, which Python does not import. "
            "Choose a name that starts with a letter and is no keyword."
        )
    if re.search(rf"\b{made.class_name}\b", _template(thing)):
        raise ConfigError(
            f"{name!r} would be the class {made.class_name!r}, a name that its module "
            "needs for something else. Choose another name."
        )
    return made


def write(files: Mapping[str, str], folder: Path) -> list[Path]:
    """Write files under a folder; nothing that is there is changed.

    Raises:
        ConfigError: If the file, or the folder of the package, exists.
    """
    for top in dict.fromkeys(Path(path).parts[0] for path in files):
        target = folder / top
        if target.exists() or target.is_symlink():
            raise ConfigError(
                f"{target} exists, and nothing is overwritten. Choose another name or "
                "folder, or move it away."
            )
    written = []
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
        written.append(target)
    return written
