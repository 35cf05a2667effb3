"""`taskfleet explain` and `taskfleet log`: what one task waits for, and what it printed. Owns the
commands and the pace of asking; not the answers (`taskfleet.scheduler.tasks`).
"""

from __future__ import annotations

import sys
import time
from datetime import datetime

import click
import msgspec

from taskfleet.cli.api import client_here
from taskfleet.cli.command import SOME_FAILED, command
from taskfleet.cli.options import batch_argument, index_argument, no_pager_option
from taskfleet.cli.output import say, write_json
from taskfleet.cli.terminal import paged
from taskfleet.client import Client
from taskfleet.output import LogPage
from taskfleet.task import TaskStatus
from taskfleet.wire.http.tasks import AttemptView
from taskfleet.wire.plain import plain

POLL_S = 1.0
"""Seconds between two looks at a task that is followed."""
SAME_START_S = 0.5
"""Most seconds between the starts that a worker tells of one execution while it runs and at its
end."""


class LogPart(msgspec.Struct, frozen=True):
    """A part of what a task printed, from the byte `offset` of its output on. `dropped` counts the
    bytes after the end of the output that were not kept."""

    offset: int
    text: str
    dropped: int


@command(
    "explain",
    examples=("taskfleet explain BATCH 7", "taskfleet explain BATCH 7 --json | jq .history"),
    json="all that is known of the task, an object as GET /batches/{id}/tasks/{index} answers.",
)
@batch_argument
@index_argument
def explain(batch: str, index: int, as_json: bool) -> int:
    """Say what task INDEX of BATCH, from 0, waits for now."""
    with client_here() as client:
        task = client.task(batch, index)
    if as_json:
        write_json([task])
    else:
        click.echo(plain(f"{task.status}: {task.why}"))
    return 0


@command(
    "log",
    examples=(
        "taskfleet log BATCH 7",
        "taskfleet log BATCH 7 --follow",
        "taskfleet log BATCH 7 --attempt 1",
    ),
    json='a part of the output on each line, {"offset", "text", "dropped"}, offset in bytes.',
)
@batch_argument
@index_argument
@click.option("--attempt", type=click.IntRange(1), help="Show this attempt instead of the last.")
@click.option("--follow", is_flag=True, help="Wait for more until the task has ended.")
@no_pager_option
def log(
    batch: str, index: int, attempt: int | None, follow: bool, no_pager: bool, as_json: bool
) -> int:
    """Show what task INDEX of BATCH, from 0, printed.

    With --follow, the exit code is 0 if the task succeeded, 1 if not.
    """
    if follow and attempt is not None:
        raise click.UsageError("--follow goes with the last attempt.")
    with client_here() as client:
        output = _Output(client, batch, index, as_json=as_json)
        if not follow:
            with paged(not no_pager and not as_json):
                page = output.write_rest(0, attempt)
            if page.dropped:
                say(f"{page.dropped:,} more bytes were printed and not kept")
            return 0
        return 0 if _follow_log(client, output) is TaskStatus.SUCCEEDED else SOME_FAILED


class _Output:
    """Where the output of one task goes: to standard output, as it is or as JSON."""

    def __init__(self, client: Client, batch_id: str, index: int, *, as_json: bool) -> None:
        self.batch_id, self.index = batch_id, index
        self._client, self._as_json = client, as_json

    def write_rest(self, offset: int, attempt: int | None) -> LogPage:
        """Print what an attempt, the last one for None, printed from the byte `offset` to its end.
        Returns the last page. Raises ApiError with the status 404 if there is nothing."""
        while True:
            page = self._client.log(self.batch_id, self.index, attempt=attempt, offset=offset)
            if self._as_json:
                write_json([LogPart(offset, page.text, page.dropped)])
            else:
                sys.stdout.write(page.text)
                sys.stdout.flush()
            if page.is_last or page.end <= offset:
                return page
            offset = page.end


def _follow_log(client: Client, output: _Output) -> TaskStatus:
    """Print the output as it comes, until the task has ended. Says on standard error what the task
    waits for, whenever that changes, and when it begins anew. Returns its final status."""
    last, printed, said = None, 0, ""
    while True:
        task = client.task(output.batch_id, output.index)
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
            printed = output.write_rest(printed, None).end
        if task.status.final:
            if task.log_dropped:
                say(f"{task.log_dropped:,} more bytes were printed and not kept")
            say(f"task {output.index} {task.status}" + (f": {task.error}" if task.error else ""))
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
