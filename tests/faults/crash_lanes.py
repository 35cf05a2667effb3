"""Lanes of the crash matrix: each keeps one process of a stage, and takes it through its cells.
Owns what a crash does to a process, and that it starts again, as systemd and Lambda see to."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.faults.crash_points import KILL, STOP, Cell, Trigger, Triggers
from tests.support.stage import LEASE_S, Stage
from tests.support.waiting import eventually

_log = logging.getLogger(__name__)

STOPPED_S = 2 * LEASE_S + 1.0
"""Seconds for which a process is stopped: past two leases."""
VISIBILITY = {"LOCALCLOUD_VISIBILITY_S": "3"}
WORKER = {"TASKFLEET_DRAIN_TIMEOUT_S": "1", "TASKFLEET_BEAT_S": "1"}
ENVIRON: dict[str, dict[str, str]] = {
    "worker": WORKER,
    "api": {},
    "collector": VISIBILITY,
    "reader": VISIBILITY,
    "provisioner": {"TASKFLEET_LOOK_S": "1"},
}
"""Settings of processes by their role: short times."""


@dataclass
class Outcome:
    """What became of a cell.

    fired: whether its point was reached.
    error: what went wrong with the process, if anything.
    during: the request or the work in which it took place, where that is a choice.
    """

    cell: Cell
    fired: bool
    seconds: float
    error: str = ""
    during: str = ""


@dataclass
class Matrix:
    """The cells of a stage, as they are tried.

    crashes: when a crash of each role began, on the monotonic clock.
    patience_s: most seconds until a cell's point is reached.
    """

    stage: Stage
    triggers: Triggers = field(default_factory=Triggers)
    outcomes: list[Outcome] = field(default_factory=list)
    crashes: list[tuple[str, float]] = field(default_factory=list)
    patience_s: float = 120.0

    def __post_init__(self) -> None:
        self.stage.hop.decide = self.triggers.decide

    def crashes_since(self, role: str, at: float) -> int:
        """Returns how many processes of a role were faulted since a time, or just before."""
        # One that was stopped may have held messages for all that time.
        margin = STOPPED_S + 2 * LEASE_S
        return sum(1 for each, when in self.crashes if each == role and when >= at - margin)

    def start(self, name: str, **environ: str) -> None:
        """Starts a process of the stage."""
        self.stage.start(name, **{**ENVIRON[name.partition(".")[0]], **environ})

    def spawn(self, name: str, **environ: str) -> None:
        """Starts a process that may crash before it serves."""
        self.stage.spawn(name, **{**ENVIRON[name.partition(".")[0]], **environ})

    def arm(self, name: str, cell: Cell, during: Callable[[], Any] = lambda: None) -> Trigger:
        """Sets the trigger of a cell for the process `name`, which may start later. `during` is
        called while it is stopped."""
        made = Trigger(cell, name, lambda: self._crash(name, cell, during))
        self.triggers.armed[name] = made
        return made

    def _crash(self, name: str, cell: Cell, during: Callable[[], Any]) -> None:
        process = self.stage.processes[name]
        self.crashes.append((cell.role, time.monotonic()))
        if cell.signal is STOP:
            os.killpg(process.pid, signal.SIGSTOP)
            ends_at = time.monotonic() + STOPPED_S
            try:
                during()
                time.sleep(max(0.0, ends_at - time.monotonic()))
            finally:
                os.killpg(process.pid, signal.SIGCONT)
        elif cell.signal is KILL:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)
        else:
            process.send_signal(signal.SIGTERM)

    def heal(self, name: str, trigger: Trigger, **environ: str) -> str:
        """Waits for the end of a crash, and starts the process again if it has ended. Returns what
        is wrong with it, nothing if it does as it should."""
        self.triggers.armed.pop(name, None)
        process = self.stage.processes[name]
        eventually(trigger.over.is_set, 60, f"{trigger.cell} is over")
        if trigger.cell.signal is STOP:
            return "" if process.poll() is None else f"it ended by {process.returncode}"
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            self.stage.kill(name)
            self.start(name, **environ)
            return "SIGTERM did not end it within 60 s"
        code = process.returncode
        self.stage.kill(name)  # the rest of its group
        self.start(name, **environ)
        wrong = trigger.cell.signal is not KILL and code != 0
        return f"it ended with {code} after SIGTERM" if wrong else ""

    def run(self, name: str, cells: Iterable[Cell]) -> None:
        """Takes the process `name`, which runs, through cells that the load of the stage meets."""
        for cell in cells:
            began = time.monotonic()
            trigger = self.arm(name, cell)
            if not trigger.fired.wait(self.patience_s):
                self.triggers.armed.pop(name, None)
                self.note(Outcome(cell, False, time.monotonic() - began))
                continue
            error = self.heal(name, trigger)
            self.note(Outcome(cell, True, time.monotonic() - began, error))

    def note(self, outcome: Outcome) -> None:
        """Keeps what became of a cell."""
        said = "fired" if outcome.fired else "did not fire"
        print(f"{outcome.cell}: {said} {outcome.seconds:.1f} s {outcome.error}", flush=True)
        self.outcomes.append(outcome)


class Lanes:
    """Runs functions side by side. Their first error is raised at the end."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []

    def add(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Begins one."""

        def run() -> None:
            try:
                work(*arguments)
            except BaseException as error:  # noqa: BLE001 - raised in `join`
                self._errors.append(error)

        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()

    @property
    def running(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def join(self, timeout_s: float = 600) -> None:
        """Waits for all. Raises the first error of any."""
        for thread in self._threads:
            thread.join(timeout_s)
        if self._errors:
            raise self._errors[0]
        assert not self.running, "a lane did not end"
