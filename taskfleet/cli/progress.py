"""Progress bars for the command lines of Taskfleet: tasks that end, and bytes that are sent. Owns
how and when a bar is drawn; not what it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from taskfleet.cli.command import plain
from taskfleet.wire.http import BatchView


class Failed(ProgressColumn):
    """The number of failed tasks; for `batch_bar`."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.fields['failed']:,} failed")


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
    return _display(
        TextColumn("{task.description:12}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        *columns,
        console=console,
    )


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

        def show(batch: BatchView) -> None:
            display.update(
                bar,
                description=description or plain(batch.name or batch.batch_id),
                total=batch.total or total,  # 0 while the file of an upload is being checked
                completed=batch.succeeded + batch.failed + batch.cancelled,
                failed=batch.failed,
                eta_s=batch.eta_s,
            )

        yield show


@contextmanager
def sending_bar() -> Iterator[Callable[[int, int], None]]:
    """Yields a function that shows the bytes sent and their total. The bar appears with its first
    call."""
    columns = (TextColumn("sending"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with _display(*columns) as display:
        bar = display.add_task("", total=None, visible=False)
        yield lambda sent, total: display.update(bar, completed=sent, total=total, visible=True)


def _display(*columns: ProgressColumn, console: Console | None = None) -> Progress:
    if console is not None:
        return Progress(*columns, console=console)
    stderr = Console(stderr=True)
    return Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal)
