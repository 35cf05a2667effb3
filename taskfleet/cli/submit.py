"""`taskfleet submit`: a file of tasks as one batch. Owns the command; not the reading of the file
(`taskfleet.cli.input`) nor the wait (`taskfleet.cli.follow`)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, TextIO

import click

from taskfleet.cli.api import client_here
from taskfleet.cli.command import INTERRUPTED, command
from taskfleet.cli.follow import follow_to_results, hand_over
from taskfleet.cli.input import TaskFile
from taskfleet.cli.options import batch_options, key_option, name_option, wait_option
from taskfleet.cli.output import say
from taskfleet.client import ApiError, Client, ClientError
from taskfleet.client.progress import sending_bar
from taskfleet.errors import InvalidTask, TaskfleetError
from taskfleet.wire.http.batches import Accepted


@command(
    "submit",
    examples=(
        "taskfleet submit tasks.txt --name nightly",
        "taskfleet submit tasks.txt --timeout 15m --max-attempts 3 --json > results.jsonl",
        "seq 100 | sed 's/^/sleep /' | taskfleet submit - --no-wait",
        "taskfleet submit tasks.txt --after 0123456789abcdefghjkmnpqrs",
    ),
    json="the results, one on each line; with --no-wait, the batch that was accepted.",
)
@click.argument("file", type=click.File(encoding="utf-8-sig"))
@name_option
@key_option
@batch_options
@wait_option(default=True)
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

    Prints the id of the batch and waits for its end. Ctrl-C stops the wait, not the batch.
    """
    with client_here() as client:
        tasks = TaskFile(file)
        accepted = _submit(client, tasks, name=name, key=key, options=options)
        if not wait:
            submitted = f"{accepted.total:,} tasks" if accepted.total else "the file was"
            return hand_over(accepted, f"{submitted} submitted", as_json=as_json)
        return follow_to_results(client, accepted.batch_id, as_json=as_json, refusal=tasks.refusal)


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
