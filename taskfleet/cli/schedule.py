"""`taskfleet schedule`: batches that are submitted again and again. Owns the commands and the form
of their output; the rules are those of `taskfleet.schedule`.
"""

from __future__ import annotations

from typing import Any, Literal, TextIO, cast

import click
from rich.table import Table
from rich.text import Text

from taskfleet.cli.api import client_here
from taskfleet.cli.command import command
from taskfleet.cli.input import TaskFile, duration_s
from taskfleet.cli.options import recurring_options
from taskfleet.cli.output import say, write_json
from taskfleet.cli.terminal import stdout_console
from taskfleet.client import ApiError
from taskfleet.errors import InvalidTask
from taskfleet.schedule import Missed
from taskfleet.wire.http.schedules import ScheduleView
from taskfleet.wire.plain import plain


@click.group("schedule")
def schedule() -> None:
    """Submit a batch again and again, at a rate or at the times of a cron expression."""


@command(
    "add",
    examples=(
        "taskfleet schedule add nightly tasks.txt --cron '0 3 * * *'",
        "taskfleet schedule add poll tasks.txt --every 15m --missed catch_up --max-attempts 3",
    ),
    json="the schedule.",
)
@click.argument("name")
@click.argument("file", type=click.File(encoding="utf-8-sig"))
@click.option(
    "--every",
    callback=duration_s,
    metavar="DURATION",
    help="Submit a batch every so often, such as 15m, 12h or 1d; a minute at least.",
)
@click.option(
    "--cron",
    metavar="EXPRESSION",
    help="Submit a batch at these times, in UTC: minute, hour, day of the month, month and day of "
    "the week.",
)
@click.option(
    "--missed",
    type=click.Choice([each.value for each in Missed]),
    default=Missed.SKIP.value,
    show_default=True,
    help="What becomes of times at which the service did not look: they are left out, or up to 60 "
    "of them are made up for.",
)
@recurring_options
def add(
    name: str,
    file: TextIO,
    every: float | None,
    cron: str | None,
    missed: str,
    as_json: bool,
    **options: Any,
) -> int:
    """Make the schedule NAME of the tasks in FILE (- for standard input).

    FILE is as for `taskfleet submit`, of up to 100,000 bytes. The tasks are kept with the schedule,
    so a later change of FILE changes nothing. Each batch has the name of the schedule.
    """
    if (every is None) == (cron is None):
        raise click.UsageError("Give either --every or --cron.")
    tasks = TaskFile(file)
    with client_here() as client:
        try:
            view = client.add_schedule(
                name,
                tasks,
                every=None if every is None else int(every),
                cron=cron,
                missed=cast('Literal["skip", "catch_up"]', missed),
                **options,
            )
        except ApiError as error:
            if error.index is not None:
                raise tasks.fault(error) from error
            raise
        except (InvalidTask, UnicodeDecodeError, OSError) as error:
            raise tasks.fault(error) from error
    if as_json:
        write_json([view])
    say(f"schedule {view.name}: {view.total:,} tasks, first at {_time(view.next_at)}")
    return 0


@command(
    "list",
    examples=("taskfleet schedule list", "taskfleet schedule list --json | jq -r .name"),
    json="a schedule on each line.",
)
def list_schedules(as_json: bool) -> int:
    """Show your schedules, by name, with the time of the next batch."""
    with client_here() as client:
        views = client.schedules()
    if as_json:
        write_json(views)
        return 0
    if not views:
        say("there are no schedules")
        return 0
    table = Table(box=None, pad_edge=False)
    for title in ("schedule", "when", "missed"):
        table.add_column(title, overflow="fold")
    table.add_column("tasks", justify="right")
    for title in ("next", "last batch"):
        table.add_column(title, no_wrap=True)
    table.add_column("last error", overflow="fold")
    for view in views:
        table.add_row(
            view.name,
            when(view),
            view.missed,
            f"{view.total:,}",
            _time(view.next_at),
            view.last_batch_id or "",
            Text(plain(view.last_error or ""), "red"),
        )
    stdout_console().print(table)
    return 0


@command(
    "remove",
    examples=("taskfleet schedule remove nightly",),
    json="the schedule as it was.",
)
@click.argument("name")
def remove(name: str, as_json: bool) -> int:
    """Remove the schedule NAME. Its batches stay as they are."""
    with client_here() as client:
        view = client.remove_schedule(name)
    if as_json:
        write_json([view])
    say(f"schedule {view.name} is removed")
    return 0


for _command in (add, list_schedules, remove):
    schedule.add_command(_command)


def when(view: ScheduleView) -> str:
    """Returns the times of a schedule in words, such as `every 15m`."""
    if view.every_s is None:
        return f"cron {view.cron}"
    for unit_s, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if view.every_s % unit_s == 0:
            return f"every {view.every_s // unit_s}{unit}"
    return f"every {view.every_s}s"


def _time(text: str) -> str:
    return f"{text[:19].replace('T', ' ')} UTC"
