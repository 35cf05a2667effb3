"""Bundle: the tasks that share one SQS message, and the unit of claim. Owns how a batch is cut
into bundles and the versioned wire forms of `Task_to_process` and `Processed_Task`
(JSON Schemas: `docs/schemas/`).

A bundle of one in the form of 2014, `{"clientID", "jobID", "task"}`, is read and answered too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from taskfleet.bill import NOTHING, Spend
from taskfleet.errors import Undecodable
from taskfleet.pace import Sample
from taskfleet.task import Task, TaskResult, TaskStatus

WIRE_VERSION = 1
BUNDLE_MAX_BYTES = 60_000
"""Of the tasks' JSON; with the envelope a message stays within one 64 KiB billing chunk of SQS."""
BUNDLE_MAX_TASKS = 1_000
BUNDLE_MAX_S = 2.0
BUNDLE_MIN_S = 0.25
"""Of expected work: less is not worth a message of its own."""
FEWEST = 32
"""Bundles that a batch is cut into, when it has work enough, so that its tail is not held by one of
them; as many as the fleet has slots, when those are more. A worker spreads each over its slots, so
more would cost calls and save no time."""
QUICKEST_TASK_S = 20e-6
"""What running even an empty task costs."""
UNKNOWN_TASK_S = 0.25
"""What a task is taken to cost of which nobody knows; a worker gives back what turns out longer."""
DEFAULT_SLOTS = 16


class LegacyIds(msgspec.Struct, frozen=True):
    """How a program of 2014 named its task; both are any JSON scalar."""

    clientID: Any  # noqa: N815 - the wire's names
    jobID: Any  # noqa: N815


class Bundle(msgspec.Struct, frozen=True):
    """`job_id` is `<batch_id>:<number>`, or `<clientID>;<jobID>` for the 2014 form, which has no
    batch: there `batch_id` is empty and `legacy` holds the two ids."""

    job_id: str
    client_id: str
    batch_id: str
    tasks: list[Task]
    legacy: LegacyIds | None = None


class Response(msgspec.Struct, frozen=True):
    """A finished bundle as published on `Processed_Task`; every result in it is final."""

    job_id: str
    client_id: str
    batch_id: str
    results: list[TaskResult]
    legacy: LegacyIds | None = None
    timings: dict[str, Sample] = {}
    """How long tasks took, by kind, for kinds of which nobody knows beforehand."""
    spend: Spend = NOTHING
    """The worker's AWS calls for this bundle, shares of shared ones among them."""


class Tally(msgspec.Struct, frozen=True):
    """How many tasks ended how."""

    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        return self.succeeded + self.failed + self.cancelled

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.succeeded + other.succeeded,
            self.failed + other.failed,
            self.cancelled + other.cancelled,
        )

    @staticmethod
    def of(results: Sequence[TaskResult]) -> Tally:
        statuses = [r.status for r in results]
        return Tally(
            statuses.count(TaskStatus.SUCCEEDED),
            statuses.count(TaskStatus.FAILED),
            statuses.count(TaskStatus.CANCELLED),
        )


def job_id(batch_id: str, number: int) -> str:
    """`<batch_id>:<number>`."""
    return f"{batch_id}:{number}"


def bundle_number(job: str) -> int:
    """The number in a `Job_ID`; ValueError for one of the 2014 form."""
    return int(job.rpartition(":")[2])


class Plan(msgspec.Struct, frozen=True):
    """What a batch is cut by: the expected seconds of a task by kind, for kinds that do not say
    themselves, and the slots of the fleet. Recorded with the batch, since both change with time
    and the same batch must always be cut the same way."""

    estimates: dict[str, float] = {}
    slots: int = DEFAULT_SLOTS


def target_s(costs_s: Sequence[float], slots: int) -> float:
    """How much expected work a bundle should hold, for tasks that cost so much each: about two
    seconds, less when the batch is small for the fleet."""
    return min(BUNDLE_MAX_S, max(BUNDLE_MIN_S, sum(costs_s) / max(FEWEST, slots)))


def depends_on_slots(total_s: float) -> bool:
    """Whether so much expected work is cut otherwise for a large fleet than for a small one."""
    return total_s > BUNDLE_MIN_S * FEWEST


def cut(
    tasks: Sequence[Task],
    expected_s: Callable[[Task], float | None],
    *,
    slots: int = DEFAULT_SLOTS,
    max_tasks: int = BUNDLE_MAX_TASKS,
    max_bytes: int = BUNDLE_MAX_BYTES,
) -> Iterator[list[Task]]:
    """Cut `tasks`, in order, into runs of about `target_s` of expected work, at most `max_tasks`
    tasks and `max_bytes` bytes of JSON each.

    A task that alone is over a cap travels alone. The cut depends on the arguments only.
    """
    costs_s = [_cost_s(expected_s(task)) for task in tasks]
    target = target_s(costs_s, slots) * (1 + 1e-9)  # sums of floats stray by less
    encode = msgspec.json.Encoder().encode
    run: list[Task] = []
    run_s = run_bytes = 0.0
    for task, seconds in zip(tasks, costs_s, strict=True):
        size = len(encode(task)) + 1
        full = len(run) >= max_tasks or run_bytes + size > max_bytes or run_s + seconds > target
        if run and full:
            yield run
            run, run_s, run_bytes = [], 0.0, 0.0
        run.append(task)
        run_s += seconds
        run_bytes += size
    if run:
        yield run


def _cost_s(expected_s: float | None) -> float:
    return UNKNOWN_TASK_S if expected_s is None else max(expected_s, QUICKEST_TASK_S)


# --- the wire -------------------------------------------------------------------------------


class BundleMessage(msgspec.Struct, frozen=True):
    """`Task_to_process`, version 1."""

    v: int
    job_id: str
    client_id: str
    batch_id: str
    tasks: list[Task]


class ResponseMessage(msgspec.Struct, frozen=True):
    """`Processed_Task`, version 1."""

    v: int
    job_id: str
    client_id: str
    batch_id: str
    results: list[TaskResult]
    timings: dict[str, Sample] = {}
    spend: Spend = NOTHING


class LegacyBundleMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`Task_to_process` in the form of 2014."""

    clientID: int | str  # noqa: N815
    jobID: int | str  # noqa: N815
    task: str


class LegacyResponseMessage(msgspec.Struct, frozen=True):
    """`Processed_Task` in the form of 2014; `result` is the error's text when the task failed."""

    clientID: int | str  # noqa: N815
    jobID: int | str  # noqa: N815
    status: TaskStatus
    result: Any


_encode_json = msgspec.json.Encoder().encode
_bundle_decoder = msgspec.json.Decoder(BundleMessage)
_response_decoder = msgspec.json.Decoder(ResponseMessage)
_legacy_bundle_decoder = msgspec.json.Decoder(LegacyBundleMessage)
_legacy_response_decoder = msgspec.json.Decoder(LegacyResponseMessage)


def _encode(message: msgspec.Struct) -> str:
    """JSON without the two characters that JSON allows and SQS refuses."""
    text = _encode_json(message).decode()
    return text.replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")


def encode_bundle(bundle: Bundle) -> str:
    return _encode(
        BundleMessage(WIRE_VERSION, bundle.job_id, bundle.client_id, bundle.batch_id, bundle.tasks)
    )


def decode_bundle(body: str, parse_text: Callable[[str], tuple[str, Any]]) -> Bundle:
    """Read a message of `Task_to_process`; `parse_text` turns a 2014 task line into kind and
    params as they stand, unvalidated. `Undecodable` says what is wrong."""
    try:
        if '"clientID"' in body:
            old = _legacy_bundle_decoder.decode(body)
            kind, params = parse_text(old.task)
            return Bundle(
                job_id=f"{old.clientID};{old.jobID}",
                client_id=str(old.clientID),
                batch_id="",
                tasks=[Task(0, kind, params)],
                legacy=LegacyIds(old.clientID, old.jobID),
            )
        message = _bundle_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Undecodable(f"not a bundle: {error}") from error
    if message.v != WIRE_VERSION:
        raise Undecodable(f"bundle of version {message.v}; this worker reads {WIRE_VERSION}")
    if not message.tasks:
        raise Undecodable("a bundle without tasks")
    if len({task.index for task in message.tasks}) != len(message.tasks):
        raise Undecodable("a bundle with the same task index twice")
    return Bundle(message.job_id, message.client_id, message.batch_id, message.tasks)


def encode_response(response: Response) -> str:
    if response.legacy is not None:
        only = response.results[0]
        return _encode(
            LegacyResponseMessage(
                response.legacy.clientID,
                response.legacy.jobID,
                only.status,
                only.result if only.error is None else only.error,
            )
        )
    return _encode(
        ResponseMessage(
            WIRE_VERSION,
            response.job_id,
            response.client_id,
            response.batch_id,
            response.results,
            response.timings,
            response.spend,
        )
    )


def decode_response(body: str) -> Response | LegacyResponseMessage:
    """Read a message of `Processed_Task`; `Undecodable` says what is wrong."""
    try:
        if '"clientID"' in body[:100]:
            return _legacy_response_decoder.decode(body)
        message = _response_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Undecodable(f"not a response: {error}") from error
    if message.v != WIRE_VERSION:
        raise Undecodable(f"response of version {message.v}; this reader knows {WIRE_VERSION}")
    return Response(
        message.job_id,
        message.client_id,
        message.batch_id,
        message.results,
        timings=message.timings,
        spend=message.spend,
    )
