"""How `taskfleet fleet` looks. Owns that; what it tells is `taskfleet.provisioner.view`'s."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from taskfleet.cli.output import FILE_WIDTH
from taskfleet.wire.http import (
    FleetView,
)

DECISIONS_SHOWN = 5


def write_fleet(view: FleetView) -> None:
    """On standard output: the counts, why nothing runs if so, machines, workers, decisions."""
    console = Console(
        width=None if sys.stdout.isatty() else FILE_WIDTH, markup=False, highlight=False
    )
    console.print(
        f"{view.backlog:,} messages wait, {view.in_flight:,} are in flight, "
        f"{view.running:,} tasks run"
    )
    looked = "never looked" if view.looked_s is None else f"looked {view.looked_s:.0f} s ago"
    console.print(
        f"desired {view.desired} of at most {view.max_capacity} machines; the provisioner {looked}"
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
        table = _table("worker", "running", "pending", "slots", "age s", "beat s")
        for worker in view.workers:
            name = f"{worker.worker_id} {worker.instance_id or 'static'}"
            counts = (worker.running, worker.pending, worker.slots)
            times = (f"{worker.age_s:.0f}", f"{worker.beat_s:.0f}")
            leaving = " (leaving)" if worker.leaving else ""
            table.add_row(name + leaving, *map(str, counts), *times)
        console.print(table)
    for decision in view.decisions[:DECISIONS_SHOWN]:
        done = [f"launched {decision.launched}"] if decision.launched else []
        done += [f"ended {decision.ended}"] if decision.ended else []
        done += [f"asked {decision.retired} to leave"] if decision.retired else []
        console.print(f"{decision.at}  {', '.join([*done, decision.reason])}", soft_wrap=True)


def _table(first: str, *numbers: str) -> Table:
    table = Table(first, box=None, pad_edge=False)
    for title in numbers:
        table.add_column(title, justify="right")
    return table
