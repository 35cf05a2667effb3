"""A trial of a stage that runs: a batch of sleeps and a movie, through machines that come and go.
Owns the work and what must come of it; `infra.smoke` owns where, and what it may cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import requests

from taskfleet.client import Client
from taskfleet.client.client import NotFinished
from taskfleet.errors import TaskfleetError
from taskfleet.ports import Clock, QueueDepth
from taskfleet.provisioner.ports import Fleet
from taskfleet.provisioner.records import Instance, InstanceState
from taskfleet.task import TaskStatus
from taskfleet.wire.http.batches import BatchView
from taskfleet.wire.http.results import ResultView

SLEEPS = [f"sleep {ms}" for ms in range(100)]
"""Tasks of the first batch: 100 that differ, about five seconds of work."""
PICTURES = ("astronaut.jpg", "chelsea.jpg", "coffee.jpg")
"""Files in the checkout's `examples/pictures` that make the movie."""
GONE_MARGIN_S = 120.0
"""Seconds beyond the idle time in which a machine must be gone: to shut down, and to be seen."""
POLL_S = 1.0
"""Seconds between two looks at the machines."""
FETCH_TIMEOUT_S = 30.0
"""Longest silence while the movie is fetched, in seconds."""


class TrialFailed(Exception):
    """Something did not come as it must. The message says what."""


@dataclass
class Seen:
    """The machines that a trial has seen, by id. `gone_at` has the epoch seconds of the first look
    at which a machine was gone."""

    machines: dict[str, Instance] = field(default_factory=dict)
    gone_at: dict[str, float] = field(default_factory=dict)

    def look(self, there: Sequence[Instance], now: float) -> None:
        """Takes note of the machines that are there now."""
        alive = {one.instance_id: one for one in there if one.state is not InstanceState.ENDING}
        self.machines |= alive
        for name in set(self.machines) - set(alive):
            self.gone_at.setdefault(name, now)

    @property
    def left(self) -> list[str]:
        """Ids of the machines that are not gone."""
        return sorted(set(self.machines) - set(self.gone_at))

    def seconds(self, now: float) -> float:
        """Returns the seconds of all machines together."""
        return sum(
            self.gone_at.get(name, now) - machine.launched_at
            for name, machine in self.machines.items()
        )


@dataclass
class Trial:
    """One trial. `run` raises TrialFailed.

    dead_letters: the queues of the stage that must stay empty.
    pictures: folder with `PICTURES`.
    idle_s: seconds without work after which a machine leaves.
    deadline: epoch seconds after which nothing is waited for.
    say: called with a line for each step, with its seconds.
    """

    client: Client
    fleet: Fleet
    dead_letters: Sequence[Callable[[], QueueDepth]]
    pictures: Path
    idle_s: float
    deadline: float
    clock: Clock
    say: Callable[[str], None]
    seen: Seen = field(default_factory=Seen)
    calls_usd: float = 0.0

    def run(self) -> None:
        """Runs the trial to its end. Raises TrialFailed."""
        with self._step(f"a batch of {len(SLEEPS)} tasks, from nothing to its results"):
            self._batch(SLEEPS)
        with self._step(f"a movie of {len(PICTURES)} pictures"):
            (row,) = self._batch([self._movie()])
            self._fetch(row.result)
        with self._step("no dead letters"):
            waiting = sum(d.backlog + d.in_flight for d in (look() for look in self.dead_letters))
            if waiting:
                _fail(f"{waiting} messages became dead letters: taskfleet redrive --list")
        with self._step("machines leave when they are idle"):
            self._wait_until_gone()

    @contextmanager
    def _step(self, what: str) -> Iterator[None]:
        began = self.clock.now()
        try:
            yield
        except (TaskfleetError, requests.RequestException) as error:
            raise TrialFailed(f"{what}: {error}") from error
        self.say(f"{self.clock.now() - began:6.1f} s  {what}")

    def _batch(self, tasks: list[Any]) -> list[ResultView]:
        """Runs the tasks as a batch, and returns their results, exactly one for each."""
        accepted = self.client.submit(tasks, name="smoke")
        left_s = max(0.0, self.deadline - self.clock.now())
        try:
            batch = self.client.wait(accepted.batch_id, left_s, self._look)
        except NotFinished as error:
            why = self.client.fleet().why or "see taskfleet fleet"
            raise TrialFailed(f"{error}, the time that is left: {why}") from error
        self.calls_usd += batch.cost_usd
        rows = list(self.client.results(batch.batch_id))
        if [row.index for row in rows] != list(range(len(tasks))):
            _fail(f"{len(tasks)} tasks have the results {[row.index for row in rows]}")
        for row, task in zip(rows, tasks, strict=True):
            if row.status is not TaskStatus.SUCCEEDED:
                _fail(f"task {row.index} is {row.status}: {row.error}")
            if isinstance(task, str) and row.task != task:
                _fail(f"task {row.index} was {task!r} and is told as {row.task!r}")
        return rows

    def _look(self, _batch: BatchView | None = None) -> None:
        self.seen.look(self.fleet.instances(), self.clock.now())

    def _movie(self) -> dict[str, Any]:
        """Returns a task that makes a movie of uploaded pictures."""
        images = []
        for name in PICTURES:
            with (self.pictures / name).open("rb") as file:
                images.append({"url": f"upload:{self.client.upload(file)}"})
        return {"kind": "animoto", "params": {"images": images, "duration": 1}}

    def _fetch(self, result: Any) -> None:
        """Fetches the movie, and looks whether it is one: an MP4 file has its mark there."""
        answer = requests.get(result["url"], timeout=FETCH_TIMEOUT_S)
        answer.raise_for_status()
        if answer.content[4:8] != b"ftyp" or len(answer.content) != result["bytes"]:
            _fail(f"the movie has {len(answer.content)} bytes and is no MP4 file as promised")

    def _wait_until_gone(self) -> None:
        patience_s = self.idle_s + GONE_MARGIN_S
        until = min(self.deadline, self.clock.now() + patience_s)
        self._look()
        if not self.seen.machines:
            _fail("the tasks ran, but no machine of the stage was ever seen")
        while self.seen.left:
            if self.clock.now() >= until:
                _fail(f"{', '.join(self.seen.left)} still run after {patience_s:.0f} idle seconds")
            self.clock.sleep(POLL_S)
            self._look()


def _fail(why: str) -> NoReturn:
    raise TrialFailed(why)
