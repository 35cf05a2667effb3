"""Text of the code as Markdown: texts without markup, with code between single backticks."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence

_CODE = re.compile(r"(`[^`]*`)")
_ENTRY = re.compile(r"`?[a-z_]+(?:, [a-z_]+)*`?: ")
_SPECIAL = re.compile(r"([<>*_\[\]{}\\])")


def escaped(text: str) -> str:
    """Returns plain text as Markdown that shows it. What stands between backticks stays code."""
    parts = _CODE.split(text)
    return "".join(
        part if number % 2 else _SPECIAL.sub(r"\\\1", part) for number, part in enumerate(parts)
    )


def line(text: str) -> str:
    """Returns a text as one line of Markdown."""
    return escaped(" ".join(text.split()))


def paragraphs(text: str) -> str:
    """Returns a docstring's paragraphs as Markdown. Lines that begin with `- ` stay items, and
    those of a paragraph of `name: meaning` become items."""
    blocks = re.split(r"\n\s*\n", inspect.cleandoc(text))
    return "\n\n".join("\n".join(_lines(block)) for block in blocks)


def _lines(block: str) -> list[str]:
    if not _ENTRY.match(block):
        return [line(each) for each in re.split(r"\n(?=- )", block)]
    entries = re.split(rf"\n(?={_ENTRY.pattern})", block)
    return [
        f"- `{name.strip('`')}`: {line(meaning)}"
        for name, meaning in (entry.split(": ", 1) for entry in entries)
    ]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table. The cells are Markdown on one line each."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in each)} |\n" for each in lines
    )
