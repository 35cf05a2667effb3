"""Following a batch on the terminal until it ends. Owns the wait, its progress bar and its
messages; not the commands that wait (`taskfleet.cli.main`, `taskfleet.cli.map`)."""

from __future__ import annotations

import click

from taskfleet.cli.command import INTERRUPTED, SOME_FAILED
from taskfleet.cli.output import say, summary
from taskfleet.cli.progress import Failed, Rate, TimeLeft, batch_bar
from taskfleet.client import Client, ClientError
from taskfleet.errors import TaskfleetError
from taskfleet.wire.http import BatchView


def follow(client: Client, batch_id: str) -> BatchView:
    """Wait for the end of the batch with a progress bar. Returns the finished batch."""
    try:
        with batch_bar(Failed(), Rate(), TimeLeft()) as show:
            batch = client.wait(batch_id, on_progress=show)
    except KeyboardInterrupt:
        say(
            "stopped waiting, but the batch goes on; to wait again: "
            f"taskfleet status {batch_id} --wait; to cancel it: taskfleet cancel {batch_id}"
        )
        raise click.exceptions.Exit(INTERRUPTED) from None
    except ClientError as error:
        if not error.passing:
            raise
        raise TaskfleetError(
            f"{error}; the batch goes on; to wait again: taskfleet status {batch_id} --wait"
        ) from error
    if batch.error is None:
        hint = f"; to see why: taskfleet results {batch_id} --failed" if batch.failed else ""
        say(summary(batch) + hint)
    return batch


def exit_code(batch: BatchView) -> int:
    """Returns the exit code for a batch: `SOME_FAILED` if not all of its tasks succeeded."""
    return SOME_FAILED if batch.failed or batch.cancelled or batch.error else 0
