"""``fedkd show``: the card of a registered thing."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterator
from typing import Any

import click

from fedkd.commands.common import Strict, format_option, plugin_option
from fedkd.errors import ConfigError, listing, suggestion
from fedkd.plugins.cards import KEYS, SENDING, card, suite_card
from fedkd.plugins.entries import KINDS, Entry
from fedkd.plugins.registry import Registry, load_registry

WIDEST = 100


@click.command(cls=Strict)
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice([*KINDS, "suites"]),
    help="Which kind is meant, where several things have the name.",
)
@format_option("text")
@plugin_option
def command(
    name: str, kind: str | None, output_format: str, plugin_files: tuple[str, ...]
) -> None:
    """Show what NAME is: paper and its BibTeX, needs, what it sends, every option.

    NAME is a strategy, data set, model or other thing of 'fedkd list'.
    """
    registry = load_registry(plugin_files)
    cards = [card(entry) for entry in find(registry, name, kind)]
    if name in registry.suites() and kind in (None, "suites"):
        cards.append(suite_card(name))
    if output_format == "json":
        click.echo(json.dumps(cards, indent=2, ensure_ascii=False))
        return
    click.echo("\n\n".join("\n".join(lines_of(each)) for each in cards))


def find(registry: Registry, name: str, kind: str | None) -> list[Entry]:
    """Return everything registered under a name; nothing if it is that of a suite only.

    Raises:
        ConfigError: If there is nothing; suggests the nearest name of any kind.
    """
    if kind in KINDS:
        return [registry.entry(kind, name)]
    suites = registry.suites()
    tables = [] if kind else [registry.entries(each) for each in KINDS]
    entries = [table[name] for table in tables if name in table]
    if not entries and name not in suites:
        known = sorted({known for table in [*tables, suites] for known in table})
        raise ConfigError(
            f"nothing is registered as {name!r}.{suggestion(name, known)} "
            f"Known: {listing(known)} (run 'fedkd list')."
        )
    return entries


def lines_of(record: dict[str, Any]) -> Iterator[str]:
    """Yield a card as lines of text, wrapped to the width of the terminal."""
    if record["kind"] == "suites":
        yield from (f"{record['name']} (suite)", "", record["text"].rstrip())
        return
    kind = record.get("model_kind") or KINDS[record["kind"]]
    yield f"{record['name']} ({kind}, {record['owner']} {record['version']})"
    yield from _paragraph(record["description"] or record["summary"])
    if "preset_of" in record:
        yield from _entry("Preset of", record["preset_of"])
        yield from _items("Preset deviates", record["preset_deviations"])
    for key in KEYS:
        yield from _entry(key, record.get(key.lower(), ""))
    if "needs" in record:
        yield from _items("Needs", record["needs"] or ["nothing special"])
    yield from _entry("Average", record.get("average", ""))
    for direction, payload in record.get("sends", {}).items():
        yield from _payload(direction, payload)
    if record.get("files"):
        sizes = [f"{name}: {size:,} bytes" for name, size in record["files"].items()]
        yield from _items("Files", sizes)
    if "unit" in record:
        yield from _entry("Unit", f"{record['unit']}; {record['better']} is better")
    yield from _entry("Defined in", record["target"])
    for text in record.get("bibtex", ()):
        yield from ("", *text.splitlines())
    yield from _options(record["options"])


def _payload(direction: str, payload: dict[str, Any]) -> Iterator[str]:
    name = payload["type"] or "not declared"
    yield from _entry(SENDING[direction], _described(name, payload["description"]))
    for field in payload["fields"]:
        head = f"{field['name']} ({field['type']})"
        text = _described(head, field["description"])
        yield from _wrap(text, "    ", "        ")


def _described(name: str, description: str) -> str:
    return f"{name}: {description}" if description else name


def _options(options: list[dict[str, Any]]) -> Iterator[str]:
    if not options:
        yield from _entry("Options", "none")
        return
    yield ""
    yield "Options:"
    for option in options:
        facts = [option["type"], *option["constraints"]]
        value = "required" if option["required"] else _value(option["default"])
        text = f"{option['name']} = {value}"
        if "preset" in option:
            text = (
                f"{option['name']} = {_value(option['preset'])}  (preset; else {value})"
            )
        shown = ", ".join(fact for fact in facts if fact)
        yield from _wrap(f"{text}  [{shown}]" if shown else text, "  ", "      ")
        if option["description"]:
            yield from _wrap(option["description"], "      ", "      ")


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _paragraph(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield from _wrap(line, "", "")


def _entry(title: str, text: str) -> Iterator[str]:
    if not text:
        return
    yield ""
    first, *others = text.splitlines()
    yield from _wrap(f"{title}: {first}", "", "    ")
    for line in others:
        yield from _wrap(line, "    ", "      ")


def _items(title: str, items: list[str]) -> Iterator[str]:
    if len(items) <= 1:
        yield from _entry(title, "".join(items))
        return
    yield from _entry(title, "\n".join(["", *(f"- {item}" for item in items)]))


def _wrap(text: str, first: str, rest: str) -> list[str]:
    width = min(shutil.get_terminal_size().columns, WIDEST)
    return textwrap.wrap(
        text,
        max(width, 40),
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]
