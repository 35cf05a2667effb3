"""How many machines there should be: one pure function from what is seen to what is done, with the
reason in words. Owns the policies, the hard limits and the two strikes; not the seeing nor the
doing (`taskfleet.provisioner.reconcile`).

The drain target follows from what a machine costs before and after its work. A backlog of `w`
machine-seconds on N machines costs w + N * overhead machine-seconds and waits boot + w / 2N on
average; cost times wait is least at N = w / sqrt(2 * overhead * boot).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from enum import StrEnum

import msgspec

ASSUMED_TASK_S = 10.0
"""Of a kind that nobody has finished a task of yet."""
DEFAULT_BOOT_S = 40.0
BOOT_OVERDUE_S = 60.0
"""A machine that boots for longer than this, and than twice the usual, is no longer counted on."""
STRIKE_S = 180.0
"""A machine that has not beaten for so long since its launch is marked; if it still has not in a
later round, it is ended."""
SILENT_S = 600.0
"""The same for one that did beat: long after its leases have ended, since a worker that cannot
reach the table for a while goes on working."""
BETWEEN_STRIKES_S = 30.0
STREAM_MARGIN = 2.5
"""Slots for each that a steady stream keeps busy: a stream that grows finds room, and chance
finds no queue."""
RATE_WINDOW_S = 15.0
STREAM_BATCHES = 4
"""In a window."""
STALE_S = 60.0
"""How old the queue's count may be."""


class MachineState(StrEnum):
    BOOTING = "booting"
    """Launched, its worker has never beaten."""
    LIVE = "live"
    LEAVING = "leaving"
    """Its worker drains: takes no more tasks and will end by itself."""
    ENDING = "ending"
    """Shutting down; it works no more and costs little, but still counts against the limit."""


class Machine(msgspec.Struct, frozen=True):
    """One instance. `quiet_s`: since its worker's last beat, or since its launch when there was
    none. `busy`: tasks it has in hand. `marked_s`: since the first strike, if there was one."""

    machine_id: str
    state: MachineState
    age_s: float
    quiet_s: float = 0.0
    busy: int = 0
    marked_s: float | None = None


class KindLoad(msgspec.Struct, frozen=True):
    """Tasks of one kind. `mean_s`: learned or known seconds of one; None when nobody knows.
    `slots_each`: more than 1 for a kind of which a machine runs fewer than it has slots."""

    kind: str
    waiting: float
    running: float
    mean_s: float | None = None
    slots_each: float = 1.0


class Limits(msgspec.Struct, frozen=True):
    """`usd_per_hour`: of one machine. `max_usd_per_hour`: of all; None for no such limit."""

    max_capacity: int
    slots: int = 16
    usd_per_hour: float = 0.0
    max_usd_per_hour: float | None = None

    @property
    def affordable(self) -> int:
        """Machines that the limits allow at a time."""
        if self.max_usd_per_hour is None or self.usd_per_hour <= 0:
            return self.max_capacity
        pays_for = self.max_usd_per_hour / self.usd_per_hour
        # A millionth forgives what division does to 0.3 / 0.1.
        return math.floor(min(float(self.max_capacity), pays_for + 1e-6))


class Observation(msgspec.Struct, frozen=True):
    """What is seen at one look.

    arriving: slots that a stream of tasks keeps busy (tasks a second times seconds each); 0 when
        what arrives is no stream.
    trickling: some tasks arrive all the time, so that no worker may ever be idle for long.
    boot_s: from launch to first beat, learned. idle_s: after which an idle worker ends itself.
    surplus_s: for how long there have been more machines than wanted.
    static_slots: of workers that are no machine of the fleet.
    """

    loads: Sequence[KindLoad]
    machines: Sequence[Machine]
    limits: Limits
    arriving: float = 0.0
    trickling: bool = False
    boot_s: float = DEFAULT_BOOT_S
    idle_s: float = 45.0
    surplus_s: float = 0.0
    static_slots: int = 0

    @property
    def waiting(self) -> float:
        return sum(load.waiting for load in self.loads)

    @property
    def running(self) -> float:
        return sum(load.running for load in self.loads)


class Decision(msgspec.Struct, frozen=True):
    """What to do. `desired` is within the limits; `wanted` is what it would be without them.
    `mark`, `end` and `retire` hold machine ids: the first strike, the second, and those whose
    worker is asked to drain. `surplus` says whether there are more machines than wanted."""

    desired: int
    wanted: int
    launch: int
    mark: list[str]
    end: list[str]
    retire: list[str]
    surplus: bool
    reason: str


Totals = Sequence[tuple[float, float]]
"""(time, all that ever came until then), oldest first."""


def steady_rate(totals: Totals, now: float) -> float:
    """What arrives steadily, a second: the middle one of the last three windows, so that a single
    burst, which is a backlog and no stream, counts as none."""
    edges = [_total_at(totals, now - n * RATE_WINDOW_S) for n in range(4)]
    counts = sorted(late - early for late, early in itertools.pairwise(edges))
    return max(0.0, counts[1] / RATE_WINDOW_S)


def is_stream(batches_a_s: float) -> bool:
    """Whether what arrives is a stream that goes on, by the steady rate of batches: a few large
    batches one after the other are none."""
    return batches_a_s * RATE_WINDOW_S >= STREAM_BATCHES


def waiting_at_least(arrived: Totals, started: Totals, now: float) -> float:
    """How many of what arrived lately cannot have been started yet, whatever a queue's count of
    a minute ago says."""
    since = now - STALE_S
    came = _total_at(arrived, now) - _total_at(arrived, since)
    return max(0.0, came - (_total_at(started, now) - _total_at(started, since)))


def _total_at(totals: Totals, moment: float) -> float:
    found = totals[0][1] if totals else 0.0
    for at, total in totals:
        if at > moment:
            break
        found = total
    return found


Policy = Callable[[Observation], tuple[int, str]]
"""An observation to the machines wanted, whatever the limits, and why."""


def drain_target_s(boot_s: float, idle_s: float) -> float:
    """In how many seconds a backlog should be gone once machines have booted (see above);
    overhead is the boot and the idle end."""
    return math.sqrt(2 * (boot_s + idle_s) * boot_s)


def by_work(seen: Observation) -> tuple[int, str]:
    """Enough machines to drain the backlog within `drain_target_s` beside what arrives steadily.

    A task longer than the target takes one slot, a shorter one its share of a slot.
    """
    target_s = max(drain_target_s(seen.boot_s, seen.idle_s), 1.0)
    to_start = in_hand = 0.0
    for load in seen.loads:
        mean_s = ASSUMED_TASK_S if load.mean_s is None else load.mean_s
        share = min(1.0, mean_s / target_s) * load.slots_each
        to_start += load.waiting * share
        in_hand += load.running * share
    # Long tasks that run are themselves the steady stream: not counted twice.
    slots = to_start + max(in_hand, STREAM_MARGIN * seen.arriving)
    wanted = max(0, math.ceil((slots - seen.static_slots) / seen.limits.slots - 1e-9))
    least = 0 if seen.static_slots else 1
    if seen.waiting + seen.running <= 0:
        why = "nothing waits and nothing runs"
        return (
            (max(wanted, least), why + ", but tasks go on arriving")
            if seen.trickling
            else (
                0,
                why,
            )
        )
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
    """The rule of 2014: one machine more at each look at which more than `threshold` tasks wait."""

    def policy(seen: Observation) -> tuple[int, str]:
        there = sum(1 for m in seen.machines if _counts(m, seen.boot_s))
        if seen.waiting > threshold:
            return there + 1, f"{seen.waiting:.0f} tasks wait, over the threshold of {threshold}"
        return there, f"{seen.waiting:.0f} tasks wait, within the threshold of {threshold}"

    return policy


def decide(policy: Policy, seen: Observation) -> Decision:
    """Apply `policy` within the limits. Never launches beyond them, and never ends a machine
    whose worker beats."""
    wanted, why = policy(seen)
    room = seen.limits.affordable
    desired = min(wanted, room)
    counted = [m for m in seen.machines if _counts(m, seen.boot_s)]
    launch = max(0, min(desired - len(counted), room - len(seen.machines)))
    mark, end = _strikes(seen.machines)
    surplus = len(counted) > wanted
    retire: list[str] = []
    # When nothing arrives they end by themselves, and until then serve what may yet come.
    if surplus and seen.surplus_s >= seen.idle_s and seen.trickling:
        retire = _emptiest(counted, len(counted) - wanted)
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


def _counts(machine: Machine, boot_s: float) -> bool:
    """Whether the machine works, or will soon."""
    if machine.state is MachineState.BOOTING:
        return machine.age_s < max(BOOT_OVERDUE_S, 2 * boot_s)
    return machine.state is MachineState.LIVE and machine.quiet_s < STRIKE_S


def _strikes(machines: Sequence[Machine]) -> tuple[list[str], list[str]]:
    """Whom to mark, whom to end. One that beat since its mark loses it by beating: `quiet_s` is
    small again."""
    mark, end = [], []
    for machine in machines:
        patience_s = STRIKE_S if machine.state is MachineState.BOOTING else SILENT_S
        if machine.state is MachineState.ENDING or machine.quiet_s < patience_s:
            continue
        if machine.marked_s is None:
            mark.append(machine.machine_id)
        elif machine.marked_s >= BETWEEN_STRIKES_S:
            end.append(machine.machine_id)
    return mark, end


def _emptiest(machines: Sequence[Machine], count: int) -> list[str]:
    """Live ones, those with the least in hand first; a booting one cannot be asked."""
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
    elif launch < wanted - counted:
        stuck = len(seen.machines) - counted
        text += f"; {stuck} more that leave or never started hold places within the limit"
    return text
