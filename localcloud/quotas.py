"""Quotas of AWS that the local cloud can be given, mostly low ones, to see how Taskfleet behaves at
them. Owns their names, their reading and the counting; what is answered at a quota belongs to
whoever plays the service.

Without `--quota` the local cloud has none of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

VARIABLE = "LOCALCLOUD_QUOTAS"
"""Environment variable by which the parts of the local cloud get the quotas, such as
`api_rate=20,table_writes=100`."""


@dataclass(frozen=True)
class Quotas:
    """The quotas of one local cloud; None for no quota.

    api_rate: calls of the API a second ("Throttle requests", Amazon API Gateway Developer Guide).
    lambda_concurrency: function calls at a time ("Understanding Lambda function scaling", AWS
        Lambda Developer Guide). The API's calls and those of all event sources count apart.
    messages_in_flight: messages of a queue that are received and not deleted ("Amazon SQS message
        quotas", Amazon SQS Developer Guide); 120,000 on AWS.
    table_writes: write units of a table a second ("On-demand capacity mode", Amazon DynamoDB
        Developer Guide).
    """

    api_rate: int | None = None
    lambda_concurrency: int | None = None
    messages_in_flight: int | None = None
    table_writes: int | None = None


NO_QUOTAS = Quotas()
"""No quota at all."""
NAMES = tuple(field.name for field in fields(Quotas))
"""Names of all quotas."""


def read(given: Iterable[str]) -> Quotas:
    """Returns the quotas of texts such as `api_rate=20`. Raises ValueError, which says what to
    write instead."""
    found: dict[str, int] = {}
    for text in filter(None, given):
        name, _, value = text.partition("=")
        if name not in NAMES or not (value.isascii() and value.isdigit()):
            raise ValueError(
                f"quota {text!r:.60} is not NAME=N with a whole number N and a name of "
                f"{', '.join(NAMES)}"
            )
        found[name] = int(value)
    return Quotas(**found)


def of_environment(environ: Mapping[str, str]) -> Quotas:
    """Returns the quotas of the variable `VARIABLE`. Raises ValueError."""
    return read(environ.get(VARIABLE, "").split(","))


class Rate:
    """A token bucket: `per_s` tokens a second, and no more than these at once. None for `per_s`
    gives any number. Safe for any number of threads.

    now: returns the time in seconds.
    """

    def __init__(self, per_s: int | None, now: Callable[[], float]) -> None:
        self._per_s = per_s
        self._now = now
        self._tokens = float(per_s or 0)
        self._counted_at = now()
        self._lock = threading.Lock()

    def take(self, tokens: int = 1) -> bool:
        """Takes so many tokens if the bucket is not empty, and returns whether it did. A request of
        many tokens may overdraw it; those after it wait for longer then."""
        if self._per_s is None:
            return True
        with self._lock:
            now = self._now()
            gained = (now - self._counted_at) * self._per_s
            self._tokens = min(float(self._per_s), self._tokens + gained)
            self._counted_at = now
            if self._tokens < 1:
                return False
            self._tokens -= tokens
            return True


class Slots:
    """A number of places at a time; None for `count` gives any number. Safe for any number of
    threads."""

    def __init__(self, count: int | None) -> None:
        self._places = None if count is None else threading.Semaphore(count)

    def take(self, *, wait: bool = False) -> bool:
        """Takes a place. Returns False when there is none, unless it is to `wait` for one."""
        return self._places is None or self._places.acquire(blocking=wait)

    def leave(self) -> None:
        """Gives the place back."""
        if self._places is not None:
            self._places.release()

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns `function` as one that takes a place for each call, and waits for it."""

        def call(*arguments: Any) -> Any:
            self.take(wait=True)
            try:
                return function(*arguments)
            finally:
                self.leave()

        return call
