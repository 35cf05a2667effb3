"""Writes the JSON Schemas of the messages on the queues, from the code that reads them:

python docs/schemas/generate.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from taskfleet.wire.queues import (
    BundleMessage,
    LegacyBundleMessage,
    LegacyResponseMessage,
    ResponseMessage,
)

_FORMS: dict[str, tuple[str, tuple[type, ...]]] = {
    "task_to_process": (
        "A message on Task_to_process: a bundle of tasks, or a single task in the form of 2014",
        (BundleMessage, LegacyBundleMessage),
    ),
    "processed_task": (
        "A message on Processed_Task: a finished bundle, or its answer in the form of 2014",
        (ResponseMessage, LegacyResponseMessage),
    ),
}


def schemas() -> dict[str, Any]:
    """File name without ending -> JSON Schema."""
    made = {}
    for name, (title, types) in _FORMS.items():
        refs, definitions = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
        made[name] = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": title,
            "anyOf": list(refs),
            "$defs": definitions,
        }
    return made


if __name__ == "__main__":
    for name, schema in schemas().items():
        path = Path(__file__).with_name(f"{name}.json")
        path.write_text(json.dumps(schema, indent=2) + "\n")
