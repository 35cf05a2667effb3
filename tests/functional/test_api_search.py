"""Searching one's batches, and the kinds that a batch tells."""

from __future__ import annotations

from typing import Any

import pytest

from taskfleet.registry import Registry, sleep
from taskfleet.scheduler import listing as module
from tests.support.frontend import Frontend
from tests.support.worker import thread_kind


@pytest.fixture
def api() -> Frontend:
    return Frontend(registry=Registry([sleep, thread_kind("film", lambda *_: None)]))


def made(api: Frontend, name: str | None, *tasks: str, as_client: str = "alice") -> str:
    body = {"tasks": list(tasks) or ["sleep 0"]} | ({} if name is None else {"name": name})
    answer = api.call("POST", "/batches", body, as_client=as_client)
    api.cloud.clock.sleep(1)
    return str(answer.json_body["batch_id"])


def found(api: Frontend, query: str) -> list[str]:
    ids, cursor = [], ""
    while cursor is not None:
        answer = api.call("GET", f"/batches?{query}" + (f"&cursor={cursor}" if cursor else ""))
        assert answer.status_code == 200, answer.body
        ids += [batch["batch_id"] for batch in answer.json_body["batches"]]
        cursor = answer.json_body["cursor"]
    return ids


def kinds(api: Frontend, batch_id: str) -> Any:
    return api.call("GET", f"/batches/{batch_id}").json_body["kinds"]


def test_by_a_part_of_the_name_in_any_case(api):
    holidays = made(api, "Holidays in STRASSE")
    made(api, "work")
    made(api, None)
    assert found(api, "name=hol") == found(api, "name=stra%C3%9Fe") == [holidays]
    assert found(api, "name=x%00") == []


def test_by_the_start_of_the_id(api):
    one, two = made(api, "a"), made(api, None)
    assert found(api, f"name={two[:9]}") == [two]
    assert found(api, f"name={one.upper()}") == [one]
    assert found(api, f"name={one[1:]}") == []


def test_by_status_and_kind_together(api):
    done = made(api, None, "film", "sleep 0")
    api.run()
    waiting, cancelled = made(api, None, "film"), made(api, None, "sleep 0")
    api.call("DELETE", f"/batches/{cancelled}")
    assert found(api, "status=DONE") == [done]
    assert found(api, "status=CANCELLED") == [cancelled]
    assert found(api, "kind=film") == [waiting, done]
    assert found(api, "kind=film&status=QUEUED") == [waiting]
    assert found(api, "kind=none") == []


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_each_is_found_once_whatever_the_page(api, limit, monkeypatch):
    api.services.listing._page_batches = 3
    wanted = []
    for number in range(20):
        batch_id = made(api, "oui" if number % 3 == 0 else "non")
        wanted += [batch_id] if number % 3 == 0 else []
    assert found(api, f"name=oui&limit={limit}") == wanted[::-1]


def test_one_call_reads_so_many_batches(api, monkeypatch):
    monkeypatch.setattr(module, "READ_MAX_PAGES", 2)
    api.services.listing._page_batches = 3
    for number in range(13):
        made(api, f"o{number}")  # no id has the letter o
    calls = []
    batches = api.cloud.monitor.batches
    api.cloud.monitor.batches = lambda *a, **k: calls.append(k) or batches(*a, **k)
    answer = api.call("GET", "/batches?name=none")
    assert (answer.json_body["batches"], len(calls)) == ([], 2)
    assert answer.json_body["cursor"] is not None
    assert len(found(api, "name=o1")) == 4


def test_a_list_without_a_search_is_one_read(api):
    for number in range(4):
        made(api, str(number))
    calls = []
    batches = api.cloud.monitor.batches
    api.cloud.monitor.batches = lambda *a, **k: calls.append(k) or batches(*a, **k)
    assert len(api.call("GET", "/batches?limit=2").json_body["batches"]) == 2
    assert [call["limit"] for call in calls] == [2]


def test_others_batches_are_never_found(api):
    made(api, "secret", as_client="mallory")
    assert found(api, "name=secret") == []


@pytest.mark.parametrize(
    "query", ["name=", "status=done", "status=", "kind=", f"name={'x' * 201}", "named=x"]
)
def test_a_bad_search_is_refused(api, query):
    assert api.call("GET", f"/batches?{query}").status_code == 422


class TestKinds:
    def test_of_a_batch_in_one_request(self, api):
        assert kinds(api, made(api, None, "sleep 0", "film", "sleep 1")) == ["film", "sleep"]

    def test_of_an_open_batch_grow_with_its_parts(self, api):
        batch_id = api.call("POST", "/batches", {"open": True}).json_body["batch_id"]
        assert kinds(api, batch_id) == []
        for first, task in enumerate(["sleep 0", "sleep 1", "film"]):
            body = {"first": first, "tasks": [task]}
            assert api.call("POST", f"/batches/{batch_id}/tasks", body).status_code == 202
        assert kinds(api, batch_id) == ["film", "sleep"]

    def test_of_an_open_batch_with_a_first_part(self, api):
        body = {"open": True, "tasks": ["film"]}
        assert kinds(api, api.call("POST", "/batches", body).json_body["batch_id"]) == ["film"]

    def test_of_a_file_are_known_once_it_is_read(self, api):
        upload_id = api.upload(b"sleep 0\nfilm\n")
        batch_id = api.call("POST", "/batches", {"upload_id": upload_id}).json_body["batch_id"]
        assert kinds(api, batch_id) == []
        api.run()
        assert kinds(api, batch_id) == ["film", "sleep"]

    def test_of_very_many_bundles_are_known_at_once(self, api):
        api.services.submission._send_max_bundles = 0
        assert kinds(api, made(api, None, "film")) == ["film"]
