"""`taskfleet map`: one command for each of many files, GNU parallel's way. Owns the options,
the batch and what is printed; not the items (`taskfleet.cli.items`), the placeholders
(`taskfleet.cli.template`), nor the ways of files (`taskfleet.cli.sending`,
`taskfleet.cli.download`).
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import click

from taskfleet.cli import template
from taskfleet.cli.api import client_here
from taskfleet.cli.command import INTERRUPTED, SOME_FAILED, command
from taskfleet.cli.download import Downloads
from taskfleet.cli.follow import exit_code, wait_for
from taskfleet.cli.items import Item, read_items
from taskfleet.cli.options import batch_options, key_option, name_option
from taskfleet.cli.output import say, summary, write_json
from taskfleet.cli.sending import send
from taskfleet.client import ApiError, Client, ClientError
from taskfleet.client.progress import sending_bar
from taskfleet.errors import InvalidTask, TaskfleetError
from taskfleet.task import TaskStatus
from taskfleet.wire.http.batches import Accepted, BatchView
from taskfleet.wire.http.results import ResultView

STREAM_BYTES = 16_000
"""Bytes of standard output from which a result may hold its end only."""


@command(
    "map",
    examples=(
        "taskfleet map 'convert {} -resize 50% {.}.png' *.jpg --outputs '*.png' --to results/",
        "taskfleet map 'sha256sum {}' *.iso",
        "seq 100 | taskfleet map 'python3 simulate.py {}' --no-files --with simulate.py",
    ),
    json="the results, one on each line.",
)
@click.argument("line", metavar="COMMAND")
@click.argument("files", nargs=-1)
@click.option(
    "-a",
    "--arg-file",
    type=click.File(encoding="utf-8-sig"),
    help="Read the items from this file, one a line (- for standard input).",
)
@click.option("--no-files", is_flag=True, help="The items are words and not files to send.")
@click.option(
    "--with",
    "shared",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Send this file to every task, such as a script.",
)
@click.option(
    "--outputs",
    multiple=True,
    metavar="PATTERN",
    help="Keep the files that match, such as '*.png' or '{.}.png'.",
)
@click.option(
    "--to",
    type=click.Path(file_okay=False, path_type=Path),
    help="Download the outputs into this folder.",
)
@click.option("--force", is_flag=True, help="Overwrite files in the folder of --to.")
@batch_options
@name_option
@key_option
def map_command(
    line: str,
    files: tuple[str, ...],
    arg_file: TextIO | None,
    no_files: bool,
    shared: tuple[Path, ...],
    outputs: tuple[str, ...],
    to: Path | None,
    force: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Run COMMAND once for each of FILES, on the fleet.

    COMMAND is text for the shell. In it, {} is the file, {.} the file without its extension, {/}
    its name without folders, {/.} that without its extension, and {//} its folder; each is quoted
    as one word. Without any of them, the file is the last word. Each task has the file in a folder
    of its own; without FILES, items are read from standard input, one a line.

    What the commands print comes in the order of FILES. Ctrl-C cancels what has not started.
    """
    if to is not None and not outputs:
        raise click.UsageError("--to needs --outputs, the files to download.")
    items = list(read_items(files, arg_file, no_files))
    if not items:
        raise click.UsageError("no FILES, and no items on standard input.")
    texts = [_text_of(item, line) for item in items]
    downloads = None if to is None else Downloads(to, force=force)
    with client_here() as client:
        uploaded = send([*(item.path for item in items if item.path), *shared])
        tasks = [
            _task(item, text, outputs, shared, uploaded)
            for item, text in zip(items, texts, strict=True)
        ]
        accepted = _submit(client, tasks, items, options)
        say(f"batch {accepted.batch_id}: {len(tasks):,} commands")
        batch = _wait(client, accepted.batch_id)
        rows = client.results(batch.batch_id)
        if as_json:
            rows = _as_json(rows)
        for row in rows:
            if not as_json:
                _show(row, items, batch.batch_id)
            if downloads is not None:
                downloads.plan(row)
        say(summary(batch))
        faults = downloads.run(client, batch.batch_id) if downloads is not None else []
        for fault in faults:
            say(fault)
    return SOME_FAILED if faults else exit_code(batch)


# --- items ------------------------------------------------------------------------------------


def _text_of(item: Item, command: str) -> str:
    """Returns the item's text for the shell. Raises UsageError for templates that cannot be."""
    try:
        return template.command(command, item.text)
    except template.QuotedPlaceholder as error:
        raise click.UsageError(str(error)) from error


def _task(
    item: Item,
    text: str,
    outputs: Sequence[str],
    shared: Sequence[Path],
    uploaded: dict[Path, str],
) -> dict[str, Any]:
    params: dict[str, Any] = {"shell": text}
    inputs = {path.name: f"upload:{uploaded[path]}" for path in shared}
    if item.path is not None:
        inputs[item.text.removeprefix("./")] = f"upload:{uploaded[item.path]}"
    if inputs:
        params["inputs"] = inputs
    if outputs:
        params["outputs"] = [template.pattern(each, item.text) for each in outputs]
    return {"kind": "command", "params": params}


# --- the batch --------------------------------------------------------------------------------


def _submit(
    client: Client, tasks: list[dict[str, Any]], items: list[Item], options: dict[str, Any]
) -> Accepted:
    key = options.pop("key") or str(uuid.uuid4())
    try:
        with sending_bar() as show:
            return client.submit(tasks, idempotency_key=key, on_sent=show, **options)
    except KeyboardInterrupt:
        say("interrupted while submitting; taskfleet status shows whether the batch was taken in")
        raise click.exceptions.Exit(INTERRUPTED) from None
    except (ApiError, InvalidTask) as error:
        if error.index is None:
            raise
        raise TaskfleetError(f"{items[error.index].text!r:.100}: {error.reason}") from error
    except ClientError as error:
        if not error.passing:
            raise
        raise TaskfleetError(
            f"{error}; to try again without running anything twice, add --key {key}"
        ) from error


def _wait(client: Client, batch_id: str) -> BatchView:
    """Wait for the end of the batch with a progress bar; Ctrl-C cancels it."""

    def cancelled() -> str:
        client.cancel(batch_id)
        return f"batch {batch_id} is cancelled; what runs comes to its end"

    batch = wait_for(client, batch_id, on_interrupt=cancelled)
    if batch.error is not None:
        raise TaskfleetError(f"batch {batch_id} was cancelled: {batch.error}")
    return batch


# --- what is printed --------------------------------------------------------------------------


def _as_json(rows: Iterable[ResultView]) -> Iterator[ResultView]:
    for row in rows:
        write_json([row])
        yield row


def _show(row: ResultView, items: list[Item], batch_id: str) -> None:
    """Print what a command wrote to standard output, and why it failed."""
    stdout = row.result.get("stdout", "") if isinstance(row.result, dict) else ""
    sys.stdout.write(stdout)
    of = f"task {row.index}, {items[row.index].text!r:.100}"
    if len(stdout) >= STREAM_BYTES // 4 and len(stdout.encode()) >= STREAM_BYTES:
        sys.stdout.flush()
        say(f"{of}: perhaps the end of its output only; all: taskfleet log {batch_id} {row.index}")
    if row.status is not TaskStatus.SUCCEEDED:
        sys.stdout.flush()
        say(f"{of}: {row.status.lower()}" + ("" if row.error is None else f": {row.error}"))
