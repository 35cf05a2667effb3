"""Submissions at a steady rate, whatever the answers take, as many independent clients send them.
Owns the pacing and the measuring; it judges nothing.

A latency counts from the moment at which the request was due, so that a slow answer cannot hide the
wait of those behind it.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import requests

from taskfleet.client.transport import new_session

SENDERS = 48
"""Most requests at a time."""
TIMEOUT_S = 40.0
"""Longest wait for an answer, in seconds; API Gateway waits 29."""


@dataclass(frozen=True)
class Answer:
    """What one request got.

    key: the idempotency key of the request.
    status: the HTTP status; 0 for no answer.
    latency_s: seconds from when the request was due to its answer.
    retry_after: the header of that name.
    batch_id: the batch that was accepted.
    """

    key: str
    status: int
    latency_s: float
    retry_after: str | None
    batch_id: str | None


class Door:
    """The API at `url`, for submissions without any retry. Safe for any number of threads."""

    def __init__(self, url: str, token: str, tasks: Sequence[Any]) -> None:
        self._url, self._token, self._tasks = url, token, list(tasks)
        self._local = threading.local()

    def submit(self, key: str, due: float) -> Answer:
        """Submits a batch under this key. `due` is a time of the monotonic clock."""
        session = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = new_session(self._url)
        headers = {"Authorization": f"Bearer {self._token}"}
        body = {"tasks": self._tasks, "idempotency_key": key}
        try:
            found = session.post(
                f"{self._url}/batches", json=body, headers=headers, timeout=TIMEOUT_S
            )
        except requests.RequestException:
            return Answer(key, 0, time.monotonic() - due, None, None)
        batch_id = found.json()["batch_id"] if found.status_code == 202 else None
        retry_after = found.headers.get("Retry-After")
        return Answer(key, found.status_code, time.monotonic() - due, retry_after, batch_id)


def offered(door: Door, name: str, rate: float, seconds: float) -> list[Answer]:
    """Sends `rate` submissions a second for so many seconds, the n-th under the key `<name>-<n>`.
    Returns their answers."""
    began = time.monotonic() + 0.2
    numbers = iter(range(round(rate * seconds)))
    lock = threading.Lock()

    def mine() -> Iterator[int]:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            yield number

    def send(_: int) -> list[Answer]:
        answers = []
        for number in mine():
            due = began + number / rate
            time.sleep(max(0.0, due - time.monotonic()))
            answers.append(door.submit(f"{name}-{number}", due))
        return answers

    with ThreadPoolExecutor(SENDERS) as pool:
        return list(itertools.chain.from_iterable(pool.map(send, range(SENDERS))))


def percentile(answers: Sequence[Answer], share: float) -> float:
    """Returns the latency that this share of the answers does not exceed, in seconds."""
    ordered = sorted(answer.latency_s for answer in answers)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
