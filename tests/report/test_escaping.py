"""Names and reasons of others in every format: shown as they are, and read as nothing."""

import re
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from fedkd.report.escaping.markdown import (
    escaped,
    escaped_entry,
    escaped_line,
    unescaped,
)
from fedkd.report.parts import Entry, Grid, Part
from fedkd.report.results import Row
from fedkd.report.table import table_markdown

ODD = [
    "a*b*c", "**bold**", "_it_ and __this__", "snake_case_is_plain", "a`b`c", "``", "\\*",
    "\\",
    "a|b", "a\\|b", "<b>x</b>", "<!-- x", "x < y", "a<b", "[red]x[/red]", "[x](http://y)",
    "![x](y)", "[a][b]", "[a]: /url", "&lt;", "&#36;", "AT&T", "$x^2$ costs $5", "~~x~~",
    "~x~",
    "~/data", "# x", "#x", "x #", "> x", "- x", "-", "---", "+ x", "* x", "1. x", "12) x",
    "[ ] x", "=", "C:\\new\\*", "one\ntwo", "a\r\n\r\n| b | c |\n|---|---|",
    "folder[path=/a_b/$c]",
]  # fmt: skip


class _Text(HTMLParser):
    """Collects what a reader sees, and the elements that are there."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.text, self.tags = "", []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def _github(text):
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)


def _mkdocs(text):
    markdown = pytest.importorskip("markdown")
    return markdown.markdown(text, extensions=["tables"])


@pytest.fixture(params=[_github, _mkdocs], ids=["github", "mkdocs"])
def render(request):
    return request.param


@pytest.mark.parametrize("text", ODD)
def test_markdown_shows_a_text_as_it_is(render, text):
    said = " ".join(text.split())
    for before, block in (("", "p"), ("## ", "h2"), ("- ", "li")):
        page = _Text(render(before + escaped_line(text)))
        assert (page.text.strip(), set(page.tags) - {"ul"}) == (said, {block})
    inside = _Text(render(f"x {escaped(text)} y"))
    assert (inside.text.strip(), inside.tags) == (f"x {said} y", ["p"])
    grid = Grid.of(
        ["a", text],
        [
            [
                text,
                Entry(text, "best"),
            ],
            ["x", text],
        ],
    )
    page = _Text(render(grid.markdown))
    assert page.tags.count("td") == 4
    assert page.text.split("\n").count(said) == 4
    assert set(page.tags) <= {"table", "thead", "tbody", "tr", "th", "td", "strong"}
    # What GitHub takes for a formula is between two of these.
    assert "$" not in escaped(text)


@pytest.mark.parametrize("text", ODD)
def test_a_text_is_got_back_from_its_markdown(text):
    said = " ".join(text.split())
    assert [unescaped(e(text)) for e in (escaped, escaped_line, escaped_entry)] == [
        said
    ] * 3


def test_plain_names_and_numbers_stand_as_they_are():
    for text in (
        "82.00 ± 2.00 [80.1, 83.9]", "-3.00", "fedavg † ‡", "cnn[widths=1,0.5]: client 0",
        "validation_global_accuracy", "10 % of 3 x 4 (n = 2)", "/a/b_c.csv:2: x", "n < 5",
    ):  # fmt: skip
        assert escaped_line(text) == escaped_entry(text) == text


ODD_ROW = Row(
    "s*u*ite", "<i>a</i>|b", "folder[path=$x$_y_]", "iid", None, "[red]cnn", 2, 3, 0,
    "done", global_accuracy=50.0, run_id="r0", global_of="model",
)  # fmt: skip
LOST = Row(
    "s*u*ite", "b\nc", "folder[path=$x$_y_]", "iid", None, "[red]cnn", 2, 3, 0, "failed",
    "needs `x`\n| a | <script>alert(1)</script> [red]", run_id="r1",
)  # fmt: skip


def test_a_page_shows_names_and_reasons_as_they_are(render):
    page = table_markdown(
        [ODD_ROW, LOST], title="# t*t*", warned=["a: <b>"], protocol_lines=["- x"]
    )
    shown = _Text(render(page))
    assert not {"i", "em", "script", "code", "b", "a", "ol"} & set(shown.tags)
    for text in (
        "# t*t*", "<i>a</i>|b", "folder[path=$x$_y_], iid", "models [red]cnn", "a: <b>",
        "- x", "b c, folder[path=$x$_y_], iid, seed 0: failed: needs `x` | a | "
        "<script>alert(1)</script> [red]",
    ):  # fmt: skip
        assert text in shown.text
    assert Part("*x*", notes=("_y_",)).markdown == "## \\*x\\*\n\n\\_y\\_"
    assert not re.search(r"\n\| a \|", page)
