"""Requests that ask for much at once: a POST of very many bundles is answered in time (D13), and
clients that wait leave room for others (D5)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from taskfleet.batch import Tally
from taskfleet.client import client as client_module
from taskfleet.client.client import Client
from taskfleet.memory import ManualClock
from taskfleet.wire.http.batches import BatchView
from tests.support.frontend import Frontend

SEND_AT_MOST = 5_000
"""Messages that one POST may send: 500 calls of 10 ms, eight at a time."""


class TestManyBundles:
    TASKS = ["sleep 2000"] * (SEND_AT_MOST + 1)  # a bundle each

    @pytest.fixture
    def api(self) -> Frontend:
        return Frontend()

    @staticmethod
    def post(api: Frontend, tasks: list[Any], **options: Any) -> Any:
        return api.call("POST", "/batches", {"tasks": tasks, **options})

    def test_they_are_not_sent_within_the_request(self, api: Frontend) -> None:
        answer = self.post(api, self.TASKS)
        assert (answer.status_code, answer.json_body["total"]) == (202, len(self.TASKS))
        assert api.cloud.tasks.depth().backlog <= SEND_AT_MOST

    def test_they_are_sent_afterwards_each_once_and_in_order(self, api: Frontend) -> None:
        tasks = [*self.TASKS, {"kind": "sleep", "params": 1.5}]
        answer = self.post(api, tasks, name="many")
        api.feed(api.cloud.uploads, "expand_upload", 1)
        batch = api.cloud.monitor.batch(answer.json_body["batch_id"])
        assert batch is not None
        assert (batch.total, batch.closed, batch.name) == (len(tasks), True, "many")
        assert api.cloud.tasks.depth().backlog == batch.bundles
        assert api.cloud.uploads.depth().backlog == 0

    def test_the_largest_number_is_still_sent_at_once(self, api: Frontend) -> None:
        self.post(api, self.TASKS[1:])
        assert api.cloud.tasks.depth().backlog == SEND_AT_MOST
        assert api.cloud.uploads.depth().backlog == 0

    def test_the_same_key_is_one_batch_before_and_after_its_expansion(self, api: Frontend) -> None:
        first = self.post(api, self.TASKS, idempotency_key="k").json_body
        assert self.post(api, self.TASKS, idempotency_key="k").json_body == first
        api.feed(api.cloud.uploads, "expand_upload", 1)
        sent = api.cloud.tasks.depth().backlog
        again = self.post(api, self.TASKS, idempotency_key="k").json_body
        assert again["batch_id"] == first["batch_id"]
        api.feed(api.cloud.uploads, "expand_upload", 1)
        assert (sent, api.cloud.tasks.depth().backlog) == (len(self.TASKS),) * 2

    def test_the_same_key_with_another_payload_is_a_conflict_and_changes_nothing(
        self, api: Frontend
    ) -> None:
        first = self.post(api, self.TASKS, idempotency_key="k").json_body
        for other in (["sleep 1"], self.TASKS[1:], [*self.TASKS, "sleep 1"]):
            assert self.post(api, other, idempotency_key="k").status_code == 409
        api.feed(api.cloud.uploads, "expand_upload", 1)
        batch = api.cloud.monitor.batch(first["batch_id"])
        assert batch is not None
        assert (batch.total, batch.closed, batch.error) == (len(self.TASKS), True, None)

    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize("call", ["create_batch", "send"])
    def test_cut_short_it_is_taken_up_by_sending_it_again(self, call: str, when: str) -> None:
        broken = [call]
        api = Frontend(fault=lambda name: when if name in broken else None)
        assert self.post(api, self.TASKS, idempotency_key="k").status_code == 503
        broken.clear()
        answer = self.post(api, self.TASKS, idempotency_key="k")
        assert answer.status_code == 202
        api.feed(api.cloud.uploads, "expand_upload", 1)
        batch = api.cloud.monitor.batch(answer.json_body["batch_id"])
        assert batch is not None
        assert (batch.enqueued, batch.closed) == (len(self.TASKS), True)

    def test_cut_short_without_a_key_nothing_of_it_runs(self) -> None:
        broken = ["send"]
        api = Frontend(fault=lambda name: "after" if name in broken else None)
        assert self.post(api, self.TASKS).status_code == 503
        broken.clear()
        api.feed(api.cloud.uploads, "expand_upload", 1)
        (batch,) = api.call("GET", "/batches").json_body["batches"]
        assert (batch["status"], batch["finished_at"] is not None) == ("CANCELLED", True)
        assert api.cloud.tasks.depth().backlog == 0

    def test_another_client_cannot_name_the_file(self, api: Frontend) -> None:
        batch_id = self.post(api, self.TASKS).json_body["batch_id"]
        batch = api.cloud.monitor.batch(batch_id)
        assert batch is not None
        assert batch.upload is not None
        folder, client_id, name = batch.upload.key.split("/")
        assert (folder, client_id) == ("uploads", "alice")
        answer = api.call("POST", "/batches", {"upload_id": name}, as_client="bob")
        assert answer.status_code == 404

    def test_a_bad_task_among_them_is_named_in_the_answer(self, api: Frontend) -> None:
        answer = self.post(api, [*self.TASKS, "sleep -1"])
        assert answer.status_code == 422
        assert f"task {len(self.TASKS)}: sleep -1 is negative" in answer.json_body["Message"]


# --- waiting ----------------------------------------------------------------------------------


class Held:
    """A client that waits on a batch through the API, on one clock. `held` has the start and the
    end of each call."""

    def __init__(self, api: Frontend, on_call: Callable[[], None] = lambda: None) -> None:
        self.clock: ManualClock = api.cloud.clock
        self.held: list[tuple[float, float]] = []
        self.client = Client("http://127.0.0.1:1", "token", clock=self.clock)

        def status(batch_id: str, wait_s: float, until: float | None) -> BatchView:
            import msgspec

            on_call()
            began = self.clock.now()
            answer = api.call("GET", f"/batches/{batch_id}?wait={wait_s:g}")
            self.held.append((began, self.clock.now()))
            return msgspec.convert(answer.json_body, BatchView)

        self.client._status = status  # type: ignore[method-assign]

    def most_in(self, window_s: float, since: float) -> float:
        """The most seconds that calls were held within any window after `since`, but for the last
        call, which comes when the waiter's time is up."""
        calls = [call for call in self.held[:-1] if call[0] >= since]
        return max(
            sum(max(0.0, min(end, start + window_s) - max(begin, start)) for begin, end in calls)
            for start, _ in calls
        )


def test_who_waits_for_a_long_batch_holds_the_api_a_quarter_of_the_time() -> None:
    api = Frontend()
    batch_id = api.submit(["sleep 86400000"])
    waiter = Held(api)
    began = waiter.clock.now()
    with pytest.raises(client_module.NotFinished):
        waiter.client.wait(batch_id, timeout_s=1_000)
    assert waiter.most_in(25.0, since=began + 200) <= 6.0 + 1e-6


def test_who_waits_for_a_task_that_hangs_holds_the_api_no_longer() -> None:
    """All tasks but the last ended long ago, so that the end seems near for ever."""
    api = Frontend()
    batch_id = api.submit(["sleep 1"] * 2_000)
    batch = api.cloud.monitor.batch(batch_id)
    assert batch is not None
    began = api.cloud.clock.now()
    api.cloud.monitor.start_batch(batch_id, began)
    api.cloud.clock.sleep(60)
    api.cloud.monitor.record_progress(batch_id, {0: Tally(1_999)}, began + 60)
    waiter = Held(api)
    with pytest.raises(client_module.NotFinished):
        waiter.client.wait(batch_id, timeout_s=1_000)
    assert waiter.most_in(25.0, since=began + 300) <= 6.0 + 1e-6


@pytest.mark.parametrize("lasts_s", [0.3, 1.0, 8.0, 30.0, 120.0, 900.0])
def test_the_end_is_seen_within_a_tenth_of_the_time_that_it_took_to_come(lasts_s: float) -> None:
    api = Frontend()
    batch_id = api.submit([f"sleep {lasts_s * 1000:g}"])
    ends_at = api.cloud.clock.now() + lasts_s
    real = api.cloud.clock.sleep

    def sleep(seconds: float) -> None:
        real(seconds)
        if api.cloud.clock.now() >= ends_at:
            api.cloud.monitor.record_progress(batch_id, {0: Tally(1)}, ends_at)

    api.cloud.clock.sleep = sleep  # type: ignore[method-assign]
    waiter = Held(api)
    assert waiter.client.wait(batch_id).finished_at is not None
    assert waiter.clock.now() - ends_at <= max(0.25, min(8.5, lasts_s / 10))


def test_the_largest_post_takes_a_few_seconds_of_the_processor() -> None:
    api = Frontend()
    tasks = [f"sleep {2000 + n % 9}" for n in range(250_000)]
    body = {"tasks": tasks}
    began = time.process_time()
    answer = api.call("POST", "/batches", body)
    took_s = time.process_time() - began
    assert answer.json_body["total"] == 250_000
    assert took_s < 20  # about 2 s, also on a busy machine
