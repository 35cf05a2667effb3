"""Requests that change something, each at an API that crashes in the midst of it: the client sends
it again, with its key, to the process that was started anew, or to another one while the first is
stopped."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import requests

from tests.faults.crashes.lanes import Matrix, Outcome
from tests.faults.crashes.load import Load, send_file, task
from tests.faults.crashes.points import STOP, Cell, cells
from tests.support.waiting import eventually

Call = Callable[..., requests.Response]
Tasks = list[tuple[str, int]]
TASKS: Tasks = [("square", 7), ("large", 2), ("slow", 5)]
BAD: Tasks = [("bad", 1), ("bad", 2)]


@dataclass(frozen=True)
class Sending:
    """One request, with what it takes to send it.

    tasks: those of the batch that it makes or changes; none for a schedule.
    finish: called with the id of the batch after the request was sent again.
    """

    method: str
    path: str
    body: Any = None
    tasks: Tasks | None = None
    finish: Callable[[str], Any] = lambda _batch_id: None
    cancels: bool = False
    gone: int = 0
    """Status of the same request once more, if it is an error."""


class Requests:
    """Makes the requests, by name, on a load's healthy API."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._failed = ""
        self._lock = threading.Lock()

    NAMES = (
        *("submit", "after", "upload", "open", "part", "close"),
        *("cancel", "retry", "schedule", "unschedule"),
    )

    def make(self, name: str) -> Sending:
        """Returns a new request of this name, after what must go before it."""
        found: Sending = getattr(self, f"_{name}")(uuid.uuid4().hex)
        return found

    def _submit(self, key: str) -> Sending:
        body = {"tasks": [task(*each) for each in TASKS], "idempotency_key": key}
        return Sending("POST", "/batches", body, TASKS)

    def _after(self, key: str) -> Sending:
        tasks = [task(*each) for each in TASKS]
        before = self._call("POST", "/batches", {"tasks": tasks})["batch_id"]
        body = {"tasks": tasks, "after": [before], "idempotency_key": key}
        return Sending("POST", "/batches", body, TASKS)

    def _upload(self, _key: str) -> Sending:
        form = self._call("POST", "/uploads")
        send_file(form, TASKS)
        return Sending("POST", "/batches", {"upload_id": form["upload_id"]}, TASKS)

    def _open(self, key: str) -> Sending:
        def finish(batch_id: str) -> None:
            self._call("POST", f"/batches/{batch_id}/tasks", part(close=True))

        return Sending("POST", "/batches", {"open": True, "idempotency_key": key}, TASKS, finish)

    def _part(self, key: str) -> Sending:
        opened = self._call("POST", "/batches", {"open": True, "idempotency_key": key})["batch_id"]

        def finish(batch_id: str) -> None:
            self._call("POST", f"/batches/{batch_id}/close")

        return Sending("POST", f"/batches/{opened}/tasks", part(), TASKS, finish)

    def _close(self, key: str) -> Sending:
        opened = self._call("POST", "/batches", {"open": True, "idempotency_key": key})["batch_id"]
        self._call("POST", f"/batches/{opened}/tasks", part())
        return Sending("POST", f"/batches/{opened}/close", None, TASKS)

    def _cancel(self, key: str) -> Sending:
        tasks = [*TASKS, *(("slow", number) for number in range(12))]
        body = {"tasks": [task(*each) for each in tasks], "idempotency_key": key}
        batch = self._call("POST", "/batches", body)["batch_id"]
        return Sending("DELETE", f"/batches/{batch}", None, tasks, cancels=True)

    def _retry(self, key: str) -> Sending:
        with self._lock:
            if not self._failed:
                made = self._call("POST", "/batches", {"tasks": [task(*each) for each in BAD]})
                path = f"/batches/{made['batch_id']}"
                eventually(lambda: self._call("GET", path)["finished_at"], 90, "tasks have failed")
                self._failed = path
        return Sending("POST", f"{self._failed}/retry", {"idempotency_key": key}, BAD)

    def _schedule(self, key: str) -> Sending:
        def finish(_batch_id: str) -> None:
            found = [each["name"] for each in self._call("GET", "/schedules")["schedules"]]
            assert found.count(key) == 1, f"{found.count(key)} schedules {key}"
            self._call("DELETE", f"/schedules/{key}")

        body = {"name": key, "cron": "0 0 1 1 *", "tasks": ["sleep 1"]}
        return Sending("POST", "/schedules", body, None, finish)

    def _unschedule(self, key: str) -> Sending:
        body = {"name": key, "cron": "0 0 1 1 *", "tasks": ["sleep 1"]}
        self._call("POST", "/schedules", body)
        return Sending("DELETE", f"/schedules/{key}", gone=404)

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._load.call(method, path, body)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()


def part(**more: Any) -> dict[str, Any]:
    """Returns the first part of an open batch."""
    return {"first": 0, "tasks": [task(*each) for each in TASKS], **more}


@dataclass
class ApiLane:
    """Takes the API process `name` through cells of requests."""

    matrix: Matrix
    load: Load
    requests: Requests
    name: str

    def points(self, request: str) -> Iterator[tuple[str, int]]:
        """Sends a request without a crash. Yields its points, each with its number."""
        sending = self.requests.make(request)
        seen = self.matrix.triggers.seen.setdefault(self.name, [])
        before = len(seen)
        answer = self._send(sending)
        found = list(seen[before:])
        self._finish(request, sending, [answer])
        for place, point in enumerate(found):
            yield point, found[:place].count(point) + 1

    def cells(self, request: str) -> list[Cell]:
        """Returns the crashes of a request."""
        return list(cells("api", self.points(request)))

    def run(self, wanted: list[tuple[str, Cell]]) -> None:
        """Goes through crashes, each in a request of the given name."""
        for request, cell in wanted:
            began = time.monotonic()
            error = self._try(request, cell)
            seconds = time.monotonic() - began
            self.matrix.note(Outcome(cell, error is not None, seconds, error or "", request))

    def _try(self, request: str, cell: Cell) -> str | None:
        """Tries one crash. Returns what went wrong, None if its point was not reached."""
        sending = self.requests.make(request)
        answers: list[requests.Response] = []

        def again() -> None:  # at the healthy API, as a client does that waited in vain
            answers.append(self._send(sending, self.load.call))

        trigger = self.matrix.arm(self.name, cell, again)
        first = self._first(sending)
        if not trigger.fired.is_set():
            self.matrix.triggers.armed.pop(self.name, None)
            assert first is not None, f"{request}: no answer, and no crash"
            self._finish(request, sending, [first])
            return None
        error = self.matrix.heal(self.name, trigger)
        if cell.signal is not STOP:
            answers.append(self._send(sending))
        if first is not None:
            answers.append(first)
        try:
            self._finish(request, sending, answers)
        except AssertionError as wrong:
            return f"{error} {wrong}"
        return error

    def _first(self, sending: Sending) -> requests.Response | None:
        """Sends a request to the process that crashes. Returns its answer, if one comes."""
        try:
            return self._send(sending)
        except requests.ConnectionError:
            return None

    def _send(self, sending: Sending, call: Call | None = None) -> requests.Response:
        call = call or self.call
        return call(sending.method, sending.path, sending.body)

    def call(self, method: str, path: str, body: Any = None) -> requests.Response:
        """Calls the process of this lane."""
        return self.matrix.stage.call(method, path, body, self.name)

    def _finish(self, request: str, sending: Sending, answers: list[requests.Response]) -> None:
        """Compares the answers, and hands the batch to the judge."""
        for answer in answers:
            fits = answer.ok or answer.status_code in (503, sending.gone)
            assert fits, f"{request}: {answer.status_code} {answer.text}"
        # Who repeats a removal that took effect is told that there is nothing to remove.
        good = [each for each in answers if each.ok or each.status_code == sending.gone]
        assert good, f"{request}: no answer but {[each.status_code for each in answers]}"
        if sending.tasks is None:
            sending.finish("")
            return
        ids = {answer.json()["batch_id"] for answer in good}
        assert len(ids) == 1, f"{request}: one request made the batches {ids}"
        (batch_id,) = ids
        sending.finish(batch_id)
        self.load.take(batch_id, f"request {request}", sending.tasks, cancelled=sending.cancels)
