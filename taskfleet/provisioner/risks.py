"""Why batches will miss their deadline or their budget, in words for their clients. Owns the
judgement; it is told to clients by `taskfleet.scheduler.risk`. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from taskfleet.provisioner.policy import KindLoad, Observation
from taskfleet.provisioner.supply import (
    SOME_TASKS,
    Goal,
    Reaction,
    boots_s,
    is_alone,
    needed,
    work_s,
)


def risks(
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
        room = min(room, len(boots_s(seen)) + seen.launch_at_most)
    ahead_s = 0.0 if is_alone(seen, others) else sum(work_s(load) for load in others)
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
    need = needed(seen, work_s, goal.due_in_s - goal.mean_s)
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
    boot_s = 0.0 if boots_s(seen) or seen.static_slots else seen.boot_s
    dollars = (goal.work_s / seen.limits.slots + boot_s + reaction.leave_s(goal)) * price
    if dollars <= goal.usd_left:
        return None
    return (
        f"its tasks need about ${dollars:.3g} of machines, with their boot and their end, and "
        f"${max(0.0, goal.usd_left):.3g} of its budget are left"
    )
