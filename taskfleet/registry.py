"""Task kinds: what a kind is, and how a process finds kinds by name. Owns the validation of the
tasks that clients submit; not their execution (`ec2_worker`).

To add a kind, write a module with `TaskKind` objects at its top level, most simply made with the
decorator `task_kind`, and name the module in `TASKFLEET_KINDS` or `--kinds`. The API imports the
same module as the workers, so it must be quick to import: put slow imports inside the function that
runs.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec
from msgspec.structs import replace

from taskfleet.errors import InvalidTask, SettingsError, UnknownKind
from taskfleet.log import printable
from taskfleet.options import MEMORY_MIN_MB, TIMEOUT_MAX_S, Options, limits
from taskfleet.ports import ObjectStore
from taskfleet.retry import RetryPolicy
from taskfleet.task import Task, compacted
from taskfleet.wire.taskfile import kind_and_params, own_options

TASK_MAX_BYTES = 250_000
"""Most bytes of one task's JSON. A message of 1 MiB holds it, and a page of results repeats it."""
_SHORT_CHARS = TASK_MAX_BYTES // 10
"""Text of so many characters has less than `TASK_MAX_BYTES` as JSON, where a character takes at
most six bytes."""
PACE_MAX_CHARS = 16
"""Most characters of a `TaskKind.pace`."""
SLEEP_MAX_MS = 24 * 3600 * 1000
"""Longest sleep of a `sleep` task, in milliseconds: one day."""

OPTIONAL_KINDS = {"command": "taskfleet.kinds.command", "python": "taskfleet.kinds.python"}
"""The modules of Taskfleet's own kinds that a stage must name in TASKFLEET_KINDS."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_encode = msgspec.json.Encoder().encode


class TaskContext(Protocol):
    """What a running task may use of its worker."""

    @property
    def batch_id(self) -> str:
        """Id of the task's batch; empty for a task in the form of 2014."""
        ...

    @property
    def client_id(self) -> str:
        """Id of the client that submitted the task."""
        ...

    @property
    def index(self) -> int:
        """The task's place in its batch, from 0."""
        ...

    @property
    def attempt(self) -> int:
        """Number of this attempt, from 1."""
        ...

    @property
    def store(self) -> ObjectStore:
        """The bucket, for output that is too large for a result. Derive keys from `batch_id` and
        `index` only, so that another attempt replaces the same object."""
        ...

    @property
    def stopped(self) -> bool:
        """Returns whether the task must end, because its time is up, or because the worker drains
        or has lost the lease. A result returned after that is discarded."""
        ...

    def check_stopped(self) -> None:
        """Raise TaskStopped if the task must end."""
        ...

    def begin(self) -> None:
        """Say that the task's own work begins now. What went before, such as fetching what later
        tasks find in memory, is left out of the duration that is recorded and learned."""
        ...

    def on_stop(self, action: Callable[[], None]) -> Callable[[], None]:
        """Register `action` to be called once, from another thread, when the task must end; if it
        must end already, call `action` now. Use it to kill a subprocess, for example. Returns a
        function that cancels the registration."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for `seconds`. Raises TaskStopped as soon as the task must end."""
        ...

    def progress(self, done: int, total: int) -> None:
        """Report that `done` of `total` steps are done. The report is recorded with the next
        heartbeat."""
        ...


@dataclass(frozen=True)
class TaskKind:
    """One kind of work.

    name: the name that clients use: 1 to 64 letters, digits, `_`, `-` or `.`.
    run: called with the params and the context, where `runs_in` says; returns the result, any JSON
        value.
    parse: called with what the client submitted, which is the text after the kind's name or the
        JSON value of `params`; returns the canonical params. Raises InvalidTask with a message for
        the client; any other error makes the task invalid too, with a less helpful message.
        Canonical params must parse to themselves: workers parse them again.
    expected_s: called with the params; returns the expected seconds of one run, None if unknown.
    hint_s: expected seconds of one run, used while nothing is learned and `expected_s` is unknown.
    pace: called with the params; returns a short text that tells apart tasks whose durations have
        nothing to do with each other, such as the function that they call; at most
        `PACE_MAX_CHARS` letters and digits, and empty for none. Durations are learned for each by
        itself, if `expected_s` is unknown.
    retry: which errors are retried, and how often.
    runs_in: `process`, in a process of its own that may crash, hang or be ended at any time, or
        `thread`, in a thread of the worker, for kinds that only wait and do as the context says. A
        kind that runs in a process must be an object of a module that `Registry.load` imports.
    runs_client_code: whether a run executes code that the client wrote. The process that runs it
        then serves no other client and no other kinds, and its store is confined to the client's
        uploads and the objects of the batch. Only for kinds that run in a process.
    timeout_s: seconds after which a run is ended and its task FAILED, above 0 and at most
        `TIMEOUT_MAX_S`; None means no limit.
    retry_timeouts: whether a run that was ended at its time-out is tried again.
    memory_mb: most MB that the process of a run and its children may use together, at least
        `MEMORY_MIN_MB`; None means no limit. Only for kinds that run in a process.
    max_concurrent: returns how many tasks of the kind one worker runs at a time; None means as many
        as it has slots. For work that keeps a core busy, see `Settings.usable_cores`.
    prepare: called once when a worker starts, before `check`; for housekeeping, such as deleting
        the files that a killed worker left behind.
    preload: called once in the process from which runners are forked, for imports that `run` makes
        and all runners can share.
    check: called when a worker starts; raises PermanentError, naming what is missing, if the worker
        cannot run the kind. That worker then takes no tasks of the kind.
    hedge: whether a second copy of a task that takes far longer than others may run beside it, on
        another slot of the same worker (`ec2_worker.stragglers`). The first to succeed counts, and
        the other is ended at any point. Only for kinds whose effects may happen twice at a time.
    deterministic: whether equal params always give results of equal worth, so that a task may take
        the result of an earlier one (`taskfleet.reuse`). Rename the kind, or add a version to its
        params, when its code changes what they mean.
    present: called with the result and the store each time a client reads the result; returns the
        result to show. Use it for what must not be stored, such as a presigned URL.
    schema: the JSON Schema of the params, which clients can read; None if there is none.
    """

    name: str
    run: Callable[[Any, TaskContext], Any]
    parse: Callable[[Any], Any] = lambda raw: raw
    expected_s: Callable[[Any], float | None] = lambda _params: None
    hint_s: float | None = None
    pace: Callable[[Any], str] = lambda _params: ""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    runs_in: Literal["process", "thread"] = "process"
    runs_client_code: bool = False
    timeout_s: float | None = None
    retry_timeouts: bool = False
    memory_mb: int | None = None
    max_concurrent: Callable[[], int | None] = lambda: None
    prepare: Callable[[], None] = lambda: None
    preload: Callable[[], None] = lambda: None
    check: Callable[[], None] = lambda: None
    hedge: bool = False
    deterministic: bool = False
    present: Callable[[Any, ObjectStore], Any] = lambda result, _store: result
    schema: dict[str, Any] | None = None

    def under(self, batch: Options | None, task: Options | None) -> TaskKind:
        """Returns this kind with the limits that count for a task with these options of its batch
        and of its own (`taskfleet.options.limits`)."""
        if batch is None and task is None:
            return self
        found = limits(self, batch, task)
        return dataclasses.replace(
            self,
            timeout_s=found.timeout_s,
            retry_timeouts=found.retry_timeouts,
            memory_mb=found.memory_mb,
            retry=replace(self.retry, max_attempts=found.max_attempts),
        )

    def reuses(self, batch: Options | None, task: Options | None) -> bool:
        """Returns whether a task with these options may take an earlier result."""
        return limits(self, batch, task).reuse

    def __post_init__(self) -> None:
        """Raise SettingsError for limits that cannot be kept."""
        for fault in self._faults():
            raise SettingsError(f"task kind {self.name!r:.60}: {fault}")

    def _faults(self) -> Iterator[str]:
        if self.runs_in not in ("process", "thread"):
            yield f"runs_in is 'process' or 'thread', not {self.runs_in!r:.40}"
        if self.runs_client_code and self.runs_in == "thread":
            yield "runs_client_code is for kinds that run in a process"
        if self.timeout_s is not None and not 0 < self.timeout_s <= TIMEOUT_MAX_S:
            yield f"timeout_s is above 0 and at most {TIMEOUT_MAX_S}, not {self.timeout_s!r:.40}"
        if self.memory_mb is not None:
            if self.runs_in == "thread":
                yield "memory_mb is for kinds that run in a process"
            if self.memory_mb < MEMORY_MIN_MB:
                yield f"memory_mb is at least {MEMORY_MIN_MB}, not {self.memory_mb!r:.40}"


def task_kind(name: str, **options: Any) -> Callable[[Callable[[Any, TaskContext], Any]], TaskKind]:
    """Decorator that makes a `TaskKind` of a function: the function becomes its `run`, and
    `options` are its other fields."""

    def make(run: Callable[[Any, TaskContext], Any]) -> TaskKind:
        return TaskKind(name=name, run=run, **options)

    return make


class Registry:
    """The task kinds that a process knows. Raises SettingsError if a kind's name is malformed or
    two kinds have the same name.

    modules: the modules that define the kinds, by which another process finds the same ones.
    """

    def __init__(self, kinds: Iterable[TaskKind], modules: Sequence[str] = ()) -> None:
        self.modules = tuple(modules)
        self._kinds: dict[str, TaskKind] = {}
        for kind in kinds:
            if not _NAME.fullmatch(kind.name):
                rule = "a name has 1 to 64 letters, digits, '_', '-' or '.'"
                raise SettingsError(f"task kind {kind.name!r:.60}: {rule}")
            other = self._kinds.setdefault(kind.name, kind)
            if other is not kind:
                raise SettingsError(f"two task kinds are called {kind.name!r}")

    @classmethod
    def load(cls, modules: Iterable[str] = ()) -> Registry:
        """Returns the registry of the built-in kind `sleep` and the kinds of the named modules.
        Raises SettingsError, naming the module, if one cannot be imported or defines no kind."""
        kinds: list[TaskKind] = [sleep]
        modules = tuple(modules)
        for name in modules:
            try:
                module = importlib.import_module(name)
            except (ImportError, ValueError, TypeError) as error:  # an empty or relative name
                raise SettingsError(f"task kinds: cannot import {name!r}: {error}") from error
            defined = [value for value in vars(module).values() if isinstance(value, TaskKind)]
            if not defined:
                raise SettingsError(f"task kinds: module {name!r} defines no TaskKind")
            kinds += defined
        return cls(kinds, modules)

    def __getitem__(self, name: str) -> TaskKind:
        """Returns the kind of this name. Raises UnknownKind."""
        try:
            return self._kinds[name]
        except KeyError:
            known = ", ".join(sorted(self._kinds))
            module = OPTIONAL_KINDS.get(name)
            hint = f"; enable it with TASKFLEET_KINDS={module}" if module else ""
            raise UnknownKind(f"unknown kind {name!r:.60}; known: {known}{hint}") from None

    @property
    def names(self) -> list[str]:
        """The names of all kinds, sorted."""
        return sorted(self._kinds)

    def parse(self, raw: Any, index: int) -> Task:
        """Validate one submitted task, a string or an object. Returns it with canonical params.
        Raises InvalidTask with the fault and `index`, the task's place in the submission."""
        try:
            kind, params = kind_and_params(raw)
            options = own_options(raw)
            task = Task(index, kind, self._canonical(kind, params), options)
            if options is not None:
                self._check_options(task, options)
        except InvalidTask as error:
            raise error.at(index) from None
        if _is_short(task.params) and task.options is None:
            return task
        size = len(_encode(compacted([task])[0]))
        if size > TASK_MAX_BYTES:
            raise InvalidTask(
                f"has {size} bytes of JSON, over the cap of {TASK_MAX_BYTES}; "
                "store large data in a bucket and name it in the task",
                index,
            )
        return task

    def _check_options(self, task: Task, options: Options) -> None:
        """Raise InvalidTask for options that the task's kind cannot keep."""
        if options.memory_mb and self[task.kind].runs_in == "thread":
            raise InvalidTask(
                f"memory_mb: tasks of kind {task.kind} run in a thread, whose memory has no limit"
            )
        if options.reuse and not self[task.kind].deterministic:
            raise InvalidTask(
                f"reuse: kind {task.kind} is not deterministic, so results do not serve again"
            )

    def revalidate(self, task: Task) -> Task:
        """Validate a task that was read from the queue, where anyone with access may have put it.
        Returns it with canonical params. Raises InvalidTask with the fault and the task's index."""
        try:
            params = self._canonical(task.kind, task.params)
        except InvalidTask as error:
            raise error.at(task.index) from None
        return task if params is task.params else Task(task.index, task.kind, params, task.options)

    def _canonical(self, kind: str, params: Any) -> Any:
        """Returns the params as the kind's parser makes them. Raises InvalidTask."""
        parse = self[kind].parse
        try:
            return parse(params)
        except InvalidTask as error:  # its reason may quote the params as they are
            raise type(error)(printable(error.reason), error.index) from None
        except Exception as error:  # an error in `parse` must not end a worker
            reason = printable(f"{type(error).__name__}: {error!s:.100}")
            raise InvalidTask(f"{kind} cannot read its params: {reason}") from error

    def expected_s(
        self, tasks: Sequence[Task], estimates: Mapping[str, float] = {}
    ) -> list[float | None]:
        """Returns the expected seconds of each task: the prediction of its kind, else the estimate
        under its `pace_name`, else None. `estimates` holds seconds."""
        predict = {name: self[name].expected_s for name in {task.kind for task in tasks}}
        predicted = [predict[task.kind](task.params) for task in tasks]
        if not estimates:
            return predicted
        return [
            estimates.get(self.pace_name(task)) if seconds is None else seconds
            for task, seconds in zip(tasks, predicted, strict=True)
        ]

    def pace_name(self, task: Task) -> str:
        """Returns the name under which the durations of such tasks are learned: the kind's, or
        `<kind>:<pace>`."""
        pace = self[task.kind].pace(task.params)
        return f"{task.kind}:{pace}" if pace else task.kind


def _is_short(params: Any) -> bool:
    """Returns whether a look at the params shows that they are far below the cap of a task."""
    if isinstance(params, str):
        return len(params) < _SHORT_CHARS and params.isascii()
    return params is None or isinstance(params, float)


# --- the built-in kind ----------------------------------------------------------------------


def _parse_sleep(raw: Any) -> int | float:
    """Returns milliseconds from a number or its decimal text."""
    if type(raw) is int and 0 <= raw <= SLEEP_MAX_MS:
        return raw  # already canonical, as on the queue
    value: float | None = None
    is_text = isinstance(raw, str) and len(raw) <= 20 and raw.isascii() and "_" not in raw
    if is_text or (isinstance(raw, int | float) and not isinstance(raw, bool)):
        try:
            value = float(raw)
        except (ValueError, OverflowError):  # not a number; an integer too large for a float
            value = None
    if value is None or not math.isfinite(value):
        raise InvalidTask(f"sleep needs a number of milliseconds, not {raw!r:.40}")
    if value < 0:
        raise InvalidTask(f"sleep {value:g} is negative")
    if value > SLEEP_MAX_MS:
        raise InvalidTask(f"sleep {value:g} is over the cap of {SLEEP_MAX_MS} ms, a day")
    return int(value) if value == int(value) else value


def _run_sleep(params: Any, context: TaskContext) -> None:
    if params:
        context.sleep(params / 1000)


sleep = TaskKind(
    name="sleep",
    run=_run_sleep,
    parse=_parse_sleep,
    expected_s=lambda params: float(params) / 1000,
    runs_in="thread",
    schema={
        "description": "milliseconds, as a number or its text",
        "anyOf": [{"type": "number", "minimum": 0, "maximum": SLEEP_MAX_MS}, {"type": "string"}],
    },
)
"""The kind `sleep`, as in 2014: it waits the given milliseconds and returns null."""
