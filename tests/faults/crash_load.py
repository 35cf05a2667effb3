"""The work of the crash matrix and its judge: batches of every form whose results are known, the
runs of their tasks counted on disk, and what contradicts the promises."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.support.waiting import eventually

MODULE = "crash_kinds"
SOURCE = '''
"""Kinds whose result follows from their params, and which note each run in a file."""
import pathlib
import time
from taskfleet.errors import PermanentError, TransientError
from taskfleet.registry import task_kind
from taskfleet.retry import RetryPolicy

RUNS = pathlib.Path({runs!r})

def note(context):
    with (RUNS / f"{{context.batch_id}}-{{context.index}}").open("a") as file:
        file.write(".")

@task_kind("square", runs_in="thread", expected_s=lambda params: 0.02)
def square(params, context):
    note(context)
    return params * params

@task_kind("slow", runs_in="thread", expected_s=lambda params: 1.4)
def slow(params, context):
    note(context)
    context.sleep(1.4)  # longer than a heartbeat
    return -params

@task_kind("large", runs_in="thread", expected_s=lambda params: 0.02)
def large(params, context):
    note(context)
    return str(params % 10) * 400_000  # an object of its own

@task_kind("flaky", runs_in="thread", expected_s=lambda params: 0.02)
def flaky(params, context):
    note(context)
    if context.attempt == 1:
        raise TransientError("not yet")
    return params + 1

@task_kind("bad", runs_in="thread", expected_s=lambda params: 0.02)
def bad(params, context):
    note(context)
    raise PermanentError(f"bad {{params}}")

@task_kind("hopeless", runs_in="thread", retry=RetryPolicy(max_attempts=1),
           expected_s=lambda params: 0.02)
def hopeless(params, context):
    note(context)
    raise TransientError("never")

@task_kind("prints", expected_s=lambda params: 0.02)
def prints(params, context):
    note(context)
    print("printed", params)
    return params
'''
RESULTS: dict[str, Callable[[int], tuple[str, Any]]] = {
    "square": lambda n: ("SUCCEEDED", n * n),
    "slow": lambda n: ("SUCCEEDED", -n),
    "large": lambda n: ("SUCCEEDED", str(n % 10) * 400_000),
    "flaky": lambda n: ("SUCCEEDED", n + 1),
    "bad": lambda n: ("FAILED", None),
    "hopeless": lambda n: ("FAILED", None),
    "prints": lambda n: ("SUCCEEDED", n),
}
MAX_ATTEMPTS = 50
"""So many that no task fails for the crashes of its workers alone."""


def task(kind: str, number: int) -> dict[str, Any]:
    """Returns a task as a client submits it."""
    named: dict[str, Any] = {"kind": kind, "params": number}
    return named if kind == "hopeless" else {**named, "max_attempts": MAX_ATTEMPTS}


@dataclass(frozen=True)
class Given:
    """A batch that was accepted.

    about: what submitted it, for messages.
    tasks: its tasks, by index, as (kind, number).
    at: when it was submitted.
    cancelled: whether its tasks may be cancelled.
    """

    batch_id: str
    about: str
    tasks: Sequence[tuple[str, int]]
    at: float
    cancelled: bool = False


@dataclass
class Found:
    """What contradicts the promises, in words."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lost or self.doubled or self.wrong)


@dataclass
class Judge:
    """Judges batches.

    call: calls a healthy API with method and path.
    runs: folder in which tasks note their runs.
    logs: folder of the logs of workers. A worker that lost its lease says so.
    crashes: returns the crashes of workers since a time; each may make a task run once more.
    """

    call: Callable[..., requests.Response]
    runs: Path
    logs: Path
    crashes: Callable[[float], int]

    def judge(self, given: Given) -> Found:
        """Waits for the end of a batch, and returns what is wrong with it."""
        found = Found()
        path = f"/batches/{given.batch_id}"
        name = f"{given.about}, batch {given.batch_id}"
        ends = ("DONE", "CANCELLED") if given.cancelled else ("DONE",)

        def ended() -> Any:
            view = self.call("GET", f"{path}?wait=5").json()
            return view if view["finished_at"] else None

        try:
            view = eventually(ended, 90, f"{name} ends")
        except AssertionError as error:
            view = self.call("GET", path).json()
            found.lost += [f"{name}: {error}: {view}"]
            return found
        if view["status"] not in ends:
            found.wrong.append(f"{name}: is {view['status']}: {view}")
        rows = self.call("GET", f"{path}/results?limit=1000").json()["results"]
        indexes = Counter(row["index"] for row in rows)
        found.lost += [f"{name}: task {i}" for i in range(len(given.tasks)) if not indexes[i]]
        found.doubled += [f"{name}: task {i}, {n} rows" for i, n in indexes.items() if n > 1]
        for row in rows:
            found.wrong += self._row(given, name, row)
        receipt = self.call("GET", f"{path}/audit").json()
        if not receipt["balanced"] or receipt["total"] != len(given.tasks):
            found.wrong.append(f"{name}: the audit says {receipt}")
        return found

    def _row(self, given: Given, name: str, row: dict[str, Any]) -> list[str]:
        """Returns what is wrong with one result."""
        index = row["index"]
        if not 0 <= index < len(given.tasks):
            return [f"{name}: a result of task {index}, which it does not have"]
        kind, number = given.tasks[index]
        got = (row["status"], row["result"])
        if got != RESULTS[kind](number) and not (given.cancelled and got == ("CANCELLED", None)):
            return [f"{name}: task {index}, {kind} {number}: {str(row)[:300]}"]
        file = self.runs / f"{given.batch_id}-{index}"
        runs = len(file.read_text()) if file.exists() else 0
        least = 0 if row["status"] == "CANCELLED" else 1
        if kind == "hopeless":  # it may have been charged before it noted its run
            least = 0
        most = 1 + (kind == "flaky") + self.crashes(given.at)
        if runs > most:  # a slow machine may have cost a worker its lease
            most += self._lost_leases(given.batch_id)
        if not least <= runs <= most:
            return [f"{name}: task {index}, {kind} {number}: ran {runs} times, {least} to {most}"]
        return []

    def _lost_leases(self, batch_id: str) -> int:
        """Returns how often a worker said that it lost the lease of a bundle of the batch."""
        logs = [log.read_text() for log in self.logs.glob("worker*.log")]
        lines = [line for log in logs for line in log.splitlines() if batch_id in line]
        return sum(1 for line in lines if '"lease_lost"' in line)


@dataclass
class Load:
    """Submits batches of all forms through a healthy API.

    given: those that were accepted.
    """

    call: Callable[..., requests.Response]
    rng: random.Random
    rich: bool
    given: list[Given] = field(default_factory=list)

    def tasks(self) -> list[tuple[str, int]]:
        """Returns tasks of a batch. A rich load has every kind."""
        number = self.rng.randrange(1, 1000)
        found = [("square", number + n) for n in range(8)]
        found += [("slow", number), ("large", number), ("hopeless", number)]
        if self.rich:
            found += [("flaky", number), ("bad", number)]
            found += [("prints", number)] if self.rng.random() < 0.4 else []
        return found

    def accept(
        self, answer: requests.Response, about: str, tasks: Sequence[tuple[str, int]], **more: bool
    ) -> Given:
        """Takes in a batch that the API accepted."""
        assert answer.status_code == 202, f"{about}: {answer.status_code} {answer.text}"
        return self.take(answer.json()["batch_id"], about, tasks, **more)

    def take(
        self, batch_id: str, about: str, tasks: Sequence[tuple[str, int]], **more: bool
    ) -> Given:
        """Takes in a batch for the judge."""
        made = Given(batch_id, about, tasks, time.monotonic(), **more)
        self.given.append(made)
        return made

    def batch(self, **options: Any) -> Given:
        """Submits a batch in one request."""
        tasks = self.tasks()
        body = {"tasks": [task(*each) for each in tasks], **options}
        return self.accept(self.call("POST", "/batches", body), "a batch", tasks)

    def chain(self) -> None:
        """Submits a batch, one that waits for it, and one that is cancelled with the first."""
        first = [("square", 3), ("slow", 3)]
        body = {"tasks": [task(*each) for each in first]}
        before = self.accept(self.call("POST", "/batches", body), "a batch before", first)
        then = [("square", 4), ("square", 5)]
        body = {"tasks": [task(*each) for each in then], "after": [before.batch_id]}
        self.accept(self.call("POST", "/batches", body), "a batch after another", then)

    def upload(self) -> Given:
        """Submits a file."""
        tasks = self.tasks()
        form = self.call("POST", "/uploads").json()
        send_file(form, tasks)
        body = {"upload_id": form["upload_id"]}
        return self.accept(self.call("POST", "/batches", body), "an upload", tasks)


def send_file(form: dict[str, Any], tasks: Sequence[tuple[str, int]]) -> None:
    """Sends a file of tasks by the form of `POST /uploads`."""
    import msgspec

    lines = b"".join(msgspec.json.encode(task(*each)) + b"\n" for each in tasks)
    files = {"file": lines}
    requests.post(form["url"], data=form["fields"], files=files, timeout=30).raise_for_status()
