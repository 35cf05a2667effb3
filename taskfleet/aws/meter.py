"""Counting the calls that a process makes, and what they cost. Owns the hooks into botocore; the
prices are `taskfleet.bill`'s."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from taskfleet.bill import Spend, price_usd

_SIZED = frozenset({"sqs", "dynamodb"})
"""Services that bill by size, and whose answers are read whole."""


class Meter:
    """Counts requests by (service, operation) as they leave: every retry is one more, as on the
    bill. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: Counter[tuple[str, str]] = Counter()
        self._usd = 0.0
        self._sent = threading.local()

    def counts(self) -> dict[tuple[str, str], int]:
        with self._lock:
            return dict(self._calls)

    def spend(self) -> Spend:
        """All calls so far."""
        with self._lock:
            return Spend(sum(self._calls.values()), self._usd)

    def watch(self, client: Any) -> None:
        client.meta.events.register("before-send", self._on_send)
        client.meta.events.register("after-call", self._on_answer)

    def _on_send(self, event_name: str, request: Any, **_kwargs: Any) -> None:
        _, service, operation = event_name.split(".", 2)
        length = request.headers.get("Content-Length")
        size = self._sent.size = int(length) if length else 0
        usd = price_usd(service, operation, size, 0)
        with self._lock:
            self._calls[service, operation] += 1
            self._usd += usd

    def _on_answer(self, event_name: str, http_response: Any, **_kwargs: Any) -> None:
        """An answer may be what makes a call expensive: a receive, a read."""
        _, service, operation = event_name.split(".", 2)
        if service not in _SIZED:
            return
        sent = getattr(self._sent, "size", 0)
        answered = price_usd(service, operation, sent, len(http_response.content))
        with self._lock:
            self._usd += answered - price_usd(service, operation, sent, 0)
