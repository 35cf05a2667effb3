"""Records a batch under its id. Owns the rule that one id stands for one payload."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from taskfleet.batch import BatchRecord
from taskfleet.errors import Conflict
from taskfleet.options import BatchOptions
from taskfleet.ports import TaskMonitor


def record_once(monitor: TaskMonitor, wanted: BatchRecord) -> BatchRecord:
    """Record the batch unless its id is taken. Returns the batch as it stands in the table.

    Raises Conflict when the id belongs to a batch with another payload.
    """
    earlier = monitor.create_batch(wanted)
    if earlier is None:
        return wanted
    if earlier.payload_hash != wanted.payload_hash:
        raise Conflict(
            "this idempotency_key was used before for another payload; choose a new key, or send "
            "the same payload again"
        )
    return earlier


def payload_hash(name: str | None, payload: Any, options: BatchOptions | None = None) -> str:
    """Returns a hash of the name, the payload and the options that does not depend on the order of
    keys. Without options it is that of earlier versions, so that their batches are found."""
    hashed = [name, payload] if options is None else [name, payload, options]
    return hashlib.sha256(msgspec.json.encode(hashed, order="sorted")).hexdigest()
