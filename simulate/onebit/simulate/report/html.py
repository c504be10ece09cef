"""The page: one Jinja template, escaped, which computes nothing and loads nothing."""

from __future__ import annotations

from pathlib import Path

import jinja2

from onebit.core.files import atomic_write_text
from onebit.simulate.report.context import Report

TEMPLATE = Path(__file__).with_name("report.html.j2")


def render_report(report: Report) -> str:
    """The HTML text; the same report gives the same text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(TEMPLATE.name).render(report=report)


def write_report(path: Path | str, report: Report) -> None:
    """Write the page to `path`, complete or not at all; BadInputError where that cannot be."""
    atomic_write_text(path, render_report(report))
