import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.batch import (
    BatchRecord,
    BatchStatus,
    Tally,
)
from taskfleet.bundle import job_id
from taskfleet.errors import NotFound, TransientError
from taskfleet.memory import ManualClock, MemoryMonitor, MemoryStore
from taskfleet.registry import Registry, TaskKind, sleep
from taskfleet.scheduler.listing import Listing
from taskfleet.scheduler.results import PAGE_MAX_BUNDLES, PAGE_MAX_BYTES, Results
from taskfleet.task import Task, TaskResult, TaskStatus
from taskfleet.wire.http.batches import BATCHES_PAGE_MAX
from taskfleet.wire.http.results import PAGE_MAX
from tests.support.worker import run_nothing

S, F, C = TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED
QUEUED, RUNNING = TaskStatus.QUEUED, TaskStatus.RUNNING
START = 1_700_000_000.25


FILM = TaskKind(
    name="film",
    run=run_nothing,
    present=lambda result, store: {**result, "url": store.url(result["key"], expires_s=60)},
)


class CountingMonitor(MemoryMonitor):
    """A monitor that counts reads of batches and calls `on_read` before each."""

    def __init__(self, clock):
        super().__init__(clock)
        self.reads = 0
        self.on_read = lambda read: None

    def batch(self, batch_id):
        self.reads += 1
        self.on_read(self.reads)
        return super().batch(batch_id)


class World:
    def __init__(self):
        self.clock = ManualClock(START)
        self.monitor = CountingMonitor(self.clock)
        self.results = Results(Registry([sleep, FILM]), self.monitor, MemoryStore(), self.clock)
        self.listing = Listing(self.monitor, self.clock)

    def batch(self, batch_id="b1", client_id="alice", total=10, bundles=1, **fields):
        self.monitor.create_batch(
            BatchRecord(
                batch_id=batch_id,
                client_id=client_id,
                name=fields.pop("name", None),
                created_at=fields.pop("created_at", self.clock.now()),
                total=total,
                bundles=bundles,
                payload_hash="h",
                closed=True,
                **fields,
            )
        )

    def begin(self, number, batch_id="b1"):
        job = job_id(batch_id, number)
        return job, self.monitor.claim(job, owner="w", lease_s=30).lease

    def bundle(self, number, rows, tasks=None, batch_id="b1"):
        """Commit a bundle with these rows."""
        job, lease = self.begin(number, batch_id)
        tasks = [Task(row.index, "sleep", 5) for row in rows] if tasks is None else tasks
        self.monitor.commit(job, lease, tasks=tasks, results=rows)

    def pages(self, batch_id="b1", **options):
        cursor = None
        while True:
            page = self.results.results(batch_id, client_id="alice", cursor=cursor, **options)
            yield page
            cursor = page.cursor
            if cursor is None:
                return


def done(*indexes):
    return [TaskResult(index, S, attempts=1) for index in indexes]


def rows_of(pages):
    return [row.index for page in pages for row in page.results]


@pytest.fixture
def world():
    return World()


# --- status ---------------------------------------------------------------------------------


def test_a_batch_is_shown_with_its_counts_and_times(world):
    world.batch(name="mine", total=10, bundles=2)
    world.monitor.start_batch("b1", START + 1)
    world.monitor.record_progress("b1", {0: Tally(3, 1, 0)}, START + 5)
    world.clock.set(START + 11)
    seen = world.results.status("b1", client_id="alice")
    assert (seen.batch_id, seen.name, seen.status) == ("b1", "mine", BatchStatus.RUNNING)
    assert (seen.total, seen.succeeded, seen.failed, seen.cancelled) == (10, 3, 1, 0)
    assert seen.created_at == "2023-11-14T22:13:20.250Z"
    assert seen.finished_at is None
    assert seen.eta_s == 15.0
    world.monitor.record_progress("b1", {1: Tally(5, 0, 1)}, START + 20)
    seen = world.results.status("b1", client_id="alice")
    assert (seen.status, seen.finished_at, seen.eta_s) == (
        BatchStatus.DONE,
        "2023-11-14T22:13:40.250Z",
        0.0,
    )


def test_a_status_costs_one_read_however_large_the_batch(world):
    world.batch(total=250_000, bundles=250)
    world.results.status("b1", client_id="alice")
    assert world.monitor.reads == 1


READERS = [
    lambda results, batch_id, client: results.status(batch_id, client_id=client),
    lambda results, batch_id, client: results.status(batch_id, client_id=client, wait_s=20),
    lambda results, batch_id, client: results.results(batch_id, client_id=client),
    lambda results, batch_id, client: results.cancel(batch_id, client_id=client),
]


@pytest.mark.parametrize("read", READERS, ids=["status", "wait", "results", "cancel"])
def test_another_client_s_batch_cannot_be_told_from_one_that_does_not_exist(world, read):
    world.batch(client_id="bob")
    with pytest.raises(NotFound) as theirs:
        read(world.results, "b1", "alice")
    with pytest.raises(NotFound) as missing:
        read(world.results, "b2", "alice")
    assert str(theirs.value).replace("b1", "b2") == str(missing.value)
    assert world.clock.now() == START
    assert world.monitor.batch("b1").cancelled_at is None


# --- waiting --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wait_s", "waited_s"), [(0, 0), (-5, 0), (1, 1), (25, 2), (1000, 2), (float("nan"), 0)]
)
def test_an_answer_is_held_until_the_time_is_up_when_nothing_changes(world, wait_s, waited_s):
    world.batch()
    seen = world.results.status("b1", client_id="alice", wait_s=wait_s)
    assert seen.status is BatchStatus.QUEUED
    assert world.clock.now() - START == pytest.approx(waited_s)
    assert world.monitor.reads <= 40


@pytest.mark.parametrize(
    ("wait_s", "ended", "at", "waited_s"),
    [
        (7, 6, 10, 7),
        (1000, 6, 10, 8),
        (6, 6, 10, 2),
        (20, 5, 10, 2),
        (20, 8, 14, 8),
        (20, 9, 30, 2),
    ],
    ids=["in-time", "capped", "too-late", "far", "silent", "too-silent"],
)
def test_an_answer_is_held_longer_when_the_end_is_expected_within_it(
    world, wait_s, ended, at, waited_s
):
    """The tasks that ended took 10 s, so that the others are expected to go on as fast."""
    world.batch(total=10, bundles=2)
    world.monitor.start_batch("b1", START)
    world.monitor.record_progress("b1", {0: Tally(ended)}, START + 10)
    world.clock.set(START + at)
    world.results.status("b1", client_id="alice", wait_s=wait_s)
    assert world.clock.now() - START - at == pytest.approx(waited_s)


@pytest.mark.parametrize(
    "change",
    [
        lambda monitor: monitor.start_batch("b1", START),
        lambda monitor: monitor.record_progress("b1", {0: Tally(1)}, START),
        lambda monitor: monitor.record_progress("b1", {0: Tally(10)}, START),
        lambda monitor: monitor.cancel_batch("b1", START),
    ],
    ids=["started", "progressed", "done", "cancelled"],
)
def test_a_held_answer_comes_as_soon_as_something_changes(world, change):
    world.batch()
    world.monitor.on_read = lambda read: change(world.monitor) if read == 4 else None
    seen = world.results.status("b1", client_id="alice", wait_s=25)
    assert 4 <= world.monitor.reads <= 9
    assert world.clock.now() - START < 1
    assert (seen.status, seen.succeeded) != (BatchStatus.QUEUED, 0)


def test_of_changes_that_follow_each_other_the_last_one_is_answered(world):
    world.batch(bundles=7)
    ends = {4: Tally(1), 5: Tally(2), 6: Tally(7)}

    def end_some(read):
        if read in ends:
            world.monitor.record_progress("b1", {read: ends[read]}, START)

    world.monitor.on_read = end_some
    seen = world.results.status("b1", client_id="alice", wait_s=25)
    assert (seen.status, seen.succeeded) == (BatchStatus.DONE, 10)
    assert world.monitor.reads == 6


@pytest.mark.parametrize(("age_s", "settled_s"), [(0, 0.1), (5, 0.5), (10, 1), (3_600, 2)])
def test_changes_of_a_long_batch_are_answered_together(world, age_s, settled_s):
    """Else whoever asks again at once would be billed a call for each task."""
    world.batch(total=1_000, bundles=1_000)
    world.clock.set(START + age_s)
    world.monitor.on_read = lambda read: world.monitor.record_progress(
        "b1", {read: Tally(1)}, START
    )
    began = world.clock.now()
    world.results.status("b1", client_id="alice", wait_s=25)
    assert world.clock.now() - began == pytest.approx(settled_s, abs=0.05)
    assert world.monitor.reads <= 20


def test_the_end_of_a_long_batch_is_answered_at_once(world):
    world.batch(bundles=5)
    world.clock.set(START + 3_600)
    ends = {2: Tally(1), 4: Tally(9)}
    world.monitor.on_read = lambda read: (
        world.monitor.record_progress("b1", {read: ends[read]}, START) if read in ends else None
    )
    began = world.clock.now()
    seen = world.results.status("b1", client_id="alice", wait_s=25)
    assert seen.status is BatchStatus.DONE
    assert world.clock.now() - began < 0.3


def test_a_finished_batch_is_not_waited_for(world):
    world.batch(tally=Tally(10), progressed_at=START)
    assert world.results.status("b1", client_id="alice", wait_s=25).status is BatchStatus.DONE
    assert (world.clock.now(), world.monitor.reads) == (START, 1)


def test_a_cancelled_batch_is_waited_for_until_its_last_running_task_ends(world):
    world.batch(cancelled_at=START)

    def finish(read):
        if read == 3:
            world.monitor.record_progress("b1", {0: Tally(1, 0, 9)}, START + 1)

    world.monitor.on_read = finish
    seen = world.results.status("b1", client_id="alice", wait_s=25)
    assert (seen.status, seen.cancelled) == (BatchStatus.CANCELLED, 9)
    assert seen.finished_at is not None


# --- cancelling -----------------------------------------------------------------------------


def test_cancelling_marks_the_batch_once(world):
    world.batch()
    assert world.results.cancel("b1", client_id="alice").status is BatchStatus.CANCELLED
    world.clock.sleep(9)
    assert world.results.cancel("b1", client_id="alice").status is BatchStatus.CANCELLED
    assert world.monitor.batch("b1").cancelled_at == START


def test_a_finished_batch_stays_done_when_cancelled(world):
    world.batch(tally=Tally(10), progressed_at=START)
    assert world.results.cancel("b1", client_id="alice").status is BatchStatus.DONE


# --- the list of batches --------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_a_client_s_batches_are_listed_newest_first_page_by_page(world, limit):
    for n in range(7):
        world.batch(f"b{n}", created_at=START + n // 2)  # some at the same moment
    world.batch("other", client_id="bob")
    seen, cursor = [], None
    while True:
        page = world.listing.page(client_id="alice", limit=limit, cursor=cursor)
        assert len(page.batches) <= limit
        seen += [batch.batch_id for batch in page.batches]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == [f"b{n}" for n in reversed(range(7))]


def test_a_page_of_batches_is_capped(world):
    for n in range(BATCHES_PAGE_MAX + 1):
        world.batch(f"b{n}")
    page = world.listing.page(client_id="alice", limit=10_000, cursor=None)
    assert len(page.batches) == BATCHES_PAGE_MAX
    assert page.cursor


def test_a_client_without_batches_has_an_empty_list(world):
    page = world.listing.page(client_id="alice", limit=5, cursor="")
    assert (page.batches, page.cursor) == ([], None)


@pytest.mark.parametrize("cursor", ["x", "nan_b1", "1-0"])
def test_a_malformed_cursor_of_a_list_is_refused(world, cursor):
    with pytest.raises(ValueError, match="cursor"):
        world.listing.page(client_id="alice", limit=5, cursor=cursor)


# --- a task's row ---------------------------------------------------------------------------


def test_a_result_is_shown_with_its_task_as_submitted(world):
    world.batch(total=2)
    rows = [
        TaskResult(0, S, None, None, 1, START + 1, 0.5, "w-1"),
        TaskResult(1, F, None, "no such host", 3, START + 2.0004, 0.25, "w-2"),
    ]
    world.bundle(0, rows, [Task(0, "sleep", 500), Task(1, "film", {"images": []})])
    first, second = world.results.results("b1", client_id="alice").results
    assert (first.task_id, first.index, first.task) == ("b1/0", 0, "sleep 500")
    assert (first.status, first.result, first.error, first.attempts) == (S, None, None, 1)
    assert (first.started_at, first.duration_s) == ("2023-11-14T22:13:21.250Z", 0.5)
    assert first.worker_id == "w-1"
    assert second.task == {"kind": "film", "params": {"images": []}}
    assert (second.status, second.error, second.attempts) == (F, "no such host", 3)


def test_a_kind_presents_its_result_anew_at_each_reading(world):
    world.batch(total=2)
    rows = [TaskResult(0, S, {"key": "movies/b1/0.mp4"}), TaskResult(1, F, None, "no")]
    world.bundle(0, rows, [Task(0, "film", {}), Task(1, "film", {})])
    first, second = world.results.results("b1", client_id="alice").results
    assert first.result == {"key": "movies/b1/0.mp4", "url": "memory://movies/b1/0.mp4"}
    assert second.result is None


@pytest.mark.parametrize(
    ("key", "url"),
    [
        ("results/b1/0/x", "memory://results/b1/0/x"),
        ("results/b2/0/x", None),
        ("uploads/bob/secret", None),
    ],
)
def test_a_result_that_a_clients_code_wrote_gets_urls_of_its_own_batch_only(world, key, url):
    kind = dataclasses.replace(FILM, runs_client_code=True)
    world.results = Results(Registry([kind]), world.monitor, MemoryStore(), world.clock)
    world.batch(total=1)
    world.bundle(0, [TaskResult(0, S, {"key": key})], [Task(0, "film", {})])
    (row,) = world.results.results("b1", client_id="alice").results
    assert row.result.get("url") == url


def test_the_results_of_a_retired_kind_stay_readable(world):
    world.batch(total=1)
    world.bundle(0, [TaskResult(0, S, {"n": 1})], [Task(0, "retired", "x")])
    (row,) = world.results.results("b1", client_id="alice").results
    assert (row.task, row.result) == ("retired x", {"n": 1})


def test_what_goes_wrong_in_presenting_is_not_hidden(world):
    def busy(result, store):
        raise TransientError("slow down")

    kind = TaskKind(name="busy", run=run_nothing, present=busy)
    world.results = Results(Registry([kind]), world.monitor, MemoryStore(), world.clock)
    world.batch(total=1)
    world.bundle(0, [TaskResult(0, S, 1)], [Task(0, "busy", None)])
    with pytest.raises(TransientError):
        world.results.results("b1", client_id="alice")


def test_a_bundle_in_hand_shows_its_running_and_ended_tasks_but_none_that_waits(world):
    world.batch(total=4, bundles=2)
    job, lease = world.begin(0)
    rows = [
        TaskResult(2, S, attempts=1),
        TaskResult(1, QUEUED, error="throttled", attempts=1),
        TaskResult(0, RUNNING, progress=[3, 9]),
    ]
    tasks = [Task(n, "sleep", 5) for n in range(4)]
    world.monitor.renew(job, lease, lease_s=30, tasks=tasks, results=rows)
    page = world.results.results("b1", client_id="alice")
    assert [(r.index, r.status, r.progress) for r in page.results] == [
        (0, RUNNING, [3, 9]),
        (2, S, None),
    ]
    assert page.cursor is None


# --- paging ---------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 6), max_size=30), st.integers(1, 40))
def test_any_page_size_yields_each_row_once_and_in_order(sizes, limit):
    """`sizes` has the rows of each bundle; a bundle of 0 rows was never claimed."""
    world = World()
    world.batch(total=max(1, sum(sizes)), bundles=len(sizes))
    index = 0
    for number, size in enumerate(sizes):
        if size:
            world.bundle(number, done(*range(index, index + size)))
        index += size
    pages = list(world.pages(limit=limit))
    assert rows_of(pages) == list(range(sum(sizes)))
    assert all(len(page.results) <= limit for page in pages)
    assert all(len(page.results) == limit for page in pages[:-1])


@st.composite
def snapshots(draw):
    """Draws successive states of a bundle's record: rows appear, start, end and return to the
    queue, listed in any order."""
    count = draw(st.integers(1, 6))
    taken = []
    for _ in range(draw(st.integers(1, 8))):
        statuses = draw(
            st.lists(st.sampled_from([None, QUEUED, RUNNING, S]), min_size=count, max_size=count)
        )
        rows = [TaskResult(i, s) for i, s in enumerate(statuses) if s is not None]
        taken.append(draw(st.permutations(rows)))
    return count, taken


@given(snapshots(), st.integers(1, 3))
def test_while_a_bundle_changes_paging_repeats_no_row_and_skips_none_that_was_always_there(
    drawn, limit
):
    count, taken = drawn
    world = World()
    world.batch(total=count)
    job, lease = world.begin(0)
    tasks = [Task(n, "sleep", 5) for n in range(count)]

    def record(rows):
        world.monitor.renew(job, lease, lease_s=30, tasks=tasks, results=rows)

    record(taken[0])
    pages = []
    for page in world.pages(limit=limit):
        pages.append(page)
        record(taken[min(len(pages), len(taken) - 1)])
    seen = rows_of(pages)
    assert seen == sorted(set(seen))
    listed = [{r.index for r in rows if r.status is not QUEUED} for rows in taken]
    assert set.intersection(*listed) <= set(seen) <= set.union(*listed)


def test_a_page_is_capped_whatever_is_asked_for(world):
    world.batch(total=PAGE_MAX + 1, bundles=6)
    for number in range(6):
        first = number * 1000
        world.bundle(number, done(*range(first, min(first + 1000, PAGE_MAX + 1))))
    first, second = world.pages(limit=10**9)
    assert (len(first.results), len(second.results)) == (PAGE_MAX, 1)


def test_a_page_is_capped_in_bytes_but_has_at_least_one_row(world):
    world.batch(total=4, bundles=1)
    most = PAGE_MAX_BYTES - 1000
    texts = ["x" * (PAGE_MAX_BYTES // 2), "y", "я" * (most // 6), "z" * 900]
    world.bundle(0, [TaskResult(n, S, text) for n, text in enumerate(texts)])
    pages = list(world.pages())
    assert [[row.index for row in page.results] for page in pages] == [[0, 1], [2], [3]]


def test_a_page_looks_at_a_bounded_number_of_bundles_and_may_be_empty(world):
    world.batch(total=3000, bundles=PAGE_MAX_BUNDLES * 2 + 5)
    world.bundle(PAGE_MAX_BUNDLES + 3, done(2000))
    pages = list(world.pages())
    assert [rows_of([page]) for page in pages] == [[], [2000], []]


def test_a_batch_that_nobody_began_has_one_empty_page(world):
    world.batch(bundles=3)
    (page,) = world.pages()
    assert page.results == []


@pytest.mark.parametrize("cursor", ["7-0", "999999999-999999999", "0-99"])
def test_a_cursor_beyond_the_end_finds_nothing(world, cursor):
    world.batch(bundles=1)
    world.bundle(0, done(*range(10)))
    page = world.results.results("b1", client_id="alice", cursor=cursor)
    assert (page.results, page.cursor) == ([], None)


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "1",
        "-",
        "1-",
        "-1",
        "1--1",
        "1-2-3",
        "+1-0",
        " 1-0",
        "1_0-0",
        "١-0",
        "1.0-0",
        "9" * 5000 + "-0",
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_malformed_cursor_is_refused(world, cursor):
    world.batch()
    with pytest.raises(ValueError, match=re.escape("is not one that this API gave")):
        world.results.results("b1", client_id="alice", cursor=cursor)
