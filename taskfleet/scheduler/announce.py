"""Telling the provisioner that work came: the demand's totals, and a nudge when there is no machine
to take it. Best effort: what is lost here is seen on the queue, only later. Owns what is told."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from taskfleet.errors import TaskfleetError
from taskfleet.log import fields
from taskfleet.ports import FleetRecords, Nudge
from taskfleet.provisioner.records import Demand, KindDemand
from taskfleet.registry import Registry
from taskfleet.task import Task

_log = logging.getLogger(__name__)


class Announcer:
    """`nudge` is None where nobody can be called."""

    def __init__(self, registry: Registry, records: FleetRecords, nudge: Nudge | None) -> None:
        self._registry = registry
        self._records = records
        self._nudge = nudge

    def announce(self, tasks: Sequence[Task], messages: int) -> None:
        """These tasks are on the queue, in so many messages."""
        try:
            machines = self._records.add_demand(Demand(1, messages, self._by_kind(tasks)))
            if self._nudge is not None and not machines:
                self._nudge.nudge()
        except TaskfleetError as error:
            _log.warning(
                "the provisioner was not told of a batch",
                extra=fields("announce_failed", messages=messages, reason=str(error)),
            )

    def _by_kind(self, tasks: Sequence[Task]) -> dict[str, KindDemand]:
        found: dict[str, KindDemand] = {}
        for kind in {task.kind for task in tasks}:
            expected_s = self._registry[kind].expected_s
            of_kind = [task for task in tasks if task.kind == kind]
            known: dict[int, float | None] = {}  # batches repeat the same params many times over
            for task in of_kind:
                if id(task.params) not in known:
                    known[id(task.params)] = expected_s(task.params)
            seconds = [s for task in of_kind if (s := known[id(task.params)]) is not None]
            found[kind] = KindDemand(len(of_kind), len(seconds), sum(seconds))
        return found
