"""The output of `taskfleet fleet`. Owns its form; what it reports is decided by
`taskfleet.provisioner.view`.
"""

from __future__ import annotations

from rich.table import Table

from taskfleet.cli.output import stdout_console
from taskfleet.wire.http import FleetView

DECISIONS_SHOWN = 5
"""Most decisions that are printed, the newest first."""


def write_fleet(view: FleetView) -> None:
    """Print the counts, why nothing runs, the machines, the workers, and the last decisions."""
    console = stdout_console()
    console.print(
        f"{view.backlog:,} messages wait, {view.in_flight:,} are in flight, "
        f"{view.running:,} tasks run"
    )
    last_run = "never ran" if view.looked_s is None else f"ran {view.looked_s:.0f} s ago"
    console.print(
        f"{view.desired} machines wanted, at most {view.max_capacity} allowed; "
        f"the provisioner {last_run}"
    )
    console.print(f"${view.cost_usd:.4f} so far, ${view.usd_per_hour:.4f} an hour")
    if view.why is not None:
        console.print(f"nothing runs: {view.why}")
    if view.instances:
        table = _table("instances", "count", "oldest s", "newest s")
        for group in view.instances:
            ages = (f"{group.oldest_s:.0f}", f"{group.newest_s:.0f}")
            table.add_row(group.state, str(group.count), *ages)
        console.print(table)
    if view.workers:
        table = _table("worker", "running", "pending", "slots", "age s", "report s")
        for worker in view.workers:
            name = f"{worker.worker_id} {worker.instance_id or 'static'}"
            counts = (worker.running, worker.pending, worker.slots)
            times = (f"{worker.age_s:.0f}", f"{worker.beat_s:.0f}")
            leaving = " (leaving)" if worker.leaving else ""
            table.add_row(name + leaving, *map(str, counts), *times)
        console.print(table)
    for decision in view.decisions[:DECISIONS_SHOWN]:
        actions = [f"launched {decision.launched}"] if decision.launched else []
        actions += [f"ended {decision.ended}"] if decision.ended else []
        actions += [f"asked {decision.retired} to leave"] if decision.retired else []
        console.print(f"{decision.at}  {', '.join([*actions, decision.reason])}", soft_wrap=True)


def _table(first: str, *numeric: str) -> Table:
    """Returns an empty table with these column titles, all but the first right-justified."""
    table = Table(first, box=None, pad_edge=False)
    for title in numeric:
        table.add_column(title, justify="right")
    return table
