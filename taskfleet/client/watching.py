"""The client's calls for those who watch: what a page or a chart asks for. Owns the calls; not the
shapes of the answers (`taskfleet.wire.http`) nor HTTP (`taskfleet.client.transport`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from taskfleet.client.body import pack
from taskfleet.client.growing import batch_path
from taskfleet.client.transport import Transport
from taskfleet.errors import InvalidTask
from taskfleet.wire.http.batches import AuditView, QuoteView
from taskfleet.wire.http.caps import BODY_MAX_BYTES, MAX_TASKS
from taskfleet.wire.http.fleet import FleetHistory, FleetPoint
from taskfleet.wire.http.letters import LETTERS_MAX, LetterList, LetterView, QueueName, Redriven
from taskfleet.wire.http.results import StreamPage
from taskfleet.wire.http.service import Me


class Watching:
    """The calls for watching batches and the stage."""

    _http: Transport

    def me(self) -> Me:
        """Returns whom the token names, its role (`reader` or `writer`) and when it expires."""
        return self._http.call("GET", "/me", Me)

    def fleet_history(self, minutes: int = 60) -> list[FleetPoint]:
        """Returns how the fleet stood in the last so many minutes (1 to 1,440), oldest first: about
        one point a minute, and none while there was nothing to do and no machine."""
        params = {"minutes": str(minutes)}
        return self._http.call("GET", "/fleet/history", FleetHistory, params=params).points

    def dead_letters(
        self, queue: QueueName = "tasks", limit: int = LETTERS_MAX
    ) -> list[LetterView]:
        """Returns up to `limit` dead letters (at most 100) of a queue, with their reasons: your
        own, and, without their text, those that name no client.

        queue: `tasks` for bundles of tasks, `responses` for results that were not counted,
            `uploads` for files that were not read.
        """
        params = {"queue": queue, "limit": str(limit)}
        return self._http.call("GET", "/dead-letters", LetterList, params=params).letters

    def redrive(self, queue: QueueName = "tasks") -> int:
        """Move the dead letters of a queue that `dead_letters` shows back to it, out of up to 500.
        Returns how many. A task that has its result does not run again."""
        body = msgspec.json.encode({"queue": queue})
        return self._http.call("POST", "/dead-letters/redrive", Redriven, body=body).moved

    def quote(self, tasks: Iterable[str | dict[str, Any]]) -> QuoteView:
        """Returns how long a batch of these tasks would take and what it would cost, and on what
        that rests. Nothing is submitted. `tasks` are those of `submit`.

        Raises ApiError or InvalidTask, which name a faulty task by its place in `tasks`, and
        InvalidTask for tasks that are too much for one request.
        """
        if isinstance(tasks, str | bytes | Mapping):
            raise TypeError(f"tasks must be a list of tasks, not one {type(tasks).__name__}")
        packed = pack(tasks, name=None, idempotency_key="quote")
        if not isinstance(packed, bytes):
            packed.close()
            raise InvalidTask(
                f"these tasks are too much for one request, which takes {MAX_TASKS} tasks and "
                f"{BODY_MAX_BYTES} bytes; quote a part of them"
            )
        return self._http.call("POST", "/quote", QuoteView, body=packed)

    def audit(self, batch_id: str) -> AuditView:
        """Returns the receipt of the batch: whether every task has exactly one result, and a digest
        of all results. Raises ApiError with the status 413 for a batch of very many bundles."""
        return self._http.call("GET", f"{batch_path(batch_id)}/audit", AuditView)

    def stream(self, batch_id: str, cursor: str | None = None) -> StreamPage:
        """Returns which tasks of the batch have ended since `cursor`, in the order of their ends,
        in a compact form for charts of very many tasks. It holds up to 20,000 of them, or none
        while nothing is new.

        cursor: that of the answer before; None to begin with the first task. The answer's own is
            None once no task can join the batch and all of its tasks were given.
        """
        params = {} if cursor is None else {"cursor": cursor}
        return self._http.call("GET", f"{batch_path(batch_id)}/stream", StreamPage, params=params)
