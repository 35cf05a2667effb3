"""`GET /fleet`: how the fleet stands, and why nothing runs when tasks wait and nothing does. Owns
the view and the diagnosis; reads what the provisioner and the workers recorded."""

from __future__ import annotations

from collections.abc import Sequence

from taskfleet.errors import TaskfleetError
from taskfleet.ports import Clock, TaskQueue
from taskfleet.provisioner.boots import complaint, is_broken
from taskfleet.provisioner.observe import is_alive
from taskfleet.provisioner.policy import MachineState
from taskfleet.provisioner.ports import (
    FleetRecords,
)
from taskfleet.provisioner.reconcile import IDLE_ROUND_S
from taskfleet.provisioner.records import FleetState, WorkerRecord
from taskfleet.provisioner.shortages import launch_trouble
from taskfleet.settings import Settings
from taskfleet.wire.http.fleet import DecisionView, FleetView, InstancesView, WorkerView
from taskfleet.wire.http.times import iso_time

OVERDUE_ROUND_S = 150.0
"""Seconds after which a missing round is a fault. The schedule starts one every minute."""


class FleetViews:
    """`view` reads and puts together."""

    def __init__(
        self, tasks: TaskQueue, records: FleetRecords, clock: Clock, settings: Settings
    ) -> None:
        self._tasks = tasks
        self._records = records
        self._clock = clock
        self._conf = settings

    def view(self) -> FleetView:
        """Raises TransientError when the queue does not answer; when the table does not, that is
        the answer."""
        depth = self._tasks.depth()
        state, workers, unread = FleetState(), list[WorkerRecord](), None
        try:
            state, workers = self._records.state(), self._records.workers()
        except TaskfleetError as error:
            unread = (
                f"the records cannot be read, so the provisioner and the workers cannot "
                f"either: {error}"
            )
        now = self._clock.now()
        alive = [w for w in workers if is_alive(w, now, self._conf.beat_s)]
        running = sum(sum(w.running.values()) for w in alive)
        pending = sum(sum(w.pending.values()) for w in alive)
        why = None
        if depth.backlog + depth.in_flight + pending > 0 and not running:
            why = unread or diagnose(state, workers, self._conf, now)
        return FleetView(
            backlog=depth.backlog,
            in_flight=depth.in_flight,
            running=running,
            workers=[_worker(w, now) for w in alive],
            instances=[
                InstancesView(
                    name, g.count, round(now - g.oldest_at, 1), round(now - g.newest_at, 1)
                )
                for name, g in state.groups.items()
            ],
            desired=state.desired,
            max_capacity=self._conf.max_capacity,
            decisions=[
                DecisionView(
                    iso_time(d.at), d.desired, d.launched, len(d.ended), len(d.retired), d.reason
                )
                for d in reversed(state.decisions)
            ],
            cost_usd=round(state.cost_usd, 6),
            usd_per_hour=round(state.usd_per_hour, 6),
            looked_s=round(now - state.last_round_at, 1) if state.last_round_at else None,
            why=why,
        )


def diagnose(state: FleetState, workers: Sequence[WorkerRecord], conf: Settings, now: float) -> str:
    """Why nothing runs although tasks wait; the first reason that holds, the most telling one
    before the others."""
    alive = [w for w in workers if is_alive(w, now, conf.beat_s) and not w.leaving]
    if alive:
        return _not_taken(state, alive, now)
    if not state.last_round_at:
        return (
            "the provisioner has never run: check the schedule of the function "
            f"{conf.provisioner_function}, or start a worker"
        )
    late_s = now - state.last_round_at
    if late_s > OVERDUE_ROUND_S + (IDLE_ROUND_S if state.is_idle else 0.0):
        return (
            f"the provisioner has not run for {late_s:.0f} s: check the schedule and the log of "
            f"the function {conf.provisioner_function}"
        )
    if is_broken(state.boot_failures):
        return complaint(state.boot_failures, now)
    if state.never_reported:
        return (
            f"{state.never_reported} machines have booted, but their workers never reported: "
            "check their user data, their role and their way to SQS and DynamoDB; they are ended "
            "and replaced"
        )
    booting = state.groups.get(MachineState.BOOTING)
    if booting:
        return (
            f"{booting.count} machines are booting, the first since {now - booting.oldest_at:.0f} s"
        )
    if conf.max_capacity == 0:
        return "TASKFLEET_MAX_CAPACITY is 0: no machine may be launched"
    if state.over_budget and not state.desired:
        return "the budget (TASKFLEET_MAX_USD_PER_HOUR) pays for no machine"
    if state.trouble is not None:
        return launch_trouble(state.trouble, now)
    if state.watched and not state.wanted and state.decisions:
        return f"no machine is paid for: {state.decisions[-1].reason}"
    if state.machines >= conf.max_capacity:
        return (
            f"all {state.machines} places within TASKFLEET_MAX_CAPACITY are taken by machines "
            "that leave or end"
        )
    if state.over_budget:
        return (
            f"the budget (TASKFLEET_MAX_USD_PER_HOUR) is spent on {state.machines} machines that "
            "leave or end"
        )
    if late_s > OVERDUE_ROUND_S:
        return (
            f"the provisioner recorded {late_s:.0f} s ago that nothing waits, and will see the "
            "tasks within a minute; if it does not, check the schedule and the log of the function "
            f"{conf.provisioner_function}"
        )
    return f"the provisioner ran {late_s:.0f} s ago and will see the tasks in its next round"


def _not_taken(state: FleetState, alive: Sequence[WorkerRecord], now: float) -> str:
    taken = {kind for worker in alive for kind in worker.kinds}
    waiting = _kinds_waiting(state)
    missing = sorted(waiting - taken)
    if missing:
        return (
            f"no worker takes tasks of kind {', '.join(missing)}: the workers there are take "
            f"{', '.join(sorted(taken)) or 'none'}"
        )
    newest = max(worker.reported_at for worker in alive)
    return (
        f"{len(alive)} workers are there, the last report {now - newest:.0f} s ago: they are about "
        "to take the tasks, or the tasks wait for another try"
    )


def _kinds_waiting(state: FleetState) -> set[str]:
    """The kinds of the tasks that came last."""
    if not state.history:
        return set()
    for earlier in reversed(state.history[:-1]):
        found = state.history[-1].demand.since(earlier.demand)
        if found.kinds:
            return set(found.kinds)
    return set(state.history[-1].demand.kinds)


def _worker(worker: WorkerRecord, now: float) -> WorkerView:
    return WorkerView(
        worker.worker_id,
        worker.instance_id,
        worker.slots,
        sum(worker.running.values()),
        sum(worker.pending.values()),
        round(now - worker.started_at, 1),
        round(now - worker.reported_at, 1),
        worker.leaving,
        worker.ended,
    )
