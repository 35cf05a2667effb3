"""The list of the shapes that the client's calls return, for Sphinx to describe."""

from __future__ import annotations

import inspect

import msgspec

from taskfleet.wire import http

HIDDEN = {"Error", "Stored", "UploadAnswer", "UploadForm", "Health", "BatchList", "ResultPage"}
"""Shapes that the client reads itself and does not hand on."""


def views() -> str:
    """A directive of autodoc for each shape, as Markdown."""
    names = [
        name
        for name, value in vars(http).items()
        if inspect.isclass(value)
        and value.__module__ == http.__name__
        and issubclass(value, msgspec.Struct)
        and name not in HIDDEN
    ]
    directives = "\n\n".join(f".. autoclass:: {http.__name__}.{name}" for name in names)
    return f"```{{eval-rst}}\n{directives}\n```\n"
