"""`taskfleet status`: one batch, or the latest. Owns the command and its picture for `--watch`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.table import Table

from taskfleet.batch import BatchStatus
from taskfleet.cli.api import client_here
from taskfleet.cli.command import command
from taskfleet.cli.complete import batch_ids
from taskfleet.cli.follow import exit_code, follow
from taskfleet.cli.options import (
    kind_option,
    limit_option,
    status_option,
    wait_option,
    watch_option,
)
from taskfleet.cli.output import batches_table, risk, say, write_json
from taskfleet.cli.quote import quotes_table, score_line, scored
from taskfleet.cli.screen import screen, watch
from taskfleet.cli.terminal import stdout_console
from taskfleet.client import Client
from taskfleet.client.progress import batch_picture
from taskfleet.wire.http.batches import BatchView

RECENT = 20
"""Batches that are listed unless told otherwise."""


@command(
    "status",
    examples=(
        "taskfleet status",
        "taskfleet status --search nightly --status RUNNING,QUEUED --watch",
        "taskfleet status BATCH --wait",
        "taskfleet status BATCH --watch",
        "taskfleet status BATCH --cost --json",
        "taskfleet status --quotes --limit 100",
    ),
    json="each batch on a line of its own; with --watch, again at each look.",
)
@click.argument("batch", required=False, shell_complete=batch_ids)
@click.option("--search", help="Only batches with this in their name, or at the start of their id.")
@status_option(list(BatchStatus))
@kind_option
@limit_option(RECENT, "batches to list")
@wait_option(default=False)
@watch_option
@click.option(
    "--cost",
    is_flag=True,
    help="Show the AWS calls and their price in us-east-1 too (--json always does).",
)
@click.option(
    "--quotes",
    is_flag=True,
    help="Show what was quoted for each of the latest batches and what it took, and how good the "
    "quotes were.",
)
def status(
    batch: str | None,
    wait: bool,
    watch: bool,
    cost: bool,
    quotes: bool,
    as_json: bool,
    **chosen: Any,
) -> int:
    """Show the status of BATCH, or of your latest batches.

    With BATCH, the exit code is 1 if a task failed or was cancelled. --wait draws a progress bar
    and then the status; --watch shows all of it until the batch is finished. Without BATCH, --watch
    goes on until Ctrl-C.
    """
    if batch is None:
        if wait:
            raise click.UsageError("--wait needs a BATCH.")
        if quotes and (watch or cost):
            raise click.UsageError("--quotes goes without --watch and --cost.")
        return _latest(again=watch, cost=cost, quotes=quotes, as_json=as_json, **chosen)
    if quotes:
        raise click.UsageError("--quotes goes without BATCH.")
    if chosen["search"] or chosen["statuses"] or chosen["kind"]:
        raise click.UsageError("--search, --status and --kind go without BATCH.")
    if wait and watch:
        raise click.UsageError("--wait or --watch, not both.")
    with client_here() as client:
        if watch:
            view = _watched(client, batch, cost=cost, as_json=as_json)
        else:
            view = follow(client, batch) if wait else client.status(batch)
            _write([view], cost=cost, as_json=as_json)
    if view.error is not None:
        say(f"batch {batch} was cancelled: {view.error}")
    if view.at_risk is not None:
        say(risk(view))
    return exit_code(view)


def _latest(
    *,
    again: bool,
    cost: bool,
    quotes: bool,
    as_json: bool,
    search: str | None,
    statuses: list[BatchStatus],
    kind: str | None,
    limit: int,
) -> int:
    """Show the latest batches, `again` and again or once. Returns the exit code."""
    # The API takes one status; several are picked here.
    asked = statuses[0] if len(statuses) == 1 else None
    with client_here() as client:

        def look() -> list[BatchView]:
            found = client.batches(name=search, status=asked, kind=kind)
            wanted = (batch for batch in found if not statuses or batch.status in statuses)
            return list(islice(wanted, limit))

        if again:
            watch(look, lambda batches: _table(batches, cost=cost), as_json=as_json)
        if quotes:
            _write_quotes(look(), as_json=as_json)
        else:
            _write(look(), cost=cost, as_json=as_json)
    return 0


def _write_quotes(batches: list[BatchView], *, as_json: bool) -> None:
    if as_json:
        write_json(batches)
    else:
        stdout_console().print(quotes_table(batches))
        say(score_line(scored(batches)))


def _watched(client: Client, batch_id: str, *, cost: bool, as_json: bool) -> BatchView:
    """Show the batch whenever something changes, until it is finished. Returns it."""
    if as_json:
        return follow(client, batch_id, lambda batch: write_json([batch]))
    progress = batch_picture()
    with screen() as show:

        def picture(batch: BatchView) -> RenderableType:
            table = _table([batch], cost=cost)
            return table if batch.finished_at else Group(table, progress(batch))

        return follow(client, batch_id, lambda batch: show(picture(batch)))


def _write(batches: Iterable[BatchView], *, cost: bool, as_json: bool) -> None:
    if as_json:
        write_json(batches)
    else:
        stdout_console().print(_table(batches, cost=cost))


def _table(batches: Iterable[BatchView], *, cost: bool) -> Table:
    return batches_table(batches, stdout_console().width, cost=cost)
