"""What a row means to the future of its call. Owns the mapping from rows to values and
exceptions; the form of a result is `taskfleet.wire.calls`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskfleet.errors import TaskFailed, TaskfleetError
from taskfleet.executor.future import FleetFuture
from taskfleet.executor.problems import TaskError
from taskfleet.task import TaskStatus
from taskfleet.wire import calls
from taskfleet.wire.http.results import ResultView

Fetch = Callable[[str], bytes]
"""Returns what is at a URL that the service gave."""


def is_stored(row: ResultView) -> bool:
    """Returns whether the row's result must be fetched from the store."""
    return type(row.result) is dict and calls.STORED in row.result


def settle(future: FleetFuture[Any], row: ResultView, fetch: Fetch | None = None) -> None:
    """End the future as its task has ended. `fetch` is needed if the row `is_stored`."""
    if row.status is TaskStatus.CANCELLED:
        future.end_cancelled()
    elif row.status is not TaskStatus.SUCCEEDED:
        future.set_exception(_exception(row))
    elif type(row.result) is not dict:
        future.set_result(row.result)
    else:
        try:
            value = calls.decode_result(row.result, lambda result: _fetched(result, fetch))
        except TaskfleetError as error:
            failure = TaskError(str(error), row.task_id)
            failure.__cause__ = error
            future.set_exception(failure)
        else:
            future.set_result(value)


def _fetched(result: Any, fetch: Fetch | None) -> bytes:
    url = result.get("url")
    if fetch is None or not isinstance(url, str):
        raise TaskfleetError("the result is stored, and its row does not say where")
    return fetch(url)


def _exception(row: ResultView) -> BaseException:
    """Returns the exception of a failed call: its own if it was sent, else a TaskError."""
    error = calls.decode_error(row.error or "failed", row.result, row.traceback)
    if type(error) is not TaskFailed or str(error) != row.error:
        return error
    failure = TaskError(str(error), row.task_id, row.result)
    failure.__cause__ = error.__cause__
    return failure
