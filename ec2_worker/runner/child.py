"""What a runner does: take tasks from the pipe, run them one after the other, and send back how
they ended, in groups. Owns the runner's threads and signals; not how it is started
(`ec2_worker.runner.forkserver`) nor how its end is judged (`ec2_worker.runner.chunk`).

The main thread runs the tasks. A second thread reads the pipe, and sends what waits when a task
takes long.
"""

from __future__ import annotations

import fcntl
import os
import queue
import select
import signal
import socket
import sys
import threading
import time
from typing import Any, NoReturn

from ec2_worker import attempt
from ec2_worker.attempt import Outcome, Scene, SlotContext
from ec2_worker.runner.frames import (
    BrokenFrames,
    Ended,
    Pipe,
    Printed,
    Progress,
    Work,
    encoded_end,
)
from ec2_worker.runner.note import Note
from ec2_worker.runner.remotestore import RemoteStore
from ec2_worker.stop import Stop
from taskfleet.clock import SystemClock
from taskfleet.registry import Registry

FLUSH_S = 0.02
"""Seconds after which finished tasks are told of, at the end of the next task."""
TICK_S = 0.1
"""Seconds between two looks of the second thread for news that wait while a task runs."""
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
LOST_PIPE = 119
"""Exit status of a runner that cannot use its pipe or its output any more, since a task closed or
replaced their descriptors."""


class Runner:
    """One runner process, which ends with the process."""

    def __init__(self, registry: Registry, pipe: Pipe, note: Note) -> None:
        self._registry = registry
        self._pipe = pipe
        self._pipe_fd = pipe.sock.fileno()
        self._note = note
        self._store = RemoteStore(pipe)
        self._clock = SystemClock()
        self._stop = Stop()
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._busy = threading.Event()
        self._lock = threading.Lock()
        self._outcomes: list[Outcome] = []
        self._printed: list[Printed] = []
        self._progress: dict[int, Progress] = {}
        self._sent_at = 0.0
        self._forked = False

    def run(self) -> NoReturn:
        """Work until the worker closes the pipe or asks the runner to end."""
        woken = self._take_signals()
        os.register_at_fork(
            before=hold_signals, after_in_parent=release_signals, after_in_child=self._let_go
        )
        threading.Thread(target=self._read, args=(woken,), name="pipe", daemon=True).start()
        while (work := self._work.get()) is not None:
            self._run(work)
        os._exit(0)

    # --- the main thread ---------------------------------------------------------------------

    def _run(self, work: Work) -> None:
        kind = self._registry[work.kind].under(work.options, work.tasks[0].options)
        scene = Scene(
            work.batch_id,
            work.client_id,
            work.worker_id,
            self._store,
            self._stop,
            self._clock,
            self._report,
        )
        clock, note, stopped = self._clock, self._note, self._stop.event
        started_at = self._sent_at = clock.now()
        give_back_at = started_at + work.give_back_after_s
        printed = self._output_bytes()
        run = 0
        last = work.tasks[-1]
        for task, number in zip(work.tasks, work.attempts, strict=True):
            if stopped.is_set() or (run and started_at > give_back_at):
                break
            run += 1
            note.write(time.monotonic(), task.index, printed)
            context = SlotContext(scene, task.index, number, started_at)
            row, failure, started_at = attempt.run(kind, task.params, context, clock)
            if self._forked:
                os._exit(0)  # a child that the task forked, and that came back here
            end = self._output_bytes()
            self._check_pipe()
            outcomes = [] if row is None else [Outcome(row, failure)]
            emptied = end < printed  # by the task; what others left there is lost
            printed = 0 if emptied else printed
            news = [Printed(task.index, printed, end)] if end != printed else []
            printed = end
            with self._lock:
                if emptied:
                    self._printed = []
                self._outcomes += outcomes
                self._printed += news
                self._progress.pop(task.index, None)
                # Should the next task end the process, this one need not run again.
                kept = task is last or note.keep(encoded_end(outcomes, news))
            if not kept or started_at - self._sent_at > FLUSH_S:
                self._flush()
        self._busy.clear()
        note.clear()  # before the worker can hand over other tasks
        self._flush(done=True, run=run)

    def _output_bytes(self) -> int:
        """The size of the output file, with all that was printed so far."""
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):
            pass  # the task's own doing; the next call decides
        try:
            return os.lseek(1, 0, os.SEEK_END)
        except OSError:
            self._lose()

    def _check_pipe(self) -> None:
        try:
            fcntl.fcntl(self._pipe_fd, fcntl.F_GETFD)
        except OSError:
            self._lose()

    def _lose(self) -> NoReturn:
        """End the runner while the note still names the task that took its descriptors away."""
        os._exit(LOST_PIPE)

    # --- sending -----------------------------------------------------------------------------

    def _flush(self, *, done: bool = False, run: int = 0) -> None:
        with self._lock:
            if not (done or self._outcomes or self._printed or self._progress):
                return
            outcomes, self._outcomes = self._outcomes, []
            printed, self._printed = self._printed, []
            progress, self._progress = self._progress, {}
            self._sent_at = self._clock.now()
            try:
                for report in progress.values():
                    self._pipe.send(report)
                if done or outcomes or printed:
                    self._pipe.send(
                        Ended(outcomes, printed, done, run, resident_mb() if done else 0)
                    )
            except OSError:
                self._lose()
            self._note.told()

    def _report(self, index: int, started_at: float, progress: list[Any]) -> None:
        with self._lock:
            self._progress[index] = Progress(index, started_at, progress)

    # --- the second thread -------------------------------------------------------------------

    def _take_signals(self) -> int:
        """Have SIGTERM wake the second thread. Returns the descriptor that becomes readable. The
        handler itself does nothing: it would run in the midst of the task's code."""
        read, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        release_signals()
        return read

    def _let_go(self) -> None:
        """In a child that a task forked: take signals as any process does. Its signals would wake
        the runner's second thread otherwise, and SIGTERM would not end the child."""
        self._forked = True
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        release_signals()

    def _read(self, woken: int) -> None:
        poll = select.poll()
        poll.register(self._pipe_fd, select.POLLIN)
        poll.register(woken, select.POLLIN)
        while True:
            ready = dict(poll.poll(TICK_S * 1000 if self._busy.is_set() else None))
            if not ready:
                self._flush()
            if woken in ready and signal.SIGTERM in os.read(woken, 64):
                self._end()
            if self._pipe_fd in ready:
                try:
                    received = self._pipe.received()
                except (EOFError, OSError, BrokenFrames):
                    os._exit(0)  # the worker is gone
                for message, data in received:
                    if isinstance(message, Work):
                        self._busy.set()
                        self._work.put(message)
                    else:
                        self._store.answered((message, data))

    def _end(self) -> None:
        """End once the running task has ended."""
        self._work.put(None)
        self._stop.stop()


def hold_signals() -> None:
    """Have SIGTERM wait, so that a child never takes it as the runner does."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def release_signals() -> None:
    """Take SIGTERM, also one that has waited."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def resident_mb() -> int:
    """Returns the memory of this process in MB."""
    with open("/proc/self/statm", "rb") as sizes:
        return int(sizes.read().split()[1]) * _PAGE_BYTES >> 20


def main(registry: Registry, sock: socket.socket, key: int, note_fd: int, output_fd: int) -> None:
    """Be a runner in this process, which was just forked. Never returns."""
    os.dup2(output_fd, 1)
    os.dup2(output_fd, 2)
    note = Note(note_fd)
    os.close(note_fd)
    os.close(output_fd)
    for name, fd in (("stdout", 1), ("stderr", 2)):
        # By lines, so that a crash loses none.
        stream = open(fd, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    Runner(registry, Pipe(sock, key, in_runner=True), note).run()
