"""Progress bars: tasks that end, and bytes that are sent; for command lines and for scripts. Owns
how and when a bar is drawn; not what it counts, nor how a notebook shows it
(`taskfleet.client.notebook`).

Nothing imports this module before a bar is wanted, since it loads rich.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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

from taskfleet.client import notebook
from taskfleet.client.terminal import can_redraw, console_of
from taskfleet.wire.http.batches import BatchView
from taskfleet.wire.plain import plain


@dataclass(frozen=True)
class State:
    """How far some tasks are.

    name: what they are.
    done: how many have ended, `failed` of them without success.
    total: how many there are; None if unknown.
    eta_s: estimate of the seconds that are left; None without one.
    """

    name: str
    done: int
    failed: int
    total: int | None
    eta_s: float | None = None


class Failed(ProgressColumn):
    """The number of failed tasks; for bars of a `State`."""

    def render(self, task: Task) -> Text:
        failed = task.fields["failed"]
        return Text(f"{failed:,} failed", style="red" if failed else "")


class Rate(ProgressColumn):
    """The tasks that recently ended in a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.{0 if speed >= 10 else 1}f}/s")


class TimeLeft(ProgressColumn):
    """The estimate of the time left; for bars of a `State`."""

    def render(self, task: Task) -> Text:
        eta_s = task.fields["eta_s"]
        return Text("" if eta_s is None else f"{timedelta(seconds=round(eta_s))} left")


def state_of(batch: BatchView) -> State:
    """Returns how far a batch is."""
    return State(
        batch.name or batch.batch_id,
        batch.succeeded + batch.failed + batch.cancelled,
        batch.failed,
        batch.total or None,  # 0 while the file of an upload is being checked
        None if batch.finished_at else batch.eta_s,
    )


# --- for command lines ------------------------------------------------------------------------


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
        update = _updater(display, description, total)
        yield lambda batch: update(state_of(batch))


def batch_picture() -> Callable[[BatchView], RenderableType]:
    """Returns a function that returns the state of one batch as a bar with its failures, its rate
    and the time left, to be drawn by others."""
    display = Progress(*_counting(), *_details(), auto_refresh=False)
    update = _updater(display)

    def picture(batch: BatchView) -> RenderableType:
        update(state_of(batch))
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


# --- for scripts and notebooks ----------------------------------------------------------------


@contextmanager
def shown_progress() -> Iterator[Callable[[State], None]]:
    """Yields a function that shows how far some tasks are: as a block in a notebook, else as a bar
    on standard error if that is a terminal, else not at all, so that logs stay clean. The last
    state stays."""
    if notebook.is_here():
        model = Progress(*_details(), disable=True)
        update, block = _updater(model), notebook.Block()

        def show(state: State) -> None:
            update(state)
            texts = (str(column.render(model.tasks[0])) for column in _details())
            block.show(state.name, state.done, state.total, [text for text in texts if text])

        yield show
        return
    with _display(*_counting(), *_details(), stays=True) as display:
        yield _updater(display)


# --- how a bar is drawn -----------------------------------------------------------------------


def _counting() -> tuple[ProgressColumn, ...]:
    return TextColumn("{task.description:12}", markup=False), BarColumn(), MofNCompleteColumn()


def _details() -> tuple[ProgressColumn, ...]:
    return Failed(), Rate(), TimeLeft()


def _updater(
    display: Progress, name: str | None = None, total: int | None = None
) -> Callable[[State], None]:
    """Add a bar to the display. Returns the function that has it show a state. A bar without a name
    appears with its first state."""
    bar = display.add_task(
        plain(name or ""), total=total, visible=name is not None, failed=0, eta_s=None
    )
    return partial(_update, display, bar, name, total)


def _update(
    display: Progress, bar: TaskID, name: str | None, total: int | None, state: State
) -> None:
    display.update(
        bar,
        description=plain(name or state.name),
        total=state.total or total,
        completed=state.done,
        failed=state.failed,
        eta_s=state.eta_s,
        visible=True,
    )


def _display(
    *columns: ProgressColumn,
    console: Console | None = None,
    stays: bool = False,
) -> Progress:
    if console is not None:
        return Progress(*columns, console=console)
    return Progress(
        *columns,
        console=console_of(sys.stderr),
        transient=not stays,
        disable=not can_redraw(sys.stderr, os.environ),
        # Else what a script prints into a file would go to standard error meanwhile.
        redirect_stdout=sys.stdout.isatty(),
    )
