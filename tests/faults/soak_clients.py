"""The clients of the soak: each hands in its batches in time, and follows them to their end. Owns
the ways of handing in.

A client uses the project's own `Client`, and goes on through an outage of its API, with the same
idempotency keys. So whatever was accepted is known by its key.
"""

from __future__ import annotations

import io
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from taskfleet.client.body import line
from taskfleet.wire import calls
from tests.faults.follow import LOOK_S, Follower, Stopped
from tests.faults.soak_work import Needs, kind_of, mixed, tasks_of

PENDING_MAX = 6
"""Batches of a client at a time."""
ATTEMPTS = 50
"""Most attempts of a task: it is no fault of a task that its processes are killed."""
PARTS = 4
"""Parts of a batch that is handed in open."""


@dataclass
class SoakClient(Follower):
    """One client. `run` works until all its batches have ended and are judged.

    seed: that of its tasks, and the beginning of its idempotency keys.
    batches, tasks: how many batches it hands in, and how many tasks each has.
    period_s: seconds between two of them.
    picture: the picture of its movies, as a file's bytes.
    kinds: tasks that were accepted so far, by kind.
    error: what ended `run` early, other than the end of the soak.
    """

    seed: str = "soak"
    batches: int = 1
    tasks: int = 1
    period_s: float = 0.0
    picture: bytes = b""
    kinds: Counter[str] = field(default_factory=Counter)
    error: BaseException | None = None

    @property
    def accepted(self) -> int:
        """Tasks that were accepted so far."""
        return self.kinds.total()

    def run(self) -> None:
        """Works in a thread of its own."""
        try:
            self._work()
            self.find_strangers()
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            self.error = error

    def _work(self) -> None:
        needs = Needs(
            self.call(lambda: self.client.put(calls.encode_function(mixed))),
            self.call(lambda: self.client.upload(io.BytesIO(self.picture))),
        )
        began, number = time.monotonic(), 0
        while number < self.batches or self.pending:
            self.clock.sleep(0)
            late_s = time.monotonic() - began - number * self.period_s
            if number < self.batches and late_s >= 0 and len(self.pending) < PENDING_MAX:
                self._hand_in(number, needs)
                number += 1
            elif self.pending:
                self.look()
            else:
                self.clock.sleep(min(LOOK_S, -late_s))

    def _hand_in(self, number: int, needs: Needs) -> None:
        """Hand in a batch: most as one request, every fifth as a file, every fifth in parts."""
        tasks = tasks_of(self.seed, number, self.tasks, needs)
        options: dict[str, Any] = {
            "name": f"soak {number}",
            "idempotency_key": f"{self.seed}/{number}",
            "max_attempts": ATTEMPTS,
            "priority": "high" if number % 7 == 6 else None,
        }
        if number % 5 == 3:
            batch_id = self._open(tasks, options)
        elif number % 5 == 4:
            file = b"".join(line(task, index) + b"\n" for index, task in enumerate(tasks))
            batch_id = self.call(
                lambda: self.client.submit_file(io.BytesIO(file), **options)
            ).batch_id
        else:
            batch_id = self.call(lambda: self.client.submit(tasks, **options)).batch_id
        self.kinds.update(map(kind_of, tasks))
        self.follow(batch_id, tasks)

    def _open(self, tasks: list[Any], options: dict[str, Any]) -> str:
        batch_id = self.call(lambda: self.client.open(**options)).batch_id
        size = -(-len(tasks) // PARTS)
        for first in range(0, len(tasks), size):
            part = tasks[first : first + size]
            self.call(partial(self.client.add, batch_id, first, part))
        self.call(lambda: self.client.close_batch(batch_id))
        return batch_id
