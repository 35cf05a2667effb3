"""What people see on the command line: a bar while they wait, tables, one-line summaries. Owns
their looks; standard output is for what was asked for, standard error for all else."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import msgspec
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
from rich.table import Table
from rich.text import Text

from taskfleet.cli.command import complain, plain
from taskfleet.task import TaskStatus
from taskfleet.wire.http import (
    BatchView,
    ResultView,
)

FILE_WIDTH = 160
"""Of a table that goes into a file or pipe, which have no width of their own."""
_ROWS_A_TABLE = 500
_STYLES = {"SUCCEEDED": "green", "DONE": "green", "FAILED": "red", "CANCELLED": "yellow"}


def say(message: str) -> None:
    """One line to the person, on standard error."""
    complain("taskfleet", message)


def write_json(values: Iterable[msgspec.Struct]) -> None:
    """One object a line."""
    for value in values:
        sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


# --- batches ----------------------------------------------------------------------------------


def write_batches(batches: Iterable[BatchView], *, cost: bool = False) -> None:
    """With `cost` also the AWS calls made for each and their price."""
    table = Table(box=None, pad_edge=False)
    for title in ("batch", "status"):
        table.add_column(title, no_wrap=True)
    for title in ("tasks", "succeeded", "failed", "cancelled", "seconds", "eta s"):
        table.add_column(title, justify="right", no_wrap=True)
    for title in ("AWS calls", "a task", "$", "$ a million") if cost else ():
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("created", no_wrap=True)
    table.add_column("name", overflow="fold")
    for batch in batches:
        counts = (batch.total, batch.succeeded, batch.failed, batch.cancelled)
        seconds = seconds_of(batch)
        table.add_row(
            batch.batch_id,
            _status(batch.status),
            *(f"{count:,}" for count in counts),
            "" if seconds is None else f"{seconds:.1f}",
            "" if seconds is not None or batch.eta_s is None else f"{batch.eta_s:.0f}",
            *(_cost(batch) if cost else ()),
            batch.created_at[:19].replace("T", " "),
            Text(plain(batch.name or "")),
        )
    _stdout().print(table)


def _cost(batch: BatchView) -> tuple[str, ...]:
    """Calls and dollars, of the batch and by its tasks."""
    return (
        f"{batch.aws_calls:,}",
        f"{batch.aws_calls / batch.total:.4f}",
        f"{batch.cost_usd:.6f}",
        f"{batch.cost_usd / batch.total * 1e6:.3f}",
    )


def summary(batch: BatchView) -> str:
    """How a batch stands, in a line."""
    seconds = seconds_of(batch)
    counts = [f"{batch.succeeded:,} succeeded"]
    counts += [f"{batch.failed:,} failed"] if batch.failed else []
    counts += [f"{batch.cancelled:,} cancelled"] if batch.cancelled else []
    took = "" if seconds is None else f" in {seconds:.1f} s"
    return f"batch {batch.batch_id}: {', '.join(counts)} of {batch.total:,}{took}"


def seconds_of(batch: BatchView) -> float | None:
    """From the batch's being taken in to its last result, or None while it has no end."""
    if batch.finished_at is None:
        return None
    took = datetime.fromisoformat(batch.finished_at) - datetime.fromisoformat(batch.created_at)
    return took.total_seconds()


@contextmanager
def progress_bar() -> Iterator[Callable[[BatchView], None]]:
    """Yields what shows each state of one batch; draws nothing when standard error is no
    terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]:,} failed", markup=False),
        _Rate(),
        TextColumn("{task.fields[eta]}", markup=False),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        bar = progress.add_task("", total=None, failed=0, eta="")

        def show(batch: BatchView) -> None:
            progress.update(
                bar,
                description=plain(batch.name or batch.batch_id),
                total=batch.total or None,  # of a file that is being checked nobody knows yet
                completed=batch.succeeded + batch.failed + batch.cancelled,
                failed=batch.failed,
                eta="" if batch.eta_s is None else f"{timedelta(seconds=round(batch.eta_s))} left",
            )

        yield show


@contextmanager
def sending_bar() -> Iterator[Callable[[int, int], None]]:
    """Yields what shows bytes sent and their total, once there are any."""
    console = Console(stderr=True)
    columns = (TextColumn("sending"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        bar = progress.add_task("", total=None, visible=False)
        yield lambda sent, total: progress.update(bar, completed=sent, total=total, visible=True)


class _Rate(ProgressColumn):
    """Tasks a second of late."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.{0 if speed >= 10 else 1}f}/s")


# --- results ----------------------------------------------------------------------------------


def write_results(rows: Iterable[ResultView], total: int) -> None:
    """A table, printed as its rows come in: columns have fixed widths, so that any number of rows
    needs no more memory than a few. `total` is that of the batch."""
    console = _stdout()
    source = iter(rows)
    first = True
    while chunk := list(islice(source, _ROWS_A_TABLE)):
        table = _results_table(len(f"{total}"), show_header=first)
        for row in chunk:
            table.add_row(
                str(row.index),
                _status(row.status),
                Text(plain(_as_text(row.task))),
                str(row.attempts),
                "" if row.duration_s is None else f"{row.duration_s:.3f}",
                Text(plain(_outcome(row))),
            )
        console.print(table)
        first = False


def _results_table(index_width: int, *, show_header: bool) -> Table:
    table = Table(box=None, pad_edge=False, expand=True, show_header=show_header)
    table.add_column("index", justify="right", width=max(index_width, 5))
    table.add_column("status", width=9)
    table.add_column("task", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("tries", justify="right", width=5)
    table.add_column("seconds", justify="right", width=10)
    table.add_column("result", ratio=2, overflow="fold")
    return table


def _outcome(row: ResultView) -> str:
    if row.error is not None:
        return row.error
    if row.status is TaskStatus.RUNNING:
        return "" if row.progress is None else f"progress {_as_text(row.progress)}"
    return "" if row.result is None else _as_text(row.result)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _status(status: str) -> Text:
    return Text(str(status), style=_STYLES.get(status, ""))


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Called while the error is handled: the command line ends the same way for all output."""
        raise


def _stdout() -> Console:
    terminal = sys.stdout.isatty()
    return _Console(width=None if terminal else FILE_WIDTH, markup=False, highlight=False)
