"""Plans how a batch is cut into bundles: by the expected seconds of its tasks and the slots of the
fleet. Owns the plan of a batch; the cutting itself is a pure function of `taskfleet.bundle`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from taskfleet.bundle import DEFAULT_SLOTS, UNKNOWN_TASK_S, Plan, cut, depends_on_slots
from taskfleet.pace import Pace, Sample
from taskfleet.ports import TaskMonitor
from taskfleet.quote import TaskGroup, assumed, foretold, learned
from taskfleet.registry import Registry
from taskfleet.task import Task

ASKED_MAX = 100
"""Most names of paces that are looked up for a batch: those of most of its tasks."""


class Planner:
    """Makes plans and cuts batches by them.

    registry: the kinds, with what they say of their tasks' durations.
    monitor: has the durations that were learned.
    least_slots: slots that are assumed in any case, such as those of one machine.
    seen_slots: returns the fleet's slots as last seen, None when nobody looked; called only when
        the batch is large enough for the number to matter.
    """

    def __init__(
        self,
        registry: Registry,
        monitor: TaskMonitor,
        *,
        least_slots: int = DEFAULT_SLOTS,
        seen_slots: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._registry = registry
        self._monitor = monitor
        self._least_slots = least_slots
        self._seen_slots = seen_slots

    def plan(self, tasks: Sequence[Task]) -> Plan:
        """The plan for a batch of exactly these tasks."""
        return self.weigh(tasks)[0]

    def weigh(self, tasks: Sequence[Task]) -> tuple[Plan, list[TaskGroup]]:
        """The plan for a batch of exactly these tasks, and what is known of their durations."""
        known: dict[str, list[float]] = {}  # durations by kind
        unknown = Counter[str]()
        for task, seconds in zip(tasks, self._registry.expected_s(tasks), strict=True):
            if seconds is None:
                unknown[self._registry.pace_name(task)] += 1
            else:
                known.setdefault(task.kind, []).append(seconds)
        paces = self._paces([name for name, _ in unknown.most_common(ASKED_MAX)])
        estimates = self._estimates(paces)
        total_s = sum(map(sum, known.values()))
        total_s += sum(n * estimates.get(kind, UNKNOWN_TASK_S) for kind, n in unknown.items())
        depends = depends_on_slots(total_s, unknown=any(kind not in estimates for kind in unknown))
        plan = Plan(estimates, self._slots() if depends else DEFAULT_SLOTS)
        groups = [
            foretold(kind, Sample(len(each_s), sum(each_s), sum(s * s for s in each_s)))
            for kind, each_s in known.items()
        ]
        groups += [self._group(name, count, paces.get(name)) for name, count in unknown.items()]
        return plan, groups

    def _group(self, name: str, count: int, pace: Pace | None) -> TaskGroup:
        if pace is not None:
            return learned(name, count, pace)
        hint_s = self._registry[name.partition(":")[0]].hint_s
        return assumed(name, count, hint_s)

    def plan_unread(self) -> Plan:
        """The plan for a batch whose tasks have not been read yet, such as that of an upload."""
        return Plan(self._estimates(self._paces(self._registry.names)), self._slots())

    def cut(self, tasks: Sequence[Task], plan: Plan) -> list[list[Task]]:
        """The tasks of each bundle, in order."""
        expected_s = self._registry.expected_s(tasks, plan.estimates)
        return list(cut(tasks, expected_s, slots=plan.slots))

    def _slots(self) -> int:
        # A machine that is launched for a batch gets a minute of its work for each slot, and
        # bundles of two seconds share that out well: only slots that are there already count.
        return max(DEFAULT_SLOTS, self._least_slots, self._seen_slots() or 0)

    def _paces(self, names: Collection[str]) -> dict[str, Pace | None]:
        """Returns the paces under these names, in order; None where nothing was learned."""
        found = self._monitor.paces(sorted(names)) if names else {}
        return {name: found.get(name) for name in sorted(names)}

    def _estimates(self, paces: Mapping[str, Pace | None]) -> dict[str, float]:
        """Expected seconds of one task by the name of its pace: as learned, else as the kind's hint
        says."""
        estimates = {}
        for name, pace in paces.items():
            hint_s = self._registry[name.partition(":")[0]].hint_s
            if pace is not None:
                estimates[name] = pace.cautious_s
            elif hint_s is not None:
                estimates[name] = hint_s
        return estimates
