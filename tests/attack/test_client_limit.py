"""One client tries to fill a stage that has a limit; another one does not notice."""

from __future__ import annotations

from typing import Any

import pytest

from taskfleet.settings import Settings
from tests.support.frontend import Frontend

LIMIT = 10


@pytest.fixture
def api() -> Frontend:
    return Frontend(settings=Settings(bucket="b", client_max_waiting=LIMIT))


def post(api: Frontend, tasks: int, as_client: str = "eve", **options: Any) -> Any:
    body = {"tasks": ["sleep 1"] * tasks, **options}
    return api.call("POST", "/batches", body, as_client=as_client)


def held(api: Frontend, client_id: str = "eve") -> list[Any]:
    return list(api.cloud.monitor.batches(client_id, limit=100, cursor=None).items)


def test_over_the_limit_nothing_is_recorded_and_the_answer_says_when_to_come_back(
    api: Frontend,
) -> None:
    assert post(api, 8).status_code == 202
    depth = api.cloud.tasks.depth().backlog
    answer = post(api, 3)
    assert answer.status_code == 429
    assert answer.json_body["Code"] == "TooManyRequestsError"
    assert "8 tasks" in answer.json_body["Message"]
    assert "limit is 10" in answer.json_body["Message"]
    assert int(answer.headers["Retry-After"]) > 0
    assert len(held(api)) == 1
    assert api.cloud.tasks.depth().backlog == depth
    assert post(api, 2).status_code == 202


def test_another_client_does_not_notice_and_both_go_on_when_tasks_end(api: Frontend) -> None:
    assert post(api, LIMIT).status_code == 202
    assert post(api, 1).status_code == 429
    assert post(api, LIMIT, as_client="bob").status_code == 202
    api.run()
    assert post(api, LIMIT).status_code == 202


def test_a_batch_that_is_sent_again_is_the_same_batch_even_at_the_limit(api: Frontend) -> None:
    first = post(api, LIMIT, idempotency_key="k")
    again = post(api, LIMIT, idempotency_key="k")
    assert (again.status_code, again.json_body) == (202, first.json_body)
    assert post(api, LIMIT - 1, idempotency_key="k").status_code == 409
    assert post(api, 1, idempotency_key="other").status_code == 429


def test_many_small_batches_count_together(api: Frontend) -> None:
    answers = [post(api, 1).status_code for _ in range(LIMIT + 5)]
    assert answers == [202] * LIMIT + [429] * 5


def test_cancelling_makes_no_room_before_the_queue_is_rid_of_the_tasks(api: Frontend) -> None:
    batch_id = post(api, LIMIT).json_body["batch_id"]
    assert api.call("DELETE", f"/batches/{batch_id}", as_client="eve").status_code == 202
    assert post(api, 1).status_code == 429
    api.run()
    assert post(api, 1).status_code == 202


class TestFiles:
    def send(self, api: Frontend, tasks: int) -> Any:
        upload_id = api.upload(b"sleep 1\n" * tasks, as_client="eve")
        return api.call("POST", "/batches", {"upload_id": upload_id}, as_client="eve")

    def test_one_file_at_a_time_is_read(self, api: Frontend) -> None:
        assert self.send(api, 4).status_code == 202
        answer = self.send(api, 4)
        assert answer.status_code == 429
        assert "still being read" in answer.json_body["Message"]
        api.run()
        assert self.send(api, 4).status_code == 202

    def test_a_file_over_the_limit_runs_nothing_and_says_why(self, api: Frontend) -> None:
        assert self.send(api, LIMIT + 1).status_code == 202
        api.run()
        (batch,) = held(api)
        assert (batch.total, batch.cancelled_at is not None) == (0, True)
        assert "over the limit of 10" in batch.error

    def test_a_client_at_the_limit_sends_none(self, api: Frontend) -> None:
        assert post(api, LIMIT).status_code == 202
        assert self.send(api, 1).status_code == 429

    def test_a_post_over_the_limit_is_refused_for_good(self, api: Frontend) -> None:
        answer = post(api, LIMIT + 1)
        assert answer.status_code == 422
        assert "11 tasks are over the limit of 10" in answer.json_body["Message"]
        assert held(api) == []


def test_without_the_setting_there_is_no_limit_and_no_read_of_the_list() -> None:
    calls: list[str] = []

    def note(name: str) -> None:
        calls.append(name)

    api = Frontend(fault=note)
    assert [post(api, 100).status_code for _ in range(3)] == [202] * 3
    assert "batches" not in calls
