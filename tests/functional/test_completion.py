"""Results in the order of completion: each is given once, also while the batch runs and grows."""

from __future__ import annotations

import random
from typing import Any

import pytest

from taskfleet.batch import PAGE_BUNDLES, BatchRecord, Tally
from taskfleet.registry import Registry, sleep
from taskfleet.scheduler import completed as module
from taskfleet.scheduler.given import WINDOW_PAGES
from taskfleet.task import Task, TaskResult, TaskStatus
from tests.support.frontend import Frontend
from tests.support.worker import thread_kind

ID = "0123456789abcdefghjkmnpqrs"


@pytest.fixture
def api() -> Frontend:
    napping = thread_kind("nap", lambda params, context: context.sleep(params), hint_s=60.0)
    return Frontend(registry=Registry([sleep, napping]))


def page(api: Frontend, batch_id: str, cursor: str | None = None, query: str = "") -> Any:
    query += "" if cursor is None else f"&cursor={cursor}"
    answer = api.call("GET", f"/batches/{batch_id}/results?order=completion{query}")
    assert answer.status_code == 200, answer.body
    return answer.json_body


def indexes(body: Any) -> list[int]:
    return [row["index"] for row in body["results"]]


def test_results_come_as_their_bundles_end_and_the_cursor_goes_on(api):
    opened = api.call("POST", "/batches", {"open": True, "tasks": ["sleep 0"]}).json_body
    batch_id = opened["batch_id"]
    first = page(api, batch_id)
    assert indexes(first) == []
    api.run()
    second = page(api, batch_id, first["cursor"])
    assert indexes(second) == [0]
    assert indexes(page(api, batch_id, second["cursor"])) == []
    body = {"first": 1, "tasks": ["sleep 1", "sleep 2"], "close": True}
    api.call("POST", f"/batches/{batch_id}/tasks", body)
    api.run()
    third = page(api, batch_id, second["cursor"])
    assert sorted(indexes(third)) == [1, 2]
    assert third["cursor"] is None
    assert sorted(indexes(page(api, batch_id))) == [0, 1, 2]  # from the beginning again


def test_the_rows_of_a_page_are_in_the_order_of_their_ends(api):
    seconds = [5, 1, 4, 2, 3]
    batch_id = api.submit([{"kind": "nap", "params": s} for s in seconds])
    api.run()
    body = page(api, batch_id)
    ends = [row["started_at"] for row in body["results"]]
    assert ends == sorted(ends)
    assert sorted(indexes(body)) == [0, 1, 2, 3, 4]
    assert body["cursor"] is None


@pytest.mark.parametrize("order", ["index", "completion"])
@pytest.mark.parametrize(
    ("prefer", "brief"),
    [("return=minimal", True), ("wait=5, Return=Minimal", True), ("return=representation", False)],
)
def test_a_client_that_prefers_a_minimal_answer_gets_rows_without_tasks(api, order, prefer, brief):
    batch_id = api.submit(["sleep 0"] * 3)
    api.run()
    path = f"/batches/{batch_id}/results?order={order}"
    usual = api.call("GET", path).json_body
    body = api.call("GET", path, headers={"prefer": prefer}).json_body
    assert {row["task"] for row in usual["results"]} == {"sleep 0"}
    if brief:
        usual["results"] = [{**row, "task": None} for row in usual["results"]]
    assert body == usual


@pytest.mark.parametrize("limit", [1, 3, 7])
def test_a_bundle_of_more_rows_than_a_page_is_given_in_parts(api, limit):
    batch_id = api.submit(["sleep 0"] * 20)
    assert api.cloud.tasks.depth().backlog < 20
    api.run()
    seen, cursor = [], None
    while True:
        body = page(api, batch_id, cursor, f"&limit={limit}")
        assert 0 < len(body["results"]) <= limit
        seen += indexes(body)
        cursor = body["cursor"]
        if cursor is None:
            break
    assert sorted(seen) == list(range(20))


def test_a_cancelled_batch_gives_every_row_and_ends(api):
    batch_id = api.call("POST", "/batches", {"open": True, "tasks": ["nap 1"] * 3}).json_body[
        "batch_id"
    ]
    api.call("DELETE", f"/batches/{batch_id}")
    assert page(api, batch_id)["cursor"] is not None
    api.run()
    body = page(api, batch_id)
    assert {row["status"] for row in body["results"]} == {"CANCELLED"}
    assert (len(body["results"]), body["cursor"]) == (3, None)


def test_an_empty_closed_batch_is_over_at_once(api):
    batch_id = api.call("POST", "/batches", {"open": True}).json_body["batch_id"]
    assert page(api, batch_id)["cursor"] is not None
    api.call("POST", f"/batches/{batch_id}/close")
    assert page(api, batch_id, query="&wait=20") == {"results": [], "cursor": None}


def test_a_waiting_client_is_answered_soon_after_the_first_result(api):
    opened = api.call("POST", "/batches", {"open": True, "tasks": ["sleep 0"]}).json_body
    clock = api.cloud.clock
    began = clock.now()
    at = began + 0.2
    sleep_for, running = clock.sleep, []

    def sleep_and_run(seconds: float) -> None:
        sleep_for(seconds)
        if clock.now() >= at and not running:
            running.append(clock.now())
            api.run()

    clock.sleep = sleep_and_run  # type: ignore[method-assign]
    body = page(api, opened["batch_id"], query="&wait=20")
    assert indexes(body) == [0]
    assert running
    assert clock.now() - running[0] < 0.03


class Course:
    """Tasks of kind `long`, from the index `first` on, each in a bundle of its own, that end one
    after the other, one every `each_s` from now."""

    def __init__(
        self, api: Frontend, batch_id: str, first: int, count: int, each_s: float, monkeypatch: Any
    ) -> None:
        self.clock = api.cloud.clock
        self.began = self.clock.now()
        self.reads = 0
        monitor, sleep_for = api.cloud.monitor, self.clock.sleep
        monitor.start_batch(batch_id, self.began)
        last = first + count - 1
        for number in range(first, first + count):
            lease = monitor.claim(f"{batch_id}:{number}", owner="w", lease_s=30).lease
            duration_s = (number - first) * each_s
            row = TaskResult(
                number, TaskStatus.SUCCEEDED, started_at=self.began, duration_s=duration_s
            )
            monitor.commit(
                f"{batch_id}:{number}", lease, tasks=[Task(number, "long", 1)], results=[row]
            )
        ended: set[int] = set()

        def sleep_and_run(seconds: float) -> None:
            sleep_for(seconds)
            due = min(count, int((self.clock.now() - self.began) / each_s))
            ended.update(range(first + len(ended), first + due))
            tallies = {number: Tally(1) for number in ended}
            monitor.record_progress(batch_id, tallies, self.clock.now(), last_index=last)

        counted = monitor.counted

        def count_read(*given: Any) -> Any:
            self.reads += 1
            return counted(*given)

        monkeypatch.setattr(self.clock, "sleep", sleep_and_run)
        monkeypatch.setattr(monitor, "counted", count_read)

    @property
    def age_s(self) -> float:
        return self.clock.now() - self.began


def long_tasks() -> Frontend:
    return Frontend(
        registry=Registry([thread_kind("long", lambda params, context: None, hint_s=60.0)])
    )


def test_where_many_results_are_to_come_few_reads_bring_them(monkeypatch):
    """64 tasks of a quarter of a second on two slots, each in a bundle of its own."""
    api = long_tasks()
    batch_id = api.submit([{"kind": "long", "params": 1}] * 64)
    course = Course(api, batch_id, 0, 64, 0.125, monkeypatch)
    seen: list[int] = []
    cursor = None
    while True:
        body = page(api, batch_id, cursor, "&wait=20")
        seen += indexes(body)
        cursor = body["cursor"]
        if cursor is None:
            break
        if len(seen) > 60:  # the last ones are told as soon as ever
            assert course.age_s - (seen[-1] + 1) / 8 < 0.15
    assert seen == list(range(64))
    assert course.age_s < 8.1
    assert course.reads < 140  # with the pauses of a lone result it would be twice as many


@pytest.mark.parametrize("parts", [[16], [15, 1]], ids=["one part", "two parts"])
def test_quick_results_before_do_not_make_those_to_come_cost_more_reads(monkeypatch, parts):
    """An open batch whose first 40 tasks ended at once gets 16 more, one every half second."""
    api = long_tasks()
    tasks = [{"kind": "long", "params": 1}]
    opened = api.call("POST", "/batches", {"open": True, "tasks": tasks * 40}).json_body
    batch_id = opened["batch_id"]
    with monkeypatch.context() as quick:
        course = Course(api, batch_id, 0, 40, 0.001, quick)
        course.clock.sleep(0.1)
    cursor = page(api, batch_id)["cursor"]
    first = 40
    for count in parts:
        added = {"first": first, "tasks": tasks * count, "close": first + count == 56}
        assert api.call("POST", f"/batches/{batch_id}/tasks", added).status_code == 202
        first += count
    course = Course(api, batch_id, 40, 16, 0.5, monkeypatch)
    seen: list[int] = []
    while cursor is not None:
        body = page(api, batch_id, cursor, "&wait=20")
        seen += indexes(body)
        cursor = body["cursor"]
    assert seen == list(range(40, 56))
    assert course.age_s < 8.2
    assert course.reads < 110  # at the pace of the whole batch it would be twice as many


class Unheard:
    """The first bundles of a batch, of one task each, that are recorded at `at_s` from now. Nobody
    counts their answers until the method `count` does."""

    def __init__(self, api: Frontend, batch_id: str, count: int, at_s: float, monkeypatch: Any):
        clock, monitor = api.cloud.clock, api.cloud.monitor
        self.batch_id, self.monitor = batch_id, monitor
        self.began = clock.now()
        self.leases = {
            n: monitor.claim(self.job(n), owner="w", lease_s=30).lease for n in range(count)
        }
        monitor.start_batch(batch_id, self.began)
        sleep_for = clock.sleep

        def sleep_and_commit(seconds: float) -> None:
            sleep_for(seconds)
            if clock.now() >= self.began + at_s:
                for number in range(count):
                    self.commit(number)

        monkeypatch.setattr(clock, "sleep", sleep_and_commit)

    def job(self, number: int) -> str:
        return f"{self.batch_id}:{number}"

    def commit(self, number: int) -> None:
        row = TaskResult(number, TaskStatus.SUCCEEDED, started_at=self.began, duration_s=0.01)
        task = Task(number, "long", 1)
        self.monitor.commit(self.job(number), self.leases[number], tasks=[task], results=[row])

    def count(self, *numbers: int) -> None:
        tallies = dict.fromkeys(numbers, Tally(1))
        self.monitor.record_progress(self.batch_id, tallies, self.began + 1)


def opened_with(api: Frontend, count: int) -> str:
    body = {"open": True, "tasks": [{"kind": "long", "params": 1}] * count}
    batch_id: str = api.call("POST", "/batches", body).json_body["batch_id"]
    return batch_id


@pytest.mark.parametrize("count", [1, 3])
def test_the_last_few_results_of_an_open_batch_come_before_they_are_counted(monkeypatch, count):
    api = long_tasks()
    batch_id = opened_with(api, count)
    unheard = Unheard(api, batch_id, count, 0.02, monkeypatch)
    body = page(api, batch_id, query="&wait=20")
    assert sorted(indexes(body)) == list(range(count))
    assert api.cloud.clock.now() - unheard.began < 0.03
    unheard.count(*range(count))
    assert indexes(page(api, batch_id, body["cursor"])) == []  # each is given once
    api.call("POST", f"/batches/{batch_id}/close")
    assert page(api, batch_id, body["cursor"]) == {"results": [], "cursor": None}


def test_a_bundle_that_ends_before_the_last_is_read_once(monkeypatch):
    """The answer is held for the others a moment, and meanwhile the table is read again."""
    api = long_tasks()
    batch_id = opened_with(api, 3)
    unheard = Unheard(api, batch_id, 3, 60.0, monkeypatch)
    unheard.commit(1)
    done: list[set[int]] = []
    counted = api.cloud.monitor.counted

    def look(*given: Any) -> Any:
        found = counted(*given)
        done.append(set(found.done))
        return found

    monkeypatch.setattr(api.cloud.monitor, "counted", look)
    body = page(api, batch_id, query="&wait=20")
    assert indexes(body) == [1]
    assert [each for each in done if each] == [{1}]
    assert len(done) > done.index({1}) + 1


def test_the_last_few_results_come_with_the_look_that_finds_them(monkeypatch):
    api = long_tasks()
    batch_id = opened_with(api, 2)
    Unheard(api, batch_id, 2, 0.02, monkeypatch)
    read: list[Any] = []
    results = api.services.results
    bundles = results.bundles
    monkeypatch.setattr(results, "bundles", lambda *a: read.append(a) or bundles(*a))
    assert len(indexes(page(api, batch_id, query="&wait=20"))) == 2
    assert read == []


@pytest.mark.parametrize(
    ("count", "closed", "at_s"),
    [(4, False, 0.02), (1, True, 0.02), (1, False, 11.0)],
    ids=["many", "closed", "late"],
)
def test_other_results_come_when_they_are_counted(monkeypatch, count, closed, at_s):
    api = long_tasks()
    batch_id = opened_with(api, count)
    if closed:
        api.call("POST", f"/batches/{batch_id}/close")
    unheard = Unheard(api, batch_id, count, at_s, monkeypatch)
    if at_s > 10:
        api.cloud.clock.sleep(10)
    assert indexes(page(api, batch_id, query="&wait=2")) == []
    unheard.count(*range(count))
    assert len(indexes(page(api, batch_id, query="&wait=2"))) == count


def test_without_news_the_answer_comes_when_the_time_is_up(api):
    batch_id = api.submit(["sleep 0"])
    began = api.cloud.clock.now()
    assert indexes(page(api, batch_id, query="&wait=1.5")) == []
    assert api.cloud.clock.now() - began == pytest.approx(1.5)


@pytest.mark.parametrize("cursor", ["0-0", "c1.f0", "c2", "x" * 4000])
def test_a_foreign_cursor_is_refused(api, cursor):
    batch_id = api.submit(["sleep 0"])
    path = f"/batches/{batch_id}/results?order=completion&cursor={cursor}"
    assert api.call("GET", path).status_code == 422


def test_another_client_sees_nothing_and_wait_is_for_this_order(api):
    batch_id = api.submit(["sleep 0"])
    path = f"/batches/{batch_id}/results?order=completion"
    assert api.call("GET", path, as_client="mallory").status_code == 404
    assert api.call("GET", f"/batches/{batch_id}/results?wait=1").status_code == 422


def commit(api: Frontend, number: int) -> None:
    """Let a worker commit a bundle of one task, whose answer is counted."""
    monitor, job = api.cloud.monitor, f"{ID}:{number}"
    lease = monitor.claim(job, owner="w", lease_s=30).lease
    assert lease is not None
    row = TaskResult(number, TaskStatus.SUCCEEDED, started_at=float(number), duration_s=0.0)
    monitor.commit(job, lease, tasks=[Task(number, "sleep", 0)], results=[row])
    monitor.record_progress(ID, {number: Tally(1)}, 1.0, last_index=number)


def test_many_pages_with_one_that_stays_incomplete(api, monkeypatch):
    """Pages behind the window wait, and all are given once when the stragglers have ended."""
    monkeypatch.setattr(module, "PAGE_MAX_BUNDLES", 2_000)
    bundles = (WINDOW_PAGES + 6) * PAGE_BUNDLES
    api.cloud.monitor.create_batch(
        BatchRecord(ID, "alice", None, 0.0, bundles, bundles, "h", True, enqueued=bundles)
    )
    stragglers = {page * PAGE_BUNDLES + 17 for page in range(WINDOW_PAGES)}
    rest = [number for number in range(bundles) if number not in stragglers]
    random.Random(3).shuffle(rest)
    seen: list[int] = []
    cursor = None
    for number in rest:
        commit(api, number)
    for _ in range(30):
        body = page(api, ID, cursor, "&limit=5000")
        cursor = body["cursor"]
        assert cursor is not None
        assert len(cursor) < 4_000
        if not body["results"]:
            break
        seen += indexes(body)
    assert max(seen) < WINDOW_PAGES * PAGE_BUNDLES
    assert len(seen) == len(set(seen)) == WINDOW_PAGES * (PAGE_BUNDLES - 1)
    for number in stragglers:
        commit(api, number)
    while cursor is not None:
        body = page(api, ID, cursor, "&limit=5000")
        seen += indexes(body)
        cursor = body["cursor"]
    assert sorted(seen) == list(range(bundles))
