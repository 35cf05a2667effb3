"""`taskfleet kinds`: what the stage runs. Owns the command and the form of its output."""

from __future__ import annotations

import json

import click
from rich.table import Table

from taskfleet.cli.api import client_here
from taskfleet.cli.command import command
from taskfleet.cli.complete import kind_names
from taskfleet.cli.output import write_json
from taskfleet.cli.terminal import stdout_console
from taskfleet.errors import TaskfleetError
from taskfleet.wire.http.kinds import KindView
from taskfleet.wire.plain import plain


@command(
    "kinds",
    examples=("taskfleet kinds", "taskfleet kinds animoto", "taskfleet kinds --json"),
    json="an object as GET /kinds answers; with KIND, that kind.",
)
@click.argument("kind", required=False, shell_complete=kind_names)
def kinds(kind: str | None, as_json: bool) -> int:
    """Show which kinds of tasks the stage runs, and the versions of its workers.

    With KIND, show what that kind takes as its params: a JSON Schema.
    """
    with client_here() as client:
        view = client.kinds()
    if kind is not None:
        return _one(kind, view.kinds, as_json=as_json)
    if as_json:
        write_json([view])
        return 0
    console = stdout_console()
    table = Table("kind", "runs in", "time-out s", "attempts", box=None, pad_edge=False)
    for each in view.kinds:
        timeout = "none" if each.timeout_s is None else f"{each.timeout_s:g}"
        table.add_row(plain(each.name), each.runs_in, timeout, str(each.max_attempts))
    console.print(table)
    versions = [f"{name} {', '.join(found)}" for name, found in view.workers.items()]
    console.print(f"workers: {'; '.join(versions) or 'none has reported its versions'}")
    return 0


def _one(name: str, known: list[KindView], *, as_json: bool) -> int:
    """Show one of the kinds. Returns the exit code."""
    found = [kind for kind in known if kind.name == name]
    if not found:
        names = ", ".join(kind.name for kind in known) or "none"
        raise TaskfleetError(f"no kind {name!r:.60} here; there are: {names}")
    if as_json:
        write_json(found)
    elif found[0].schema is None:
        click.echo("nothing is known of its params")
    else:
        click.echo(json.dumps(found[0].schema, indent=2))
    return 0
