"""The command line: `taskfleet submit|status|results|cancel|token|fleet`, and what is added from
other modules: `doctor|explain|log|keys|map|redrive`. Owns the commands and their options; not the
form of their output (`taskfleet.cli.output`, `taskfleet.cli.fleet`, `taskfleet.cli.progress`),
their exit codes (`taskfleet.cli.command`) nor the calls to the API (`taskfleet.client`).
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import click

from taskfleet import __version__, settings
from taskfleet.cli.api import client_here
from taskfleet.cli.command import INTERRUPTED, OneLineErrors
from taskfleet.cli.doctor import doctor
from taskfleet.cli.fleet import write_fleet
from taskfleet.cli.follow import exit_code, follow
from taskfleet.cli.input import TaskFile, duration_s
from taskfleet.cli.keys import keys
from taskfleet.cli.map import map_command
from taskfleet.cli.output import say, summary, write_batches, write_json, write_results
from taskfleet.cli.progress import sending_bar
from taskfleet.cli.redrive import redrive
from taskfleet.cli.stage import open_stage
from taskfleet.cli.task import explain, log
from taskfleet.client import ApiError, Client, ClientError, endpoint
from taskfleet.errors import InvalidTask, SettingsError, TaskfleetError
from taskfleet.options import ATTEMPTS_MAX, MEMORY_MAX_MB, MEMORY_MIN_MB
from taskfleet.task import TaskStatus
from taskfleet.wire import token
from taskfleet.wire.http import Accepted

RECENT = 20
"""Batches that `taskfleet status` lists."""


class _Commands(OneLineErrors, click.Group):
    """The group of all commands."""


@click.group("taskfleet", cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="taskfleet")
def main() -> None:
    """Submit batches of tasks to a fleet of workers, and follow them.

    TASKFLEET_URL is the URL of the API and TASKFLEET_TOKEN your token. Without them, the command
    uses the local cloud that was started in this directory (.local/env).

    Exit codes: 0 if all tasks succeeded, 1 if some failed or were cancelled, 2 for wrong usage or
    input or when the API cannot be reached, 130 after Ctrl-C.
    """


as_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, one object on each line."
)


@main.command()
@click.argument("file", type=click.File(encoding="utf-8-sig"))
@click.option("--name", help="Name of the batch.")
@click.option(
    "--key", help="Idempotency key: submitting the same file again under it runs nothing twice."
)
@click.option(
    "--timeout",
    "timeout_s",
    callback=duration_s,
    metavar="DURATION",
    help="End a task that runs for longer, such as 60 (seconds), 15m or 12h.",
)
@click.option(
    "--max-attempts",
    type=click.IntRange(1, ATTEMPTS_MAX),
    help="Most executions of one task, including the first.",
)
@click.option(
    "--memory-mb",
    type=click.IntRange(MEMORY_MIN_MB, MEMORY_MAX_MB),
    help="Most MB that the process of one task may use.",
)
@click.option(
    "--retry-timeouts", is_flag=True, default=None, help="Try a task again at its time-out."
)
@click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    help="Wait until the batch is finished.",
)
@as_json_option
def submit(
    file: TextIO,
    name: str | None,
    key: str | None,
    wait: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Submit the tasks in FILE (- for standard input) as one batch.

    FILE has one task on each line, such as `sleep 1000`; a line that begins with { is a task as a
    JSON object, which may have its own "timeout_s", "max_attempts", "memory_mb" and
    "retry_timeouts". Blank lines and lines that begin with # are skipped.

    Prints the id of the batch. With --json, prints the results instead, once the batch is finished.
    """
    with client_here() as client:
        tasks = TaskFile(file)
        accepted = _submit(client, tasks, name=name, key=key, options=options)
        if not wait:
            if as_json:
                write_json([accepted])
            else:
                click.echo(accepted.batch_id)
            submitted = f"{accepted.total:,} tasks" if accepted.total else "the file was"
            say(f"{submitted} submitted; to wait: taskfleet status {accepted.batch_id} --wait")
            return 0
        if not as_json:
            click.echo(accepted.batch_id)
        batch = follow(client, accepted.batch_id)
        if batch.error is not None:
            raise tasks.refusal(batch.error)
        if as_json:
            write_json(client.results(batch.batch_id))
        return exit_code(batch)


@main.command()
@click.argument("batch", required=False)
@click.option("--wait", is_flag=True, help="Wait until the batch is finished.")
@click.option(
    "--cost",
    is_flag=True,
    help="Show the AWS calls and their price in us-east-1 too (--json always does).",
)
@as_json_option
def status(batch: str | None, wait: bool, cost: bool, as_json: bool) -> int:
    """Show the status of BATCH, or of your latest batches."""
    if batch is None and wait:
        raise click.UsageError("--wait needs a BATCH.")
    with client_here() as client:
        if batch is None:
            shown = list(islice(client.batches(), RECENT))
            code = 0
        else:
            shown = [follow(client, batch) if wait else client.status(batch)]
            code = exit_code(shown[0])
    if as_json:
        write_json(shown)
    else:
        write_batches(shown, cost=cost)
    if batch is not None and shown[0].error is not None:
        say(f"batch {batch} was cancelled: {shown[0].error}")
    return code


@main.command()
@click.argument("batch")
@click.option("--failed", is_flag=True, help="Show failed tasks only.")
@as_json_option
def results(batch: str, failed: bool, as_json: bool) -> int:
    """Show the results of BATCH that exist so far."""
    with client_here() as client:
        view = client.status(batch)
        rows = client.results(batch)
        if failed:
            rows = (row for row in rows if row.status is TaskStatus.FAILED)
        if as_json:
            write_json(rows)
        else:
            write_results(rows, view.total)
    if view.finished_at is None:
        say(f"not finished yet: {summary(view)}")
    return exit_code(view)


@main.command()
@click.argument("batch")
def cancel(batch: str) -> int:
    """Cancel the tasks of BATCH that have not started."""
    with client_here() as client:
        view = client.cancel(batch)
    say(f"{'already finished' if view.finished_at else 'cancelled'}: {summary(view)}")
    return 0


@main.command()
@as_json_option
def fleet(as_json: bool) -> int:
    """Show the machines, the workers and the last decisions.

    The decisions are those of the provisioner, which starts and ends machines. If tasks wait and
    none runs, the output says why.
    """
    with client_here() as client:
        view = client.fleet()
    if as_json:
        write_json([view])
    else:
        write_fleet(view)
    return 0


@main.command("token")
@click.option("--client-id", required=True, help="The client that the token names.")
@click.option(
    "--ttl",
    callback=duration_s,
    metavar="DURATION",
    default="1d",
    show_default=True,
    help="How long the token is valid, such as 90 (seconds), 15m, 12h or 30d.",
)
@click.option("--stage", help="Sign with the secret of this stage on AWS; needs AWS credentials.")
def make_token(client_id: str, ttl: float, stage: str | None) -> int:
    """Print a new bearer token, signed with TASKFLEET_TOKEN_SECRET or the secret of a stage."""
    secret = _secret_of(stage) if stage else _secret_here()
    try:
        new_token = token.make(secret, client_id, ttl, time.time())
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--client-id") from error
    click.echo(new_token)
    return 0


main.add_command(doctor)
main.add_command(explain)
main.add_command(keys)
main.add_command(log)
main.add_command(map_command)
main.add_command(redrive)


def _secret_here() -> str:
    """Returns the secret of the environment or of the local cloud of the current folder."""
    secret = settings.load({**endpoint.variables(Path.cwd()), **os.environ}).token_secret
    if not secret:
        raise SettingsError(
            "TASKFLEET_TOKEN_SECRET is not set; set it to the secret that the API uses, or name a "
            "stage on AWS with --stage"
        )
    return secret


def _secret_of(stage: str) -> str:
    """Returns the secret of a stage on AWS, from its SSM parameter."""
    aws = open_stage(stage)
    return aws.secret(aws.settings.token_parameter)


def _submit(
    client: Client,
    tasks: TaskFile,
    *,
    name: str | None,
    key: str | None,
    options: Mapping[str, Any],
) -> Accepted:
    """Submit the tasks with a progress bar. Errors name the file and the line, or how to go on."""
    key = str(uuid.uuid4()) if key is None else key
    fields: dict[str, Any] = {"name": name, "idempotency_key": key, **options}
    try:
        with sending_bar() as show:
            if tasks.large is not None:
                return client.submit_file(tasks.large, on_sent=show, **fields)
            return client.submit(tasks, on_sent=show, **fields)
    except KeyboardInterrupt:
        say("interrupted while submitting; taskfleet status shows whether the batch was taken in")
        raise click.exceptions.Exit(INTERRUPTED) from None
    except ClientError as error:
        if error.passing:
            raise TaskfleetError(
                f"{error}; to try again without running anything twice, add --key {key}"
            ) from error
        if isinstance(error, ApiError) and error.index is not None:
            raise tasks.fault(error) from error
        raise
    except UnicodeEncodeError as error:
        raise TaskfleetError("--name and --key must be text") from error
    except (InvalidTask, UnicodeDecodeError, OSError) as error:
        raise tasks.fault(error) from error
    except ValueError as error:
        raise TaskfleetError(str(error)) from error
