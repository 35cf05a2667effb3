"""The reference of the HTTP API, from the OpenAPI document that the API itself answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chalice_app import openapi
from docs.ext import schema
from docs.ext.prose import line, paragraphs, table

Json = Mapping[str, Any]
_METHODS = ("get", "post", "put", "delete")


def calls() -> str:
    """Every call, as Markdown."""
    spec = openapi.spec()
    return "\n".join(
        text
        for path, methods in spec["paths"].items()
        for method in _METHODS
        if method in methods
        for text in _call(method.upper(), path, methods[method])
    )


def shapes() -> str:
    """Every shape of a body, as Markdown."""
    return "\n".join(schema.sections(openapi.spec()["components"]["schemas"], 3))


def paths() -> dict[str, set[str]]:
    """The path of every call, with its methods in capital letters."""
    return {
        path: {method.upper() for method in methods if method in _METHODS}
        for path, methods in openapi.spec()["paths"].items()
    }


def _call(method: str, path: str, call: Json) -> Iterator[str]:
    yield f"### {method} {path}\n"
    yield f"{line(call['summary'])}.\n"
    if call.get("description"):
        yield f"{paragraphs(call['description'])}\n"
    if call.get("security") == []:
        yield "It needs no token.\n"
    if query := schema.parameters(call.get("parameters", [])):
        yield query
    for content_type, body in call.get("requestBody", {}).get("content", {}).items():
        yield f"Body, `{content_type}`: {_body(body)}.\n"
    yield table(
        ["Status", "Body", "Meaning"],
        [_answer(status, answer) for status, answer in call["responses"].items()],
    )


def _answer(status: str, answer: Json) -> list[str]:
    content = answer.get("content", {})
    bodies = [
        _body(body) if name == "application/json" else f"`{name}`" for name, body in content.items()
    ]
    return [f"`{status}`", ", ".join(bodies), line(answer["description"])]


def _body(content: Json) -> str:
    return schema.type_of(content.get("schema", {}))
