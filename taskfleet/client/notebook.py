"""A block of a notebook that shows progress, drawn over itself. Owns its form, and whether this
process is a notebook's; without a notebook it imports nothing.

Source: "Module: display", IPython; a kernel of Jupyter has IPython loaded before any cell runs.
"""

from __future__ import annotations

import html
import sys
from collections.abc import Sequence
from dataclasses import dataclass
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
        from IPython.display import display

        picture = _Picture(name, done, total, tuple(details))
        if self._handle is None:
            self._handle = display(picture, display_id=True)
        else:
            self._handle.update(picture)


@dataclass(frozen=True)
class _Picture:
    """One state, as a notebook shows it: as HTML, or as a line where HTML is not shown."""

    name: str
    done: int
    total: int | None
    details: tuple[str, ...]

    def __repr__(self) -> str:
        return plain(f"{self.name}: {_words(self.done, self.total, self.details)}")

    def _repr_html_(self) -> str:
        return progress_html(self.name, self.done, self.total, self.details)


def progress_html(name: str, done: int, total: int | None, details: Sequence[str]) -> str:
    """Returns a bar with its name, counts and details as HTML. All text is escaped."""
    value = "" if total is None else f' value="{done}" max="{max(total, 1)}"'
    name, words = html.escape(plain(name)), html.escape(plain(_words(done, total, details)))
    return (
        f'<div style="font-variant-numeric:tabular-nums"><b>{name}</b> '
        f'<progress aria-label="{name}" style="width:16em;vertical-align:middle"{value}></progress>'
        f" {words}</div>"
    )


def _words(done: int, total: int | None, details: Sequence[str]) -> str:
    return ", ".join([f"{done:,} of {'?' if total is None else format(total, ',')}", *details])
