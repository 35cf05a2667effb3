"""Whether a stream is a terminal and gets colour. Owns these choices; not what is printed.

NO_COLOR (no-color.org), when it is not empty, ends all colour; FORCE_COLOR, when it is neither
empty nor 0, asks for colour where there is no terminal. NO_COLOR wins.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import IO

from rich.console import Console


def wants_colour(stream: IO[str], environ: Mapping[str, str]) -> bool:
    """Returns whether text on the stream may have colours."""
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return can_redraw(stream, environ)


def can_redraw(stream: IO[str], environ: Mapping[str, str]) -> bool:
    """Returns whether the stream is a terminal that can draw over what it shows."""
    return stream.isatty() and environ.get("TERM") not in ("dumb", "unknown")


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError that rich is handling, so that a command line ends as it does
        for other output. Rich by itself would exit with 1."""
        raise


def console_of(stream: IO[str], width: int | None = None) -> Console:
    """Returns a console for the stream, with colour only where it is wanted.

    width: in characters; that of the terminal unless given.
    """
    colour, redraw = wants_colour(stream, os.environ), can_redraw(stream, os.environ)
    return _Console(
        file=stream,
        width=width,
        markup=False,
        highlight=False,
        force_terminal=redraw,
        no_color=not colour,
        color_system="auto" if redraw else "standard" if colour else None,
    )
