"""Task kinds of the benchmark of stragglers: load them with `--kinds bench.straggler_kinds`. Params
are the milliseconds of a task. In a worker, the slot that runs the first task of a kind is slowed
tenfold for that kind from then on, but for the kind `even`."""

from __future__ import annotations

import threading
from typing import Any

from taskfleet.registry import TaskContext, TaskKind

SLOWED = 10.0
_slow_slots: dict[str, int] = {}


def _kind(name: str, *, slowed: bool, hedge: bool) -> TaskKind:
    def run(params: Any, context: TaskContext) -> None:
        here = threading.get_ident()
        slow = slowed and _slow_slots.setdefault(name, here) == here
        context.sleep(float(params) / 1000 * (SLOWED if slow else 1.0))

    return TaskKind(name, run, runs_in="thread", hedge=hedge)


even = _kind("even", slowed=False, hedge=False)
plain = _kind("plain", slowed=True, hedge=False)
hedged = _kind("hedged", slowed=True, hedge=True)
