"""`taskfleet cancel` and `taskfleet retry`: what can be done to a batch. Owns the commands."""

from __future__ import annotations

from taskfleet.cli.api import client_here
from taskfleet.cli.command import command
from taskfleet.cli.follow import follow_to_results, hand_over
from taskfleet.cli.options import batch_argument, key_option, status_option, wait_option
from taskfleet.cli.output import say, summary, write_json
from taskfleet.task import TaskStatus


@command(
    "cancel",
    examples=("taskfleet cancel BATCH",),
    json="the batch.",
)
@batch_argument
def cancel(batch: str, as_json: bool) -> int:
    """Cancel the tasks of BATCH that have not started. Those that run come to their end."""
    with client_here() as client:
        view = client.cancel(batch)
    if as_json:
        write_json([view])
    say(f"{'already finished' if view.finished_at else 'cancelled'}: {summary(view)}")
    return 0


@command(
    "retry",
    examples=(
        "taskfleet retry BATCH",
        "taskfleet retry BATCH --status FAILED,CANCELLED",
        "taskfleet retry BATCH --no-wait",
    ),
    json="the results of the new batch, one on each line; with --no-wait, the new batch.",
)
@batch_argument
@status_option([TaskStatus.FAILED, TaskStatus.CANCELLED])
@key_option
@wait_option(default=True)
def retry(
    batch: str, statuses: list[TaskStatus], key: str | None, wait: bool, as_json: bool
) -> int:
    """Run the failed tasks of BATCH again, as a new batch.

    BATCH must be finished, and stays as it is. The new batch has its name and its options. With
    --status, it has the tasks with that status instead of the failed ones.

    Prints the id of the new batch and waits for its end. Ctrl-C stops the wait, not the batch.
    """
    with client_here() as client:
        accepted = client.retry(batch, status=statuses or [TaskStatus.FAILED], idempotency_key=key)
        if not wait:
            tasks = f"{accepted.total:,} tasks of {batch} are submitted again"
            return hand_over(accepted, tasks, as_json=as_json)
        return follow_to_results(client, accepted.batch_id, as_json=as_json)
