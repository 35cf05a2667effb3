"""The iterator that `FleetExecutor.map` returns. Owns look-ahead, order and time-outs."""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future
from itertools import islice
from typing import Any

AHEAD = 10_000
"""Most calls that are ahead of the reader when the end of the input is not known."""


def results_of(
    submit: Callable[[tuple[Any, ...]], Future[Any]],
    iterables: Sequence[Iterable[Any]],
    *,
    until: float | None,
    ordered: bool,
    return_exceptions: bool,
) -> Iterator[Any]:
    """Submit at once what may be ahead. Returns an iterator over the results; see
    `FleetExecutor.map`.

    until: time of the monotonic clock after which the iterator raises TimeoutError.
    """
    known = any(isinstance(each, Sized) for each in iterables)
    arguments = zip(*iterables, strict=False)
    ended: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()

    def send(count: int | None) -> Iterator[Future[Any]]:
        for args in islice(arguments, count):
            future = submit(args)
            if not ordered:
                future.add_done_callback(ended.put)
            yield future

    first = deque[Future[Any]]()
    try:
        first.extend(send(None if known else AHEAD))
    except BaseException:
        for future in first:
            future.cancel()
        raise
    rest = iter(()) if known else send(None)
    return (
        _in_order(first, rest, until, return_exceptions)
        if ordered
        else _as_they_come(first, rest, ended, until, return_exceptions)
    )


def _in_order(
    futures: deque[Future[Any]],
    rest: Iterator[Future[Any]],
    until: float | None,
    return_exceptions: bool,
) -> Iterator[Any]:
    try:
        while futures:
            value = _value(futures[0], until, return_exceptions)
            futures.popleft()
            futures.extend(islice(rest, 1))
            yield value
    finally:
        for future in futures:
            future.cancel()


def _as_they_come(
    futures: deque[Future[Any]],
    rest: Iterator[Future[Any]],
    ended: queue.SimpleQueue[Future[Any]],
    until: float | None,
    return_exceptions: bool,
) -> Iterator[Any]:
    open_futures = set(futures)
    futures.clear()
    try:
        while open_futures:
            try:
                future = ended.get(timeout=_left(until))
            except queue.Empty:
                raise TimeoutError from None
            open_futures.discard(future)
            open_futures.update(islice(rest, 1))
            yield _value(future, None, return_exceptions)
    finally:
        for future in open_futures:
            future.cancel()


def _left(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic())


def _value(future: Future[Any], until: float | None, return_exceptions: bool) -> Any:
    if not return_exceptions:
        return future.result(_left(until))
    error = future.exception(_left(until))
    return future.result() if error is None else error
