"""JSON Schemas as Markdown: one section for each shape, with a table of its fields."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from docs.ext.prose import line, paragraphs, table

Json = Mapping[str, Any]


def sections(shapes: Mapping[str, Json], level: int) -> Iterator[str]:
    """Yields the Markdown of each shape, under a heading with its name."""
    for name, shape in shapes.items():
        yield f"{'#' * level} {name}\n"
        if shape.get("description"):
            yield f"{paragraphs(shape['description'])}\n"
        if "enum" in shape:
            yield f"One of {_values(shape['enum'])}.\n"
        elif shape.get("type") == "array":
            yield f"A JSON array: {_array(shape)}.\n"
        elif shape.get("properties"):
            yield fields(shape)


def fields(shape: Json) -> str:
    """Returns the table of an object's fields."""
    required = set(shape.get("required", ()))
    rows = [
        [
            f"`{name}`",
            type_of(field),
            "required" if name in required else _default(field),
            line(_described(field)),
        ]
        for name, field in shape["properties"].items()
    ]
    if any(row[3] for row in rows):
        return table(["Field", "Type", "Default", "Meaning"], rows)
    return table(["Field", "Type", "Default"], [row[:3] for row in rows])


def parameters(found: list[Json]) -> str:
    """Returns the table of a call's query parameters; those of its path are left out."""
    rows = [
        [f"`{each['name']}`", type_of(each["schema"]), line(_described(each["schema"]))]
        for each in found
        if each["in"] == "query"
    ]
    return table(["Query parameter", "Type", "Meaning"], rows) if rows else ""


def type_of(schema: Json) -> str:
    """Returns the type of a value and its range, as Markdown. Shapes are links to their
    sections."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(dict.fromkeys(type_of(each) for each in schema[union]))
    if "enum" in schema:
        return _values(schema["enum"])
    match schema.get("type"):
        case "array":
            return f"array of {type_of(schema['items'])}" if schema.get("items") else "array"
        case "object" if isinstance(schema.get("additionalProperties"), Mapping):
            return f"object of {type_of(schema['additionalProperties'])}"
        case str(name):
            return name + _range(schema)
        case list(names):
            return " or ".join(names)
    return "any JSON"


def _described(schema: Json) -> str:
    """Returns the description of a value, or of the one form of it that has one."""
    if "description" in schema:
        return str(schema["description"])
    found = [_described(each) for each in schema.get("anyOf", ())]
    return next((text for text in found if text), "")


def _range(schema: Json) -> str:
    low, high = (schema.get(key) for key in ("minimum", "maximum"))
    if schema["type"] == "string":
        low, high = (schema.get(key) for key in ("minLength", "maxLength"))
    several = "" if (low, high) == (1, None) else "s"
    unit = f" character{several}" if schema["type"] == "string" else ""
    if low is not None and high is not None:
        return f" ({low:,} to {high:,}{unit})"
    if "exclusiveMinimum" in schema:
        above = f"over {schema['exclusiveMinimum']:,}"
        return f" ({above})" if high is None else f" ({above}, to {high:,})"
    if high is not None:
        return f" (at most {high:,}{unit})"
    return "" if low is None else f" (at least {low:,}{unit})"


def _array(schema: Json) -> str:
    given = schema.get("prefixItems")
    if given:
        return ", ".join(type_of(each) for each in given)
    return f"each {type_of(schema['items'])}" if schema.get("items") else "any values"


def _default(schema: Json) -> str:
    if "default" not in schema:
        return ""
    return f"`{json.dumps(schema['default'])}`"


def _values(values: list[Any]) -> str:
    return ", ".join(f"`{json.dumps(value)}`" for value in values)
