"""`taskfleet quote`: what a file of tasks would take and cost; and how good the quotes of batches
were, for `taskfleet status --quotes`. Owns the command and these forms; the rules are in
`taskfleet.quote`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

import click
from rich.table import Table
from rich.text import Text

from taskfleet.cli.api import client_here
from taskfleet.cli.command import command
from taskfleet.cli.input import TaskFile
from taskfleet.cli.output import write_json
from taskfleet.client import ApiError
from taskfleet.errors import InvalidTask
from taskfleet.quote import Outcome, Score, score
from taskfleet.wire.http.batches import BatchView, QuotedTasks, QuoteView
from taskfleet.wire.plain import plain


@command(
    "quote",
    examples=(
        "taskfleet quote tasks.txt",
        "seq 100 | sed 's/^/sleep /' | taskfleet quote - --json | jq .p90_s",
    ),
    json="the quote, as POST /quote answers.",
)
@click.argument("file", type=click.File(encoding="utf-8-sig"))
def quote(file: TextIO, as_json: bool) -> int:
    """Say how long the tasks in FILE (- for standard input) would take and what they would cost.

    Nothing is submitted. FILE is as for `taskfleet submit`.
    """
    tasks = TaskFile(file)
    with client_here() as client:
        try:
            found = client.quote(tasks)
        except (ApiError, InvalidTask) as error:
            if error.index is None:  # it is about all of them
                raise
            raise tasks.fault(error) from error
        except (UnicodeDecodeError, OSError) as error:
            raise tasks.fault(error) from error
    if as_json:
        write_json([found])
    else:
        for line in _lines(found):
            click.echo(line)
    return 0


def _lines(found: QuoteView) -> list[str]:
    if found.p50_s is None or found.p90_s is None:
        time = "it would not end: no slot is there, and no machine may be launched"
    else:
        most = f"{_seconds(found.p90_s)} at most in nine of ten cases"
        time = f"{_seconds(found.p50_s)} expected, {most}"
    idle = f", and {_usd(found.idle_usd)} for machines that boot and idle" if found.idle_usd else ""
    launches = f", {found.launches} of them launched for it" if found.launches else ""
    return [
        f"{found.tasks:,} tasks: {time}",
        f"{_usd(found.usd)} for tasks and AWS calls{idle}",
        f"machines: {found.machines}{launches}",
        *(_basis(group) for group in found.rests_on),
        f"the fleet: {found.fleet}",
    ]


def _basis(group: QuotedTasks) -> str:
    if group.learned is None:
        why = "as the kind says"
    elif group.learned:
        why = f"learned from {group.learned:,} tasks"
    else:
        why = "assumed, since none has run yet"
    return (
        f"{plain(group.name)}: {group.tasks:,} tasks of {_seconds(group.mean_s)} on average, {why}"
    )


def _seconds(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _usd(dollars: float) -> str:
    return f"${_dollars(dollars)}"


def _dollars(value: float | None) -> str:
    """Returns dollars with two figures, of which cents and less are written out."""
    if value is None:
        return ""
    if value >= 1:
        return f"{value:.2f}"
    return f"{float(f'{value:.2g}'):.12f}".rstrip("0").rstrip(".")


# --- how good they were -----------------------------------------------------------------------


def scored(batches: Iterable[BatchView]) -> Score:
    """Returns how good the quotes of those batches were that have ended."""
    outcomes = []
    for batch in batches:
        found = batch.quote
        if found is None or found.actual_s is None or found.actual_usd is None:
            continue
        if found.p50_s is not None and found.p90_s is not None:
            outcomes.append(
                Outcome(found.p50_s, found.p90_s, found.usd, found.actual_s, found.actual_usd)
            )
    return score(outcomes)


def score_line(found: Score) -> str:
    """Returns the score as one line."""
    if found.time_error is None or found.p90_held is None:
        return "no batch with a quote has ended"
    several = "s" if found.batches > 1 else ""
    usd = "" if found.usd_error is None else f", dollars by {found.usd_error:.0%}"
    return (
        f"{found.batches} quote{several}: time was off by {found.time_error:.0%}{usd} (medians); "
        f"{found.p90_held:.0%} ended within their p90"
    )


def quotes_table(batches: Iterable[BatchView]) -> Table:
    """Returns a table of batches, with what was quoted and what they took."""
    table = Table(box=None, pad_edge=False)
    for title in ("batch", "status"):
        table.add_column(title, no_wrap=True)
    for title in ("tasks", "p50 s", "p90 s", "took s", "quoted $", "took $", "machines"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("name", overflow="fold")
    for batch in batches:
        found = batch.quote
        figures = [""] * 6
        if found is not None:
            figures = [
                _cell(found.p50_s, ".4g"),
                _cell(found.p90_s, ".4g"),
                _cell(found.actual_s, ".4g"),
                _dollars(found.usd),
                _dollars(found.actual_usd),
                str(found.machines),
            ]
        name = Text(plain(batch.name or ""))
        table.add_row(batch.batch_id, batch.status, f"{batch.total:,}", *figures, name)
    return table


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
