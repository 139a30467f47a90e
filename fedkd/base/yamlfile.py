"""YAML read strictly: no key twice, no value of two meanings, a sentence each problem."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from fedkd.base.bounds import read_text
from fedkd.base.forms import plain_numbers
from fedkd.errors import BoundsError, ConfigError

LONGEST = 1 << 18
"""Most characters of a text: PyYAML reads some hundred thousand a second."""
MOST_VALUES = 20_000
"""Most values of a text, each alias counted as all that it stands for."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, made strict."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._values = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a value; stop where there are too many.

        Raises:
            yaml.MarkedYAMLError: Naming the line.
        """
        self._values += 1
        if self._values > MOST_VALUES:
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise _too_many(event.start_mark)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper without anchors: a resolved file is read by people."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write every value out in full."""
        return True


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    """Build a mapping; refuse a key that comes twice and one that is no scalar."""
    seen: set[Hashable] = set()
    for key_node, _ in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(
                None, None, "a key must be plain text", key_node.start_mark
            )
        if key_node.value in seen:
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"the key {key_node.value!r} comes twice; remove one of them",
                key_node.start_mark,
            )
        seen.add(key_node.value)
    loader.flatten_mapping(node)
    return {
        loader.construct_object(key, deep=True): loader.construct_object(
            value, deep=True
        )
        for key, value in node.value
    }


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
# YAML 1.1 takes 1e-4 for text; everybody who writes a learning rate means the number.
_NUMBER = re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$")
for _table in (_Loader, _Dumper):
    _table.add_implicit_resolver(
        "tag:yaml.org,2002:float", _NUMBER, list("-+.0123456789")
    )

_AMBIGUOUS = re.compile(
    r"""
    (?P<switch> yes|no|on|off|y|n)                  # true and false
    | (?P<clock> [-+]?\d[\d_]*(:[0-5]?\d)+(\.[\d_]*)?)   # to the base 60
    | (?P<octal> [-+]?0[\d_]+)                      # to the base 8
    | (?P<base> [-+]?0[box][\da-f_]+)
    | (?P<grouped> [-+]?\d(?=\d*_)[\d_]*(\.[\d_]*)?(e[-+]?\d+)?)
    | (?P<day> \d{4}-\d\d?-\d\d?([Tt\s].*)?)
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""Plain values that YAML 1.1 takes for something else than people and YAML 1.2 do."""
_TAGS = {
    f"tag:yaml.org,2002:{kind}"
    for kind in ("null", "bool", "int", "float", "str", "seq", "map", "timestamp")
}
"""What values may be; a time is refused for being doubtful, in words that say more."""
_NO_TEXT = re.compile("[\ud800-\udfff]")
_INSTEAD = {"switch": "true or false", "day": "it in quotes if it is text"}


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    """Write a text; in quotes if the loader would refuse it as it stands: 0bdca42c."""
    style = "'" if _AMBIGUOUS.fullmatch(value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def _too_many(mark: yaml.Mark | None) -> yaml.MarkedYAMLError:
    text = f"found more than {MOST_VALUES:,} values, expected fewer; aliases count, too"
    return yaml.MarkedYAMLError(None, None, text, mark)


def _refuse_ambiguous(
    node: yaml.Node, name: str = "", above: tuple[yaml.Node, ...] = ()
) -> int:
    """Refuse plain values, at any depth, that nobody can be sure of; count all values.

    Raises:
        yaml.MarkedYAMLError: Naming the value, its key and its line; or if there are too
            many, as an alias of aliases makes of a few.
    """
    if node in above:
        problem = "found a value that holds itself; write out what is meant"
        raise yaml.MarkedYAMLError(None, None, problem, node.start_mark)
    if node.tag not in _TAGS:
        problem = f"found the tag {node.tag!r}; leave it out"
        raise yaml.MarkedYAMLError(None, None, problem, node.start_mark)
    within = (*above, node)
    number = 1
    for below, value in _inside(node, name):
        number += _refuse_ambiguous(value, below, within)
        if number > MOST_VALUES:
            raise _too_many(value.start_mark)
    if isinstance(node, yaml.ScalarNode):
        _refuse_doubtful(node, name)
    return number


def _inside(node: yaml.Node, name: str) -> Iterator[tuple[str, yaml.Node]]:
    """Yield what is in a value, each with its path."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield f"{name}.{key.value}" if name else str(key.value), value
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield name, value


def _refuse_doubtful(node: yaml.ScalarNode, name: str) -> None:
    if _NO_TEXT.search(node.value):
        problem = f"{name or 'value'}: found half a character, expected text"
        raise yaml.MarkedYAMLError(None, None, problem, node.start_mark)
    match = _AMBIGUOUS.fullmatch(node.value)
    if node.style is None and match is not None:
        usual = "a plain decimal number, or it in quotes if it is text"
        raise yaml.MarkedYAMLError(
            None,
            None,
            f"{name or 'value'}: found {node.value}, which YAML may read as "
            f"something else; write {_INSTEAD.get(str(match.lastgroup), usual)}",
            node.start_mark,
        )


def read_mapping(path: Path, where: str) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Args:
        path: The file.
        where: How messages call it: ``"suite x.yaml"``.

    Raises:
        ConfigError: If the file cannot be read, is no YAML, holds a key twice or holds
            anything but a mapping; names the line.
    """
    try:
        text = read_text(path)
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{where}: byte {error.start} is not UTF-8; save the file as UTF-8 text."
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{where}: cannot be read: {error.strerror}. Expected a YAML file at {path}."
        ) from None
    except BoundsError as error:
        raise ConfigError(f"{where}: {error}") from None
    content = parse(text, where)
    if content is None:
        raise ConfigError(f"{where}: is empty. Expected keys such as 'datasets:'.")
    if not isinstance(content, dict):
        raise ConfigError(
            f"{where}: line 1: found {_kind(content)}, expected keys such as 'datasets:'."
        )
    return content


_FOREIGN = (
    *(yaml.YAMLError, ValueError, RecursionError, LookupError, TypeError),
    *(AttributeError, OverflowError),
)
"""What PyYAML raises on values that are not what their tags say, and on no YAML."""


def parse(text: str, where: str) -> Any:
    """Return the value of a YAML text.

    Raises:
        ConfigError: If it is no YAML; names ``where`` and the line.
    """
    if len(text) > LONGEST:
        raise ConfigError(
            f"{where}: found {len(text):,} characters, expected at most {LONGEST:,}; give "
            "a file with what is asked for only."
        )
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_ambiguous(node)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise ConfigError(f"{where}: {line}{_problem(error)}") from None
    except _FOREIGN as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{where}: not a YAML text: {first}.") from None


def dump(value: object) -> str:
    """Return ``value`` as a YAML text, keys in the order given."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


EXPECTED = (
    "expected what a YAML file can hold: texts, numbers, true or false, lists and "
    "mappings of these"
)
"""Of a value that is none of these."""


def by_name(odd: object) -> str:
    """Return how to name what a plug-in could register; nothing for another value."""
    # A thing that can be registered is a class, a function, or has options.
    if not callable(odd) and not callable(getattr(odd, "Config", None)):
        return ""
    return (
        " What is yours is called by its name here: register it in a plug-in, and name "
        "the plug-in's file with --plugin FILE."
    )


def plain(value: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a mapping as a file that holds it would be read: tuples become lists.

    Numbers of NumPy are those that they are equal to.

    Raises:
        ConfigError: If a value in it is none that a YAML file can hold.
    """
    try:
        text = yaml.dump(plain_numbers(value), Dumper=_Dumper, sort_keys=False)
    except yaml.representer.RepresenterError as error:
        odd = error.args[-1]
        raise ConfigError(
            f"{where}: found {odd!r} of type {type(odd).__name__}, {EXPECTED}."
            f"{by_name(odd)}"
        ) from None
    content: dict[str, Any] = parse(text, where)
    return content


def _problem(error: yaml.MarkedYAMLError) -> str:
    text = str(error.problem).replace("'<stream end>'", "the end of the file")
    if "'\\t'" in text:
        return "found a tab; indent with spaces."
    # PyYAML numbers its marks from 0 and ours from 1, so only its words are used.
    context = f"{error.context}, " if error.context else ""
    return f"{context}{text}.".replace("..", ".")


def _kind(value: object) -> str:
    return "a list" if isinstance(value, list) else f"the single value {value!r}"
