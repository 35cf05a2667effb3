"""`taskfleet results`: the rows of a batch. Owns the command; not the table
(`taskfleet.cli.output`)."""

from __future__ import annotations

import click

from taskfleet.cli.api import client_here
from taskfleet.cli.command import command
from taskfleet.cli.follow import exit_code
from taskfleet.cli.options import batch_argument, no_pager_option, status_option
from taskfleet.cli.output import say, summary, write_json, write_results
from taskfleet.cli.terminal import paged
from taskfleet.task import TaskStatus


@command(
    "results",
    examples=(
        "taskfleet results BATCH",
        "taskfleet results BATCH --status FAILED",
        "taskfleet results BATCH --json | jq -r 'select(.attempts > 1) | .task_id'",
    ),
    json="a row of GET /batches/{id}/results on each line.",
)
@batch_argument
@status_option(list(TaskStatus))
@click.option("--failed", is_flag=True, help="The same as --status FAILED.")
@no_pager_option
def results(
    batch: str, statuses: list[TaskStatus], failed: bool, no_pager: bool, as_json: bool
) -> int:
    """Show the results of BATCH that exist so far.

    They come in the order of their tasks. The exit code is 1 if a task of BATCH failed or was
    cancelled.
    """
    if failed and statuses:
        raise click.UsageError("--failed or --status, not both.")
    wanted = [TaskStatus.FAILED] if failed else statuses
    with client_here() as client:
        view = client.status(batch)
        rows = client.results(batch, status=wanted)
        if as_json:
            write_json(rows)
        else:
            with paged(not no_pager):
                write_results(rows, view.total)
    if view.finished_at is None:
        say(f"not finished yet: {summary(view)}")
    return exit_code(view)
