"""A submission as the bodies of the POSTs that carry it. Owns where one POST ends and the next
begins; not the sending (`taskfleet.client`) nor what the server makes of parts
(`taskfleet.submit`).

The cut follows from tasks, name and key alone, so that a submission cut short goes on where it
stopped when it is sent again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from taskfleet.errors import InvalidTask
from taskfleet.submit import MAX_TASKS

PART_MAX_BYTES = 5 * 1024 * 1024
"""Of one body: what the API takes."""
_MANY = 10**9


@dataclass(frozen=True)
class PartBody:
    """One POST. `number` counts from 0; `first_index` is the place in the whole submission of the
    part's first task."""

    number: int
    first_index: int
    last: bool
    body: bytes


def cut(
    tasks: Iterable[str | dict[str, Any]],
    *,
    name: str | None,
    idempotency_key: str,
    max_bytes: int = PART_MAX_BYTES,
    max_tasks: int = MAX_TASKS,
) -> Iterator[PartBody]:
    """The parts, at least one, made as `tasks` is consumed. InvalidTask names a task that is not
    JSON, or too large for any part; ValueError a name or key that is not Unicode."""
    envelope: dict[str, Any] = {"idempotency_key": idempotency_key}
    if name is not None:
        envelope["name"] = name
    capacity = max_bytes - len(_body(envelope, _MANY, False, []))
    number = first_index = size = 0
    held: list[bytes] = []
    for index, task in enumerate(tasks):
        text = _encode(task, index)
        if len(text) >= capacity:
            raise InvalidTask(f"its {len(text)} bytes of JSON do not fit into one request", index)
        if len(held) == max_tasks or size + len(text) + 1 > capacity:
            yield PartBody(number, first_index, False, _body(envelope, number, False, held))
            number, first_index, size, held = number + 1, index, 0, []
        held.append(text)
        size += len(text) + 1
    yield PartBody(number, first_index, True, _body(envelope, number, True, held))


def _body(envelope: dict[str, Any], number: int, last: bool, tasks: list[bytes]) -> bytes:
    if (number, last) != (0, True):
        envelope = {**envelope, "part": {"number": number, "last": last}}
    return msgspec.json.encode({**envelope, "tasks": msgspec.Raw(b"[" + b",".join(tasks) + b"]")})


def _encode(task: Any, index: int) -> bytes:
    """What a task may be is for the server to say; that it is JSON is seen here."""
    try:
        if isinstance(task, str):
            return msgspec.json.encode(task)
        # msgspec would turn NaN into null without a word.
        text = json.dumps(task, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        return text.encode()
    except RecursionError:
        raise InvalidTask("nested too deeply", index) from None
    except (TypeError, ValueError) as error:
        raise InvalidTask(f"cannot be written as JSON: {error}", index) from None
