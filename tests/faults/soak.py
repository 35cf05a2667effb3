"""The soak: many tasks of mixed kinds, while a process is killed at random every few seconds:

    python -m tests.faults.soak [--minutes 15] [--tasks N] [--seed TEXT]

It says every ten seconds where it stands, and at the end what was lost, doubled or wrong, and
whether memory, files and threads of the processes that lived on were flat. Ctrl-C ends it with the
figures so far. The exit code is 1 if anything was found. Owns the course of a run; the tasks are
`tests.faults.soak_work`, the clients `soak_clients`, the processes `soak_crew`.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localcloud.launch import launched
from localcloud.options import HOST, ROOT
from taskfleet.client import Client
from taskfleet.wire import token
from tests.faults.flat import Course, courses
from tests.faults.follow import StopClock
from tests.faults.soak_clients import SoakClient
from tests.faults.soak_crew import Crew, crew
from tests.faults.soak_work import Verdict
from tests.support.ports import free_port
from tests.support.waiting import eventually

TASKS_A_MINUTE = 1_000_000 / 15
LEASE_S = 6.0
"""Lease of a bundle: the tasks of a worker that was killed run again after it."""
SAMPLE_S, SAY_S = 1.0, 10.0
STALL_S = 180.0
"""Seconds without any progress after which what has not ended is lost."""
PICTURE = ROOT / "examples" / "pictures" / "coffee.jpg"


@dataclass(frozen=True)
class Plan:
    """What a run does. A machine that cannot keep up takes longer; the kills go on meanwhile.

    minutes: time over which the tasks are handed in.
    batch: tasks of a batch.
    kill_every_s: seconds between two kills.
    kills: most kills.
    workers: one of them lives on, the others are killed.
    """

    minutes: float = 15.0
    tasks: int = 1_000_000
    batch: int = 2_000
    clients: int = 8
    workers: int = 4
    threads: int = 16
    kill_every_s: float = 5.0
    kills: int = 1_000_000
    seed: str = "soak"


@dataclass
class Outcome:
    """What a run found."""

    seconds: float = 0.0
    accepted: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    kinds: Counter[str] = field(default_factory=Counter)
    killed: Counter[str] = field(default_factory=Counter)
    courses: dict[str, list[Course]] = field(default_factory=dict)
    stopped: bool = False

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One line for each role: its kills, and the courses of the process that lived on, empty
        if it lived too short to be judged."""
        rows = []
        for role in [*self.courses, *(self.killed.keys() - self.courses.keys())]:
            found = {course.name: course for course in self.courses.get(role, [])}
            row: dict[str, Any] = {"process": role, "killed": self.killed[role]}
            for name, title in TITLES.items():
                course = found.get(name)
                row[title] = f"{course.before:.0f} to {course.after:.0f}" if course else ""
            rows.append(row)
        return rows


TITLES = {
    "memory_mb": "memory MB",
    "files": "files",
    "threads": "threads",
    "processes": "processes below",
}
"""Columns of the measures."""


def run(plan: Plan, folder: Path, say: Callable[[str], None]) -> Outcome:
    """Runs a soak in `folder`, and returns what it found. KeyboardInterrupt ends it early, with the
    figures so far."""
    base = environ()
    rng = random.Random(plan.seed)
    outcome = Outcome()
    stop = threading.Event()
    options = ("--workers", "1", "--threads", str(plan.threads), "--no-provisioner")
    with launched(folder / "cloud", *options, environ=base) as cloud:
        theirs = {**base, **cloud.variables}
        port = free_port()
        with crew(
            cloud,
            theirs,
            folder,
            rng,
            api_port=port,
            workers=plan.workers - 1,
            threads=plan.threads,
        ) as processes:
            urls = [cloud.variables["TASKFLEET_URL"], f"http://{HOST}:{port}"]
            with ExitStack() as opened:
                clients = list(_clients(plan, urls, theirs, stop, opened))
                threads = [threading.Thread(target=c.run, name=c.seed) for c in clients]
                began = time.monotonic()
                for thread in threads:
                    thread.start()
                try:
                    _watch(plan, processes, clients, threads, began, say)
                except KeyboardInterrupt:
                    outcome.stopped = True
                    say("stopped; the figures so far:")
                finally:
                    stop.set()
                    for thread in threads:
                        thread.join()
            outcome.seconds = time.monotonic() - began
    _tell(outcome, processes, clients)
    return outcome


def _watch(
    plan: Plan,
    processes: Crew,
    clients: Sequence[SoakClient],
    threads: Sequence[threading.Thread],
    began: float,
    say: Callable[[str], None],
) -> None:
    """Kills and measures until the clients are done, or nothing has moved for `STALL_S`."""
    kill_at, say_at = began + plan.kill_every_s, began + SAY_S
    last, moved_at = (0, 0), began
    while alive := [thread for thread in threads if thread.is_alive()]:
        alive[0].join(SAMPLE_S)
        now = time.monotonic()
        processes.sample()
        if now >= kill_at and processes.killed.total() < plan.kills:
            kill_at = now + plan.kill_every_s
            say(f"{now - began:6.0f} s  {processes.kill()}")
        state = (sum(c.accepted for c in clients), sum(c.verdict.tasks for c in clients))
        if state != last:
            last, moved_at = state, now
        if now >= say_at:
            say_at = now + SAY_S
            say(_standing(now - began, state, clients, processes))
        if now - moved_at > STALL_S:
            say(f"nothing has moved for {STALL_S:g} s")
            return


def _standing(
    seconds: float, state: tuple[int, int], clients: Sequence[SoakClient], processes: Crew
) -> str:
    found = sum((client.verdict for client in clients), Verdict())
    return (
        f"{seconds:6.0f} s  accepted {state[0]:,}, ended and right {state[1] - found.broken:,}, "
        f"lost {found.lost}, doubled {found.doubled}, wrong {found.wrong}; "
        f"{processes.killed.total()} kills"
    )


def _tell(outcome: Outcome, processes: Crew, clients: Sequence[SoakClient]) -> None:
    """Gathers what was found."""
    outcome.killed = processes.killed
    outcome.accepted = sum(client.accepted for client in clients)
    if not outcome.stopped:
        for client in clients:
            client.give_up()
    outcome.verdict = sum((client.verdict for client in clients), Verdict())
    outcome.kinds = sum((client.kinds for client in clients), Counter())
    outcome.courses = {role: courses(found) for role, found in processes.samples.items()}
    faults = [f"{client.seed}: {client.error!r}" for client in clients if client.error is not None]
    faults += [
        f"{role}: {course.name} grew from {course.before:g} to {course.after:g}"
        for role, found in outcome.courses.items()
        for course in found
        if not course.flat
    ]
    faults += processes.surprises
    try:
        eventually(lambda: not processes.left(), what="the processes of tasks have ended")
    except AssertionError as error:
        faults.append(f"{error}; they are {processes.left()}")
    for fault in faults:
        outcome.verdict.wrong += 1
        outcome.verdict.note(fault)


def _clients(
    plan: Plan, urls: Sequence[str], variables: Any, stop: threading.Event, opened: ExitStack
) -> Iterator[SoakClient]:
    """Yields the clients. Each has its own client id, and half of them another API."""
    batches = max(1, round(plan.tasks / plan.batch / plan.clients))
    for number in range(plan.clients):
        name = f"client-{number}"
        bearer = token.make(variables["TASKFLEET_TOKEN_SECRET"], name, 86_400, time.time())
        clock = StopClock(stop)
        client = Client(urls[number % len(urls)], bearer, clock=clock)
        yield SoakClient(
            opened.enter_context(client),
            clock,
            seed=f"{plan.seed}/{name}",
            batches=batches,
            tasks=plan.batch,
            period_s=plan.minutes * 60 / batches,
            picture=PICTURE.read_bytes(),
        )


def environ() -> dict[str, str]:
    """The caller's environment without what changes how Taskfleet behaves, and with a short
    lease."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TASKFLEET_", "AWS_"))}
    return kept | {
        "PYTHONPATH": str(ROOT),
        "TASKFLEET_LEASE_S": f"{LEASE_S:g}",
        "TASKFLEET_RECEIVE_WAIT_S": "1",
        "TASKFLEET_DRAIN_TIMEOUT_S": "10",
        "TASKFLEET_CORES": "1",  # movies at a time of one worker
    }


def main() -> None:
    """Runs the soak of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0, help="how long it lasts (15)")
    parser.add_argument("--tasks", type=int, help="tasks in all (1,000,000 in 15 minutes)")
    parser.add_argument("--seed", help="seed of the tasks and kills, to repeat a run")
    given = parser.parse_args()
    plan = Plan(
        minutes=given.minutes,
        tasks=given.tasks or round(TASKS_A_MINUTE * given.minutes),
        seed=given.seed or secrets.token_hex(4),
    )
    print(f"{plan}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="taskfleet-soak-"))
    try:
        outcome = run(plan, folder, lambda text: print(text, flush=True))
    except KeyboardInterrupt:
        sys.exit("soak: stopped before its clients had begun, or while its processes ended")
    show(outcome)
    if outcome.verdict.broken:
        sys.exit(f"soak: promises were broken; the logs are in {folder}")
    shutil.rmtree(folder)


def show(outcome: Outcome) -> None:
    """Prints what a run found."""
    from bench.report import show as show_table

    found = outcome.verdict
    show_table("Processes", outcome.rows)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in outcome.kinds.most_common())
    for note in found.notes:
        print(note)
    print(
        f"{outcome.seconds:.0f} s: {outcome.accepted:,} tasks accepted ({kinds}), {found.tasks:,} "
        f"ended and compared, {outcome.killed.total()} kills; lost {found.lost}, doubled "
        f"{found.doubled}, wrong {found.wrong}"
    )


if __name__ == "__main__":
    main()
