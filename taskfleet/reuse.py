"""Results that serve again: a task of a deterministic kind may take the result that an equal task
of the same client had before. Owns what is kept of such a result and under which key; not when it
is taken and kept (`ec2_worker.reuse`) nor its storage (`taskfleet.ports.TaskMonitor`).
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from taskfleet.task import Task

PREFIX = "reuse/"
"""Prefix of the keys of kept results."""
_encode = msgspec.json.Encoder(order="sorted").encode


class KeptResult(msgspec.Struct, frozen=True, array_like=True):
    """The result of a task that succeeded. In JSON it is an array in the order of the fields.

    task_id: the task.
    result, stored: as in its row (`taskfleet.task.TaskResult`).
    """

    task_id: str
    result: Any = None
    stored: str | None = None


def key(client_id: str, task: Task) -> str:
    """Returns the key of the results of all tasks that equal this one: same client, same kind, same
    canonical params."""
    digest = hashlib.sha256(_encode([client_id, task.kind, task.params])).hexdigest()
    return PREFIX + digest
