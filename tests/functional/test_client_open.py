"""The client's calls for open batches against the API, over HTTP."""

from collections.abc import Iterator

import pytest

from taskfleet.client import ApiError, Client, growing
from tests.support.frontend import Frontend


@pytest.fixture
def api() -> Frontend:
    return Frontend()


@pytest.fixture
def client(api: Frontend) -> Iterator[Client]:
    with api.served() as server:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        with Client(url, api.token(), backoff_s=0) as made:
            yield made


def test_a_batch_grows_and_ends(api, client):
    batch = client.open(["sleep 0"], name="grows", timeout_s=5)
    assert batch.total == 1
    assert client.add(batch.batch_id, 1, ["sleep 0", {"kind": "sleep", "params": 0}]) == 3
    assert client.add(batch.batch_id, 1, ["sleep 0", {"kind": "sleep", "params": 0}]) == 3
    view = client.close_batch(batch.batch_id)
    assert (view.total, view.open, view.name) == (3, False, "grows")
    api.run()
    assert client.status(batch.batch_id).succeeded == 3


def test_the_same_key_attaches(api, client):
    batch = client.open(idempotency_key="k")
    client.add(batch.batch_id, 0, ["sleep 0"] * 4)
    again = client.open(idempotency_key="k")
    assert (again.batch_id, again.total) == (batch.batch_id, 4)
    assert client.open().batch_id != batch.batch_id


def test_nothing_is_added_without_a_call_unless_it_closes(api, client):
    batch_id = client.open().batch_id
    assert client.add(batch_id, 0, []) == 0
    assert client.add(batch_id, 0, [], close=True) == 0
    assert not client.status(batch_id).open


def test_tasks_that_are_too_much_for_one_request_go_in_several(api, client, monkeypatch):
    monkeypatch.setattr(growing, "MAX_TASKS", 3)
    batch = client.open(["sleep 0"] * 7)
    assert batch.total == 7
    assert client.add(batch.batch_id, 7, [f"sleep {n}" for n in range(10)], close=True) == 17
    assert client.add(batch.batch_id, 7, [f"sleep {n}" for n in range(10)], close=True) == 17
    assert not client.status(batch.batch_id).open
    with pytest.raises(ApiError) as refused:
        client.add(client.open().batch_id, 0, ["sleep 0"] * 6 + ["sleep x"])
    assert refused.value.index == 6


def test_a_part_of_too_many_bundles_is_divided(api, client):
    api.services.open_batches._send_max_bundles = 2
    batch = client.open(["sleep 60000"] * 5)
    assert batch.total == 5
    assert client.add(batch.batch_id, 5, ["sleep 60000"] * 5) == 10
    assert client.status(batch.batch_id).total == 10


def test_one_task_that_is_too_large_is_refused(api, client):
    batch_id = client.open().batch_id
    with pytest.raises(ApiError) as refused:
        client.add(batch_id, 0, ["sleep 0", {"kind": "sleep", "params": "0" * 6_000_000}])
    assert refused.value.status == 413


def test_a_conflict_is_told(api, client):
    batch_id = client.open(["sleep 0"]).batch_id
    with pytest.raises(ApiError) as refused:
        client.add(batch_id, 0, ["sleep 1"])
    assert refused.value.status == 409
    with pytest.raises(ApiError) as refused:
        client.add("../x", 0, ["sleep 1"])
    assert refused.value.status == 404


def test_one_task_is_not_a_list(client):
    with pytest.raises(TypeError):
        client.open("sleep 0")


def test_results_come_in_the_order_of_completion_until_the_batch_ends(api, client):
    batch = client.open(["sleep 0"])
    api.run()
    first = client.completed(batch.batch_id)
    assert [row.index for row in first.rows] == [0]
    assert not first.finished
    client.add(batch.batch_id, 1, ["sleep 0"] * 3, close=True)
    api.run()
    second = client.completed(batch.batch_id, first.cursor, wait_s=1)
    assert (len(second.rows), second.finished, second.cursor) == (3, True, None)
    rows = list(client.results(batch.batch_id, order="completion"))
    assert sorted(row.index for row in rows) == [0, 1, 2, 3]
    brief = client.completed(batch.batch_id, brief=True).rows
    assert {row.task for row in rows} == {"sleep 0"}
    assert {row.task for row in brief} == {None}
