"""Open batches over the HTTP API: opening, adding parts, closing, and what each answers when it is
sent again, out of order, or by another driver."""

import pytest

from taskfleet.batch import PARTS_REMEMBERED
from taskfleet.scheduler.parts import ADDED_PREFIX
from taskfleet.settings import Settings
from tests.support.frontend import Frontend

DAY_S = 86_400.0


@pytest.fixture
def api():
    return Frontend()


def opened(api, **fields):
    answer = api.call("POST", "/batches", {"open": True, **fields})
    assert answer.status_code == 202, answer.body
    return answer.json_body


def add(api, batch_id, first, tasks, **fields):
    body = {"first": first, "tasks": tasks, **fields}
    as_client = body.pop("as_client", "alice")
    return api.call("POST", f"/batches/{batch_id}/tasks", body, as_client=as_client)


def close(api, batch_id, **options):
    return api.call("POST", f"/batches/{batch_id}/close", **options)


def status(api, batch_id):
    return api.call("GET", f"/batches/{batch_id}").json_body


def indexes(api, batch_id):
    rows = api.call("GET", f"/batches/{batch_id}/results").json_body["results"]
    return [(row["index"], row["task"]) for row in rows]


class TestTheWay:
    def test_parts_run_as_they_come_and_the_batch_ends_once_closed(self, api):
        batch = opened(api, name="grows")
        batch_id = batch["batch_id"]
        assert batch == {
            "batch_id": batch_id,
            "status": "QUEUED",
            "total": 0,
            "url": f"/batches/{batch_id}",
        }
        answer = add(api, batch_id, 0, ["sleep 0", "sleep 1"])
        assert (answer.status_code, answer.json_body) == (202, {"batch_id": batch_id, "total": 2})
        api.run()
        now = status(api, batch_id)
        assert (now["status"], now["open"], now["succeeded"]) == ("RUNNING", True, 2)
        assert add(api, batch_id, 2, ["sleep 2"]).json_body["total"] == 3
        assert close(api, batch_id).status_code == 202
        assert status(api, batch_id)["finished_at"] is None
        api.run()
        now = status(api, batch_id)
        assert (now["status"], now["open"], now["succeeded"]) == ("DONE", False, 3)
        assert indexes(api, batch_id) == [(0, "sleep 0"), (1, "sleep 1"), (2, "sleep 2")]

    def test_one_request_opens_with_a_first_part_and_another_adds_and_closes(self, api):
        batch = opened(api, tasks=["sleep 0"])
        assert batch["total"] == 1
        answer = add(api, batch["batch_id"], 1, ["sleep 1"], close=True)
        assert answer.json_body["total"] == 2
        api.run()
        assert status(api, batch["batch_id"])["status"] == "DONE"

    def test_an_empty_batch_that_is_closed_is_done(self, api):
        batch_id = opened(api)["batch_id"]
        api.cloud.clock.sleep(5)
        first = close(api, batch_id).json_body
        assert (first["status"], first["total"]) == ("DONE", 0)
        assert first["finished_at"] is not None
        assert close(api, batch_id).json_body == first  # twice is the same

    def test_a_batch_that_is_closed_after_its_last_result_ends_then(self, api):
        batch_id = opened(api, tasks=["sleep 0"])["batch_id"]
        api.run()
        api.cloud.clock.sleep(60)
        ended = close(api, batch_id).json_body
        assert ended["status"] == "DONE"
        assert ended["finished_at"] > ended["created_at"]

    def test_options_of_the_batch_count_for_every_part(self, api):
        batch_id = opened(api, timeout_s=9)["batch_id"]
        add(api, batch_id, 0, ["sleep 0"])
        assert status(api, batch_id)["options"]["timeout_s"] == 9
        api.run()
        assert api.call("GET", f"/batches/{batch_id}/tasks/0").json_body["limits"]["timeout_s"] == 9

    def test_a_part_that_is_too_large_for_the_record_is_kept_in_the_bucket(self, api):
        tasks = [f"sleep {i * 7919 % 10_007 / 1e6}" for i in range(3000)]
        batch_id = opened(api)["batch_id"]
        assert add(api, batch_id, 0, tasks, close=True).status_code == 202
        assert any(key.startswith(f"{ADDED_PREFIX}{batch_id}/") for key in api.cloud.store._objects)
        api.run()
        assert status(api, batch_id)["succeeded"] == 3000


class TestSentAgain:
    def test_the_same_key_is_the_same_batch_with_its_present_total(self, api):
        batch_id = opened(api, idempotency_key="k")["batch_id"]
        add(api, batch_id, 0, ["sleep 0"])
        again = opened(api, idempotency_key="k")
        assert (again["batch_id"], again["total"]) == (batch_id, 1)

    @pytest.mark.parametrize(
        "other",
        [
            {"open": True, "idempotency_key": "k", "name": "other"},
            {"open": True, "idempotency_key": "k", "timeout_s": 3},
            {"open": True, "idempotency_key": "k", "tasks": ["sleep 9"]},
            {"idempotency_key": "k", "tasks": ["sleep 0"]},
        ],
    )
    def test_the_same_key_for_something_else_is_a_conflict(self, api, other):
        opened(api, idempotency_key="k", tasks=["sleep 0"])
        assert api.call("POST", "/batches", other).status_code == 409
        assert api.cloud.tasks.depth().backlog == 1

    def test_an_opening_with_its_first_part_is_taken_in_once(self, api):
        first = opened(api, idempotency_key="k", tasks=["sleep 0"])
        assert opened(api, idempotency_key="k", tasks=["sleep 0"]) == first
        assert api.cloud.tasks.depth().backlog == 1

    def test_a_first_part_may_come_with_a_second_opening(self, api):
        opened(api, idempotency_key="k")
        assert opened(api, idempotency_key="k", tasks=["sleep 0"])["total"] == 1

    def test_a_part_again_changes_nothing_however_late(self, api):
        batch_id = opened(api)["batch_id"]
        for first in range(3 * PARTS_REMEMBERED):
            assert add(api, batch_id, first, [f"sleep {first}"]).json_body["total"] == first + 1
        total = 3 * PARTS_REMEMBERED
        for first in range(total):
            answer = add(api, batch_id, first, [f"sleep {first}"])
            assert (answer.status_code, answer.json_body["total"]) == (202, total)
        assert api.cloud.tasks.depth().backlog == total
        assert len(api.cloud.monitor.batch(batch_id).parts) == PARTS_REMEMBERED

    def test_a_part_again_is_accepted_by_a_closed_and_by_a_cancelled_batch(self, api):
        batch_id = opened(api)["batch_id"]
        add(api, batch_id, 0, ["sleep 0"], close=True)
        assert add(api, batch_id, 0, ["sleep 0"], close=True).status_code == 202
        api.call("DELETE", f"/batches/{batch_id}")
        assert add(api, batch_id, 0, ["sleep 0"]).status_code == 202
        assert api.cloud.tasks.depth().backlog == 1

    def test_a_part_that_is_sent_again_to_close_closes(self, api):
        batch_id = opened(api)["batch_id"]
        add(api, batch_id, 0, ["sleep 0"])
        assert add(api, batch_id, 0, ["sleep 0"], close=True).status_code == 202
        assert not status(api, batch_id)["open"]


class TestRefused:
    def test_a_gap(self, api):
        batch_id = opened(api)["batch_id"]
        answer = add(api, batch_id, 1, ["sleep 0"])
        assert answer.status_code == 409
        assert "has 0 tasks, so first=1 leaves a gap" in answer.json_body["Message"]

    @pytest.mark.parametrize("first", [0, 1, 2, 3])
    def test_another_part_where_there_is_one(self, api, first):
        batch_id = opened(api, tasks=["sleep 0", "sleep 0"])["batch_id"]
        add(api, batch_id, 2, ["sleep 0", "sleep 0"])
        answer = add(api, batch_id, first, ["sleep 5"])
        assert answer.status_code == 409
        assert "next part begins at first=4" in answer.json_body["Message"]
        assert status(api, batch_id)["total"] == 4

    def test_another_first_part_is_known_after_any_number_of_parts(self, api):
        batch_id = opened(api)["batch_id"]
        for first in range(3 * PARTS_REMEMBERED):
            add(api, batch_id, first, ["sleep 0"])
        assert add(api, batch_id, 0, ["sleep 5"]).status_code == 409

    @pytest.mark.parametrize("how", ["close", "cancel"])
    def test_a_part_of_a_batch_that_has_ended(self, api, how):
        batch_id = opened(api)["batch_id"]
        if how == "close":
            close(api, batch_id)
        else:
            api.call("DELETE", f"/batches/{batch_id}")
        answer = add(api, batch_id, 0, ["sleep 0"])
        assert answer.status_code == 409
        assert f"is {'closed' if how == 'close' else 'cancelled'}" in answer.json_body["Message"]
        assert api.cloud.tasks.depth().backlog == 0

    @pytest.mark.parametrize("made_of", ["tasks", "file"])
    def test_a_part_of_a_batch_that_was_not_opened(self, api, made_of):
        if made_of == "tasks":
            batch_id = api.submit(["sleep 0"])
        else:
            upload_id = api.upload(b"sleep 0\n")
            body = {"upload_id": upload_id}
            batch_id = api.call("POST", "/batches", body).json_body["batch_id"]
        for first in (0, 1):
            answer = add(api, batch_id, first, ["sleep 0"])
            assert answer.status_code == 409
            assert "was not opened" in answer.json_body["Message"]

    def test_closing_a_batch_whose_file_is_being_read(self, api):
        upload_id = api.upload(b"sleep 0\n")
        batch_id = api.call("POST", "/batches", {"upload_id": upload_id}).json_body["batch_id"]
        assert close(api, batch_id).status_code == 409
        api.run()
        assert close(api, batch_id).json_body["status"] == "DONE"

    def test_another_client_s_batch(self, api):
        batch_id = opened(api)["batch_id"]
        for answer in (
            add(api, batch_id, 0, ["sleep 0"], as_client="mallory"),
            close(api, batch_id, as_client="mallory"),
            add(api, "0" * 26, 0, ["sleep 0"]),
            close(api, "0" * 26),
            close(api, "no-id"),
        ):
            assert answer.status_code == 404
        assert status(api, batch_id)["open"]
        assert status(api, batch_id)["total"] == 0

    @pytest.mark.parametrize(
        "body",
        [
            {"tasks": ["sleep 0"]},
            {"first": 0, "tasks": []},
            {"first": -1, "tasks": ["sleep 0"]},
            {"first": 0.5, "tasks": ["sleep 0"]},
            {"first": True, "tasks": ["sleep 0"]},
            {"first": 0, "tasks": ["sleep -1"]},
            {"first": 0, "tasks": ["sleep 0"], "name": "x"},
        ],
    )
    def test_a_malformed_part(self, api, body):
        batch_id = opened(api)["batch_id"]
        assert api.call("POST", f"/batches/{batch_id}/tasks", body).status_code == 422
        assert status(api, batch_id)["total"] == 0

    @pytest.mark.parametrize("body", [{"open": False, "tasks": ["sleep 0"]}, {"open": 1}])
    def test_open_is_true_or_left_out(self, api, body):
        assert api.call("POST", "/batches", body).status_code == 422

    def test_a_fault_names_the_task_s_place_in_the_request(self, api):
        batch_id = opened(api, tasks=["sleep 0"])["batch_id"]
        answer = add(api, batch_id, 1, ["sleep 0", "sleep x"])
        assert answer.json_body["Message"].startswith("task 1: ")

    def test_a_part_of_too_many_bundles_names_the_cap(self, api):
        api.services.open_batches._send_max_bundles = 2
        batch_id = opened(api)["batch_id"]
        answer = add(api, batch_id, 0, ["sleep 60000"] * 3)
        assert answer.status_code == 413
        assert "3 bundles, over the cap of 2 bundles of one part" in answer.json_body["Message"]
        assert status(api, batch_id)["total"] == 0

    def test_a_batch_of_too_many_bundles_says_what_to_do(self, api):
        api.services.open_batches._max_bundles = 3
        batch_id = opened(api, tasks=["sleep 60000"] * 2)["batch_id"]
        answer = add(api, batch_id, 2, ["sleep 60000"] * 2)
        assert answer.status_code == 409
        assert "more than 3 bundles" in answer.json_body["Message"]
        assert add(api, batch_id, 2, ["sleep 60000"]).status_code == 202


class TestTheEnd:
    def test_cancelling_an_open_batch_ends_it(self, api):
        batch_id = opened(api, tasks=["sleep 0"])["batch_id"]
        answer = api.call("DELETE", f"/batches/{batch_id}").json_body
        assert (answer["status"], answer["open"]) == ("CANCELLED", False)
        api.run()
        assert status(api, batch_id)["cancelled"] == 1
        assert status(api, batch_id)["finished_at"] is not None

    def test_a_batch_to_which_nothing_is_added_is_closed_by_its_reader(self, api):
        batch_id = opened(api)["batch_id"]
        api.cloud.clock.sleep(DAY_S - 10)
        add(api, batch_id, 0, ["sleep 0"])
        api.cloud.clock.sleep(DAY_S - 10)
        assert status(api, batch_id)["open"]
        api.run()
        api.cloud.clock.sleep(20)
        now = status(api, batch_id)
        assert (now["open"], now["status"]) == (False, "DONE")
        assert now["finished_at"] is not None
        assert add(api, batch_id, 1, ["sleep 0"]).status_code == 409


class TestTheLimitOfAClient:
    @pytest.fixture
    def api(self):
        return Frontend(settings=Settings(bucket="b", client_max_waiting=3))

    def test_counts_the_tasks_of_open_batches(self, api):
        batch_id = opened(api, tasks=["sleep 0", "sleep 0"])["batch_id"]
        assert add(api, batch_id, 2, ["sleep 0", "sleep 0"]).status_code == 429
        assert add(api, batch_id, 2, ["sleep 0"]).status_code == 202
        assert add(api, batch_id, 2, ["sleep 0"]).status_code == 202  # it is recorded
        assert api.call("POST", "/batches", {"tasks": ["sleep 0"]}).status_code == 429
        assert add(api, batch_id, 3, ["sleep 0"] * 4).status_code == 422
        api.run()
        assert add(api, batch_id, 3, ["sleep 0"] * 3).status_code == 202
        assert status(api, batch_id)["total"] == 6  # over time it has more than the limit
