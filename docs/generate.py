"""Writes the documents that are generated from the code: `make docs`.

They are the JSON Schemas of the queues' messages (`docs/schemas/`), the HTTP API
(`docs/openapi.json`) and the settings (`docs/settings.md`). With `--check` nothing is written, and
the exit code is 1 if a document is stale.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from chalice_app import openapi
from docs import settings_page
from taskfleet.wire.envelopes import ResponsesMessage
from taskfleet.wire.queues import (
    BundleMessage,
    LegacyBundleMessage,
    LegacyResponseMessage,
    ResponseMessage,
)

DOCS = Path(__file__).resolve().parent
MESSAGES: dict[str, tuple[str, tuple[type, ...]]] = {
    "task_to_process": (
        "A message on Task_to_process: a bundle of tasks, or a single task in the form of 2014",
        (BundleMessage, LegacyBundleMessage),
    ),
    "processed_task": (
        "A message on Processed_Task: finished bundles, or an answer in the form of 2014",
        (ResponseMessage, ResponsesMessage, LegacyResponseMessage),
    ),
}


def documents() -> dict[Path, str]:
    """The path and the text of every generated document."""
    texts = {
        DOCS / "schemas" / f"{name}.json": _json(schema(title, types))
        for name, (title, types) in MESSAGES.items()
    }
    texts[DOCS / "openapi.json"] = _json(openapi.spec())
    texts[DOCS / "settings.md"] = settings_page.page()
    return texts


def schema(title: str, types: tuple[type, ...]) -> dict[str, Any]:
    """The JSON Schema of a message that has one of several forms. `types` are msgspec structs."""
    refs, definitions = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "anyOf": list(refs),
        "$defs": definitions,
    }


def stale() -> list[Path]:
    """The paths of the documents that are missing or differ from the code."""
    return [
        path
        for path, text in documents().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def _json(value: Any) -> str:
    return json.dumps(_cleaned(value), indent=2) + "\n"


def _cleaned(value: Any) -> Any:
    """A JSON value whose descriptions have no indentation of a docstring. Python up to 3.12 keeps
    that indentation; later versions strip it."""
    if isinstance(value, dict):
        return {
            key: inspect.cleandoc(inner)
            if key == "description" and isinstance(inner, str)
            else _cleaned(inner)
            for key, inner in value.items()
        }
    return [_cleaned(inner) for inner in value] if isinstance(value, list) else value


def main(arguments: list[str]) -> int:
    """Write the stale documents, or only name them with `--check`. Returns the exit code: 1 if
    `--check` finds a stale document, 2 for an unknown argument."""
    if unknown := [argument for argument in arguments if argument != "--check"]:
        print(f"docs.generate: unknown argument {unknown[0]!r}; known: --check", file=sys.stderr)
        return 2
    contents = documents()
    old = stale()
    for path in old:
        name = path.relative_to(DOCS.parent)
        if "--check" in arguments:
            print(f"{name} is stale: run make docs", file=sys.stderr)
        else:
            path.write_text(contents[path], encoding="utf-8")
            print(f"wrote {name}")
    return 1 if old and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
