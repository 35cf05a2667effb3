"""The event that a batch has ended, as Amazon EventBridge and Amazon SNS carry it. Owns its form;
not when it is sent (`taskfleet.scheduler.events`).

Source: "Events in Amazon EventBridge", Amazon EventBridge User Guide.
"""

from __future__ import annotations

import msgspec

from taskfleet.wire.http.batches import BatchView

SOURCE = "taskfleet"
"""The `source` of every event."""
BATCH_FINISHED = "Batch finished"
"""The `detail-type` of the event that a batch has ended."""


class FinishedBatch(BatchView, frozen=True, kw_only=True):
    """A batch that has ended: the fields of its status, its client, and its stage, since the stages
    of an account share a bus."""

    client_id: str
    stage: str


class Event(msgspec.Struct, frozen=True, rename={"detail_type": "detail-type"}):
    """An event as a message of a topic, with the names of EventBridge, so that one program can read
    both."""

    detail: FinishedBatch
    source: str = SOURCE
    detail_type: str = BATCH_FINISHED
