"""`taskfleet log`: prints what a task printed, and follows it until the task has ended. Owns the
printing and the pace of asking; not the command's options (`taskfleet.cli.main`).
"""

from __future__ import annotations

import sys
import time

from taskfleet.cli.output import say
from taskfleet.client import Client
from taskfleet.output import LogPage
from taskfleet.task import TaskStatus

POLL_S = 1.0
"""Seconds between two looks at a task that is followed."""


def write_log(client: Client, batch_id: str, index: int, attempt: int | None) -> None:
    """Print the whole output of an attempt, the last one for None. Raises ApiError with the status
    404 if there is none."""
    page = _write_rest(client, batch_id, index, 0, attempt)
    if page.dropped:
        say(f"{page.dropped:,} more bytes were printed and not kept")


def follow_log(client: Client, batch_id: str, index: int) -> TaskStatus:
    """Print the output as it comes, until the task has ended. Says on standard error what the task
    waits for, whenever that changes, and when another attempt begins. Returns its final status."""
    attempt, printed, said = None, 0, ""
    while True:
        task = client.task(batch_id, index)
        current = task.history[-1].attempt if task.history else None
        if current != attempt:
            if attempt is not None:
                say(f"attempt {current}")
            attempt, printed = current, 0
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
