"""Progress bars for the command lines of Taskfleet: tasks that end, and bytes that are sent. Owns
how and when a bar is drawn; not what it counts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from taskfleet.cli.terminal import can_redraw, stderr_console
from taskfleet.wire.http import BatchView
from taskfleet.wire.plain import plain


class Failed(ProgressColumn):
    """The number of failed tasks; for `batch_bar`."""

    def render(self, task: Task) -> Text:
        failed = task.fields["failed"]
        return Text(f"{failed:,} failed", style="red" if failed else "")


class Rate(ProgressColumn):
    """The tasks that recently ended in a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.{0 if speed >= 10 else 1}f}/s")


class TimeLeft(ProgressColumn):
    """The API's estimate of the time left; for `batch_bar`."""

    def render(self, task: Task) -> Text:
        eta_s = task.fields["eta_s"]
        return Text("" if eta_s is None else f"{timedelta(seconds=round(eta_s))} left")


def counting_bars(*columns: ProgressColumn, console: Console | None = None) -> Progress:
    """Returns a display for any number of bars, each with its description, the count and the total,
    and the given columns.

    Without `console`, it is drawn on standard error if that is a terminal, and removed at the end.
    On a given console, its last state stays.
    """
    return _display(*_counting(), *columns, console=console)


@contextmanager
def batch_bar(
    *columns: ProgressColumn,
    description: str | None = None,
    total: int | None = None,
    console: Console | None = None,
) -> Iterator[Callable[[BatchView], None]]:
    """Yields a function that shows the state of one batch as a bar.

    description: the batch's name or id unless given.
    total: the number of tasks until the batch's own is known.
    columns, console: as for `counting_bars`.
    """
    with counting_bars(*columns, console=console) as display:
        bar = display.add_task(description or "", total=total, failed=0, eta_s=None)

        yield partial(_update, display, bar, description, total)


def batch_picture() -> Callable[[BatchView], RenderableType]:
    """Returns a function that returns the state of one batch as a bar with its failures, its rate
    and the time left, to be drawn by others."""
    display = Progress(*_counting(), Failed(), Rate(), TimeLeft(), auto_refresh=False)
    bar = display.add_task("", total=None, failed=0, eta_s=None)

    def picture(batch: BatchView) -> RenderableType:
        _update(display, bar, None, None, batch)
        return display.get_renderable()

    return picture


@contextmanager
def sending_bar() -> Iterator[Callable[[int, int], None]]:
    """Yields a function that shows the bytes sent and their total. The bar appears with its first
    call."""
    columns = (TextColumn("sending"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with _display(*columns) as display:
        bar = display.add_task("", total=None, visible=False)
        yield lambda sent, total: display.update(bar, completed=sent, total=total, visible=True)


def _counting() -> tuple[ProgressColumn, ...]:
    return TextColumn("{task.description:12}", markup=False), BarColumn(), MofNCompleteColumn()


def _update(
    display: Progress, bar: TaskID, description: str | None, total: int | None, batch: BatchView
) -> None:
    """Have the bar show the state of the batch; `description` and `total` as for `batch_bar`."""
    display.update(
        bar,
        description=description or plain(batch.name or batch.batch_id),
        total=batch.total or total,  # 0 while the file of an upload is being checked
        completed=batch.succeeded + batch.failed + batch.cancelled,
        failed=batch.failed,
        eta_s=batch.eta_s,
    )


def _display(*columns: ProgressColumn, console: Console | None = None) -> Progress:
    if console is not None:
        return Progress(*columns, console=console)
    drawn = can_redraw(sys.stderr, os.environ)
    return Progress(*columns, console=stderr_console(), transient=True, disable=not drawn)
