"""A cloud in memory for the fuzzers, with kinds whose results are functions of their tasks, and the
judgement at the end: whether every accepted task has exactly its own result. Owns both; not what
is thrown at the cloud (`tests.faults.fuzz_api`, `tests.faults.fuzz_inputs`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from taskfleet.errors import InvalidTask, PermanentError
from taskfleet.options import BatchOptions
from taskfleet.registry import Registry, sleep
from tests.support.frontend import Frontend
from tests.support.worker import thread_kind

CLIENT = "alice"
TASKS = ["sleep 5", {"kind": "double", "params": 21}, "double 4", "fail"]
"""Tasks of kinds that exist."""
ROUNDS = 60
"""Most rounds until all is quiet."""
ROUND_S = 300.0
"""Seconds by which the clock goes on from round to round: no lease or delay is longer."""


def _number(params: Any) -> float:
    try:
        number = float(params)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(2 * number):
        raise InvalidTask(f"double needs a number, not {params!r:.40}")
    return number


def _double(number: float, _context: Any) -> float:
    return 2 * number


def _fail(_params: Any, _context: Any) -> None:
    raise PermanentError("as it should")


def make_cloud() -> Frontend:
    """Returns an API, and the cloud behind it, that knows the kinds of `TASKS`."""
    kinds = [sleep, thread_kind("double", _double, parse=_number), thread_kind("fail", _fail)]
    return Frontend(registry=Registry(kinds), random_bytes=random.Random(1).randbytes)


@dataclass
class Judgement:
    """What became of all batches.

    tasks: results that were looked at.
    lost, doubled, wrong: as for `tests.faults.figures.Figures`.
    faults: descriptions of them.
    """

    tasks: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    faults: list[str] = field(default_factory=list)


def judge(frontend: Frontend, besides: Collection[str] = ()) -> Judgement:
    """Closes all batches, lets the workers come to an end, and judges every batch but `besides`."""
    ids = [batch_id for batch_id in _batches(frontend) if batch_id not in besides]
    for batch_id in ids:
        if frontend.call("GET", f"/batches/{batch_id}").json_body["open"]:
            answer = frontend.call("POST", f"/batches/{batch_id}/close")
            # The file of an upload is being read, and closes its batch by itself.
            assert answer.status_code in (202, 409), answer.body
    _run_all(frontend)
    found = Judgement()
    for batch_id in ids:
        _judge(frontend, batch_id, found)
    return found


def _batches(frontend: Frontend) -> list[str]:
    ids: list[str] = []
    cursor = None
    while True:
        page = frontend.cloud.monitor.batches(CLIENT, limit=100, cursor=cursor)
        ids += [batch.batch_id for batch in page.items]
        cursor = page.cursor
        if cursor is None:
            return ids


def _run_all(frontend: Frontend) -> None:
    cloud = frontend.cloud
    for _ in range(ROUNDS):
        frontend.run()
        queues = (cloud.tasks, cloud.high, cloud.responses, cloud.uploads)
        if not any(each.depth().backlog + each.depth().in_flight for each in queues):
            return
        cloud.clock.sleep(ROUND_S)


def _judge(frontend: Frontend, batch_id: str, found: Judgement) -> None:
    audit = frontend.cloud.audit(frontend.registry, batch_id)
    rows = frontend.cloud.rows(frontend.registry, batch_id)
    options = frontend.cloud.monitor.batch(batch_id).options or BatchOptions()
    indexes = [row.index for row in rows]
    lost = audit.total - len(set(indexes))
    doubled = len(indexes) - len(set(indexes))
    wrong = [row for row in rows if not _is_right(row, options)]
    found.tasks += len(rows)
    found.lost += lost
    found.doubled += doubled
    found.wrong += len(wrong) + (not audit.balanced)
    if lost or doubled or wrong or not audit.balanced:
        found.faults.append(f"batch {batch_id}: {audit} {wrong[:3]}")


def _is_right(row: Any, options: BatchOptions) -> bool:
    kind, params = _read(row.task)
    if options.timeout_s is not None and row.status == "FAILED":
        return "timed out after" in row.error or kind == "fail"
    if row.status == "CANCELLED":
        return row.result is None
    if kind == "double":
        return row.status == "SUCCEEDED" and row.result == 2 * float(params)
    if kind == "fail":
        return row.status == "FAILED" and row.error == "as it should"
    return kind == "sleep" and row.status == "SUCCEEDED" and row.result is None


def _read(task: Any) -> tuple[str, Any]:
    if isinstance(task, str):
        kind, _, params = task.partition(" ")
        return kind, params
    return task["kind"], task.get("params")
