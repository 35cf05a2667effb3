"""The note of the fleet that the provisioner keeps for whoever submits, and its renewal. Pure.

The note stands in the item of demand, which a submission updates anyway and gets back. So it costs
a submission nothing. A round writes it only if it says something new.
"""

from __future__ import annotations

from taskfleet.pace import ASSUMED_TASK_S
from taskfleet.provisioner.policy import MachineState, Observation
from taskfleet.provisioner.records import FleetState, Noted

NEWS_S = 5.0
"""Seconds of all slots by which the work ahead differs from what the last note lets expect, before
it is noted anew."""
NEWS_SHARE = 0.25
"""The same as a share of that work."""


def work_ahead_s(seen: Observation) -> float:
    """Expected slot-seconds of what waits, and of what runs, which is half done on average."""
    return sum(
        (load.waiting + load.running / 2)
        * (ASSUMED_TASK_S if load.mean_s is None else load.mean_s)
        * load.slots_each
        for load in seen.loads
    )


def ahead_at(ahead_s: float, at: float, ready: float, now: float) -> float:
    """Slot-seconds that are left at `now` of those that were ahead at `at`, if no others came."""
    return max(0.0, ahead_s - ready * max(0.0, now - at))


def is_news(before: FleetState, ahead_s: float, ready: int, now: float) -> bool:
    """Returns whether the work ahead is not what follows from the last note."""
    expected_s = ahead_at(before.ahead_s, before.ahead_at, ready, now)
    enough_s = max(NEWS_S * max(ready, 1), NEWS_SHARE * max(ahead_s, expected_s))
    return abs(ahead_s - expected_s) > enough_s


def ready_slots(state: FleetState, slots: int) -> int:
    """Slots whose worker is there to stay, on machines of `slots` slots each or elsewhere."""
    live = state.groups.get(MachineState.LIVE)
    return state.static_slots + (live.count * slots if live else 0)


def noted_slots(state: FleetState, slots: int) -> int:
    """Slots that are there to stay or on their way."""
    booting = state.groups.get(MachineState.BOOTING)
    return ready_slots(state, slots) + (booting.count * slots if booting else 0)


def note_of(state: FleetState, slots: int) -> Noted:
    """Returns the note of the fleet in this state."""
    booting = state.groups.get(MachineState.BOOTING)
    return Noted(
        state.machines,
        noted_slots(state, slots),
        ready_slots(state, slots),
        state.static_slots,
        state.boot_s,
        round(state.ahead_s, 1),
        state.ahead_at,
        state.limits,
        round(booting.newest_at, 1) if booting else None,
    )
