"""The list of the shapes that the client's calls return, for Sphinx to describe."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import msgspec

from taskfleet.wire import http

HIDDEN = {"Error", "Stored", "UploadAnswer", "UploadForm", "Health", "BatchList", "ResultPage"}
"""Shapes that the client reads itself and does not hand on."""


def views() -> str:
    """A directive of autodoc for each shape, as Markdown."""
    names = [
        f"{module.__name__}.{name}"
        for found in pkgutil.iter_modules(http.__path__, f"{http.__name__}.")
        for module in [importlib.import_module(found.name)]
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and value.__module__ == module.__name__
        and issubclass(value, msgspec.Struct)
        and name not in HIDDEN
    ]
    directives = "\n\n".join(f".. autoclass:: {name}" for name in names)
    return f"```{{eval-rst}}\n{directives}\n```\n"
