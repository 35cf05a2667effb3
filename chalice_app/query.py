"""Reads query parameters strictly: an unknown, repeated or invalid parameter is refused, since a
misspelt one that was ignored would change the meaning of the request. Owns that rule and the
parameters of the GET routes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from chalice_app.errors import Unprocessable
from taskfleet.batch import BatchStatus
from taskfleet.scheduler.results import ALL_STATUSES
from taskfleet.task import TaskStatus
from taskfleet.wire.http.batches import BATCHES_PAGE_MAX, WAIT_MAX_S
from taskfleet.wire.http.caps import NAME_MAX_CHARS
from taskfleet.wire.http.fleet import HISTORY_MAX_MINUTES
from taskfleet.wire.http.letters import LETTERS_MAX, QueueName
from taskfleet.wire.http.results import PAGE_DEFAULT, PAGE_MAX, STREAM_PAGE_MAX

Cursor = Annotated[
    str,
    Meta(max_length=4_000, description="The cursor in the previous page; none for the first page."),
]

Attempt = Annotated[
    int,
    Meta(ge=1, le=1_000_000, description="Number of the attempt; the last one unless given."),
]


_SHOWN = "SUCCEEDED|FAILED|CANCELLED|RUNNING"

Statuses = Annotated[
    str,
    Meta(
        # Python's $ takes a line end behind it, too.
        pattern=rf"^({_SHOWN})(,({_SHOWN}))*$(?!\n)",
        max_length=100,
        description="Statuses of the results that are wanted, such as `FAILED` or "
        "`FAILED,CANCELLED`; all unless given. A page may then be empty and yet not the last.",
    ),
]


class NoQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters: for routes whose parameters belong into the body. An idempotency key in the
    query of a JSON request must not be ignored, or its tasks could run twice."""


class BatchesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of `GET /batches`."""

    limit: Annotated[
        int, Meta(ge=1, le=BATCHES_PAGE_MAX, description="Most batches in the page.")
    ] = BATCHES_PAGE_MAX
    cursor: Cursor | None = None
    name: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=NAME_MAX_CHARS,
                description="Only batches with this in their name, in any case of its letters, or "
                "at the start of their id.",
            ),
        ]
        | None
    ) = None
    status: Annotated[BatchStatus, Meta(description="Only batches of this status.")] | None = None
    kind: (
        Annotated[
            str,
            Meta(min_length=1, max_length=64, description="Only batches with tasks of this kind."),
        ]
        | None
    ) = None


class StatusQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of `GET /batches/{batch_id}`."""

    wait: Annotated[
        float,
        Meta(
            ge=0,
            le=WAIT_MAX_S,
            description="Most seconds for which the answer is held until the batch changes.",
        ),
    ] = 0.0


class ResultsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of `GET /batches/{batch_id}/results`."""

    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX, description="Most results in the page.")] = (
        PAGE_DEFAULT
    )
    cursor: Cursor | None = None
    order: Annotated[
        Literal["index", "completion"],
        Meta(
            description="Order of the results: that of the tasks, or that in which they ended. In "
            "the latter the cursor goes on where it stood, also while the batch runs."
        ),
    ] = "index"
    wait: Annotated[
        float,
        Meta(
            ge=0,
            le=WAIT_MAX_S,
            description="In the order of completion, most seconds for which the answer is held "
            "until there is a new result.",
        ),
    ] = 0.0
    status: Statuses | None = None
    recorded: Annotated[
        bool,
        Meta(
            description="In the order of the tasks, show each result as it was recorded, such as "
            "the key of an object, instead of as its kind shows it, such as a URL. The digest of "
            "an audit is over these."
        ),
    ] = False

    @property
    def statuses(self) -> frozenset[TaskStatus]:
        """The statuses that are wanted: all unless given."""
        return frozenset(map(TaskStatus, self.status.split(","))) if self.status else ALL_STATUSES


class StreamQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of `GET /batches/{batch_id}/stream`."""

    limit: Annotated[
        int, Meta(ge=1, le=STREAM_PAGE_MAX, description="Most tasks in the answer.")
    ] = STREAM_PAGE_MAX
    cursor: Cursor | None = None


class HistoryQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of `GET /fleet/history`."""

    minutes: Annotated[
        int, Meta(ge=1, le=HISTORY_MAX_MINUTES, description="How far back the answer goes.")
    ] = 60


class LettersQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of `GET /dead-letters`."""

    queue: Annotated[QueueName, Meta(description="The queue to which the letters belong.")] = (
        "tasks"
    )
    limit: Annotated[int, Meta(ge=1, le=LETTERS_MAX, description="Most letters in the answer.")] = (
        LETTERS_MAX
    )


class LogQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of `GET /batches/{batch_id}/tasks/{index}/log`."""

    attempt: Attempt | None = None
    offset: Annotated[
        int, Meta(ge=0, le=2**40, description="Byte of the output with which the answer begins.")
    ] = 0


Q = TypeVar("Q")


def read_query(
    given: Mapping[str, list[str]] | None, form: type[Q], *, lists: Collection[str] = ()
) -> Q:
    """Returns the parameters as a `form`. Raises Unprocessable.

    given: all values of each parameter of the query string; None when it is empty.
    lists: the parameters that may be given several times, or with several values and commas
        between.
    """
    single: dict[str, str | list[str]] = {}
    for name, values in (given or {}).items():
        if name in lists:
            single[name] = [each for value in values for each in value.split(",")]
            continue
        if len(values) != 1:
            raise Unprocessable(
                f"the query: {name!r:.60} is given {len(values)} times; give it once"
            )
        single[name] = values[0]
    try:
        return msgspec.convert(single, form, strict=False)
    except msgspec.ValidationError as error:
        raise Unprocessable(f"the query: {error}") from None
