"""Following a batch on the terminal until it ends. Owns the wait, its progress bar and its
messages; not the commands that wait (`taskfleet.cli.submit`, `status`, `steer` and `map`)."""

from __future__ import annotations

from collections.abc import Callable

import click

from taskfleet.cli.command import INTERRUPTED, SOME_FAILED
from taskfleet.cli.output import risk, say, summary, write_json
from taskfleet.client import Client, ClientError
from taskfleet.client.progress import Failed, Rate, TimeLeft, batch_bar
from taskfleet.errors import TaskfleetError
from taskfleet.wire.http.batches import Accepted, BatchView


def wait_for(
    client: Client,
    batch_id: str,
    *,
    on_interrupt: Callable[[], str],
    show: Callable[[BatchView], None] | None = None,
) -> BatchView:
    """Wait for the end of the batch, with a progress bar or with `show`. Returns the finished
    batch.

    on_interrupt: called after Ctrl-C; returns what to say.
    """
    warned: list[str] = []

    def warn(batch: BatchView) -> None:
        if batch.at_risk is not None and not warned:
            warned.append(batch.at_risk)
            say(risk(batch))

    try:
        if show is not None:
            return client.wait(batch_id, on_progress=_both(show, warn))
        with batch_bar(Failed(), Rate(), TimeLeft()) as bar:
            return client.wait(batch_id, on_progress=_both(bar, warn))
    except KeyboardInterrupt:
        say(on_interrupt())
        raise click.exceptions.Exit(INTERRUPTED) from None
    except ClientError as error:
        if not error.passing:
            raise
        raise TaskfleetError(
            f"{error}; the batch goes on; to wait again: taskfleet status {batch_id} --wait"
        ) from error


def _both(
    first: Callable[[BatchView], None], second: Callable[[BatchView], None]
) -> Callable[[BatchView], None]:
    def call(batch: BatchView) -> None:
        first(batch)
        second(batch)

    return call


def follow(
    client: Client, batch_id: str, show: Callable[[BatchView], None] | None = None
) -> BatchView:
    """Wait for the end of the batch, and sum it up. Returns the finished batch."""
    batch = wait_for(
        client,
        batch_id,
        show=show,
        on_interrupt=lambda: (
            "stopped waiting, but the batch goes on; to wait again: "
            f"taskfleet status {batch_id} --wait; to cancel it: taskfleet cancel {batch_id}"
        ),
    )
    if batch.error is None:
        hint = (
            f"; to see why: taskfleet results {batch_id} --status FAILED; "
            f"to run them again: taskfleet retry {batch_id}"
        )
        say(summary(batch) + (hint if batch.failed else ""))
    return batch


def follow_to_results(
    client: Client,
    batch_id: str,
    *,
    as_json: bool,
    refusal: Callable[[str], TaskfleetError] = TaskfleetError,
) -> int:
    """Print the id of a batch that was submitted and wait for its end; with `as_json`, print its
    results instead of the id. Returns the exit code.

    refusal: makes the error to raise of the batch's `error`, if the service cancelled it.
    """
    if not as_json:
        click.echo(batch_id)
    batch = follow(client, batch_id)
    if batch.error is not None:
        raise refusal(batch.error)
    if as_json:
        write_json(client.results(batch_id))
    return exit_code(batch)


def hand_over(accepted: Accepted, done: str, *, as_json: bool) -> int:
    """Print the id of a batch that is not waited for, or the batch as JSON. Returns the exit code.

    done: says what was done.
    """
    if as_json:
        write_json([accepted])
    else:
        click.echo(accepted.batch_id)
    say(f"{done}; to wait: taskfleet status {accepted.batch_id} --wait")
    return 0


def exit_code(batch: BatchView) -> int:
    """Returns the exit code for a batch: `SOME_FAILED` if not all of its tasks succeeded."""
    return SOME_FAILED if batch.failed or batch.cancelled or batch.error else 0
