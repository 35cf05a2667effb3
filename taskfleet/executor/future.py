"""The future of a call on the fleet. Owns what it adds to the one of the standard library."""

from __future__ import annotations

import html
import threading
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from taskfleet.executor.problems import TaskError
from taskfleet.task import task_id
from taskfleet.wire.plain import shortened

T = TypeVar("T")

SHOWN_CHARS = 80
"""Characters of an error that a future shows of itself."""


class Keeper(Protocol):
    """Where a future belongs."""

    @property
    def batch_id(self) -> str | None: ...

    def withdraw(self, future: FleetFuture[Any]) -> bool: ...

    def log_text(self, index: int) -> str: ...


class _LateCondition(threading.Condition):
    """A condition variable that is made when somebody waits for it. Ten thousand futures then have
    fifty thousand objects less, among which every garbage collection looks."""

    _waiters = ()  # for the base class's `repr`

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._made: threading.Condition | None = None

    def acquire(self, *args: Any) -> bool:
        return self._lock.acquire(*args)

    def release(self) -> None:
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        if self._made is None:
            self._made = threading.Condition(self._lock)
        return self._made.wait(timeout)

    def notify(self, n: int = 1) -> None:
        if self._made is not None:
            self._made.notify(n)

    def notify_all(self) -> None:
        if self._made is not None:
            self._made.notify_all()


class FleetFuture(Future[T]):
    """A `concurrent.futures.Future` of a call that runs on the fleet.

    A call can be cancelled until it is handed over, which takes milliseconds. After that `cancel`
    returns False; `FleetExecutor.shutdown(cancel_futures=True)` cancels all that have not started.
    """

    def __init__(self, keeper: Keeper) -> None:
        super().__init__()
        self._condition = _LateCondition()
        self._keeper = keeper
        self._index: int | None = None
        self.taken = False  # by the sender or by `cancel`; guarded by the keeper's lock

    @property
    def batch_id(self) -> str | None:
        """Id of the batch of its executor; None before the first call was handed over."""
        return self._keeper.batch_id

    @property
    def index(self) -> int | None:
        """The call's place in its batch, from 0; None before it was handed over."""
        return self._index

    @property
    def task_id(self) -> str | None:
        """Id of the task, `<batch_id>/<index>`; None before it was handed over."""
        batch_id = self._keeper.batch_id
        return None if self._index is None or batch_id is None else task_id(batch_id, self._index)

    def log(self) -> str:
        """Returns what the call printed so far, empty if nothing. It is read from the service."""
        return "" if self._index is None else self._keeper.log_text(self._index)

    def cancel(self) -> bool:
        """Cancel the call if it was not handed over yet. Returns whether it is cancelled."""
        if self._keeper.withdraw(self) and super().cancel():
            self.set_running_or_notify_cancel()
        return self.cancelled()

    def running(self) -> bool:
        """Returns whether the call was handed over and has not ended."""
        return self.taken and not self.done()

    def __repr__(self) -> str:
        return f"<FleetFuture {self.task_id or 'not handed over yet'}: {self._state_in_words()}>"

    def _repr_html_(self) -> str:
        return html.escape(repr(self))

    def _state_in_words(self) -> str:
        if self.cancelled():
            return "cancelled"
        if not self.done():
            return "running" if self.taken else "waiting"
        error = self.exception()
        if error is None:
            return f"returned {type(self.result()).__name__}"
        return f"raised {type(error).__name__}: {shortened(str(error), SHOWN_CHARS)}"

    # --- for the executor's threads ------------------------------------------------------------

    def number(self, index: int) -> None:
        """Note the place of the call in its batch."""
        self.taken, self._index = True, index

    def end_cancelled(self) -> None:
        """Have the future end as cancelled, since its task was."""
        if super().cancel():
            self.set_running_or_notify_cancel()

    def end_without_row(self, batch_id: str | None) -> None:
        """Have the future end with an error, since its batch ended without its task."""
        self.set_exception(
            TaskError(f"batch {batch_id} has ended without this call; was it closed elsewhere?")
        )
