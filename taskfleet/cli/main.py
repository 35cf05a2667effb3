"""The command line: `taskfleet submit|status|results|cancel|token|redrive|fleet`. Owns the
commands, their exit codes and the form of their errors; not their looks (`taskfleet.cli.output`,
`taskfleet.cli.fleet`) nor what they do (`taskfleet.client.client`).

Exit codes: 0 all succeeded, 1 some failed or were cancelled, 2 wrong usage or input or no API,
130 interrupted, 141 whoever read the output closed it.
"""

from __future__ import annotations

import os
import time
import uuid
from itertools import islice
from pathlib import Path
from typing import TextIO

import click

from taskfleet import __version__, settings
from taskfleet.cli.command import INTERRUPTED, SOME_FAILED, OneLineErrors
from taskfleet.cli.fleet import write_fleet
from taskfleet.cli.input import TaskFile, duration_s
from taskfleet.cli.output import (
    progress_bar,
    say,
    sending_bar,
    summary,
    write_batches,
    write_json,
    write_results,
)
from taskfleet.cli.redrive import redrive
from taskfleet.client import (
    ApiError,
    Client,
    ClientError,
    endpoint,
)
from taskfleet.errors import InvalidTask, SettingsError, TaskfleetError
from taskfleet.task import TaskStatus
from taskfleet.wire import token
from taskfleet.wire.http import (
    Accepted,
    BatchView,
)

RECENT = 20


class _Commands(OneLineErrors, click.Group):
    """The group of all commands."""


@click.group("taskfleet", cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="taskfleet")
def main() -> None:
    """Batches of tasks, executed once each by a fleet of workers.

    TASKFLEET_URL and TASKFLEET_TOKEN say where the API is and who you are; without them, the
    local cloud of this directory is used (.local/env).
    """


as_json_option = click.option("--json", "as_json", is_flag=True, help="JSON, one object a line.")


@main.command()
@click.argument("file", type=click.File(encoding="utf-8-sig"))
@click.option("--name", help="What to call the batch.")
@click.option("--key", help="Idempotency key: handed in again under it, nothing runs twice.")
@click.option("--wait/--no-wait", default=True, help="Wait for the end (the default) or not.")
@as_json_option
def submit(file: TextIO, name: str | None, key: str | None, wait: bool, as_json: bool) -> int:
    """Hand in the tasks of FILE (- for standard input).

    One task a line, such as `sleep 1000`; a line that begins with { is a task as JSON. Blank lines
    and lines that begin with # are skipped. Prints the batch's id; with --json, once it is
    finished, the results.
    """
    with _client() as client:
        tasks = TaskFile(file)
        accepted = _hand_in(client, tasks, name, key)
        if not wait:
            if as_json:
                write_json([accepted])
            else:
                click.echo(accepted.batch_id)
            what = f"{accepted.total:,} tasks" if accepted.total else "the file was"
            say(f"{what} handed in; taskfleet status {accepted.batch_id} --wait")
            return 0
        if not as_json:
            click.echo(accepted.batch_id)
        batch = _follow(client, accepted.batch_id)
        if batch.error is not None:
            raise tasks.refusal(batch.error)
        if as_json:
            write_json(client.results(batch.batch_id))
        return _exit_code(batch)


@main.command()
@click.argument("batch", required=False)
@click.option("--wait", is_flag=True, help="Wait for the end of the batch.")
@click.option("--cost", is_flag=True, help="Show AWS calls and dollars too (--json always does).")
@as_json_option
def status(batch: str | None, wait: bool, cost: bool, as_json: bool) -> int:
    """How BATCH stands; without it, your latest batches."""
    if batch is None and wait:
        raise click.UsageError("--wait needs a BATCH.")
    with _client() as client:
        if batch is None:
            shown = list(islice(client.batches(), RECENT))
            code = 0
        else:
            shown = [_follow(client, batch) if wait else client.status(batch)]
            code = _exit_code(shown[0])
    if as_json:
        write_json(shown)
    else:
        write_batches(shown, cost=cost)
    if batch is not None and shown[0].error is not None:
        say(f"batch {batch} was cancelled: {shown[0].error}")
    return code


@main.command()
@click.argument("batch")
@click.option("--failed", is_flag=True, help="Only of tasks that failed.")
@as_json_option
def results(batch: str, failed: bool, as_json: bool) -> int:
    """The results of BATCH, as far as there are any."""
    with _client() as client:
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
    return _exit_code(view)


@main.command()
@click.argument("batch")
def cancel(batch: str) -> int:
    """Cancel what of BATCH has not started yet."""
    with _client() as client:
        view = client.cancel(batch)
    say(f"{'finished before' if view.finished_at else 'cancelled'}: {summary(view)}")
    return 0


@main.command()
@as_json_option
def fleet(as_json: bool) -> int:
    """The machines and workers, the last decisions, and why nothing runs when nothing does."""
    with _client() as client:
        view = client.fleet()
    if as_json:
        write_json([view])
    else:
        write_fleet(view)
    return 0


@main.command("token")
@click.option("--client-id", required=True, help="Whom the token names.")
@click.option(
    "--ttl", callback=duration_s, default="1d", show_default=True, help="How long it is good."
)
def make_token(client_id: str, ttl: float) -> int:
    """Make a bearer token, signed with TASKFLEET_TOKEN_SECRET."""
    found = settings.load({**endpoint.variables(Path.cwd()), **os.environ})
    if not found.token_secret:
        raise SettingsError(
            "TASKFLEET_TOKEN_SECRET is not set; it must be the secret that the API has"
        )
    try:
        made = token.make(found.token_secret, client_id, ttl, time.time())
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--client-id") from error
    click.echo(made)
    return 0


main.add_command(redrive)


def _client() -> Client:
    try:
        return Client.from_env()
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _hand_in(client: Client, tasks: TaskFile, name: str | None, key: str | None) -> Accepted:
    key = str(uuid.uuid4()) if key is None else key
    try:
        with sending_bar() as show:
            if tasks.large is not None:
                return client.submit_file(tasks.large, name=name, idempotency_key=key, on_sent=show)
            return client.submit(tasks, name=name, idempotency_key=key, on_sent=show)
    except KeyboardInterrupt:
        say("interrupted while handing in; taskfleet status shows what of it arrived")
        raise click.exceptions.Exit(INTERRUPTED) from None
    except ClientError as error:
        if error.passing:
            raise TaskfleetError(
                f"{error}; to go on without running anything twice, add --key {key}"
            ) from error
        if isinstance(error, ApiError) and error.index is not None:
            raise tasks.fault(error) from error
        raise
    except UnicodeEncodeError as error:
        raise TaskfleetError("--name and --key must be text") from error
    except (InvalidTask, UnicodeDecodeError, OSError) as error:
        raise tasks.fault(error) from error


def _follow(client: Client, batch_id: str) -> BatchView:
    """The batch at its end, with a bar on the way."""
    try:
        with progress_bar() as show:
            batch = client.wait(batch_id, on_progress=show)
    except KeyboardInterrupt:
        say(
            f"no longer waiting, but the batch goes on: taskfleet status {batch_id} --wait, or "
            f"taskfleet cancel {batch_id}"
        )
        raise click.exceptions.Exit(INTERRUPTED) from None
    except ClientError as error:
        if not error.passing:
            raise
        raise TaskfleetError(
            f"{error}; the batch goes on: taskfleet status {batch_id} --wait"
        ) from error
    if batch.error is None:
        hint = f"; taskfleet results {batch_id} --failed" if batch.failed else ""
        say(summary(batch) + hint)
    return batch


def _exit_code(batch: BatchView) -> int:
    return SOME_FAILED if batch.failed or batch.cancelled or batch.error else 0
