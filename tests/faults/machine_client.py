"""The client of a history: what it asks for, and what it may expect of each batch. It repeats a
request under the same key until it is answered, or gives up. Owns the requests; not the kinds
(`tests.faults.machine_kinds`) nor the comparison (`tests.faults.machine_judge`)."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from chalice_app.services import Services
from taskfleet.batch import BatchRecord, keyed_batch_id, random_batch_id, upload_key
from taskfleet.errors import Conflict, InvalidTask, NotFound
from taskfleet.options import BatchOptions
from taskfleet.schedule import Missed
from taskfleet.task import TaskStatus
from tests.faults.machine_kinds import MOST

CLIENT = "alice"


@dataclass
class Order:
    """What the client knows of one of its batches.

    tasks: in order. Those of an open batch are what was answered with 202.
    unsure: tasks of a part that was never answered: they follow the others, all or none.
    accepted: whether a request for it was answered with 202.
    given_up: whether the client stopped repeating a request before it was answered.
    cancel_asked: whether the client asked for its cancellation, answered or not.
    faulty: whether its file has a line that is no task.
    retry_of: the batch whose failed tasks it repeats, so its tasks are not known beforehand.
    """

    batch_id: str
    tasks: list[dict[str, Any]] | None
    unsure: list[dict[str, Any]] = field(default_factory=list)
    accepted: bool = False
    given_up: bool = False
    cancel_asked: bool = False
    is_open: bool = False
    faulty: bool = False
    after: tuple[str, ...] = ()
    run_anyway: bool = False
    retry_of: str | None = None


@dataclass
class Request:
    """A request that is not answered yet.

    refusals: errors that may be its answer.
    then: called with the answer.
    refused: called when it was refused.
    """

    order: Order | None
    send: Callable[[Services], Any]
    patient: bool
    refusals: tuple[type[Exception], ...] = ()
    then: Callable[[Any], None] = lambda _answer: None
    refused: Callable[[], None] = lambda: None


class Client:
    """Makes requests. `store` is where it sends its files."""

    def __init__(self, put: Callable[[str, bytes], None]) -> None:
        self.orders: dict[str, Order] = {}
        self.schedules: dict[str, tuple[Missed, list[dict[str, Any]]]] = {}
        self.unanswered: list[Request] = []
        self._put = put
        self._numbers = itertools.count(100)
        self._keys = itertools.count()
        self._rare: Counter[str] = Counter()

    def tasks(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Returns new tasks of these kinds. Only those of `pooled` are ever equal."""
        return [self._task(name) for name in names]

    def _task(self, name: str) -> dict[str, Any]:
        number = next(self._numbers)
        if name in MOST:
            self._rare[name] += 1
            name = "double" if self._rare[name] > MOST[name] else name
        params = {"n": number % 3 if name == "pooled" else number}
        if name == "flaky":
            params["fail"] = 1 + number % 2
        elif name == "bulky":
            params["bulk"] = 1
        return {"kind": name, "params": params}

    def _order(self, tasks: list[dict[str, Any]] | None, **more: Any) -> tuple[str, Order]:
        key = f"k{next(self._keys)}"
        order = Order(keyed_batch_id(CLIENT, key), tasks, **more)
        self.orders[order.batch_id] = order
        return key, order

    def _ask(self, order: Order, send: Callable[[Services], Any], **more: Any) -> Request:
        def then(_batch: BatchRecord) -> None:
            order.accepted = True

        request = Request(order, send, **{"then": then, **more})
        self.unanswered.append(request)
        return request

    # --- requests ---

    def submit(
        self, names: Sequence[str], *, high: bool, after: Sequence[Order], **more: Any
    ) -> Request:
        """Ask for a batch of tasks of these kinds, which waits for others if there are any."""
        run_anyway = more.pop("run_anyway")
        ids = tuple(each.batch_id for each in after)
        key, order = self._order(self.tasks(names), after=ids, run_anyway=run_anyway)
        options = BatchOptions(
            priority="high" if high else None,
            reuse=True,
            after=ids or None,
            after_failures="run" if ids and run_anyway else None,
        ).whole
        return self._ask(
            order,
            lambda to: to.submission.submit(
                order.tasks or [], client_id=CLIENT, idempotency_key=key, options=options
            ),
            **more,
        )

    def submit_once(self, names: Sequence[str]) -> Request:
        """Ask for a batch without a key, so that the request cannot be repeated."""
        tasks = self.tasks(names)

        def send(to: Services) -> BatchRecord:
            batch = to.submission.submit(tasks, client_id=CLIENT)
            self.orders[batch.batch_id] = Order(batch.batch_id, tasks, accepted=True)
            return batch

        request = Request(None, send, patient=False)
        self.unanswered.append(request)
        return request

    def submit_file(self, names: Sequence[str], *, faulty: bool, **more: Any) -> Request:
        """Send a file and ask for a batch of it."""
        key, order = self._order(self.tasks(names), faulty=faulty)
        lines = [json.dumps(task) for task in order.tasks or []]
        lines = ["", *lines, ""] + ["nonsense"] * faulty
        upload_id = random_batch_id(key.encode())
        self._put(upload_key(CLIENT, upload_id), "\n".join(lines).encode())
        return self._ask(
            order,
            lambda to: to.uploads.submit(upload_id, client_id=CLIENT, idempotency_key=key),
            **more,
        )

    def open(self, names: Sequence[str], **more: Any) -> Request:
        """Ask for an open batch."""
        tasks = self.tasks(names)
        key, order = self._order([], is_open=True, unsure=tasks)

        def then(_batch: BatchRecord) -> None:
            order.tasks, order.unsure, order.accepted = tasks, [], True

        return self._ask(
            order,
            lambda to: to.open_batches.open(tasks, client_id=CLIENT, idempotency_key=key),
            then=then,
            **more,
        )

    def add(self, order: Order, names: Sequence[str], *, close: bool, **more: Any) -> Request:
        """Ask for a part to be added to an open batch."""
        known = order.tasks or []
        first, tasks = len(known), self.tasks(names)
        order.unsure = tasks

        def then(_batch: BatchRecord) -> None:
            order.tasks, order.unsure = known + tasks, []
            order.is_open = not close

        def refused() -> None:
            order.is_open = False

        return self._ask(
            order,
            lambda to: to.open_batches.add(
                order.batch_id, first, tasks, client_id=CLIENT, close=close
            ),
            refusals=(Conflict,),
            then=then,
            refused=refused,
            **more,
        )

    def close(self, order: Order, **more: Any) -> Request:
        """Ask for an open batch to be closed."""
        order.is_open = False
        return self._ask(
            order, lambda to: to.open_batches.close(order.batch_id, client_id=CLIENT), **more
        )

    def cancel(self, order: Order, **more: Any) -> Request:
        """Ask for a batch to be cancelled."""
        order.cancel_asked = True
        return self._ask(
            order,
            lambda to: to.results.cancel(order.batch_id, client_id=CLIENT),
            refusals=() if order.accepted else (NotFound,),
            then=lambda _view: None,
            **more,
        )

    def retry(self, of: Order, **more: Any) -> Request:
        """Ask for the failed tasks of a batch to run again."""
        key, order = self._order(None, retry_of=of.batch_id)
        failed = frozenset({TaskStatus.FAILED})
        return self._ask(
            order,
            lambda to: to.reruns.retry(
                of.batch_id, client_id=CLIENT, statuses=failed, idempotency_key=key
            ),
            refusals=(Conflict, InvalidTask),
            **more,
        )

    def schedule(self, names: Sequence[str], missed: Missed, **more: Any) -> Request:
        """Ask for a schedule whose batches come every minute."""
        name, tasks = f"s{next(self._keys)}", self.tasks(names)
        self.schedules[name] = missed, tasks
        request = Request(
            None,
            lambda to: to.schedules.add(name, tasks, client_id=CLIENT, every=60, missed=missed),
            **more,
        )
        self.unanswered.append(request)
        return request

    def unschedule(self, name: str, **more: Any) -> Request:
        """Ask for a schedule to be removed."""
        request = Request(
            None,
            lambda to: to.schedules.remove(name, client_id=CLIENT),
            refusals=(NotFound,),
            **more,
        )
        self.unanswered.append(request)
        return request
