"""Shows something again and again: drawn over itself on a terminal, one after the other elsewhere.
Owns the drawing and the pace of `--watch`; not what is shown."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import msgspec
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from taskfleet.cli.output import write_json
from taskfleet.cli.terminal import stdout_console
from taskfleet.client import ClientError
from taskfleet.client.terminal import can_redraw
from taskfleet.wire.plain import plain

PERIOD_S = 2.0
"""Seconds between two looks."""

T = TypeVar("T", bound=msgspec.Struct)
Show = Callable[[RenderableType], None]


@contextmanager
def screen() -> Iterator[Show]:
    """Yields a function that shows a picture instead of the one before. The last one stays. Where
    nothing can be drawn over, it prints each picture that differs."""
    console = stdout_console()
    if can_redraw(sys.stdout, os.environ):
        with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
            yield lambda picture: live.update(picture, refresh=True)
        return
    before = ""

    def show(picture: RenderableType) -> None:
        nonlocal before
        with console.capture() as captured:
            console.print(picture)
        if captured.get() != before:
            before = captured.get()
            sys.stdout.write(before)
            sys.stdout.flush()

    yield show


def watch(
    look: Callable[[], list[T]],
    draw: Callable[[list[T]], RenderableType],
    *,
    as_json: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show what `look` returns every `PERIOD_S` seconds, until Ctrl-C. An API that is away is
    waited for, with its error on the screen; the first look must succeed.

    as_json: print each as a JSON object on a line of its own instead.
    """
    found = look()
    if as_json:
        while True:
            write_json(found)
            sleep(PERIOD_S)
            found = look()
    with screen() as show:
        while True:
            show(draw(found))
            sleep(PERIOD_S)
            try:
                found = look()
            except ClientError as error:
                if not error.passing:
                    raise
                show(Group(draw(found), Text(plain(f"no answer, trying again: {error}"), "red")))
