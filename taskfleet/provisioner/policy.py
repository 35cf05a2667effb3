"""How many machines there should be: one pure function from what is observed to what is done, with
the reason in words. Owns the policies, the hard limits and the two strikes; observing belongs to
`taskfleet.provisioner.observe`, acting to `taskfleet.provisioner.reconcile`.

The drain target follows from what a machine costs before and after its work. A backlog of `w`
machine-seconds on N machines costs w + N * overhead machine-seconds, and its tasks wait
boot + w / 2N on average. Cost times wait is least at N = w / sqrt(2 * overhead * boot).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import StrEnum

import msgspec

from taskfleet.pace import ASSUMED_TASK_S
from taskfleet.settings import Settings

BOOT_OVERDUE_S = 60.0
"""A machine that boots for longer than this, and for more than twice the usual time, no longer
counts."""
STRIKE_S = 180.0
"""A machine whose worker has not reported this long after launch is marked, later where boots are
slow (`boot_patience_s`). If it still has not in a later round, it is ended."""
SILENT_S = 600.0
"""The same for a machine whose worker did report. The time is long, since a worker that cannot
reach the table for a while goes on working."""
BETWEEN_STRIKES_S = 30.0
"""Least time between the mark and the end."""
LAST_GRACE_S = 3_600.0
"""A machine that is older than `FleetLimits.max_age_s` by this much is ended, if its worker did not
leave when it was asked to."""
STREAM_MARGIN = 2.5
"""Slots provided for each slot that a steady stream keeps busy: headroom for growth and random
bursts."""


class MachineState(StrEnum):
    """The state of a machine, as its instance and its worker together tell it."""

    BOOTING = "booting"
    """It was launched, and its worker has never reported."""
    LIVE = "live"
    """Its worker has reported and takes tasks."""
    LEAVING = "leaving"
    """Its worker drains: it takes no more tasks and will end by itself."""
    ENDING = "ending"
    """It shuts down. It works no more and costs little, but still counts against the limit."""


class Machine(msgspec.Struct, frozen=True):
    """One machine.

    quiet_s: time since its worker's last report, or since its launch when there was none.
    busy: tasks that its worker has in hand.
    marked_s: time since the first strike; None when there was none.
    """

    machine_id: str
    state: MachineState
    age_s: float
    quiet_s: float = 0.0
    busy: int = 0
    marked_s: float | None = None


class KindLoad(msgspec.Struct, frozen=True):
    """The tasks of one kind.

    mean_s: mean seconds of one task, known or learned; None when unknown.
    slots_each: slots that one task takes up; over 1 for a kind of which a machine runs fewer tasks
        than it has slots.
    """

    kind: str
    waiting: float
    running: float
    mean_s: float | None = None
    slots_each: float = 1.0


class FleetLimits(msgspec.Struct, frozen=True):
    """The hard limits. `usd_per_hour` is the price of one machine, `max_usd_per_hour` that of all
    together; None is no such limit. A machine that is older than `max_age_s` seconds has to leave.
    """

    max_capacity: int
    slots: int
    usd_per_hour: float = 0.0
    max_usd_per_hour: float | None = None
    max_age_s: float = math.inf

    @property
    def affordable(self) -> int:
        """Most machines at a time that the limits allow."""
        if self.max_usd_per_hour is None or self.usd_per_hour <= 0:
            return self.max_capacity
        pays_for = self.max_usd_per_hour / self.usd_per_hour
        # The millionth makes up for rounding: 0.3 / 0.1 is less than 3.
        return math.floor(min(float(self.max_capacity), pays_for + 1e-6))


class Observation(msgspec.Struct, frozen=True):
    """What a policy sees in one round.

    boot_s: learned seconds from launch to the start of the worker.
    idle_s: seconds after which an idle worker ends its machine.
    arriving: slots that a stream of tasks keeps busy (tasks a second times seconds each); 0 when
        what arrives is no stream.
    trickling: whether some tasks arrive all the time, so that no worker may ever be idle for long.
    surplus_s: how long there have been more machines than wanted.
    static_slots: slots of workers that run on no machine of the fleet.
    launch_at_most: machines that may be launched, since earlier ones failed to boot; None is no
        such limit.
    """

    loads: Sequence[KindLoad]
    machines: Sequence[Machine]
    limits: FleetLimits
    boot_s: float
    idle_s: float
    arriving: float = 0.0
    trickling: bool = False
    surplus_s: float = 0.0
    static_slots: int = 0
    launch_at_most: int | None = None

    @property
    def waiting(self) -> float:
        return sum(load.waiting for load in self.loads)

    @property
    def running(self) -> float:
        return sum(load.running for load in self.loads)


class Decision(msgspec.Struct, frozen=True):
    """The answer of a policy to one round: how many machines there shall be, and which
    of them go.

    desired: machines within the limits.
    wanted: machines without the limits.
    mark, end: ids of machines for the first and the second strike.
    retire: ids of machines whose worker is asked to drain.
    surplus: whether there are more machines than wanted.
    """

    desired: int
    wanted: int
    launch: int
    mark: list[str]
    end: list[str]
    retire: list[str]
    surplus: bool
    reason: str


Policy = Callable[[Observation], tuple[int, str]]
"""From an observation to the machines wanted, without the limits, and the reason."""


def drain_target_s(boot_s: float, idle_s: float) -> float:
    """Seconds in which a backlog should be gone once machines have booted (see the module's text).
    The overhead of a machine is its boot and its idle time at the end."""
    return math.sqrt(2 * (boot_s + idle_s) * boot_s)


def by_work(seen: Observation) -> tuple[int, str]:
    """The default policy: enough machines to drain the backlog within `drain_target_s` while the
    steady arrivals go on. A task longer than the target takes one slot, a shorter one its share.
    """
    target_s = max(drain_target_s(seen.boot_s, seen.idle_s), 1.0)
    to_start = in_hand = 0.0
    for load in seen.loads:
        mean_s = ASSUMED_TASK_S if load.mean_s is None else load.mean_s
        share = min(1.0, mean_s / target_s) * load.slots_each
        to_start += load.waiting * share
        in_hand += load.running * share
    # Long tasks that run are themselves the steady stream, so they are not counted twice.
    slots = to_start + max(in_hand, STREAM_MARGIN * seen.arriving)
    wanted = max(0, math.ceil((slots - seen.static_slots) / seen.limits.slots - 1e-9))
    least = 0 if seen.static_slots else 1
    if seen.waiting + seen.running <= 0:
        why = "nothing waits and nothing runs"
        if seen.trickling:
            return max(wanted, least), why + ", but tasks go on arriving"
        return 0, why
    wanted = max(wanted, least)
    why = (
        f"{seen.waiting:.0f} tasks wait and {seen.running:.0f} run: {slots:.1f} slots finish them "
        f"in {target_s:.0f} s"
    )
    if seen.arriving >= 0.05:
        why += f" beside what arrives, {seen.arriving:.1f} slots' worth"
    if seen.static_slots:
        why += f", {seen.static_slots} of them on static workers"
    return wanted, why


def by_threshold(threshold: int) -> Policy:
    """The policy of 2014: one machine more in each round in which over `threshold` tasks wait."""

    def policy(seen: Observation) -> tuple[int, str]:
        there = sum(1 for m in seen.machines if counts(m, seen.boot_s))
        if seen.waiting > threshold:
            return there + 1, f"{seen.waiting:.0f} tasks wait, over the threshold of {threshold}"
        return there, f"{seen.waiting:.0f} tasks wait, within the threshold of {threshold}"

    return policy


def policy_of(conf: Settings) -> Policy:
    """The policy that the settings name."""
    return by_threshold(conf.threshold) if conf.policy == "threshold" else by_work


def decide(policy: Policy, seen: Observation) -> Decision:
    """Apply `policy` within the limits. It never launches beyond them. It ends a machine whose
    worker reports only when that is far too old."""
    wanted, why = policy(seen)
    room = seen.limits.affordable
    desired = min(wanted, room)
    counted = [m for m in seen.machines if counts(m, seen.boot_s)]
    launch = max(0, min(desired - len(counted), room - len(seen.machines)))
    if seen.launch_at_most is not None:
        launch = min(launch, seen.launch_at_most)
    mark, end = _strikes(seen)
    surplus = len(counted) > wanted
    retire: list[str] = []
    # When nothing arrives, idle machines end by themselves and serve what may come until then.
    if surplus and seen.surplus_s >= seen.idle_s and seen.trickling:
        retire = _emptiest(counted, len(counted) - wanted)
    retire += [m for m in _too_old(seen) if m not in retire]
    return Decision(
        desired=desired,
        wanted=wanted,
        launch=launch,
        mark=mark,
        end=end,
        retire=retire,
        surplus=surplus,
        reason=_reason(why, wanted, launch, len(counted), seen),
    )


def counts(machine: Machine, boot_s: float) -> bool:
    """Returns whether the machine works, or will soon."""
    if machine.state is MachineState.BOOTING:
        return machine.age_s < max(BOOT_OVERDUE_S, 2 * boot_s)
    return machine.state is MachineState.LIVE and machine.quiet_s < STRIKE_S


def boot_patience_s(boot_s: float) -> float:
    """Seconds from a launch until the worker must have reported, where boots take `boot_s`."""
    return max(STRIKE_S, 3 * boot_s)


def _strikes(seen: Observation) -> tuple[list[str], list[str]]:
    """The machines to mark and those to end. A report after the mark clears it, since `quiet_s` is
    small again."""
    mark, end = [], []
    for machine in seen.machines:
        if machine.state is MachineState.ENDING:
            continue
        booting = machine.state is MachineState.BOOTING
        if machine.age_s >= seen.limits.max_age_s + LAST_GRACE_S:
            end.append(machine.machine_id)
        elif machine.quiet_s < (boot_patience_s(seen.boot_s) if booting else SILENT_S):
            continue
        elif machine.marked_s is None:
            mark.append(machine.machine_id)
        elif machine.marked_s >= BETWEEN_STRIKES_S:
            end.append(machine.machine_id)
    return mark, end


def _too_old(seen: Observation) -> list[str]:
    """The machines whose workers are asked to leave so that no machine runs, and costs, for good.
    The next round launches others for them, if there is work."""
    return [
        m.machine_id
        for m in seen.machines
        if m.state is MachineState.LIVE and m.age_s >= seen.limits.max_age_s
    ]


def _emptiest(machines: Sequence[Machine], count: int) -> list[str]:
    """The live machines with the least in hand. A booting machine cannot be asked to leave."""
    live = [m for m in machines if m.state is MachineState.LIVE]
    live.sort(key=lambda m: (m.busy, -m.age_s))
    return [m.machine_id for m in live[:count]]


def _reason(why: str, wanted: int, launch: int, counted: int, seen: Observation) -> str:
    limits, room = seen.limits, seen.limits.affordable
    text = f"{why}; wanted {wanted}, there are {counted}"
    if wanted > room:
        if room < limits.max_capacity:
            text += (
                f"; the budget of ${limits.max_usd_per_hour:g} an hour pays for {room} at "
                f"${limits.usd_per_hour:g}"
            )
        else:
            text += f"; the limit is {limits.max_capacity}"
    elif seen.launch_at_most is not None and launch < wanted - counted:
        text += "; the last machines never reported, so launches pause"
    elif launch < wanted - counted:
        stuck = len(seen.machines) - counted
        text += f"; {stuck} more that leave or never started hold places within the limit"
    return text
