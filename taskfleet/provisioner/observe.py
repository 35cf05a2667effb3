"""From one reading of the world to what a policy sees, and to what the provisioner remembers. Pure.
Owns the state of the machines; what waits and arrives is estimated by
`taskfleet.provisioner.demand`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from taskfleet.provisioner.boots import boots_after, failures_after, launch_at_most
from taskfleet.provisioner.demand import claimed_since, estimate, extended
from taskfleet.provisioner.points import ended_after
from taskfleet.provisioner.policy import (
    FleetLimits,
    Machine,
    MachineState,
    Observation,
    boot_patience_s,
)
from taskfleet.provisioner.records import (
    FleetState,
    Group,
    Instance,
    InstanceState,
    Reading,
    Snapshot,
    WorkerRecord,
)
from taskfleet.settings import Settings

UNLISTED_S = 60.0
"""How long a launched machine counts although EC2 does not list it yet."""


def is_alive(worker: WorkerRecord, now: float, beat_s: float) -> bool:
    """Returns whether the worker reported lately, and has not signed off. `beat_s` is the time
    between two reports; two of them may be lost."""
    return not worker.signed_off and now - worker.reported_at < 3.5 * beat_s


def observe(reading: Reading, before: FleetState, conf: Settings) -> tuple[Observation, FleetState]:
    """What the policy sees, and the state that includes what this reading taught."""
    now = reading.at
    started, claimed = claimed_since(before, reading.workers)
    history = extended(before.history, Snapshot(now, reading.demand, started))
    unlisted = _unlisted(before, reading)
    machines = _machines(reading, unlisted)
    boot_s, booted, new_boot_at = boots_after(before, reading, conf.boot_s)
    reported = [w.instance_id for w in reading.workers]
    failures = failures_after(before, machines, reported, new_boot_at, boot_s, now)
    alive = [w for w in reading.workers if is_alive(w, now, conf.beat_s)]
    work = estimate(reading, history, alive, conf.slots)
    static_slots = _static_slots(alive, reading.instances)
    observation = Observation(
        loads=work.loads,
        machines=machines,
        limits=limits_of(conf),
        arriving=work.arriving,
        trickling=work.trickling,
        boot_s=boot_s,
        idle_s=conf.idle_s,
        surplus_s=0.0 if before.surplus_since is None else now - before.surplus_since,
        static_slots=static_slots,
        launch_at_most=launch_at_most(failures, now),
    )
    never_reported = [
        m
        for m in machines
        if m.state is MachineState.BOOTING and m.age_s >= boot_patience_s(boot_s)
    ]
    ended_since, ended = ended_after(before, reading.workers)
    # The machines of the last round are billed for all of the time since.
    since_s = max(0.0, now - before.last_round_at) if before.last_round_at else 0.0
    state = replace(
        before,
        last_round_at=now,
        groups=groups(machines, now),
        static_slots=static_slots,
        never_reported=len(never_reported),
        boot_s=boot_s,
        booted=booted,
        boot_failures=failures,
        cost_usd=before.cost_usd + before.usd_per_hour * since_s / 3600,
        usd_per_hour=len(machines) * conf.instance_usd_per_hour,
        history=history,
        claimed=claimed,
        unlisted=unlisted,
        ended=ended,
        ended_since=ended_since,
        limits=_kind_limits(alive) if alive else before.limits,
    )
    return observation, state


def limits_of(conf: Settings) -> FleetLimits:
    """The hard limits that the settings set."""
    return FleetLimits(
        conf.max_capacity,
        conf.slots,
        conf.instance_usd_per_hour,
        conf.max_usd_per_hour,
        conf.machine_max_s,
    )


def _kind_limits(alive: Sequence[WorkerRecord]) -> dict[str, int]:
    """Most tasks of a kind that a worker runs at a time, as workers report it."""
    return {kind: most for worker in alive for kind, most in worker.limits.items()}


def groups(machines: Iterable[Machine], now: float) -> dict[str, Group]:
    """The machines counted by state."""
    ages: dict[str, list[float]] = {}
    for machine in machines:
        ages.setdefault(machine.state, []).append(machine.age_s)
    return {
        state: Group(len(found), now - max(found), now - min(found))
        for state, found in ages.items()
    }


def grown(known: Mapping[str, Group], count: int, now: float) -> dict[str, Group]:
    """The groups with `count` more machines that boot."""
    if not count:
        return dict(known)
    booting = known.get(MachineState.BOOTING, Group(0, now, now))
    return {
        **known,
        MachineState.BOOTING: Group(booting.count + count, booting.oldest_at, now),
    }


def _static_slots(alive: Sequence[WorkerRecord], instances: Sequence[Instance]) -> int:
    """Slots of the workers that run on no machine of the fleet and are there to stay."""
    own = {instance.instance_id for instance in instances}
    return sum(w.slots for w in alive if not w.leaving and w.instance_id not in own)


def _unlisted(before: FleetState, reading: Reading) -> dict[str, float]:
    """The launched machines that EC2 does not list yet. One whose worker has signed off may still
    be there, so it counts, too."""
    listed = {instance.instance_id for instance in reading.instances}
    return {
        name: at
        for name, at in before.unlisted.items()
        if name not in listed and reading.at - at < UNLISTED_S
    }


def forgettable(reading: Reading, unlisted: Mapping[str, float]) -> list[str]:
    """Ids of the workers that have signed off and whose machine has gone. There is no more to learn
    from their reports, once the state that they led to is recorded."""
    there = {instance.instance_id for instance in reading.instances} | unlisted.keys()
    return [w.worker_id for w in reading.workers if w.signed_off and w.instance_id not in there]


def _machines(reading: Reading, unlisted: Mapping[str, float]) -> list[Machine]:
    now = reading.at
    workers: dict[str, WorkerRecord] = {}
    for worker in reading.workers:
        if worker.instance_id is not None:
            other = workers.get(worker.instance_id)
            if other is None or other.reported_at < worker.reported_at:
                workers[worker.instance_id] = worker
    listed = [_machine(i, workers.get(i.instance_id), now) for i in reading.instances]
    launched = [
        Machine(name, MachineState.BOOTING, now - at, now - at) for name, at in unlisted.items()
    ]
    return listed + launched


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
        quiet_s=age_s if worker is None else max(0.0, now - worker.reported_at),
        busy=0 if worker is None else worker.busy,
        marked_s=None if instance.marked_at is None else now - instance.marked_at,
    )
