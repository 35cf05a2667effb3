"""The limit of tasks that one client may have waiting or running."""

from __future__ import annotations

from typing import Any

import pytest

from taskfleet.batch import BatchRecord, Tally, Upload
from taskfleet.errors import InvalidTask, LimitReached
from taskfleet.memory import ManualClock, MemoryMonitor
from taskfleet.scheduler.limit import NO_LIMIT, ClientLimit, unended

FILE = Upload("k", "e", lines=9, tasks=9)


def batch(batch_id: str = "b", client_id: str = "ann", **fields: Any) -> BatchRecord:
    usual: dict[str, Any] = {"total": 10, "bundles": 1, "closed": True, "enqueued": 10}
    return BatchRecord(
        batch_id=batch_id,
        client_id=client_id,
        name=None,
        created_at=1e9,
        payload_hash="h",
        **{**usual, **fields},
    )


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        pytest.param({}, 10, id="nothing has ended"),
        pytest.param({"enqueued": 0}, 10, id="nothing is enqueued yet"),
        pytest.param({"tally": Tally(3, 2, 1)}, 4, id="some have ended"),
        pytest.param({"tally": Tally(10)}, 0, id="all have ended"),
        pytest.param({"cancelled_at": 1e9, "tally": Tally(3)}, 7, id="cancelled, to be skipped"),
        pytest.param({"cancelled_at": 1e9, "enqueued": 4, "tally": Tally(3)}, 1, id="cut short"),
        pytest.param({"cancelled_at": 1e9, "enqueued": 0}, 0, id="never enqueued"),
        pytest.param({"cancelled_at": 1e9, "enqueued": 0, "tally": Tally(1)}, 0, id="odd counts"),
        pytest.param(
            {"upload": FILE, "closed": False, "total": 0, "enqueued": 0}, None, id="being read"
        ),
        pytest.param(
            {"upload": Upload("k", "e", tasks=50, checked=True), "closed": False}, 50, id="handed"
        ),
        pytest.param({"upload": FILE, "closed": False, "cancelled_at": 1e9}, 10, id="not read on"),
    ],
)
def test_what_of_a_batch_waits_or_runs(fields: dict[str, Any], count: int | None) -> None:
    assert unended(batch(**fields)) == count


def monitor(*batches: BatchRecord) -> MemoryMonitor:
    made = MemoryMonitor(ManualClock(1e9))
    for one in batches:
        made.create_batch(one)
    return made


@pytest.mark.parametrize(
    ("waiting", "tasks", "allowed"),
    [
        ([], 1, True),
        ([], 100, True),
        ([90], 10, True),
        ([90], 11, False),
        ([50, 49], 1, True),
        ([50, 50], 1, False),
        ([99], None, True),
        ([100], None, False),
        ([500], None, False),
    ],
)
def test_a_batch_is_taken_while_it_fits(
    waiting: list[int], tasks: int | None, allowed: bool
) -> None:
    table = monitor(*(batch(f"b{n}", total=total) for n, total in enumerate(waiting)))
    limit = ClientLimit(100)
    limit.check(table, "bob", "new", 100)  # another client has none of them
    NO_LIMIT.check(table, "ann", "new", tasks)
    if allowed:
        limit.check(table, "ann", "new", tasks)
        return
    with pytest.raises(LimitReached, match=f"{sum(waiting)} tasks .* limit is 100") as caught:
        limit.check(table, "ann", "new", tasks)
    assert caught.value.retry_after_s > 0
    limit.check(table, "ann", "b0", tasks)  # what is recorded may be sent again


def test_while_a_file_is_read_its_tasks_are_not_known_so_nothing_else_is_taken() -> None:
    table = monitor(batch(upload=FILE, closed=False, total=0))
    with pytest.raises(LimitReached, match="file of batch b is still being read"):
        ClientLimit(100).check(table, "ann", "new", 1)


def test_a_batch_that_would_never_fit_is_refused_for_good() -> None:
    with pytest.raises(InvalidTask, match="101 tasks are over the limit of 100"):
        ClientLimit(100).check(monitor(), "ann", "new", 101)
    ClientLimit(100).check(monitor(batch("big", total=101)), "ann", "big", 101)  # a lowered limit
    ClientLimit(100).check_size(100)
    NO_LIMIT.check_size(10**9)


def test_without_a_limit_nothing_is_read() -> None:
    class Closed:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

    NO_LIMIT.check(Closed(), "ann", "new", 10**6)  # type: ignore[arg-type]
