"""A chunk of tasks in a runner: handing it over, taking the outcomes, keeping the deadlines, and
judging how the runner ended. The note in shared memory says which task was running: only that one
is charged."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from ec2_worker import attempt
from ec2_worker.attempt import Outcome
from ec2_worker.output import OUTPUT_MAX_BYTES, BundleOutput, punch
from ec2_worker.runner.child import LOST_PIPE
from ec2_worker.runner.frames import BrokenFrames, Call, Ended, Progress, Sent, Work, decoded_end
from ec2_worker.runner.handle import Exit, Runner
from ec2_worker.runner.note import Started
from ec2_worker.runner.remotestore import serve
from taskfleet.log import fields
from taskfleet.ports import Clock, ObjectStore
from taskfleet.registry import TaskKind
from taskfleet.retry import RetryDecision

_log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Seconds between two looks at the size of a busy runner's output."""
FLOOD_BYTES = 16_000_000
"""Disk space of a runner's output above which that of the running task's excess is given back."""
_BLOCK_BYTES = 512
"""Unit of `st_blocks`, whatever the file system's blocks are."""
SPOILT = "it wrote to its process's pipe"
"""Error of a task that spoilt the pipe of its runner."""


def cause(ended: Exit) -> str:
    """Returns why a task's process ended, in words for the task's owner."""
    if ended.used_mb:
        return f"used {ended.used_mb} MB, over its {ended.limit_mb} MB"
    if ended.code is None:
        return "its process died"
    if ended.code == LOST_PIPE:
        return "it closed or replaced the descriptors of its process"
    if ended.code >= 0:
        return f"its process died: exit status {ended.code}"
    try:
        return f"its process died: {signal.Signals(-ended.code).name}"
    except ValueError:
        return f"its process died: signal {-ended.code}"


def timed_out(seconds: float) -> str:
    """Returns the error of a task whose time was up."""
    return f"timed out after {seconds:g} s"


def decision_for(kind: TaskKind, attempt: int, *, again: bool) -> RetryDecision:
    """Returns what follows an attempt that was ended from outside. `again`: whether such an end is
    worth another attempt."""
    if not again:
        return RetryDecision.FAIL
    return RetryDecision.EXHAUSTED if kind.retry.is_last(attempt) else RetryDecision.RETRY


@dataclass
class RunInRunner:
    """One chunk in one runner. `run` is called once.

    work: what the runner is sent.
    record: called with each outcome.
    output: takes what the tasks print.
    report: called with the progress of a running task.
    stopped: whether the tasks were told to end, so that a runner that dies charges nobody.
    ambiguous: whether one of the tasks left spoilt the runner, and nobody knows which: each needs a
        run of its own.
    """

    runner: Runner
    kind: TaskKind
    work: Work
    store: ObjectStore
    clock: Clock
    record: Callable[[Outcome], None]
    output: BundleOutput
    report: Callable[[Progress], None]
    stopped: Callable[[], bool]
    ran: int = 0
    ambiguous: bool = False
    _asked: frozenset[int] = frozenset()
    _known: set[int] = field(default_factory=set)
    _late: Started | None = None
    _done: bool = False
    _spoilt: bool = False
    _printed: bool = False
    _looked_at: float = field(default_factory=time.monotonic)
    _over: bool = False
    _looking: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> bool:
        """Run the chunk. Returns whether the runner can take another. Afterwards `ran` tells how
        many tasks need no other slot; of the others, none was charged."""
        self.output.watch(self.look)
        try:
            fit = self._run()
        finally:
            with self._looking:  # from now on, what is printed may be another bundle's
                self._over = True
            self.output.unwatch(self.look)
            self.output.forget_running(self._asked)
        if fit and self._printed:
            os.ftruncate(self.runner.output, 0)
        return fit

    def _run(self) -> bool:
        runner = self.runner
        self._asked = frozenset(task.index for task in self.work.tasks)
        runner.limit_memory(self.kind.memory_mb)
        try:
            runner.send(self.work)
        except OSError:
            runner.end()
        while not self._done and runner.exit is None:
            self._step()
        if self._done and self._late is None:
            runner.tasks_run += self.ran
            return not self.stopped()
        self._take_untold()
        self._judge()
        return False

    def left(self) -> list[int]:
        """Returns the positions of the tasks to be started again, without a charge."""
        tasks = self.work.tasks
        if self._done and self._late is None:
            return list(range(self.ran, len(tasks)))
        return [i for i, task in enumerate(tasks) if task.index not in self._known]

    def _step(self) -> None:
        """Wait for the next thing that happens, and take it in."""
        try:
            messages = self.runner.wait(self._patience_s())
        except BrokenFrames:
            self.runner.end(0.0)
            self.runner.await_exit()
            # Perhaps it was a task before the one that runs now.
            self.ambiguous = len(self.work.tasks) > 1
            self._spoilt = True
            return
        for sent in messages:
            self._take(sent)
        if self._late is None:
            self._look_at_time()
        self._look_at_output()

    def _take(self, sent: Sent) -> None:
        message, data = sent
        if isinstance(message, Ended):
            for outcome in message.outcomes:
                self._take_outcome(outcome)
            for each in message.printed:
                self._keep(each.index, each.start, each.end)
            if message.done:
                self._done, self.ran = True, message.run
                self.runner.resident_mb = message.resident_mb
        elif isinstance(message, Progress):
            self.report(message)
        elif isinstance(message, Call):
            call = partial(serve, self.store, message, data, self.runner.pipe)
            threading.Thread(target=call, name="store", daemon=True).start()

    def _take_untold(self) -> None:
        """Take in what the runner had no time to tell before it ended. A runner whose messages were
        spoilt is not believed."""
        if self.runner.exit is None or self._spoilt:
            return
        for data in self.runner.note.untold():
            ended = decoded_end(data)
            if ended is not None and not {o.row.index for o in ended.outcomes} <= self._known:
                self._take((ended, b""))

    def _take_outcome(self, outcome: Outcome) -> None:
        index, limit_s = outcome.row.index, self.kind.timeout_s
        if index not in self._asked:
            return  # no honest runner answers for other tasks
        late = self._late is not None and self._late.task == index
        if late and limit_s is not None and (outcome.row.duration_s or 0.0) >= limit_s:
            return  # it counts as timed out, whatever it returned in the end
        self._known.add(index)
        self.record(outcome)

    # --- deadlines ---------------------------------------------------------------------------

    def _patience_s(self) -> float | None:
        if self.kind.timeout_s is None or self._late is not None:
            return LOOK_S
        started = self.runner.note.read()
        if started.task < 0:
            return min(self.kind.timeout_s, 0.1)
        return min(LOOK_S, started.at + self.kind.timeout_s - time.monotonic())

    def _look_at_time(self) -> None:
        started, limit_s = self.runner.note.read(), self.kind.timeout_s
        if limit_s is None or started.task < 0 or started.task in self._known:
            return
        if time.monotonic() - started.at >= limit_s:
            self._late = started
            self.runner.end()

    # --- output ------------------------------------------------------------------------------

    def _keep(self, index: int, start: int, end: int) -> None:
        self._printed = True
        try:
            with self._looking:
                self.output.keep(index, self.runner.output, start, end)
        except OSError as error:  # such as a full disk; the results go on
            _log.warning("output of a task is lost", extra=fields("output_lost", reason=str(error)))

    def look(self) -> None:
        """Keep what the running task has printed so far. May be called from any thread, and never
        raises."""
        with self._looking:
            started, now = self.runner.note.read(), time.monotonic()
            index = started.task
            if self._over or index not in self._asked or index in self._known:
                return
            try:
                size = os.fstat(self.runner.output).st_size
                # What the next task printed would be in the size, too.
                if self.runner.note.read() == started:
                    self.output.keep_running(
                        index,
                        self.runner.output,
                        started.printed_from,
                        size,
                        round(self.clock.now() - (now - started.at), 3),
                    )
            except OSError as error:
                _log.warning("output is not shown", extra=fields("no_look", reason=str(error)))

    def _look_at_output(self) -> None:
        """Throw away what a task printed far beyond what is kept, before it fills the disk."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        started = self.runner.note.read()
        found = os.fstat(self.runner.output)
        flooded = found.st_blocks * _BLOCK_BYTES > FLOOD_BYTES
        # What the next task printed would be in the size, too.
        if flooded and started.task >= 0 and self.runner.note.read() == started:
            self._printed = True
            kept_to = started.printed_from + OUTPUT_MAX_BYTES
            punch(self.runner.output, kept_to, found.st_size)

    # --- the end of the runner ---------------------------------------------------------------

    def _judge(self) -> None:
        """Charge the task that was running when the runner ended, if there is one to charge."""
        started = self._late or self.runner.note.read()
        if self._spoilt and not self.ambiguous:
            # It may have ended before what it wrote was read.
            started = Started(time.monotonic(), self.work.tasks[0].index, 0)
        position = next(
            (i for i, task in enumerate(self.work.tasks) if task.index == started.task), None
        )
        if position is None or started.task in self._known:
            return
        number = self.work.attempts[position]
        if self._late is not None and self.kind.timeout_s is not None:
            text = timed_out(self.kind.timeout_s)
            decision = decision_for(self.kind, number, again=self.kind.retry_timeouts)
        elif self.stopped() or self.ambiguous:
            return
        else:
            text = SPOILT if self._spoilt else cause(self.runner.exit or Exit(None))
            decision = decision_for(self.kind, number, again=True)
        duration_s = time.monotonic() - started.at
        size = os.fstat(self.runner.output).st_size
        if not self._spoilt and size > started.printed_from:
            self._keep(started.task, started.printed_from, size)
        self._known.add(started.task)
        self.record(
            attempt.cut_short(
                text,
                decision,
                index=started.task,
                attempt=number,
                started_at=self.clock.now() - duration_s,
                duration_s=duration_s,
                worker_id=self.work.worker_id,
            )
        )
