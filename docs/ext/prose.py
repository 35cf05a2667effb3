"""Text of the code as Markdown: texts without markup, with code between single backticks."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence

_CODE = re.compile(r"(`[^`]*`)")
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
    """Returns a docstring's paragraphs as Markdown. Lines that begin with `- ` stay items."""
    blocks = re.split(r"\n\s*\n", inspect.cleandoc(text))
    return "\n\n".join(
        "\n".join(line(each) for each in re.split(r"\n(?=- )", block)) for block in blocks
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table. The cells are Markdown on one line each."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in each)} |\n" for each in lines
    )
