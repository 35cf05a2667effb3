"""From what can be read to what a policy sees: queue depth, demand, workers and instances put
together. Pure. Owns the estimates; not the reading (`taskfleet.provisioner.reconcile`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from taskfleet.ports import QueueDepth
from taskfleet.provisioner.policy import (
    ASSUMED_TASK_S,
    STRIKE_S,
    KindLoad,
    Limits,
    Machine,
    MachineState,
    Observation,
    is_stream,
    steady_rate,
    waiting_at_least,
)
from taskfleet.provisioner.records import (
    Demand,
    FleetState,
    Group,
    Instance,
    InstanceState,
    KindDemand,
    Snapshot,
    WorkerRecord,
    total_by_kind,
)
from taskfleet.settings import Settings

RECENT_S = 150.0
"""How much of the demand's history is kept look by look; older looks are thinned out."""
KEPT_OLD = 20
FRESH_S = 60.0
"""For how long a machine counts that was launched and is not listed yet."""
HUNGRY_S = 20.0
"""How old a worker's word may be that the queue has nothing for it."""
BOOT_WEIGHT = 0.3
UNKNOWN_KIND = "?"
"""Of messages that did not come through the API."""


class Sight(msgspec.Struct, frozen=True):
    """What was read, all within one look. `means_s`: learned seconds of a task, by kind."""

    at: float
    depth: QueueDepth
    demand: Demand
    workers: Sequence[WorkerRecord]
    instances: Sequence[Instance]
    means_s: Mapping[str, float] = {}


def is_alive(worker: WorkerRecord, now: float, beat_s: float) -> bool:
    """Whether a worker beat lately; two beats may be lost."""
    return now - worker.beat_at < 3.5 * beat_s


def observe(sight: Sight, before: FleetState, conf: Settings) -> tuple[Observation, FleetState]:
    """What the policy sees, and the state with what this look taught."""
    now = sight.at
    started, claimed = _started(before, sight.workers)
    history = _history(before.history, Snapshot(now, sight.demand, started))
    fresh = _fresh(before, sight.instances, now)
    machines = _machines(sight, fresh)
    boot_s, booted = _boots(before, sight, conf)
    alive = [w for w in sight.workers if is_alive(w, now, conf.beat_s)]
    loads = _loads(sight, history, alive, conf)
    own = {instance.instance_id for instance in sight.instances}
    static = [w for w in alive if not w.leaving and w.instance_id not in own]
    static_slots = sum(w.slots for w in static)
    rate, arriving = _arriving(history, loads, now)
    observation = Observation(
        loads=loads,
        machines=machines,
        limits=Limits(
            conf.max_capacity, conf.slots, conf.instance_usd_per_hour, conf.max_usd_per_hour
        ),
        arriving=arriving,
        trickling=rate > 0,
        boot_s=boot_s,
        idle_s=conf.idle_s,
        surplus_s=0.0 if before.surplus_since is None else now - before.surplus_since,
        static_slots=static_slots,
    )
    since_s = max(0.0, now - before.looked_at) if before.looked_at else 0.0
    dollars_an_hour = len(machines) * conf.instance_usd_per_hour
    # What was there at the last look is taken to have been there since.
    state = replace(
        before,
        looked_at=now,
        groups=groups(machines, now),
        static_slots=static_slots,
        unbeaten=sum(m.state is MachineState.BOOTING and m.age_s >= STRIKE_S for m in machines),
        boot_s=boot_s,
        booted=booted,
        cost_usd=before.cost_usd + before.usd_per_hour * since_s / 3600,
        usd_per_hour=dollars_an_hour,
        history=history,
        claimed=claimed,
        fresh=fresh,
    )
    return observation, state


def groups(machines: Iterable[Machine], now: float) -> dict[str, Group]:
    ages: dict[str, list[float]] = {}
    for machine in machines:
        ages.setdefault(machine.state, []).append(machine.age_s)
    return {
        state: Group(len(found), now - max(found), now - min(found))
        for state, found in ages.items()
    }


# --- tasks ----------------------------------------------------------------------------------


def _started(before: FleetState, workers: Sequence[WorkerRecord]) -> tuple[float, dict[str, int]]:
    """Messages that workers were seen to claim so far, in all, and each one's own count."""
    claimed = {w.worker_id: w.bundles for w in workers}
    more = sum(max(0, n - before.claimed.get(name, 0)) for name, n in claimed.items())
    return (before.history[-1].started if before.history else 0.0) + more, claimed


def _history(before: Sequence[Snapshot], newest: Snapshot) -> list[Snapshot]:
    """Oldest first. Begins anew when the totals did."""
    if before and newest.demand.messages < before[-1].demand.messages:
        before = []
    recent = [s for s in before if newest.at - s.at <= RECENT_S]
    old = [s for s in before if newest.at - s.at > RECENT_S]
    if len(old) > KEPT_OLD:
        old = [*old[: KEPT_OLD // 2 : 2], *old[KEPT_OLD // 2 :]]
    if not before:
        # Nobody knows when it came; when nobody has started anything, all of it may be news.
        ago_s = RECENT_S if newest.started else 1.0
        old = [Snapshot(newest.at - ago_s, Demand(), 0.0)]
    return [*old, *recent, newest]


def _loads(
    sight: Sight, history: Sequence[Snapshot], alive: Sequence[WorkerRecord], conf: Settings
) -> list[KindLoad]:
    messages = _messages_waiting(sight, history, alive)
    mix = _newest(history, messages)
    share = messages / mix.messages if mix.messages else 0.0
    waiting = {name: kind.tasks * share for name, kind in mix.kinds.items()}
    if messages and not mix.messages:
        waiting[UNKNOWN_KIND] = float(messages)
    running: dict[str, int] = {}
    for worker in alive:
        running = total_by_kind(running, worker.running)
        for name, count in worker.pending.items():
            waiting[name] = waiting.get(name, 0.0) + count
    limits: dict[str, int] = {}
    for worker in alive:
        limits |= worker.limits
    return [
        KindLoad(
            name,
            waiting.get(name, 0.0),
            running.get(name, 0),
            _mean_s(name, mix, history, sight.means_s),
            max(1.0, conf.slots / limits[name]) if limits.get(name) else 1.0,
        )
        for name in {**waiting, **running}
        if waiting.get(name) or running.get(name)
    ]


def _messages_waiting(
    sight: Sight, history: Sequence[Snapshot], alive: Sequence[WorkerRecord]
) -> float:
    """The queue's own count is up to a minute old: what came since waits too, and a worker that
    finds nothing knows better."""
    least = waiting_at_least(
        [(s.at, float(s.demand.messages)) for s in history],
        [(s.at, s.started) for s in history],
        sight.at,
    )
    if any(w.hungry and sight.at - w.beat_at < HUNGRY_S for w in alive):
        came_since = _newest_since(history, sight.at - HUNGRY_S).messages
        return min(least, float(came_since))
    return max(float(sight.depth.backlog), least)


def _newest(history: Sequence[Snapshot], messages: float) -> Demand:
    """What the newest `messages` of them were, or a little more: the queue is first in, first
    out, nearly."""
    newest = history[-1].demand
    for snapshot in reversed(history):
        found = newest.since(snapshot.demand)
        if found.messages and found.messages >= messages:
            return found
    return newest.since(history[0].demand)


def _newest_since(history: Sequence[Snapshot], moment: float) -> Demand:
    earlier = [s for s in history if s.at <= moment] or history[:1]
    return history[-1].demand.since(earlier[-1].demand)


def _mean_s(
    name: str, mix: Demand, history: Sequence[Snapshot], learned: Mapping[str, float]
) -> float | None:
    known = mix.kinds.get(name, KindDemand())
    if not known.known:
        known = history[-1].demand.kinds.get(name, KindDemand())
    if known.known:
        return known.known_s / known.known
    return learned.get(name)


def _arriving(
    history: Sequence[Snapshot], loads: Sequence[KindLoad], now: float
) -> tuple[float, float]:
    """Tasks a second that come steadily, and the slots that they keep busy if they are a
    stream."""
    rate = steady_rate([(s.at, float(s.demand.tasks)) for s in history], now)
    batches = steady_rate([(s.at, float(s.demand.batches)) for s in history], now)
    if not is_stream(batches):
        return rate, 0.0
    came = _newest_since(history, now - RECENT_S / 2)
    means = {load.kind: load.mean_s for load in loads}
    busy_s = sum(
        kind.known_s + (kind.tasks - kind.known) * (means.get(name) or ASSUMED_TASK_S)
        for name, kind in came.kinds.items()
    )
    return rate, rate * busy_s / max(1, came.tasks)


# --- machines -------------------------------------------------------------------------------


def _fresh(before: FleetState, instances: Sequence[Instance], now: float) -> dict[str, float]:
    listed = {instance.instance_id for instance in instances}
    return {
        name: at for name, at in before.fresh.items() if name not in listed and now - at < FRESH_S
    }


def _machines(sight: Sight, fresh: Mapping[str, float]) -> list[Machine]:
    now = sight.at
    workers: dict[str, WorkerRecord] = {}
    for worker in sight.workers:
        if worker.instance_id is not None:
            other = workers.get(worker.instance_id)
            if other is None or other.beat_at < worker.beat_at:
                workers[worker.instance_id] = worker
    found = [_machine(i, workers.get(i.instance_id), now) for i in sight.instances]
    unlisted = [
        Machine(name, MachineState.BOOTING, now - at, now - at) for name, at in fresh.items()
    ]
    return found + unlisted


def _machine(instance: Instance, worker: WorkerRecord | None, now: float) -> Machine:
    age_s = max(0.0, now - instance.launched_at)
    if instance.state is InstanceState.ENDING:
        state = MachineState.ENDING
    elif worker is None:
        state = MachineState.BOOTING
    else:
        state = MachineState.LEAVING if worker.leaving else MachineState.LIVE
    return Machine(
        instance.instance_id,
        state,
        age_s,
        quiet_s=age_s if worker is None else max(0.0, now - worker.beat_at),
        busy=0 if worker is None else worker.busy,
        marked_s=None if instance.marked_at is None else now - instance.marked_at,
    )


def _boots(before: FleetState, sight: Sight, conf: Settings) -> tuple[float, list[str]]:
    """How long a boot takes, learned from machines whose worker was seen for the first time."""
    boot_s = conf.boot_s if before.boot_s is None else before.boot_s
    launched = {i.instance_id: i.launched_at for i in sight.instances}
    known = set(before.booted)
    booted = []
    for worker in sight.workers:
        name = worker.instance_id
        if name is None or name not in launched:
            continue
        if name not in known:
            took_s = max(0.0, worker.started_at - launched[name])
            boot_s += BOOT_WEIGHT * (took_s - boot_s)
            known.add(name)
        booted.append(name)
    return boot_s, booted
