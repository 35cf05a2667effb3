"""The extension of Sphinx that completes the pages: a line `<!-- generated: NAME -->` becomes what
the code says, and docstrings get their fields."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from docs.ext import api, cli, docstrings, figures, messages, outside, screenshots, views

GENERATORS: dict[str, Callable[[], str]] = {
    "taskfleet": cli.taskfleet,
    "programs": cli.programs,
    "calls": api.calls,
    "shapes": api.shapes,
    "messages": messages.messages,
    "trouble": figures.trouble,
    "views": views.views,
    "screenshot": screenshots.first,
    "gallery": screenshots.gallery,
    "changelog": lambda: outside.included("CHANGELOG.md"),
    "contributing": lambda: outside.included("CONTRIBUTING.md"),
    "securitypolicy": lambda: outside.included("SECURITY.md"),
}
_MARK = re.compile(r"^<!-- generated: ([a-z]+) -->$", re.MULTILINE)


def completed(text: str) -> str:
    """Returns a page with each mark replaced by what its generator writes. Raises KeyError for a
    name that no generator has."""
    return _MARK.sub(lambda mark: GENERATORS[mark[1]](), text)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("source-read", _read)
    app.connect("autodoc-process-docstring", _document)
    app.connect("doctree-read", _punctuate)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _read(_app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = outside.inward(completed(source[0]), page.count("/"))


def _punctuate(_app: Sphinx, doctree: nodes.document) -> None:
    """Make a dash of the two hyphens that Sphinx puts between an argument and its meaning."""
    for text in list(doctree.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(" – "))


def _document(
    _app: Sphinx, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]
) -> None:
    lines[:] = docstrings.as_fields(lines)
