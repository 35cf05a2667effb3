"""Counting of AWS calls and of their cost. Owns the hooks into botocore; not the prices
(`taskfleet.bill`)."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from taskfleet.bill import Spend, price_usd

_SIZED = frozenset({"sqs", "dynamodb"})
"""Services that bill by the size of requests and responses, and whose responses botocore reads at
once."""


class Meter:
    """Counts the requests of the watched clients. Each retry counts as a request, as on the bill.
    Safe for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: Counter[tuple[str, str]] = Counter()
        self._usd = 0.0
        self._sent = threading.local()

    def counts(self) -> dict[tuple[str, str], int]:
        """Returns the numbers of requests by service and operation."""
        with self._lock:
            return dict(self._calls)

    def spend(self) -> Spend:
        """Returns the number and the cost of all requests so far."""
        with self._lock:
            return Spend(sum(self._calls.values()), self._usd)

    def watch(self, client: Any) -> None:
        """Count the requests of a botocore client from now on."""
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
        """Add what the size of the response costs, as for a receive or a read."""
        _, service, operation = event_name.split(".", 2)
        if service not in _SIZED:
            return
        sent = getattr(self._sent, "size", 0)
        counted_usd = price_usd(service, operation, sent, 0)
        usd = price_usd(service, operation, sent, len(http_response.content))
        with self._lock:
            self._usd += usd - counted_usd
