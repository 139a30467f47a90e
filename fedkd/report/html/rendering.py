"""A page's view written as HTML: one file, which asks for nothing from anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedkd.errors import ConfigError
from fedkd.report.html.view import Page, anchors_of, page_view
from fedkd.report.reading import Remark, Report

TEMPLATES = Path(__file__).parent / "templates"


def html_of(report: Report, remark: Remark, again: str = "") -> str:
    """Return the page of a report, with its styles, scripts, data and images inside.

    Args:
        report: What was read.
        remark: Is given a sentence on what cannot be shown.
        again: The command that makes the page; empty if none did.

    Raises:
        ConfigError: If Jinja2 or Plotly is not installed.
        DataError: If ``chosen.json`` of a folder is damaged.
    """
    return render(page_view(report, remark, again))


def render(page: Page) -> str:
    """Return a page as HTML; every text of it is escaped.

    Raises:
        ConfigError: If Jinja2 or Plotly is not installed.
    """
    try:
        # Nothing else needs them.
        import jinja2  # noqa: PLC0415
        import plotly.offline  # noqa: PLC0415
        from markupsafe import Markup  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "--format html needs Jinja2 and Plotly; install them with "
            "pip install 'fedkd[report]'."
        ) from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    anchors = anchors_of([*page.parts, *page.lists])
    scripts: dict[str, Any] = {
        "style": Markup(_source("page.css")),
        "script": Markup(_source("page.js")),
        # Four and a half megabytes, which a page without a chart does without.
        "plotly": Markup(plotly.offline.get_plotlyjs()) if page.is_drawn else "",
    }
    return environment.get_template("page.html").render(
        page=page, anchors=anchors, **scripts
    )


def _source(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
