"""Starts, watches and stops processes. Owns their life, and knows nothing of what they do.

Everything happens in the caller's thread. A signal interrupts every wait: the first one raises
`StopRequested`; a second one, while the parts stop, kills them all.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType

from localcloud import leash

WATCH_INTERVAL_S = 0.1
"""Seconds between two looks at the parts while they serve."""
WAIT_INTERVAL_S = 0.05
"""Seconds between two looks at a part that starts or stops."""
SAME_SIGNAL_S = 0.5
"""Seconds after a signal in which a further one is ignored: one Ctrl-C can arrive twice, from the
terminal and from `make`."""
QUICK_END_S = 30.0
"""A part that ends within so many seconds of its start is restarted after a pause."""
MAX_RESTART_DELAY_S = 30.0
"""Longest pause before a restart, in seconds."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that stop the supervisor."""


class StopRequested(Exception):
    """A signal asks the supervisor to stop. The message is the signal's name."""


class PartFailed(Exception):
    """A part ended or did not become ready. The message says which one, with the end of its log."""


@dataclass(frozen=True)
class Part:
    """One process: a Python program.

    command: `("-m", module, ...)` or `(script, ...)`.
    environ: the whole environment of the process.
    tier: parts of the highest tier are stopped first, those of one tier together.
    ready: tells whether the part serves. It is called repeatedly and must return soon.
    stop_timeout_s: seconds that the part may take to stop before it is killed.
    start_timeout_s: seconds that the part may take to become ready.
    restarts: whether the part is restarted when it ends. The end of any other part stops all.
    """

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str]
    tier: int
    ready: Callable[[], bool]
    stop_timeout_s: float = 10.0
    start_timeout_s: float = 60.0
    restarts: bool = False


@dataclass
class _Running:
    """A part that was started.

    started_at, restart_at: times of the monotonic clock. `restart_at` is None unless the process
        has ended and is to be restarted.
    quick_ends: how many times in a row the process ended soon after its start.
    """

    part: Part
    process: subprocess.Popen[bytes]
    started_at: float
    quick_ends: int = 0
    restart_at: float | None = None


@dataclass
class Supervisor:
    """Runs parts. A context manager: leaving it stops every part, in the order of their tiers.

    logs: folder for `<part>.log`. The first start of a part empties its log.
    notice: called with each line that a person should read.
    """

    logs: Path
    notice: Callable[[str], None]
    _running: dict[str, _Running] = field(default_factory=dict)
    _signals: queue.SimpleQueue[tuple[int, float]] = field(default_factory=queue.SimpleQueue)
    _ignore_signals_until: float = 0.0

    def __enter__(self) -> Supervisor:
        self.logs.mkdir(parents=True, exist_ok=True)
        self._leash, self._leash_held = os.pipe()
        self._previous = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        return self

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signals.put((number, time.monotonic()))  # SimpleQueue.put is reentrant

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, PartFailed):
            self.notice("a part failed: stopping the others")
        try:
            self._stop()
        finally:
            os.close(self._leash_held)
            os.close(self._leash)
            # The process ends now if a signal asked for it: a further one changes nothing.
            asked = isinstance(error, StopRequested)
            for number, handler in self._previous.items():
                signal.signal(number, signal.SIG_IGN if asked else handler)

    def log(self, part: Part) -> Path:
        """Returns the file that takes the part's output."""
        return self.logs / f"{part.name}.log"

    def start(self, part: Part) -> None:
        """Starts a part; does not wait until it is ready."""
        self.log(part).write_bytes(b"")
        self._running[part.name] = _Running(part, self._spawn(part), time.monotonic())

    def _spawn(self, part: Part) -> subprocess.Popen[bytes]:
        with self.log(part).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", leash.__name__, *part.command],
                env={**part.environ, leash.VARIABLE: str(self._leash)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(self._leash,),
                process_group=0,  # a Ctrl-C at the terminal must not reach the part itself
            )

    def wait_ready(self, parts: Iterable[Part]) -> None:
        """Waits until each part is ready. Raises PartFailed when a part ends or takes too long,
        StopRequested when a signal comes."""
        for part in parts:
            deadline = time.monotonic() + part.start_timeout_s
            while not part.ready():
                for running in self._running.values():
                    if running.process.poll() is not None:
                        raise self._failure(running, "while starting")
                if time.monotonic() > deadline:
                    raise PartFailed(
                        f"{part.name} was not ready within {part.start_timeout_s:g} s; "
                        f"its log is {self.log(part)}"
                    )
                self.pause(WAIT_INTERVAL_S)

    def watch(self) -> None:
        """Keeps the parts running, without an end of its own. Raises StopRequested when a signal
        comes, PartFailed when a part ends that is not restarted."""
        while True:
            self.pause(WATCH_INTERVAL_S)
            for running in self._running.values():
                if running.restart_at is not None:
                    if time.monotonic() >= running.restart_at:
                        self._restart(running)
                elif running.process.poll() is not None:
                    _kill_group(running.process)
                    if not running.part.restarts:
                        raise self._failure(running, "while serving")
                    self._plan_restart(running)

    def pause(self, seconds: float) -> None:
        """Waits. Raises StopRequested when a signal comes."""
        with suppress(queue.Empty):
            number, at = self._signals.get(timeout=seconds)
            if at >= self._ignore_signals_until:
                self._ignore_signals_until = at + SAME_SIGNAL_S
                raise StopRequested(signal.Signals(number).name)

    def _plan_restart(self, running: _Running) -> None:
        lived_s = time.monotonic() - running.started_at
        running.quick_ends = 0 if lived_s > QUICK_END_S else running.quick_ends + 1
        delay_s = restart_delay_s(running.quick_ends)
        running.restart_at = time.monotonic() + delay_s
        self.notice(f"{_how_it_ended(running)}; starting it again in {delay_s:g} s")

    def _restart(self, running: _Running) -> None:
        running.process = self._spawn(running.part)
        running.started_at = time.monotonic()
        running.restart_at = None

    def _failure(self, running: _Running, when: str) -> PartFailed:
        return PartFailed(f"{_how_it_ended(running)} {when}: {self._end_of_log(running.part)}")

    def _end_of_log(self, part: Part) -> str:
        """Returns the last three lines of the part's log, as one line."""
        lines = self.log(part).read_text(errors="replace").split("\n")
        last = " | ".join([line.strip() for line in lines if line.strip()][-3:])
        return f"{last[-600:] or 'it logged nothing'} (log: {self.log(part)})"

    def _stop(self) -> None:
        try:
            everything = self._running.values()
            for tier in sorted({r.part.tier for r in everything}, reverse=True):
                self._stop_tier([r for r in everything if r.part.tier == tier])
        except StopRequested:
            self.notice("a second signal: killing all parts")
        finally:
            for running in self._running.values():
                if running.process.returncode is None:
                    _kill_group(running.process)
                    running.process.wait()

    def _stop_tier(self, tier: list[_Running]) -> None:
        """Asks the parts to end, all at once, and kills those that do not in time."""
        alive = [running for running in tier if running.process.poll() is None]
        for running in alive:
            running.process.terminate()
        for running in alive:
            timeout_s = running.part.stop_timeout_s
            deadline = time.monotonic() + timeout_s
            while running.process.poll() is None:
                if time.monotonic() > deadline:
                    self.notice(f"{running.part.name} did not stop in {timeout_s:g} s: killed")
                    break
                self.pause(WAIT_INTERVAL_S)
            _kill_group(running.process)


def restart_delay_s(quick_ends: int) -> float:
    """Returns the seconds until a part is restarted: 0 at first, then 1, 2, 4 and so on up to
    `MAX_RESTART_DELAY_S`.

    quick_ends: how many times in a row the part ended soon after its start.
    """
    return 0.0 if quick_ends <= 1 else min(MAX_RESTART_DELAY_S, 2.0 ** (quick_ends - 2))


def _how_it_ended(running: _Running) -> str:
    code = running.process.returncode
    how = f"code {code}" if code >= 0 else signal.Signals(-code).name
    return f"{running.part.name} ended with {how}"


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kills what is left of the process's group, such as a subprocess of a task."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
