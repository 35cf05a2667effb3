"""Starting, watching and stopping processes. Owns their life; knows nothing of what they do.

All of it happens in the caller's thread. Signals interrupt every wait: the first one raises
`StopRequested`, a second one while stopping ends everything at once.
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

TICK_S = 0.1
SAME_SIGNAL_S = 0.5
"""One Ctrl-C can arrive twice, from the terminal and from `make`."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(Exception):
    """The supervisor was told to stop."""


class PartFailed(Exception):
    """A part ended, or never answered; the message says which and what its log says."""


@dataclass(frozen=True)
class Part:
    """One process: a Python program.

    command: `("-m", module, ...)` or `(script, ...)`.
    tier: parts of the highest tier are stopped first, those of one tier together.
    ready: True once it serves; called again and again, must not wait long.
    stop_timeout_s: how long it may take to stop before it is killed.
    restarts: it is started again when it ends; otherwise its end is everybody's.
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
    part: Part
    process: subprocess.Popen[bytes]
    started_at: float
    quick_ends: int = 0
    restart_at: float | None = None


@dataclass
class Supervisor:
    """A context manager: leaving it stops every part, in order.

    logs: folder for `<part>.log`, emptied of that part's earlier log at its first start.
    notice: called with each line that a person should read.
    """

    logs: Path
    notice: Callable[[str], None]
    _running: dict[str, _Running] = field(default_factory=dict)
    _signals: queue.SimpleQueue[tuple[int, float]] = field(default_factory=queue.SimpleQueue)
    _deaf_until: float = 0.0

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
            for number, handler in self._previous.items():
                signal.signal(number, handler)

    def log(self, part: Part) -> Path:
        return self.logs / f"{part.name}.log"

    def start(self, part: Part) -> None:
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
                process_group=0,  # a Ctrl-C at the terminal must not reach it before its turn
            )

    def wait_ready(self, parts: Iterable[Part]) -> None:
        """Wait until each part is ready; PartFailed when one ends or takes too long."""
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
                self.pause(TICK_S / 2)

    def watch(self) -> None:
        """Keep the parts running until a signal (StopRequested) or a failure (PartFailed)."""
        while True:
            self.pause(TICK_S)
            for running in self._running.values():
                if running.restart_at is not None:
                    if time.monotonic() >= running.restart_at:
                        self._restart(running)
                elif running.process.poll() is not None:
                    _sweep(running.process)
                    if not running.part.restarts:
                        raise self._failure(running, "while serving")
                    self._plan_restart(running)

    def pause(self, seconds: float) -> None:
        """Wait; StopRequested when a signal comes."""
        with suppress(queue.Empty):
            number, at = self._signals.get(timeout=seconds)
            if at >= self._deaf_until:
                self._deaf_until = at + SAME_SIGNAL_S
                raise StopRequested(signal.Signals(number).name)

    def _plan_restart(self, running: _Running) -> None:
        lived_s = time.monotonic() - running.started_at
        running.quick_ends = 0 if lived_s > 30 else running.quick_ends + 1
        delay_s = restart_delay_s(running.quick_ends)
        running.restart_at = time.monotonic() + delay_s
        self.notice(f"{self._end(running)}; starting it again in {delay_s:g} s")

    def _restart(self, running: _Running) -> None:
        running.process = self._spawn(running.part)
        running.started_at = time.monotonic()
        running.restart_at = None

    def _failure(self, running: _Running, when: str) -> PartFailed:
        return PartFailed(f"{self._end(running)} {when}: {self._tail(running.part)}")

    def _end(self, running: _Running) -> str:
        code = running.process.returncode
        how = f"code {code}" if code >= 0 else signal.Signals(-code).name
        return f"{running.part.name} ended with {how}"

    def _tail(self, part: Part) -> str:
        lines = self.log(part).read_text(errors="replace").split("\n")
        last = " | ".join([line.strip() for line in lines if line.strip()][-3:])
        return f"{last[-600:] or 'it logged nothing'} (log: {self.log(part)})"

    def _stop(self) -> None:
        try:
            everything = self._running.values()
            for tier in sorted({r.part.tier for r in everything}, reverse=True):
                self._stop_tier([r for r in everything if r.part.tier == tier])
        except StopRequested:
            self.notice("a second signal: ending everything at once")
        finally:
            for running in self._running.values():
                if running.process.returncode is None:
                    _sweep(running.process)
                    running.process.wait()

    def _stop_tier(self, tier: list[_Running]) -> None:
        alive = [running for running in tier if running.process.poll() is None]
        for running in alive:
            running.process.terminate()
        for running in alive:
            patience_s = running.part.stop_timeout_s
            deadline = time.monotonic() + patience_s
            while running.process.poll() is None:
                if time.monotonic() > deadline:
                    self.notice(f"{running.part.name} did not stop in {patience_s:g} s: killed")
                    break
                self.pause(TICK_S / 2)
            _sweep(running.process)


def restart_delay_s(quick_ends: int) -> float:
    """Seconds until a part is started again: at once when it had lived for long, then longer
    each time that it ends soon after its start."""
    return 0.0 if quick_ends <= 1 else min(30.0, 2.0 ** (quick_ends - 2))


def _sweep(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the process's group, such as a task's own subprocess."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
