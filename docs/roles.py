"""Shows references of docstrings, such as ``:class:`Name```, as code on the site."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`~?([^`]+)`")


class Roles(griffe.Extension):
    """Takes the roles out of docstrings."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Leave the name of what is referred to."""
        if obj.docstring:
            obj.docstring.value = ROLE.sub(r"`\1`", obj.docstring.value)
