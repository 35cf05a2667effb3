"""`taskfleet redrive`: moves dead letters. Owns the command and which cloud it calls; the moving is
done by `taskfleet.scheduler.redrive`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import click
import msgspec

from taskfleet.cli.command import command
from taskfleet.cli.options import limit_option, no_pager_option, stage_option
from taskfleet.cli.output import say, write_json
from taskfleet.cli.stage import open_stage
from taskfleet.cli.terminal import paged
from taskfleet.client import endpoint
from taskfleet.lanes import Lanes
from taskfleet.ports import Message, TaskQueue
from taskfleet.scheduler.redrive import peek
from taskfleet.scheduler.redrive import redrive as move
from taskfleet.wire.plain import plain, shortened

SHOWN_CHARS = 100
"""Characters of a message's body that are printed."""

RECEIVED_TOO_OFTEN = "received too often"
"""The reason of a dead letter that has none: the queue itself moved it."""

QueueName = Literal["tasks", "responses", "uploads"]


class DeadLetter(msgspec.Struct, frozen=True):
    """A dead letter. `moved` is true if it is back on its queue."""

    message_id: str
    queue: str
    reason: str
    body: str
    moved: bool


@command(
    "redrive",
    examples=(
        "taskfleet redrive --list",
        "taskfleet redrive",
        "taskfleet redrive --responses --stage dev --limit 100",
    ),
    json='a dead letter {"message_id", "queue", "reason", "body", "moved"} on each line.',
)
@click.option(
    "--responses",
    is_flag=True,
    help="Move those of Processed_Task: responses that were not counted.",
)
@click.option(
    "--uploads", is_flag=True, help="Move those of Upload_to_expand: files that were not read."
)
@click.option(
    "--list", "only_list", is_flag=True, help="Show them with their reasons and move nothing."
)
@limit_option(1_000, "dead letters to show or move")
@stage_option
@no_pager_option
def redrive(
    responses: bool,
    uploads: bool,
    only_list: bool,
    limit: int,
    stage: str | None,
    no_pager: bool,
    as_json: bool,
) -> int:
    """Move dead letters back to their queue, once their cause is fixed.

    By default, moves those of Task_to_process: bundles of tasks. A task that has its result does
    not run again; submit it in a new batch for that.

    Needs AWS credentials that may read and write the queues, and a region. Without --stage and
    TASKFLEET_URL, the command uses the local cloud that was started in this directory; without
    one, TASKFLEET_STAGE or else the stage dev.
    """
    if responses and uploads:
        raise click.UsageError("--responses or --uploads, not both.")
    name: QueueName = "responses" if responses else "uploads" if uploads else "tasks"
    queue = open_queue(name, stage)
    count = 0
    # What is moved must not wait for a reader.
    with paged(only_list and not no_pager and not as_json):
        for message in peek(queue, limit) if only_list else move(queue, limit):
            count += 1
            if as_json:
                reason = message.attributes.get("reason", RECEIVED_TOO_OFTEN)
                letter = (message.message_id, name, reason, message.body, not only_list)
                write_json([DeadLetter(*letter)])
            else:
                click.echo(_line(message))
    say(f"{count:,} dead letters" + ("" if only_list else " moved back"))
    return 0


def _line(message: Message) -> str:
    reason = plain(message.attributes.get("reason", RECEIVED_TOO_OFTEN))
    body = " ".join(message.body.split())
    return f"{message.message_id}\t{reason}\t{shortened(body, SHOWN_CHARS)}"


def open_queue(name: QueueName, stage: str | None = None) -> TaskQueue:
    """Returns a queue of the stage, or, without `stage` and TASKFLEET_URL, of the local cloud of
    this directory if there is one.

    For a local cloud, the settings and the AWS account come from its env file. AWS_* variables of
    the process, which may name a real account, are not used.
    """
    named = stage is not None or os.environ.get(endpoint.URL)
    local = {} if named else endpoint.variables(Path.cwd())
    if not local:
        return _connect(name, stage, os.environ)
    others = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    environ = {**others, **local}
    with _environment(environ):
        return _connect(name, stage, environ)


def _connect(name: QueueName, stage: str | None, environ: Mapping[str, str]) -> TaskQueue:
    aws = open_stage(stage, environ)
    if name == "tasks":
        return Lanes(aws.task_queue(), aws.high_queue())
    return aws.response_queue() if name == "responses" else aws.upload_queue()


@contextmanager
def _environment(environ: Mapping[str, str]) -> Iterator[None]:
    """Makes `environ` the environment of this process for the time of the `with` block.

    boto3 takes profiles, endpoints and proxies from `os.environ` only. It reads them when it makes
    a client, so a client made in the block keeps them.
    """
    before = dict(os.environ)
    _set_environment(environ)
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(environ: Mapping[str, str]) -> None:
    for name in set(os.environ) - set(environ):
        del os.environ[name]
    os.environ.update(environ)
