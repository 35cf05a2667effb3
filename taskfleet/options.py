"""The options of a task's execution: how long it may take, how often it is tried, how much memory
it may use; and the options of a batch, which has these and its own. Owns their bounds and the rule
which of them counts; not their keeping, which belongs to `ec2_worker` and `taskfleet.scheduler`.

A kind, a batch and a task may each have options of execution. Of several, the nearest to the task
counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol, TypedDict, TypeVar

import msgspec
from msgspec import Meta

TIMEOUT_MAX_S = 24 * 3600
"""Longest time-out of a task, in seconds: one day."""
ATTEMPTS_MAX = 100
"""Most attempts that may be asked for."""
MEMORY_MIN_MB = 32
"""Least memory limit of a task, in MB: the Python of its process needs about half of that."""
MEMORY_MAX_MB = 16 * 1024 * 1024
"""Largest memory limit of a task, in MB: more than any machine has."""
DEADLINE_MAX_S = 7 * 24 * 3600
"""Latest deadline of a batch, in seconds from its submission: one week."""
BUDGET_MAX_USD = 1_000_000
"""Largest budget of a batch, in US dollars."""

TimeoutS = Annotated[
    float,
    Meta(
        gt=0,
        le=TIMEOUT_MAX_S,
        description="Seconds after which one execution of a task is ended and the task FAILED.",
    ),
]
MaxAttempts = Annotated[
    int,
    Meta(
        ge=1,
        le=ATTEMPTS_MAX,
        description="Most executions of one task, including the first, while its errors are ones "
        "that are tried again.",
    ),
]
MemoryMb = Annotated[
    int,
    Meta(
        ge=MEMORY_MIN_MB,
        le=MEMORY_MAX_MB,
        description="Most MB that the process of one task and its children may use together. For "
        "kinds that run in a process of their own.",
    ),
]
RetryTimeouts = Annotated[
    bool, Meta(description="Whether a task that was ended at its time-out is tried again.")
]
AFTER_MAX = 100
"""Most batches that one batch may wait for."""
After = Annotated[
    tuple[Annotated[str, Meta(max_length=64)], ...],
    Meta(
        min_length=1,
        max_length=AFTER_MAX,
        description="Ids of your batches that must have ended before this one goes; until then it "
        "is WAITING. Not for an open batch.",
    ),
]
AfterFailures = Annotated[
    Literal["cancel", "run"],
    Meta(
        description="What becomes of this batch when one of those in `after` ended with tasks that "
        "failed or were cancelled: `cancel`, which is the default, or `run`."
    ),
]
Priority = Annotated[
    Literal["normal", "high"],
    Meta(
        description="Workers take the tasks of a batch of priority `high` before others. `normal` "
        "is as if it were not given."
    ),
]

ReuseResults = Annotated[
    bool,
    Meta(
        description="Whether a task of a deterministic kind takes the result of an equal task of "
        "yours that asked for the same and succeeded before, and leaves its own to later ones."
    ),
]
DeadlineS = Annotated[
    float,
    Meta(
        gt=0,
        le=DEADLINE_MAX_S,
        description="Seconds from the submission within which the batch should end. The fleet gets "
        "as many machines as that takes. A batch that will miss it says so and goes on.",
    ),
]
BudgetUsd = Annotated[
    float,
    Meta(
        gt=0,
        le=BUDGET_MAX_USD,
        description="US dollars that the machines and the AWS calls of the batch may cost. When "
        "they are spent, no machine is launched or kept for it; its tasks wait and are not "
        "cancelled.",
    ),
]


class Options(msgspec.Struct, frozen=True, omit_defaults=True):
    """Options of a batch or a task: an object with those that are set.

    `timeout_s`: seconds after which an execution is ended and its task FAILED. `max_attempts`: most
    executions of one task, including the first. `memory_mb`: most MB that the process of a task and
    its children may use together. `retry_timeouts`: whether a task that was ended at its time-out
    is tried again. `reuse`: whether a task of a deterministic kind takes the result of an earlier,
    equal task of the same client, and leaves its own to later ones.
    """

    timeout_s: TimeoutS | None = None
    max_attempts: MaxAttempts | None = None
    memory_mb: MemoryMb | None = None
    retry_timeouts: RetryTimeouts | None = None
    reuse: ReuseResults | None = None

    @property
    def own(self) -> Options | None:
        """These options alone, of a struct that has them among other fields; None if none is
        set."""
        options = Options(**{name: getattr(self, name) for name in NAMES})
        return None if options == NO_OPTIONS else options

    def as_fields(self) -> dict[str, Any]:
        """Returns the options that are set, by name, as a task object has them."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields


Shape = TypeVar("Shape", bound=Options)


class BatchOptions(Options, frozen=True, omit_defaults=True):
    """Options of a batch: those of its tasks that do not have their own, and those of the batch as
    a whole.

    `after`: ids of batches that must have ended before this one goes. `after_failures`: whether it
    is cancelled (`cancel`, as without it) or goes (`run`) when one of them ended with tasks that
    failed or were cancelled. `priority`: with `high`, workers take its tasks before those of
    others. `deadline_s`: seconds from the submission within which the batch should end.
    `budget_usd`: US dollars that its machines and AWS calls may cost.
    """

    after: After | None = None
    after_failures: AfterFailures | None = None
    priority: Priority | None = None
    deadline_s: DeadlineS | None = None
    budget_usd: BudgetUsd | None = None

    @property
    def is_high(self) -> bool:
        """Returns whether workers take its tasks before those of others."""
        return self.priority == "high"

    @property
    def has_goal(self) -> bool:
        """Returns whether there is a deadline or a budget, which the provisioner looks after."""
        return self.deadline_s is not None or self.budget_usd is not None

    @property
    def whole(self) -> BatchOptions | None:
        """These options alone, of a struct that has them among other fields; None if none is
        set."""
        names = BatchOptions.__struct_fields__
        options = BatchOptions(**{name: getattr(self, name) for name in names})
        return options if options.as_fields() else None


class BatchFields(TypedDict, total=False):
    """The options of a batch as arguments: those of `BatchOptions`, by name."""

    timeout_s: float | None
    max_attempts: int | None
    memory_mb: int | None
    retry_timeouts: bool | None
    reuse: bool | None
    after: Sequence[str] | None
    after_failures: Literal["cancel", "run"] | None
    priority: Priority | None
    deadline_s: float | None
    budget_usd: float | None


def read(given: Mapping[str, Any]) -> Options | None:
    """Returns the options in `given`, a JSON object with some of `NAMES`; None if none is set.
    Raises ValueError, which names the option at fault."""
    return _read(given, Options).own


def read_batch(given: Mapping[str, Any]) -> BatchOptions | None:
    """Returns the options of a batch in `given`, as `read` does for a task."""
    return _read(given, BatchOptions).whole


def whole_numbers(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a JSON object, with an integer in the place of a number such as `3.0`,
    which is an integer in JSON Schema. What lies deeper stays as it is."""
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in given.items()
    }


def _read(given: Mapping[str, Any], shape: type[Shape]) -> Shape:
    try:
        return msgspec.convert(whole_numbers(given), shape)
    except msgspec.ValidationError as error:
        reason, _, name = str(error).partition(" - at `$.")
        raise ValueError(f"{name.rstrip('`')}: {reason}") from None


NO_OPTIONS = Options()
"""Options that say nothing."""
NAMES = Options.__struct_fields__
"""Names of all options, as they stand in a task object and in the body of a request."""


class KindRetry(Protocol):
    """What `limits` reads of a kind's retry policy."""

    @property
    def max_attempts(self) -> int: ...


class KindLimits(Protocol):
    """What `limits` reads of a task kind (`taskfleet.registry.TaskKind`)."""

    @property
    def runs_in(self) -> str: ...
    @property
    def timeout_s(self) -> float | None: ...
    @property
    def memory_mb(self) -> int | None: ...
    @property
    def retry_timeouts(self) -> bool: ...
    @property
    def retry(self) -> KindRetry: ...
    @property
    def deterministic(self) -> bool: ...


class Limits(msgspec.Struct, frozen=True):
    """The limits that count for one task, with names and units as in `Options`; null where there is
    none."""

    timeout_s: float | None
    max_attempts: int
    memory_mb: int | None
    retry_timeouts: bool
    reuse: bool = False


def limits(kind: KindLimits, batch: Options | None, task: Options | None) -> Limits:
    """Returns the limits that count for a task: each is that of the task itself, else that of its
    batch, else that of its kind. A task of a kind that runs in a thread has no limit of memory, and
    only one of a deterministic kind reuses results."""
    own, shared = task or NO_OPTIONS, batch or NO_OPTIONS
    in_process = kind.runs_in == "process"
    return Limits(
        _first(own.timeout_s, shared.timeout_s, kind.timeout_s),
        _first(own.max_attempts, shared.max_attempts, kind.retry.max_attempts),
        _first(own.memory_mb, shared.memory_mb, kind.memory_mb) if in_process else None,
        _first(own.retry_timeouts, shared.retry_timeouts, kind.retry_timeouts),
        bool(kind.deterministic and _first(own.reuse, shared.reuse)),
    )


def _first(*values: Any) -> Any:
    """Returns the first value that is not None; None if all are."""
    return next((value for value in values if value is not None), None)
