"""`taskfleet fleet`: machines, workers and decisions. Owns the command and the form of its output;
what it reports is decided by `taskfleet.provisioner.view`.
"""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from taskfleet.cli.api import client_here
from taskfleet.cli.command import command
from taskfleet.cli.options import watch_option
from taskfleet.cli.output import write_json
from taskfleet.cli.screen import watch as show_again
from taskfleet.cli.terminal import stdout_console
from taskfleet.wire.http.fleet import FleetView
from taskfleet.wire.plain import plain

DECISIONS_SHOWN = 5
"""Most decisions that are printed, the newest first."""


@command(
    "fleet",
    examples=("taskfleet fleet", "taskfleet fleet --watch", "taskfleet fleet --json | jq .backlog"),
    json="an object as GET /fleet answers; with --watch, one on each line.",
)
@watch_option
def fleet(watch: bool, as_json: bool) -> int:
    """Show the machines, the workers and the last decisions.

    The decisions are those of the provisioner, which starts and ends machines. If tasks wait and
    none runs, the output says why. --watch goes on until Ctrl-C.
    """
    with client_here() as client:
        if watch:
            show_again(lambda: [client.fleet()], lambda views: picture(views[0]), as_json=as_json)
        view = client.fleet()
    if as_json:
        write_json([view])
    else:
        stdout_console().print(picture(view))
    return 0


def picture(view: FleetView) -> RenderableType:
    """Returns the counts, why nothing runs, the machines, the workers, and the last decisions."""
    parts: list[RenderableType] = [
        f"{view.backlog:,} messages wait, {view.in_flight:,} are in flight, "
        f"{view.running:,} tasks run"
    ]
    last_run = "never ran" if view.looked_s is None else f"ran {view.looked_s:.0f} s ago"
    parts.append(
        f"{view.desired} machines wanted, at most {view.max_capacity} allowed; "
        f"the provisioner {last_run}"
    )
    parts.append(f"${view.cost_usd:.4f} so far, ${view.usd_per_hour:.4f} an hour")
    if view.why is not None:
        parts.append(Text(plain(f"nothing runs: {view.why}"), "yellow"))
    if view.instances:
        table = _table("instances", "count", "oldest s", "newest s")
        for group in view.instances:
            ages = (f"{group.oldest_s:.0f}", f"{group.newest_s:.0f}")
            table.add_row(group.state, str(group.count), *ages)
        parts.append(table)
    if view.workers:
        table = _table("worker", "running", "pending", "slots", "age s", "report s")
        for worker in view.workers:
            name = f"{worker.worker_id} {worker.instance_id or 'static'}"
            counts = (worker.running, worker.pending, worker.slots)
            times = (f"{worker.age_s:.0f}", f"{worker.beat_s:.0f}")
            leaving = " (leaving)" if worker.leaving else ""
            table.add_row(name + leaving, *map(str, counts), *times)
        parts.append(table)
    for decision in view.decisions[:DECISIONS_SHOWN]:
        actions = [f"launched {decision.launched}"] if decision.launched else []
        actions += [f"ended {decision.ended}"] if decision.ended else []
        actions += [f"asked {decision.retired} to leave"] if decision.retired else []
        parts.append(f"{decision.at}  {', '.join([*actions, plain(decision.reason)])}")
    return Group(*parts)


def _table(first: str, *numeric: str) -> Table:
    """Returns an empty table with these column titles, all but the first right-justified."""
    table = Table(first, box=None, pad_edge=False)
    for title in numeric:
        table.add_column(title, justify="right")
    return table
