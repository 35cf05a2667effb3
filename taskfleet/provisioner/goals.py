"""Machines for batches with a deadline or a budget: as many as finish in time, as few as the money
buys. Owns this rule; it asks the policy of the stage (`taskfleet.provisioner.policy`) about all
other work. Pure; what is known of the batches is put together by `taskfleet.provisioner.watch`.

High priority goes first, and then the order of submission. So N machines finish a batch in time if
they do its work, and all work before it, in the time that is left. A batch that has the fleet to
itself gets the fewest machines that do so, since each machine costs its boot and its end on top of
the work.
Beside other work the fleet is at least as large as the policy of the stage has it, so that nobody
waits for a batch that has time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

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
from taskfleet.provisioner.risks import risks
from taskfleet.provisioner.supply import (
    SOME_TASKS,
    Goal,
    Reaction,
    boots_s,
    is_alone,
    needed,
    work_s,
)

MARGIN = 0.1
"""Share of the time left that is kept in reserve, for machines that fail and tasks that take longer
than expected."""
REACTION_S = 20.0
"""Seconds until the next round sees what this one did, and results are counted."""
RESERVE_MAX = 1.5
"""Most machines that are planned for each one that would do."""


def steer(
    policy: Policy,
    seen: Observation,
    goals: Sequence[Goal],
    others: Sequence[KindLoad],
    reaction: Reaction,
) -> tuple[Decision, dict[str, str]]:
    """Decide as `decide` does, with the goals of some batches. Returns the decision, and for each
    batch that will miss its goal the reason.

    goals: the batches, in the order in which their tasks are taken; those that have just ended,
        with no task left, too.
    others: the loads without the tasks of these batches.
    """
    if not goals:
        return decide(policy, seen), {}
    wanted, why = _wanted(policy, seen, goals, others)
    here = len(boots_s(seen))
    total_s = sum(goal.work_s for goal in goals) + sum(map(work_s, others))
    capped, excess = wanted, 0
    limits: dict[str, int] = {}
    for goal in goals:
        if goal.usd_left < math.inf:
            rest = [other for other in goals if other is not goal]
            without, _ = _wanted(policy, seen, rest, others)
            own = math.ceil(here * goal.work_s / total_s) if total_s > 0 else here
            if is_alone(seen, others) and not rest:
                own = here
            kept, new = _affordable(seen, goal, own, reaction)
            limits[goal.batch_id] = kept + new
            capped -= max(0, wanted - without - kept - new)
            excess += min(own - kept, max(0, here - without))
    if capped < wanted:
        why += f"; a budget pays for {capped} of {wanted} machines"
    decision = decide(lambda _: (capped, why), seen)
    decision = _leave(decision, seen, excess, goals, others)
    return decision, risks(seen, goals, others, limits, reaction)


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
    alone = is_alone(seen, others)
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


def _time_s(goal: Goal) -> float:
    """Seconds in which the last of its tasks must have started."""
    return (goal.due_in_s - REACTION_S) * (1 - MARGIN) - goal.tail_s


def _planned(seen: Observation, work_s: float, goal: Goal) -> int | None:
    """Machines with which to do the work in time: with reserves, but where time is so short that
    these would cost more than the work, at most `RESERVE_MAX` as many as without."""
    barely = needed(seen, work_s, goal.due_in_s - goal.mean_s)
    if barely is None:
        return None
    safely = needed(seen, work_s, _time_s(goal))
    at_most = max(barely + 1, math.ceil(barely * RESERVE_MAX))
    return at_most if safely is None else min(safely, at_most)


def _useful(seen: Observation, goals: Sequence[Goal], others: Sequence[KindLoad]) -> int:
    """Machines that have a task for each slot."""
    loads = [*others, *(goal.load for goal in goals)]
    slots = sum((load.waiting + load.running) * load.slots_each for load in loads)
    return math.ceil(slots / seen.limits.slots - 1e-9)


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
    alone = is_alone(seen, others)
    if alone and any(goal.usd_left < math.inf for goal in goals):
        end += _ids([m for m in booting if not counts(m, seen.boot_s)], end)
    waiting = sum(load.waiting for load in others) + sum(goal.waiting for goal in goals)
    if alone and waiting < SOME_TASKS:
        retire += _ids([m for m in live if not m.busy], retire)
    return replace(decision, end=end, retire=retire)


def _ids(machines: Sequence[Machine], known: Sequence[str]) -> list[str]:
    return [m.machine_id for m in machines if m.machine_id not in known]
