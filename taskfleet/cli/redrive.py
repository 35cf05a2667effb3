"""`taskfleet redrive`: moves dead letters. Owns the command and which cloud it calls; the moving is
done by `taskfleet.scheduler.redrive`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import click

from taskfleet.cli.output import say
from taskfleet.cli.stage import open_stage
from taskfleet.client import endpoint
from taskfleet.ports import Message, TaskQueue
from taskfleet.scheduler.redrive import peek
from taskfleet.scheduler.redrive import redrive as move

SHOWN_CHARS = 100
"""Characters of a message's body that are printed."""

QueueName = Literal["tasks", "responses", "uploads"]


@click.command("redrive")
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
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=1_000,
    show_default=True,
    help="Most messages to show or move.",
)
@click.option("--stage", help="The stage on AWS; TASKFLEET_STAGE or dev unless given.")
def redrive(responses: bool, uploads: bool, only_list: bool, limit: int, stage: str | None) -> int:
    """Move dead letters back to their queue, once their cause is fixed.

    By default, moves those of Task_to_process: bundles of tasks. A task that has its result does
    not run again; submit it in a new batch for that.

    Needs AWS credentials that may read and write the queues, and a region. Without --stage and
    TASKFLEET_URL, the command uses the local cloud that was started in this directory.
    """
    if responses and uploads:
        raise click.UsageError("--responses or --uploads, not both.")
    queue = open_queue("responses" if responses else "uploads" if uploads else "tasks", stage)
    count = 0
    for message in peek(queue, limit) if only_list else move(queue, limit):
        count += 1
        click.echo(_line(message))
    say(f"{count:,} dead letters" + ("" if only_list else " moved back"))
    return 0


def _line(message: Message) -> str:
    reason = message.attributes.get("reason", "received too often")
    body = " ".join(message.body.split())
    shown = body if len(body) <= SHOWN_CHARS else body[:SHOWN_CHARS] + "..."
    return f"{message.message_id}\t{reason}\t{shown}"


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
        return aws.task_queue()
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
