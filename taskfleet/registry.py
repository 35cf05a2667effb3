"""Task kinds: what a kind is, and how kinds are found by name. Owns parsing of what clients
hand in; not its execution (`ec2_worker`).

A kind is one module and one setting: the module, named in `TASKFLEET_KINDS` or `--kinds`, holds
`TaskKind` objects at its top level, most easily made with the decorator `task_kind`. The API
imports the same module as the workers do, so it must be light to import: heavy imports belong
inside the function that runs.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from taskfleet.errors import InvalidTask, SettingsError, UnknownKind
from taskfleet.ports import ObjectStore
from taskfleet.retry import RetryPolicy
from taskfleet.task import Task
from taskfleet.wire.taskfile import kind_and_params


class TaskContext(Protocol):
    """What a running task may use of its worker."""

    @property
    def batch_id(self) -> str: ...

    @property
    def client_id(self) -> str: ...

    @property
    def index(self) -> int: ...

    @property
    def attempt(self) -> int:
        """From 1."""
        ...

    @property
    def store(self) -> ObjectStore:
        """Where to put what is too large for a result; use names that follow from `batch_id` and
        `index` alone, so that running again overwrites with the same thing."""
        ...

    @property
    def stopped(self) -> bool:
        """True once the task must end: the lease is lost or the worker leaves. What it returns
        then counts for nothing."""
        ...

    def check_stopped(self) -> None:
        """Raises TaskStopped once `stopped`."""
        ...

    def on_stop(self, action: Callable[[], None]) -> Callable[[], None]:
        """Call `action`, once, from another thread, when the task must end (at once when it must
        already): to kill a subprocess, say. Returns a function that takes it back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait; raises TaskStopped as soon as the task must end."""
        ...

    def progress(self, done: int, total: int) -> None:
        """Report how far the task is; it travels with the next heartbeat."""
        ...


def _as_given(raw: Any) -> Any:
    return raw


def _unknown(_params: Any) -> float | None:
    return None


def _no_need() -> None:
    return None


def _unchanged(result: Any, _store: ObjectStore) -> Any:
    return result


@dataclass(frozen=True)
class TaskKind:
    """One kind of work.

    name: how clients call it; up to 64 letters, digits, `_`, `-`, `.`.
    run: (params, context) -> result, both JSON; called in one of the worker's threads.
    parse: what the client handed in (the text behind the name, or the JSON `params`) -> canonical
        params; raises `InvalidTask` with a message for the client (any other error makes the task
        invalid too, with a message that says less). `parse(parse(x)) == parse(x)`.
    expected_s: params -> expected seconds of one run, or None when not known.
    hint_s: a guess at the same, used until the first runs have taught better.
    retry: which errors are tried again, and how often.
    max_concurrent: () -> how many tasks of the kind one worker runs at a time, or None for as many
        as it has slots; for work that keeps a core busy: `Settings.usable_cores`.
    prepare: called once when a worker starts, before `check`; for housekeeping, such as deleting
        the files that a killed worker left behind.
    check: raises PermanentError on a worker that cannot run the kind, saying what is missing;
        that worker then takes none of its tasks.
    present: (result, store) -> the result as a client sees it, made anew at each reading, for
        what must not be stored, such as a presigned URL.
    """

    name: str
    run: Callable[[Any, TaskContext], Any]
    parse: Callable[[Any], Any] = _as_given
    expected_s: Callable[[Any], float | None] = _unknown
    hint_s: float | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    max_concurrent: Callable[[], int | None] = _no_need
    prepare: Callable[[], None] = _no_need
    check: Callable[[], None] = _no_need
    present: Callable[[Any, ObjectStore], Any] = _unchanged


def task_kind(name: str, **options: Any) -> Callable[[Callable[[Any, TaskContext], Any]], TaskKind]:
    """Decorator: the function becomes the `run` of a `TaskKind`; `options` are its other fields."""

    def make(run: Callable[[Any, TaskContext], Any]) -> TaskKind:
        return TaskKind(name=name, run=run, **options)

    return make


TASK_MAX_BYTES = 250_000
"""Largest JSON of one task. A message holds a mebibyte, and a result row shows its task again."""
_encode = msgspec.json.Encoder().encode
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Registry:
    """The kinds that a process knows."""

    def __init__(self, kinds: Iterable[TaskKind]) -> None:
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
        """The built-in kind and those of the named modules. SettingsError names the module at
        fault."""
        kinds: list[TaskKind] = [sleep]
        for name in modules:
            try:
                module = importlib.import_module(name)
            except (ImportError, ValueError, TypeError) as error:  # the latter two: "" and ".x"
                raise SettingsError(f"task kinds: cannot import {name!r}: {error}") from error
            found = [value for value in vars(module).values() if isinstance(value, TaskKind)]
            if not found:
                raise SettingsError(f"task kinds: module {name!r} defines no TaskKind")
            kinds += found
        return cls(kinds)

    def __getitem__(self, name: str) -> TaskKind:
        try:
            return self._kinds[name]
        except KeyError:
            known = ", ".join(sorted(self._kinds))
            raise UnknownKind(f"unknown kind {name!r:.60}; known: {known}") from None

    @property
    def names(self) -> list[str]:
        return sorted(self._kinds)

    def parse(self, raw: Any, index: int) -> Task:
        """One task as a client writes it, a string or an object, to a valid `Task`.
        InvalidTask names `index` and the fault."""
        try:
            kind, params = kind_and_params(raw)
            task = self._canonical(Task(index, kind, params))
        except InvalidTask as error:
            raise error.at(index) from None
        size = len(_encode(task))
        if size > TASK_MAX_BYTES:
            raise InvalidTask(
                f"has {size} bytes of JSON, over the cap of {TASK_MAX_BYTES}; "
                "put what is large into a bucket and name it in the task",
                index,
            )
        return task

    def revalidate(self, task: Task) -> Task:
        """A task that came over the queue, where anybody may have put it, made canonical."""
        try:
            return self._canonical(task)
        except InvalidTask as error:
            raise error.at(task.index) from None

    def _canonical(self, task: Task) -> Task:
        parse = self[task.kind].parse
        try:
            params = parse(task.params)
        except InvalidTask:
            raise
        except Exception as error:  # one task's params must not end a worker, whoever wrote parse
            reason = f"{type(error).__name__}: {error!s:.100}"
            raise InvalidTask(f"{task.kind} cannot read its params: {reason}") from error
        return task if params is task.params else Task(task.index, task.kind, params)

    def expected_s(self, estimates: Mapping[str, float]) -> Callable[[Task], float | None]:
        """The expected seconds of a task: what its kind says, else the estimate for its kind."""

        def expected(task: Task) -> float | None:
            seconds = self[task.kind].expected_s(task.params)
            return estimates.get(task.kind) if seconds is None else seconds

        return expected


# --- the kind that is always there ----------------------------------------------------------

SLEEP_MAX_MS = 24 * 3600 * 1000


def _parse_sleep(raw: Any) -> int | float:
    """Milliseconds, from a number or its decimal text."""
    if type(raw) is int and 0 <= raw <= SLEEP_MAX_MS:
        return raw  # canonical already, as on the queue
    value: float | None = None
    is_text = isinstance(raw, str) and len(raw) <= 20 and raw.isascii() and "_" not in raw
    if is_text or (isinstance(raw, int | float) and not isinstance(raw, bool)):
        # ValueError: no number; OverflowError: one beyond all floats
        with contextlib.suppress(ValueError, OverflowError):
            value = float(raw)
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
)
"""Waits so many milliseconds, as in 2014; its result is null."""
