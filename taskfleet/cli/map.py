"""`taskfleet map`: one command for each of many files, GNU parallel's way. Owns the steps: items,
uploads, the batch, what is printed; not the placeholders (`taskfleet.cli.template`) nor the
downloads (`taskfleet.cli.download`).
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import click

from taskfleet.cli import template
from taskfleet.cli.api import client_here
from taskfleet.cli.command import INTERRUPTED, SOME_FAILED
from taskfleet.cli.download import Downloads
from taskfleet.cli.follow import exit_code
from taskfleet.cli.input import duration_s
from taskfleet.cli.output import say, summary, write_json
from taskfleet.cli.progress import Failed, Rate, TimeLeft, batch_bar, counting_bars, sending_bar
from taskfleet.client import ApiError, Client, ClientError
from taskfleet.errors import InvalidTask, TaskfleetError
from taskfleet.options import ATTEMPTS_MAX
from taskfleet.task import TaskStatus
from taskfleet.wire.filenames import name_fault
from taskfleet.wire.http import Accepted, BatchView, ResultView

STREAM_BYTES = 16_000
"""Bytes of standard output from which a result may hold its end only."""


@dataclass(frozen=True)
class Item:
    """What one task is for.

    text: what the placeholders stand for: an item, or the name of a file in the task's folder.
    path: the file that is sent; None for an item that is no file.
    """

    text: str
    path: Path | None = None


@click.command("map")
@click.argument("command")
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
@click.option(
    "--timeout",
    "--timeout-s",
    "timeout_s",
    callback=duration_s,
    metavar="DURATION",
    help="End a command that runs for longer, such as 60 (seconds), 15m or 12h.",
)
@click.option(
    "--max-attempts",
    type=click.IntRange(1, ATTEMPTS_MAX),
    help="Run a command that fails again, up to so many times in all.",
)
@click.option("--name", help="Name of the batch.")
@click.option(
    "--key", help="Idempotency key: the same again under it runs nothing twice, and goes on."
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON, one a line.")
def map_command(
    command: str,
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

    \b
    taskfleet map 'convert {} -resize 50% {.}.png' *.jpg --outputs '*.png' --to results/

    COMMAND is text for the shell. In it, {} is the file, {.} the file without its extension, {/}
    its name without folders, {/.} that without its extension, and {//} its folder; each is quoted
    as one word. Without any of them, the file is the last word. Each task has the file in a folder
    of its own; without FILES, items are read from standard input, one a line.

    What the commands print comes in the order of FILES. Ctrl-C cancels what has not started.
    """
    if to is not None and not outputs:
        raise click.UsageError("--to needs --outputs, the files to download.")
    items = list(_items(files, arg_file, no_files))
    if not items:
        raise click.UsageError("no FILES, and no items on standard input.")
    texts = [_text_of(item, command) for item in items]
    downloads = None if to is None else Downloads(to, force=force)
    with client_here() as client:
        uploaded = _send(client, [*(item.path for item in items if item.path), *shared])
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


def _items(files: Sequence[str], arg_file: TextIO | None, no_files: bool) -> Iterator[Item]:
    words: Iterable[str] = files
    if arg_file is not None or not files:
        source: TextIO = arg_file or sys.stdin
        try:
            lines = [line.removesuffix("\n").removesuffix("\r") for line in source]
        except UnicodeDecodeError as error:
            raise TaskfleetError(f"the items are not UTF-8: {error}") from error
        words = [*files, *(line for line in lines if line)]
    for word in words:
        yield Item(word) if no_files else _file(word)


def _file(word: str) -> Item:
    """Returns the item of a file. Its name in the task's folder is as it was given, if that leads
    nowhere else, otherwise without folders."""
    path = Path(word)
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "is no file here"
        raise TaskfleetError(f"{word!r} {reason}; for items that are no files, add --no-files")
    name = os.path.normpath(word)
    if name.startswith(("/", "../")):
        name = path.name
    fault = name_fault(name)
    if fault is not None:
        raise TaskfleetError(f"the name {word!r} {fault}")
    return Item("./" + name if name.startswith("-") else name, path)


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


def _send(client: Client, paths: Iterable[Path]) -> dict[Path, str]:
    """Send each file once. Returns the ids of the uploads."""
    unsent = list(dict.fromkeys(paths))
    uploaded: dict[Path, str] = {}
    try:
        with counting_bars() as progress:
            bar = progress.add_task("sending", total=len(unsent), visible=bool(unsent))
            for path in unsent:
                uploaded[path] = _put(client, path)
                progress.advance(bar)
    except OSError as error:
        raise TaskfleetError(f"{path} cannot be read: {error.strerror or error}") from error
    except KeyboardInterrupt:
        say("interrupted while sending files; nothing was submitted")
        raise click.exceptions.Exit(INTERRUPTED) from None
    return uploaded


def _put(client: Client, path: Path) -> str:
    with path.open("rb") as file:
        return client.upload(file)


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
    try:
        with batch_bar(Failed(), Rate(), TimeLeft()) as show:
            batch = client.wait(batch_id, on_progress=show)
    except KeyboardInterrupt:
        client.cancel(batch_id)
        say(f"batch {batch_id} is cancelled; what runs comes to its end")
        raise click.exceptions.Exit(INTERRUPTED) from None
    except ClientError as error:
        if not error.passing:
            raise
        raise TaskfleetError(
            f"{error}; the batch goes on; to wait again: taskfleet status {batch_id} --wait"
        ) from error
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
