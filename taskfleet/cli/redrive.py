"""`taskfleet redrive`. Owns the command and, as the one of its kind that speaks to AWS itself, its
wiring; the moving is `taskfleet.scheduler.redrive`'s."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from taskfleet import settings
from taskfleet.cli.output import say
from taskfleet.client import endpoint
from taskfleet.ports import Message
from taskfleet.scheduler.redrive import look
from taskfleet.scheduler.redrive import redrive as move

if TYPE_CHECKING:
    from taskfleet.aws.session import Aws

SHOWN_CHARS = 100


@click.command("redrive")
@click.option(
    "--responses",
    is_flag=True,
    help="Those of Processed_Task: responses that were not counted.",
)
@click.option(
    "--uploads", is_flag=True, help="Those of Upload_to_expand: files that were not read."
)
@click.option("--list", "only_list", is_flag=True, help="Show them with the reasons, move nothing.")
@click.option(
    "--limit", type=click.IntRange(1), default=1_000, show_default=True, help="At most so many."
)
def redrive(responses: bool, uploads: bool, only_list: bool, limit: int) -> int:
    """Move dead letters back to their queue, once the reason is mended.

    Needs AWS credentials that may read and write the queues, and TASKFLEET_STAGE when the stage is
    not dev. Without TASKFLEET_URL the local cloud of this directory is used. A task that has its
    result does not run again: hand its batch in anew for that.
    """
    if responses and uploads:
        raise click.UsageError("--responses or --uploads, not both.")
    aws = _aws()
    if responses:
        queue = aws.response_queue()
    else:
        queue = aws.upload_queue() if uploads else aws.task_queue()
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


def _aws() -> Aws:
    # Here, since no other command should pay for loading the AWS SDK.
    from taskfleet.aws.session import Aws
    from taskfleet.clock import SystemClock

    if not os.environ.get(endpoint.URL):
        local = endpoint.variables(Path.cwd())
        if local:  # and nothing of an account that is meant for something else
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                del os.environ[name]
            os.environ.update(local)
    return Aws(settings.load(), SystemClock())
