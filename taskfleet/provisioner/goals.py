"""Machines for batches with a deadline or a budget: as many as finish in time, as few as the money
buys. Owns this rule and the reasons why a batch will miss its goal; it asks the policy of the stage
(`taskfleet.provisioner.policy`) about all other work. Pure; what is known of the batches is put
together by `taskfleet.provisioner.watch`.

High priority goes first, and then the order of submission. So N machines finish a batch in time if they do its
work, and all work before it, in the time that is left. A batch that has the fleet to itself gets
the fewest machines that do so, since each machine costs its boot and its end on top of the work.
Beside other work the fleet is at least as large as the policy of the stage has it, so that nobody
waits for a batch that has time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from taskfleet.pace import ASSUMED_TASK_S
from taskfleet.provisioner.policy import (
    Decision,
    KindLoad,
    Machine,
    MachineState,
    Observation,
    Policy,
    counts,
    decide,
)

MARGIN = 0.1
"""Share of the time left that is kept in reserve, for machines that fail and tasks that take longer
than expected."""
REACTION_S = 20.0
"""Seconds until the next round sees what this one did, and results are counted."""
RESERVE_MAX = 1.5
"""Most machines that are planned for each one that would do."""
TAILS = 2.0
"""Longest tasks, one after the other, that a machine which leaves is taken to run still."""
SOME_TASKS = 1.0
"""Fewer tasks than this are none: numbers of tasks are estimates."""


class Goal(msgspec.Struct, frozen=True):
    """A batch with a deadline or a budget.

    waiting, running: its tasks that wait and that run; both are estimates.
    mean_s: expected seconds of one task.
    tail_s: expected seconds of one of its longest tasks.
    slots_each: slots that one task takes up.
    due_in_s: seconds until its deadline; infinite without one.
    usd_left: dollars of its budget that are left for machines; infinite without one.
    """

    batch_id: str
    waiting: float
    running: float
    mean_s: float
    tail_s: float
    slots_each: float = 1.0
    due_in_s: float = math.inf
    usd_left: float = math.inf

    @property
    def work_s(self) -> float:
        """Slot-seconds that are left; of a task that runs, half is."""
        return (self.waiting + self.running / 2) * self.mean_s * self.slots_each

    @property
    def load(self) -> KindLoad:
        """The batch as work for a policy."""
        return KindLoad(self.batch_id, self.waiting, self.running, self.mean_s, self.slots_each)


class Reaction(msgspec.Struct, frozen=True):
    """How fast a fleet follows a decision: seconds until the next one (`look_s`), until a worker
    that was asked to leave hears of it (`beat_s`), and until it has broken off its tasks at the
    latest (`drain_s`)."""

    look_s: float
    beat_s: float
    drain_s: float

    def leave_s(self, goal: Goal) -> float:
        """Seconds until a machine is gone that is asked to leave in the round after this one."""
        return self.look_s + self.beat_s + min(self.drain_s, TAILS * goal.tail_s)


def steer(
    policy: Policy,
    seen: Observation,
    goals: Sequence[Goal],
    others: Sequence[KindLoad],
    reaction: Reaction,
) -> tuple[Decision, dict[str, str]]:
    """Decide as `decide` does, with the goals of some batches. Returns the decision, and for each
    batch that will miss its goal the reason.

    goals: the batches, in the order in which their tasks are taken; those that have just ended, with no task
        left, too.
    others: the loads without the tasks of these batches.
    """
    if not goals:
        return decide(policy, seen), {}
    wanted, why = _wanted(policy, seen, goals, others)
    here = len(_boots_s(seen))
    total_s = sum(goal.work_s for goal in goals) + sum(map(work_s, others))
    capped, excess = wanted, 0
    limits: dict[str, int] = {}
    for goal in goals:
        if goal.usd_left < math.inf:
            rest = [other for other in goals if other is not goal]
            without, _ = _wanted(policy, seen, rest, others)
            own = math.ceil(here * goal.work_s / total_s) if total_s > 0 else here
            if _is_alone(seen, others) and not rest:
                own = here
            kept, new = _affordable(seen, goal, own, reaction)
            limits[goal.batch_id] = kept + new
            capped -= max(0, wanted - without - kept - new)
            excess += min(own - kept, max(0, here - without))
    if capped < wanted:
        why += f"; a budget pays for {capped} of {wanted} machines"
    decision = decide(lambda _: (capped, why), seen)
    decision = _leave(decision, seen, excess, goals, others)
    return decision, _risks(seen, goals, others, limits, reaction)


def others_of(
    loads: Sequence[KindLoad], shares: Mapping[str, float], at_most: float
) -> list[KindLoad]:
    """Returns the loads without the tasks of watched batches.

    shares: tasks of those batches by kind.
    at_most: most tasks that all others can have. Counts of the queue are old, so that tasks of a
        watched batch which have ended by now would pass for others.
    """
    left = {load.kind: load.waiting + load.running - shares.get(load.kind, 0.0) for load in loads}
    total = sum(tasks for tasks in left.values() if tasks > 0)
    factor = min(1.0, at_most / total) if total > 0 else 0.0
    found = []
    for load in loads:
        tasks = left[load.kind] * factor
        if tasks > 0:
            share = tasks / (load.waiting + load.running)
            found.append(replace(load, waiting=load.waiting * share, running=load.running * share))
    return found


def _wanted(
    policy: Policy, seen: Observation, goals: Sequence[Goal], others: Sequence[KindLoad]
) -> tuple[int, str]:
    """Machines wanted without the limits and without budgets, and the reason."""
    alone = _is_alone(seen, others)
    with_goals = [goal.load for goal in goals if not alone or goal.due_in_s == math.inf]
    wanted, why = policy(replace(seen, loads=[*others, *with_goals]))
    ahead_s = 0.0 if alone else sum(work_s(load) for load in others)
    for goal in goals:
        ahead_s += goal.work_s
        if goal.waiting + goal.running <= 0 or goal.due_in_s == math.inf:
            continue
        need = _planned(seen, ahead_s, goal)
        if need is None:  # no machine helps in time, so it is served as if it had no deadline
            need, _ = policy(replace(seen, loads=[*others, goal.load]))
        need = max(1, min(need, _useful(seen, goals, others)))
        if need > wanted or (alone and len(goals) == 1):
            wanted = need
            why = (
                f"{goal.waiting:.0f} tasks wait and {goal.running:.0f} run of batch "
                f"{goal.batch_id}, due in {goal.due_in_s:.0f} s"
            )
    return wanted, why


def _is_alone(seen: Observation, others: Sequence[KindLoad]) -> bool:
    """Returns whether there is no other work than that of watched batches."""
    return not seen.trickling and sum(load.waiting + load.running for load in others) < SOME_TASKS


def work_s(load: KindLoad) -> float:
    """Slot-seconds that are left of a load; of a task that runs, half is."""
    return (
        (load.waiting + load.running / 2)
        * (ASSUMED_TASK_S if load.mean_s is None else load.mean_s)
        * load.slots_each
    )


def _time_s(goal: Goal) -> float:
    """Seconds in which the last of its tasks must have started."""
    return (goal.due_in_s - REACTION_S) * (1 - MARGIN) - goal.tail_s


def _planned(seen: Observation, work_s: float, goal: Goal) -> int | None:
    """Machines with which to do the work in time: with reserves, but where time is so short that
    these would cost more than the work, at most `RESERVE_MAX` as many as without."""
    barely = _needed(seen, work_s, goal.due_in_s - goal.mean_s)
    if barely is None:
        return None
    safely = _needed(seen, work_s, _time_s(goal))
    at_most = max(barely + 1, math.ceil(barely * RESERVE_MAX))
    return at_most if safely is None else min(safely, at_most)


def _useful(seen: Observation, goals: Sequence[Goal], others: Sequence[KindLoad]) -> int:
    """Machines that have a task for each slot."""
    loads = [*others, *(goal.load for goal in goals)]
    slots = sum((load.waiting + load.running) * load.slots_each for load in loads)
    return math.ceil(slots / seen.limits.slots - 1e-9)


def _boots_s(seen: Observation) -> list[float]:
    """Seconds until each machine that counts works, the first first."""
    return sorted(
        max(0.0, seen.boot_s - m.age_s) if m.state is MachineState.BOOTING else 0.0
        for m in seen.machines
        if counts(m, seen.boot_s)
    )


def _needed(seen: Observation, work_s: float, time_s: float) -> int | None:
    """The fewest machines that do so many slot-seconds in the time; None if not even many do."""
    slots = seen.limits.slots
    supply_s = seen.static_slots * max(0.0, time_s)
    number = 0
    for boot_s in _boots_s(seen):
        if supply_s >= work_s:
            return number
        supply_s += slots * max(0.0, time_s - boot_s)
        number += 1
    if supply_s >= work_s:
        return number
    each_s = slots * (time_s - seen.boot_s)
    return number + math.ceil((work_s - supply_s) / each_s) if each_s > 0 else None


# --- money --------------------------------------------------------------------------------------


def _affordable(seen: Observation, goal: Goal, here: int, reaction: Reaction) -> tuple[int, int]:
    """Machines that the budget of a batch pays for: of the `here` that work for it, and new ones.

    Of the money, the work itself takes its part. The rest pays for the boots and the ends of
    machines. Whatever is planned, each machine that is kept must be paid until it is gone after the
    next round.
    """
    price = seen.limits.usd_per_hour / 3600
    if price <= 0:
        return here, seen.limits.max_capacity
    leave_s = reaction.leave_s(goal)
    leaving = sum(1 for m in seen.machines if not counts(m, seen.boot_s))
    money_s = goal.usd_left / price - leaving * (leave_s - reaction.look_s)
    kept = max(0, min(here, math.floor(money_s / leave_s)))
    spare_s = money_s - goal.work_s / seen.limits.slots - kept * leave_s
    new = max(0, math.floor(spare_s / (seen.boot_s + leave_s)))
    if not kept + new and money_s >= seen.boot_s + goal.mean_s + leave_s:
        new = 1  # what is too little for the whole batch buys a part of it
    return kept, new


# --- leaving ------------------------------------------------------------------------------------


def _leave(
    decision: Decision,
    seen: Observation,
    excess: int,
    goals: Sequence[Goal],
    others: Sequence[KindLoad],
) -> Decision:
    """The decision with the machines that leave for the money's sake: `excess` of those that work,
    which nobody pays for, and idle ones once nothing waits. A machine that boots has no work to
    lose, so it is ended at once; so is one that boots for too long, if a batch with a budget would
    pay for it."""
    live = [m for m in seen.machines if m.state is MachineState.LIVE and counts(m, seen.boot_s)]
    end, retire = list(decision.end), list(decision.retire)
    booting = [m for m in seen.machines if m.state is MachineState.BOOTING]
    if excess > 0:
        young = [m for m in booting if counts(m, seen.boot_s)]
        young = sorted(young, key=lambda m: m.age_s)[:excess]
        end += _ids(young, end)
        by_load = sorted(live, key=lambda m: (m.busy, -m.age_s))
        retire += _ids(by_load[: excess - len(young)], retire)
    alone = _is_alone(seen, others)
    if alone and any(goal.usd_left < math.inf for goal in goals):
        end += _ids([m for m in booting if not counts(m, seen.boot_s)], end)
    waiting = sum(load.waiting for load in others) + sum(goal.waiting for goal in goals)
    if alone and waiting < SOME_TASKS:
        retire += _ids([m for m in live if not m.busy], retire)
    return replace(decision, end=end, retire=retire)


def _ids(machines: Sequence[Machine], known: Sequence[str]) -> list[str]:
    return [m.machine_id for m in machines if m.machine_id not in known]


# --- risks --------------------------------------------------------------------------------------


def _risks(
    seen: Observation,
    goals: Sequence[Goal],
    others: Sequence[KindLoad],
    affordable: Mapping[str, int],
    reaction: Reaction,
) -> dict[str, str]:
    """Why batches will miss their goals, by id. Judged without the reserves that the plan has, so
    that a batch which is merely tight is not called late."""
    found: dict[str, str] = {}
    room = seen.limits.affordable
    if seen.launch_at_most is not None:
        room = min(room, len(_boots_s(seen)) + seen.launch_at_most)
    ahead_s = 0.0 if _is_alone(seen, others) else sum(work_s(load) for load in others)
    for goal in goals:
        ahead_s += goal.work_s
        if goal.waiting + goal.running < SOME_TASKS:
            continue
        text = _late(seen, goal, ahead_s, room, affordable.get(goal.batch_id))
        text = text or _too_dear(seen, goal, reaction)
        if text:
            found[goal.batch_id] = text
    return found


def _late(
    seen: Observation, goal: Goal, work_s: float, room: int, affordable: int | None
) -> str | None:
    """Why the batch will end after its deadline, None if it will not."""
    if goal.due_in_s == math.inf:
        return None
    left = f"the {max(0.0, goal.due_in_s):.0f} s until the deadline"
    if goal.waiting < SOME_TASKS:
        return f"its last tasks take longer than {left}" if goal.due_in_s <= 0 else None
    need = _needed(seen, work_s, goal.due_in_s - goal.mean_s)
    if need is None:
        return (
            f"{left} are too short: a machine boots in {seen.boot_s:.0f} s and a task takes "
            f"{goal.mean_s:.3g} s, so no more machines would help"
        )
    if need > room:
        return f"{need} machines would finish it in {left}, and only {room} may run"
    if affordable is not None and need > affordable:
        return f"{need} machines would finish it in {left}, and its budget pays for {affordable}"
    return None


def _too_dear(seen: Observation, goal: Goal, reaction: Reaction) -> str | None:
    """Why the batch needs more than is left of its budget, None if it does not. A single machine is
    the cheapest way to do the rest."""
    price = seen.limits.usd_per_hour / 3600
    if goal.usd_left == math.inf or price <= 0:
        return None
    boot_s = 0.0 if _boots_s(seen) or seen.static_slots else seen.boot_s
    dollars = (goal.work_s / seen.limits.slots + boot_s + reaction.leave_s(goal)) * price
    if dollars <= goal.usd_left:
        return None
    return (
        f"its tasks need about ${dollars:.3g} of machines, with their boot and their end, and "
        f"${max(0.0, goal.usd_left):.3g} of its budget are left"
    )
