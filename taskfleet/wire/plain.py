"""Text that comes from users or their tasks, made safe to print. Owns that rule; not where such
text is printed."""

from __future__ import annotations


def plain(text: str) -> str:
    """Returns the text on one line and without control characters, since text that tasks return
    must not control the terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def shortened(text: str, chars: int) -> str:
    """Returns the text as `plain` does, cut to so many characters with an ellipsis at its end."""
    line = plain(text).strip()
    return line if len(line) <= chars else line[: chars - 1].rstrip() + "…"
