"""The tasks of the soak and what each must return. Owns their mix, which follows from a seed, and
the comparison of a batch's rows with it; no I/O.

Of a thousand tasks some 970 are sleeps, 20 calls of a function and 10 commands; every fourth batch
has a movie. The result of a task is a function of the task, except for a sleep, which returns
nothing: there the row must name the task that was submitted at its place.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from taskfleet.wire import calls
from taskfleet.wire.http.results import ResultView

SLEEPS_MS = (0, 0, 0, 0, 1, 2, 5)
"""Milliseconds of a sleep, one of these."""
PYTHON_SHARE, COMMAND_SHARE = 0.02, 0.01
BATCHES_A_MOVIE = 4
PICTURES = 2
"""Pictures of one movie."""
PICTURE_S = 0.4
"""Seconds of a movie that each of them takes."""
NOTES_MAX = 20
"""Most faults that are told in words; all are counted."""


@dataclass(frozen=True)
class Needs:
    """Ids of what the tasks of a client need in the store.

    function: the function `mixed`, as `taskfleet.wire.calls` stores it.
    picture: a picture for movies.
    """

    function: str
    picture: str


def _by_value() -> Callable[[int], dict[str, int]]:
    """Returns a function that cloudpickle sends along by value, since no module has its name."""

    def mixed(number: int) -> dict[str, int]:
        return {"number": number, "square": number * number % 1_000_003}

    return mixed


mixed = _by_value()
"""The function of the tasks of the kind `python`."""


def tasks_of(seed: str, number: int, count: int, needs: Needs) -> list[Any]:
    """Returns the tasks of a client's batch with this number. `seed` names the run and client."""
    rng = random.Random(f"{seed}/{number}")
    tasks = [_task(rng, needs) for _ in range(count)]
    if number % BATCHES_A_MOVIE == 1:
        images = [f"upload:{needs.picture}"] * PICTURES
        params = {"images": images, "duration": PICTURE_S, "transition": "cut"}
        tasks[rng.randrange(count)] = {"kind": "animoto", "params": params}
    return tasks


def _task(rng: random.Random, needs: Needs) -> Any:
    draw, number = rng.random(), rng.randrange(10**9)
    if draw < PYTHON_SHARE:
        params = calls.params("mixed", needs.function, {"args": [number]})
        return {"kind": "python", "params": params}
    if draw < PYTHON_SHARE + COMMAND_SHARE:
        return f"command echo {number}"
    return f"sleep {rng.choice(SLEEPS_MS)}"


def kind_of(task: Any) -> str:
    """Returns the name of a task's kind."""
    return str(task["kind"]) if isinstance(task, dict) else str(task).partition(" ")[0]


def fault_of(task: Any, row: ResultView, batch_id: str) -> str | None:
    """Returns what is wrong with the row of a task, None if it is the right one."""
    if row.status != "SUCCEEDED":
        return f"{row.status}: {row.error}"
    kind, found = kind_of(task), row.result
    if kind_of(row.task) != kind:
        return f"the row is of the task {row.task!r:.80}"
    if kind == "sleep":
        same = row.task in (task, {"kind": "sleep", "params": int(task.partition(" ")[2])})
        right = same and found is None
    elif kind == "command":
        right = found["exit_status"] == 0 and found["stdout"] == f"{task.rpartition(' ')[2]}\n"
    elif kind == "python":
        right = found == mixed(task["params"]["args"][0])
    else:
        seconds = PICTURES * PICTURE_S
        right = found["key"] == f"movies/{batch_id}/{row.index}.mp4" and found["bytes"] > 0
        right = right and abs(found["duration_s"] - seconds) < 0.1
        right = right and found["pictures"] == PICTURES
    return None if right else f"the row of {row.task!r:.80} has the result {found!r:.200}"


@dataclass
class Verdict:
    """What was found of tasks against the promises. `notes` say it in words."""

    tasks: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    notes: list[str] = field(default_factory=list)

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(
            self.tasks + other.tasks,
            self.lost + other.lost,
            self.doubled + other.doubled,
            self.wrong + other.wrong,
            (self.notes + other.notes)[:NOTES_MAX],
        )

    @property
    def broken(self) -> int:
        """What was lost, doubled or wrong, in all."""
        return self.lost + self.doubled + self.wrong

    def note(self, text: str) -> None:
        """Keep a fault in words."""
        if len(self.notes) < NOTES_MAX:
            self.notes.append(text)


def judged(batch_id: str, tasks: Sequence[Any], rows: Iterable[ResultView]) -> Verdict:
    """Compares the rows of a batch that has ended with its tasks."""
    verdict, seen = Verdict(tasks=len(tasks)), bytearray(len(tasks))
    for row in rows:
        if not 0 <= row.index < len(tasks):
            verdict.wrong += 1
            verdict.note(f"{batch_id} has a row of a task {row.index} that it does not have")
            continue
        if seen[row.index]:
            verdict.doubled += 1
            verdict.note(f"{batch_id}/{row.index} has more than one row")
        seen[row.index] = 1
        fault = fault_of(tasks[row.index], row, batch_id)
        if fault is not None:
            verdict.wrong += 1
            verdict.note(f"{batch_id}/{row.index}: {fault}")
    verdict.lost = seen.count(0)
    if verdict.lost:
        verdict.note(f"{batch_id} has no row of {verdict.lost} tasks, the first {seen.find(0)}")
    return verdict
