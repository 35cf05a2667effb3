"""`taskfleet explain` and `taskfleet log`: what one task waits for, and what it printed. Owns the
commands and the pace of asking; not the answers (`taskfleet.scheduler.tasks`).
"""

from __future__ import annotations

import sys
import time
from datetime import datetime

import click

from taskfleet.cli.api import client_here
from taskfleet.cli.command import SOME_FAILED, plain
from taskfleet.cli.output import say, write_json
from taskfleet.client import Client
from taskfleet.output import LogPage
from taskfleet.task import TaskStatus
from taskfleet.wire.http import AttemptView

POLL_S = 1.0
"""Seconds between two looks at a task that is followed."""
SAME_START_S = 0.5
"""Most seconds between the starts that a worker tells of one execution while it runs and at its
end."""

_index = click.argument("index", type=click.IntRange(0))


@click.command()
@click.argument("batch")
@_index
@click.option("--json", "as_json", is_flag=True, help="Print all that is known, as a JSON object.")
def explain(batch: str, index: int, as_json: bool) -> int:
    """Say what task INDEX of BATCH, from 0, waits for now."""
    with client_here() as client:
        task = client.task(batch, index)
    if as_json:
        write_json([task])
    else:
        click.echo(plain(f"{task.status}: {task.why}"))
    return 0


@click.command()
@click.argument("batch")
@_index
@click.option("--attempt", type=click.IntRange(1), help="Show this attempt instead of the last.")
@click.option("--follow", is_flag=True, help="Wait for more until the task has ended.")
def log(batch: str, index: int, attempt: int | None, follow: bool) -> int:
    """Show what task INDEX of BATCH, from 0, printed.

    With --follow, the exit code is 0 if the task succeeded, 1 if not.
    """
    if follow and attempt is not None:
        raise click.UsageError("--follow goes with the last attempt.")
    with client_here() as client:
        if not follow:
            _write_log(client, batch, index, attempt)
            return 0
        return 0 if _follow_log(client, batch, index) is TaskStatus.SUCCEEDED else SOME_FAILED


def _write_log(client: Client, batch_id: str, index: int, attempt: int | None) -> None:
    """Print the whole output of an attempt, the last one for None. Raises ApiError with the status
    404 if there is none."""
    page = _write_rest(client, batch_id, index, 0, attempt)
    if page.dropped:
        say(f"{page.dropped:,} more bytes were printed and not kept")


def _follow_log(client: Client, batch_id: str, index: int) -> TaskStatus:
    """Print the output as it comes, until the task has ended. Says on standard error what the task
    waits for, whenever that changes, and when it begins anew. Returns its final status."""
    last, printed, said = None, 0, ""
    while True:
        task = client.task(batch_id, index)
        current = task.history[-1] if task.history else None
        if current is not None:
            if last is not None and current.attempt != last.attempt:
                say(f"attempt {current.attempt}")
                printed = 0
            elif task.log_bytes < printed or (last is not None and _began_anew(last, current)):
                say("its worker was lost, it begins anew")
                printed = 0
            last = current
        if task.log_bytes > printed:
            printed = _write_rest(client, batch_id, index, printed, None).end
        if task.status.final:
            if task.log_dropped:
                say(f"{task.log_dropped:,} more bytes were printed and not kept")
            say(f"task {index} {task.status}" + (f": {task.error}" if task.error else ""))
            return task.status
        if task.why != said:
            said = task.why
            say(said)
        time.sleep(POLL_S)


def _began_anew(before: AttemptView, now: AttemptView) -> bool:
    """Returns whether an attempt that counts once was begun a second time."""
    if before.started_at is None or now.started_at is None:
        return False
    between = datetime.fromisoformat(now.started_at) - datetime.fromisoformat(before.started_at)
    return between.total_seconds() > SAME_START_S


def _write_rest(
    client: Client, batch_id: str, index: int, offset: int, attempt: int | None
) -> LogPage:
    """Print the output from the byte `offset` to its end. Returns the last page."""
    while True:
        page = client.log(batch_id, index, attempt=attempt, offset=offset)
        sys.stdout.write(page.text)
        sys.stdout.flush()
        if page.is_last or page.end <= offset:
            return page
        offset = page.end
