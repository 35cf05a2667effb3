"""Answers what a batch would take and cost, without submitting it. Owns which fleet the answer is
about and its form; not the quote itself (`taskfleet.scheduler.quoter`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taskfleet.ports import Clock
from taskfleet.provisioner.observe import is_alive
from taskfleet.provisioner.ports import FleetRecords
from taskfleet.provisioner.records import Noted
from taskfleet.quote import Supply, finite
from taskfleet.registry import Registry
from taskfleet.scheduler.plan import Planner
from taskfleet.scheduler.quoter import Quoter
from taskfleet.scheduler.submit import validate
from taskfleet.wire.http.batches import QuotedTasks, QuoteView


class Quotes:
    """Quotes tasks that a client would submit."""

    def __init__(
        self,
        registry: Registry,
        planner: Planner,
        quoter: Quoter,
        records: FleetRecords,
        clock: Clock,
        report_s: float,
    ) -> None:
        self._registry = registry
        self._planner = planner
        self._quoter = quoter
        self._records = records
        self._clock = clock
        self._report_s = report_s

    def view(self, raw_tasks: Sequence[Any]) -> QuoteView:
        """Returns the quote of these tasks. Nothing is submitted. Raises InvalidTask, as a
        submission does, and TransientError when the table is busy."""
        tasks = validate(self._registry, raw_tasks)
        plan, groups = self._planner.weigh(tasks)
        bundles = len(self._planner.cut(tasks, plan))
        noted = self._records.noted() or self._counted()
        made = self._quoter.quote(groups, bundles, noted)
        return QuoteView(
            tasks=len(tasks),
            p50_s=finite(made.quote.p50_s),
            p90_s=finite(made.quote.p90_s),
            usd=made.quote.usd,
            idle_usd=float(f"{made.idle_usd:.4g}"),
            machines=made.quote.machines,
            launches=made.launched,
            rests_on=[QuotedTasks(g.name, g.tasks, g.mean_s, g.learned) for g in groups],
            fleet=_fleet_text(made.supply),
        )

    def _counted(self) -> Noted | None:
        """The workers that report, where no provisioner notes them; None without one."""
        now = self._clock.now()
        alive = [w for w in self._records.workers() if is_alive(w, now, self._report_s)]
        slots = sum(worker.slots for worker in alive if not worker.leaving)
        limits = {kind: most for worker in alive for kind, most in worker.limits.items()}
        return Noted(0, slots, slots, slots, limits=limits) if slots else None


def _fleet_text(supply: Supply) -> str:
    parts = [f"{supply.ready:.0f} slots are ready"]
    if supply.coming:
        parts.append(f"{supply.coming:.0f} more come in about {supply.coming_s:.0f} s")
    if supply.ahead_s >= 1:
        parts.append(f"{supply.ahead_s:.0f} s of other tasks go before")
    if not supply.ready and not supply.coming:
        parts.append("no machine may be launched")
    return "; ".join(parts)
