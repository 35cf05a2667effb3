"""The command `taskfleet kinds`. Owns its output."""

from __future__ import annotations

import click
from rich.table import Table

from taskfleet.cli.api import client_here
from taskfleet.cli.output import stdout_console, write_json


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def kinds(as_json: bool) -> int:
    """Show which kinds of tasks the stage runs, and the versions of its workers."""
    with client_here() as client:
        view = client.kinds()
    if as_json:
        write_json([view])
        return 0
    console = stdout_console()
    table = Table("kind", "runs in", "time-out s", "attempts", box=None, pad_edge=False)
    for kind in view.kinds:
        timeout = "none" if kind.timeout_s is None else f"{kind.timeout_s:g}"
        table.add_row(kind.name, kind.runs_in, timeout, str(kind.max_attempts))
    console.print(table)
    versions = [f"{name} {', '.join(found)}" for name, found in view.workers.items()]
    console.print(f"workers: {'; '.join(versions) or 'none has reported its versions'}")
    return 0
