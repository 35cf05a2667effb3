"""The reference of the messages on the queues, from their JSON Schemas."""

from __future__ import annotations

from collections.abc import Iterator

from docs import generate
from docs.ext import schema


def messages() -> str:
    """The forms of each message and their parts, as Markdown."""
    return "\n".join(_messages())


def _messages() -> Iterator[str]:
    seen: set[str] = set()
    for title, types in generate.MESSAGES.values():
        shape = generate.schema(title, types)
        queue, _, rest = title.removeprefix("A message on ").partition(": ")
        yield f"## {queue}\n\n{rest[0].upper()}{rest[1:]}.\n"
        forms = [each["$ref"].rpartition("/")[2] for each in shape["anyOf"]]
        order = [*forms, *(name for name in shape["$defs"] if name not in forms)]
        fresh = {name: shape["$defs"][name] for name in order if name not in seen}
        seen |= set(fresh)
        yield from schema.sections(fresh, 3)
