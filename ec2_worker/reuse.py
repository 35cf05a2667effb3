"""Takes the results of earlier, equal tasks for tasks that ask for it, and keeps the results of
such tasks for later ones. Owns both steps; what is kept is a matter of `taskfleet.reuse`.

A result is kept only after the bundle is committed, so what a later task takes is what the table
says of the earlier one. Trouble with either step costs the reuse and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from taskfleet import spill
from taskfleet.bundle import Bundle
from taskfleet.errors import PermanentError, TaskfleetError
from taskfleet.log import fields
from taskfleet.ports import Clock, ObjectStore, TaskMonitor
from taskfleet.registry import Registry
from taskfleet.reuse import KeptResult, key
from taskfleet.task import Task, TaskResult, TaskStatus, task_id

_log = logging.getLogger(__name__)


class Reuse:
    """Both steps, on the worker's ports."""

    def __init__(
        self,
        monitor: TaskMonitor,
        store: ObjectStore,
        registry: Registry,
        clock: Clock,
        worker_id: str,
    ) -> None:
        self._monitor = monitor
        self._store = store
        self._registry = registry
        self._clock = clock
        self._worker_id = worker_id

    def take(self, bundle: Bundle, tasks: Sequence[Task]) -> list[TaskResult]:
        """Returns the rows of those tasks that take an earlier result."""
        asking = self._asking(bundle, tasks)
        keys = {task.index: key(bundle.client_id, task) for task in asking}
        if not keys:
            return []
        try:
            kept = self._monitor.kept_results(list(dict.fromkeys(keys.values())))
            found = {index: kept[each] for index, each in keys.items() if each in kept}
            return [
                TaskResult(
                    index,
                    TaskStatus.SUCCEEDED,
                    each.result,
                    started_at=round(self._clock.now(), 3),
                    duration_s=0.0,
                    worker_id=self._worker_id,
                    stored=each.stored,
                    reused_from=each.task_id,
                )
                for index, each in found.items()
                if self._lasts(each)
            ]
        except TaskfleetError as error:
            _log.warning(
                "earlier results could not be read; the tasks run",
                extra=fields("reuse_failed", job_id=bundle.job_id, reason=str(error)),
            )
            return []

    def keep(self, bundle: Bundle, rows: Sequence[TaskResult]) -> None:
        """Keep the results that tasks of a committed bundle had themselves. `rows` are in the order
        of its tasks."""
        asking = self._asking(bundle, bundle.tasks)
        made = {
            row.index: row
            for row in (rows if asking else ())
            if row.status is TaskStatus.SUCCEEDED and row.reused_from is None
        }
        try:
            for task in asking:
                if (row := made.get(task.index)) is not None:
                    name = task_id(bundle.batch_id, task.index)
                    kept = KeptResult(name, row.result, row.stored)
                    self._monitor.keep_result(key(bundle.client_id, task), kept)
        except TaskfleetError as error:
            _log.warning(
                "results were not kept for later tasks",
                extra=fields("reuse_failed", job_id=bundle.job_id, reason=str(error)),
            )

    def _asking(self, bundle: Bundle, tasks: Sequence[Task]) -> list[Task]:
        """Returns those of the tasks that may take a result and leave their own."""
        options, registry = bundle.options, self._registry
        return [
            task
            for task in tasks
            if (options or task.options) and registry[task.kind].reuses(options, task.options)
        ]

    def _lasts(self, kept: KeptResult) -> bool:
        """Returns whether the result can be read for as long as that of a task that ran now. A
        stored one is stored again, since the bucket deletes objects by their age."""
        if kept.stored is None:
            return True
        try:
            data = spill.get(self._store, kept.stored, f"the result of task {kept.task_id}")
        except PermanentError:
            return False
        return spill.put(self._store, data) == kept.stored
