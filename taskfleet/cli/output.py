"""The output of the command line: JSON lines, tables of batches and results, one-line summaries.
Owns their form; not progress bars (`taskfleet.client.progress`), the fleet (`taskfleet.cli.fleet`),
nor colour and width (`taskfleet.cli.terminal`).

What was asked for goes to standard output, everything else to standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from itertools import islice
from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text

from taskfleet.cli.command import complain
from taskfleet.cli.terminal import stdout_console
from taskfleet.task import TaskStatus
from taskfleet.wire.faces import counts, seconds_of
from taskfleet.wire.http.batches import BatchView
from taskfleet.wire.http.results import ResultView
from taskfleet.wire.plain import plain

ALL_COLUMNS = 125
"""Width in characters from which on a table of batches has all of its columns."""
_ROWS_A_TABLE = 500
"""Rows of results that are laid out at a time."""
_STYLES = {"SUCCEEDED": "green", "DONE": "green", "FAILED": "red", "CANCELLED": "yellow"}


def say(message: str) -> None:
    """Print one line to standard error."""
    complain("taskfleet", message)


def write_json(values: Iterable[msgspec.Struct]) -> None:
    """Print each value as a JSON object on a line of its own."""
    for value in values:
        sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
        sys.stdout.flush()  # so that the reader of a pipe sees each when it comes


# --- batches ----------------------------------------------------------------------------------


def batches_table(batches: Iterable[BatchView], width: int, *, cost: bool = False) -> Table:
    """Returns a table of batches; with `cost` also the AWS calls made for each and their price.

    width: in characters; in less than `ALL_COLUMNS`, columns that say nothing of these batches are
        left out, and the time of their creation.
    """
    rows = list(batches)
    wide = width >= ALL_COLUMNS
    cancelled = wide or any(batch.cancelled for batch in rows)
    eta = wide or any(batch.eta_s is not None and not batch.finished_at for batch in rows)
    numeric = ["tasks", "succeeded", "failed", *(["cancelled"] if cancelled else []), "seconds"]
    numeric += ["eta s"] if eta else []
    numeric += ["AWS calls", "a task", "$", "$ a million"] if cost else []
    table = Table(box=None, pad_edge=False)
    for title in ("batch", "status"):
        table.add_column(title, no_wrap=True)
    for title in numeric:
        table.add_column(title, justify="right", no_wrap=True)
    if wide:
        table.add_column("created", no_wrap=True)
    table.add_column("name", overflow="fold")
    for batch in rows:
        numbers = [batch.total, batch.succeeded, batch.failed]
        numbers += [batch.cancelled] if cancelled else []
        seconds = seconds_of(batch)
        left = "" if seconds is not None or batch.eta_s is None else f"{batch.eta_s:.0f}"
        at_risk = batch.at_risk is not None and batch.finished_at is None
        table.add_row(
            batch.batch_id,
            _status(batch.status).append(" at risk" if at_risk else "", "yellow"),
            *(f"{count:,}" for count in numbers),
            "" if seconds is None else f"{seconds:.1f}",
            *([left] if eta else []),
            *(_cost(batch) if cost else ()),
            *([batch.created_at[:19].replace("T", " ")] if wide else []),
            Text(plain(batch.name or "")),
        )
    return table


def _cost(batch: BatchView) -> tuple[str, ...]:
    """Returns the batch's calls, calls a task, dollars, and dollars a million tasks."""
    if not batch.total:  # the file of an upload is being read, or was refused
        return f"{batch.aws_calls:,}", "", f"{batch.cost_usd:.6f}", ""
    return (
        f"{batch.aws_calls:,}",
        f"{batch.aws_calls / batch.total:.4f}",
        f"{batch.cost_usd:.6f}",
        f"{batch.cost_usd / batch.total * 1e6:.3f}",
    )


def risk(batch: BatchView) -> str:
    """Returns why the batch is at risk, or that it ended late, as one line."""
    said = "" if batch.finished_at else " is at risk"
    return f"batch {batch.batch_id}{said}: {plain(batch.at_risk or '')}"


def summary(batch: BatchView) -> str:
    """Returns the batch's status as one line."""
    return f"batch {batch.batch_id}: {counts(batch)}"


# --- results ----------------------------------------------------------------------------------


def write_results(rows: Iterable[ResultView], total: int) -> None:
    """Print a table of results as they arrive. Its columns have fixed widths, so that it needs no
    more memory for many rows than for a few.

    total: number of tasks of the batch, which decides the width of the index.
    """
    console = stdout_console()
    remaining = iter(rows)
    first = True
    while chunk := list(islice(remaining, _ROWS_A_TABLE)):
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
