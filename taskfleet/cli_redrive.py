"""`taskfleet redrive`. Owns the command and, as the one of its kind that speaks to AWS itself, its
wiring; the moving is `taskfleet.redrive`'s."""

from __future__ import annotations

import os
from pathlib import Path

import click

from taskfleet import endpoint, settings
from taskfleet.cli_output import say
from taskfleet.ports import Message, TaskQueue
from taskfleet.redrive import look
from taskfleet.redrive import redrive as move

SHOWN_CHARS = 100


@click.command("redrive")
@click.option(
    "--responses",
    is_flag=True,
    help="Those of Processed_Task: responses that were not counted.",
)
@click.option("--list", "only_list", is_flag=True, help="Show them with the reasons, move nothing.")
@click.option(
    "--limit", type=click.IntRange(1), default=1_000, show_default=True, help="At most so many."
)
def redrive(responses: bool, only_list: bool, limit: int) -> int:
    """Move dead letters back to their queue, once the reason is mended.

    Needs AWS credentials that may read and write the queues, and TASKFLEET_STAGE when the stage is
    not dev. Without TASKFLEET_URL the local cloud of this directory is used. A task that has its
    result does not run again: hand its batch in anew for that.
    """
    queue = _queue(responses)
    count = 0
    for message in look(queue, limit) if only_list else move(queue, limit):
        count += 1
        click.echo(_line(message))
    say(f"{count:,} dead letters" + ("" if only_list else " moved back"))
    return 0


def _line(message: Message) -> str:
    reason = message.attributes.get("reason", "received too often")
    body = " ".join(message.body.split())
    shown = body if len(body) <= SHOWN_CHARS else body[:SHOWN_CHARS] + "..."
    return f"{message.message_id}\t{reason}\t{shown}"


def _queue(responses: bool) -> TaskQueue:
    # Here, since no other command should pay for loading the AWS SDK.
    from taskfleet.aws.session import Aws
    from taskfleet.clock import SystemClock

    if not os.environ.get(endpoint.URL):
        local = endpoint.variables(Path.cwd())
        if local:  # and nothing of an account that is meant for something else
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                del os.environ[name]
            os.environ.update(local)
    aws = Aws(settings.load(), SystemClock())
    return aws.response_queue() if responses else aws.task_queue()
