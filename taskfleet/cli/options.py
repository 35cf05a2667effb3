"""The options and arguments that several commands share: the same name means the same everywhere.
Owns their names, forms and help; not what a command does with them.

docs/command-line.md has the table of all options; a test compares it with the commands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, TypeVar, get_args

import click

from taskfleet.cli.complete import batch_ids, kind_names
from taskfleet.cli.input import duration_s
from taskfleet.options import (
    ATTEMPTS_MAX,
    BUDGET_MAX_USD,
    MEMORY_MAX_MB,
    MEMORY_MIN_MB,
    Priority,
)

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound=StrEnum)

batch_argument = click.argument("batch", shell_complete=batch_ids)
"""The id of a batch."""
index_argument = click.argument("index", type=click.IntRange(0))
"""The place of a task in its batch, from 0."""
stage_option = click.option("--stage", help="The stage on AWS; needs AWS credentials.")
watch_option = click.option(
    "--watch", is_flag=True, help="Show it again and again, until the end or Ctrl-C."
)
no_pager_option = click.option(
    "--no-pager", is_flag=True, help="Print long output without a pager (PAGER)."
)
name_option = click.option("--name", help="Name of the batch, to show.")
key_option = click.option(
    "--key", help="Idempotency key: the same again under it runs nothing twice."
)
kind_option = click.option(
    "--kind", help="Only those with tasks of this kind.", shell_complete=kind_names
)


def limit_option(default: int, what: str) -> Callable[[F], F]:
    """Returns the option `--limit`, the most of `what` to take."""
    return click.option(
        "--limit",
        type=click.IntRange(1),
        default=default,
        show_default=True,
        help=f"Most {what}.",
    )


def wait_option(*, default: bool) -> Callable[[F], F]:
    """Returns the option `--wait/--no-wait`."""
    return click.option(
        "--wait/--no-wait",
        default=default,
        show_default=True,
        help="Wait until the batch is finished, with its progress.",
    )


def status_option(statuses: Sequence[S]) -> Callable[[F], F]:
    """Returns the option `--status`, one or several of `statuses`. The command gets a list of them,
    empty if the option is not given."""
    names = {str(status).lower(): status for status in statuses}

    def read(_ctx: click.Context, _option: click.Parameter, value: str | None) -> list[S]:
        words = [word.strip().lower() for word in value.split(",")] if value is not None else []
        for word in words:
            if word not in names:
                known = ", ".join(map(str, statuses))
                raise click.BadParameter(f"{word!r} is none of {known}.")
        return [names[word] for word in dict.fromkeys(words)]

    return click.option(
        "--status",
        "statuses",
        callback=read,
        metavar="STATUS",
        shell_complete=lambda _ctx, _param, incomplete: [
            str(status) for status in statuses if str(status).startswith(incomplete.upper())
        ],
        help=f"Only those with this status, or several of: {', '.join(map(str, statuses))}.",
    )


def task_options(function: F) -> F:
    """Add the options of tasks: `timeout_s`, `max_attempts`, `memory_mb`, `retry_timeouts` and
    `reuse`, each None unless given."""
    added = (
        click.option(
            "--timeout",
            "timeout_s",
            callback=duration_s,
            metavar="DURATION",
            help="End a task that runs for longer, such as 60 (seconds), 15m or 12h.",
        ),
        click.option(
            "--max-attempts",
            type=click.IntRange(1, ATTEMPTS_MAX),
            help="Most executions of one task, including the first.",
        ),
        click.option(
            "--memory-mb",
            type=click.IntRange(MEMORY_MIN_MB, MEMORY_MAX_MB),
            help="Most MB that the process of one task may use.",
        ),
        click.option(
            "--retry-timeouts", is_flag=True, default=None, help="Try a task again at its time-out."
        ),
        click.option(
            "--reuse",
            is_flag=True,
            default=None,
            help="Take the results of equal tasks of yours that ran with --reuse before.",
        ),
    )
    return _with(function, added)


def batch_options(function: F) -> F:
    """Add the options of a batch: those of its tasks, and its own, each None unless given."""
    added = (
        click.option(
            "--after",
            multiple=True,
            callback=lambda _ctx, _option, value: list(value) or None,
            metavar="BATCH",
            shell_complete=batch_ids,
            help="Wait until this batch has ended; can be given several times.",
        ),
        click.option(
            "--after-failures",
            type=click.Choice(["cancel", "run"]),
            help="When a batch of --after did not succeed: cancel this one, as without the option, "
            "or run it.",
        ),
        click.option(
            "--priority",
            type=click.Choice(get_args(get_args(Priority)[0])),
            help="With high, workers take the tasks before those of other batches.",
        ),
        click.option(
            "--deadline",
            "deadline_s",
            callback=duration_s,
            metavar="DURATION",
            help="Get as many machines as finish the batch within this time, such as 90m or 12h.",
        ),
        click.option(
            "--budget",
            "budget_usd",
            type=click.FloatRange(0, BUDGET_MAX_USD, min_open=True),
            metavar="USD",
            help="Spend at most so many US dollars on machines and AWS calls of the batch.",
        ),
    )
    return task_options(_with(function, added))


def _with(function: F, added: Sequence[Callable[[F], F]]) -> F:
    for option in reversed(added):
        function = option(function)
    return function
