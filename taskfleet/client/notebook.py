"""A block of a notebook that shows progress, drawn over itself. Owns its form, and whether this
process is a notebook's; without a notebook it imports nothing.

Source: "Module: display", IPython; a kernel of Jupyter has IPython loaded before any cell runs.
"""

from __future__ import annotations

import html
import sys
from collections.abc import Sequence
from typing import Any

from taskfleet.wire.plain import plain


def is_here() -> bool:
    """Returns whether this process runs the cells of a notebook."""
    module = sys.modules.get("IPython")
    shell: Any = None if module is None else module.get_ipython()
    return getattr(shell, "kernel", None) is not None


class Block:
    """A block below the cell that makes it, from its first `show` on."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, name: str, done: int, total: int | None, details: Sequence[str]) -> None:
        """Draw the state.

        total: None if unknown.
        details: short texts that stand behind the counts.
        """
        from IPython.display import HTML, display

        block = HTML(progress_html(name, done, total, details))
        if self._handle is None:
            self._handle = display(block, display_id=True)
        else:
            self._handle.update(block)


def progress_html(name: str, done: int, total: int | None, details: Sequence[str]) -> str:
    """Returns a bar with its name, counts and details as HTML. All text is escaped."""
    words = ", ".join([f"{done:,} of {'?' if total is None else format(total, ',')}", *details])
    value = "" if total is None else f' value="{done}" max="{max(total, 1)}"'
    name, words = html.escape(plain(name)), html.escape(plain(words))
    return (
        f'<div style="font-variant-numeric:tabular-nums"><b>{name}</b> '
        f'<progress aria-label="{name}" style="width:16em;vertical-align:middle"{value}></progress>'
        f" {words}</div>"
    )
