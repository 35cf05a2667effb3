"""Schedules from the request to the batch: with the API in this process and a virtual clock."""

from __future__ import annotations

import contextlib
import threading
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from taskfleet.client import ApiError, Client
from taskfleet.errors import TransientError
from taskfleet.registry import Registry, sleep
from taskfleet.schedule import ScheduleRecord
from taskfleet.scheduler.schedules import CLIENT_MAX_SCHEDULES
from taskfleet.settings import Settings
from taskfleet.wire.token import Role
from tests.support.frontend import Frontend
from tests.support.worker import Cloud, thread_kind

START = datetime(2030, 1, 31, 12, 0, 30, tzinfo=UTC).timestamp()
TASKS = ["sleep 1", "sleep 2"]
HOUR = 3600.0


def frontend(**options: Any) -> Frontend:
    cloud = Cloud()
    cloud.clock.set(START)
    return Frontend(cloud, **options)


@pytest.fixture
def api() -> Frontend:
    return frontend()


def tick(api: Frontend, at: float | None = None) -> None:
    if at is not None:
        api.cloud.clock.set(at)
    event = api.client.events.generate_cw_event("aws.events", "Scheduled Event", {}, [])
    api.client.lambda_.invoke("tick", event)


def add(api: Frontend, *, as_client: str = "alice", **fields: Any) -> dict[str, Any]:
    wanted = {"name": "nightly", "every": "1h", "tasks": TASKS, **fields}
    body = {name: value for name, value in wanted.items() if value is not None}
    answer = api.call("POST", "/schedules", body, as_client=as_client)
    assert answer.status_code == 201, answer.body
    return dict(answer.json_body)


def listed(api: Frontend, as_client: str = "alice") -> list[dict[str, Any]]:
    answer = api.call("GET", "/schedules", as_client=as_client)
    assert answer.status_code == 200, answer.body
    return list(answer.json_body["schedules"])


def batches(api: Frontend, as_client: str = "alice") -> list[dict[str, Any]]:
    """The client's batches, oldest first."""
    page = api.call("GET", "/batches", as_client=as_client).json_body["batches"]
    return list(reversed(page))


def test_a_schedule_is_made_listed_and_removed(api: Frontend) -> None:
    made = add(api, every=None, cron="0 3 * * *", missed="catch_up", max_attempts=2)
    assert made == {
        "name": "nightly",
        "every_s": None,
        "cron": "0 3 * * *",
        "missed": "catch_up",
        "total": 2,
        "options": {"max_attempts": 2},
        "created_at": "2030-01-31T12:00:30.000Z",
        "next_at": "2030-02-01T03:00:00.000Z",
        "last_at": None,
        "last_batch_id": None,
        "last_error": None,
    }
    hourly = add(api, name="hourly")
    assert (hourly["every_s"], hourly["missed"], hourly["options"]) == (3600, "skip", None)
    assert hourly["next_at"] == "2030-01-31T13:00:30.000Z"
    assert listed(api) == [hourly, made]
    assert listed(api, "bob") == []

    assert api.call("DELETE", "/schedules/nightly", as_client="bob").status_code == 404
    removed = api.call("DELETE", "/schedules/nightly")
    assert (removed.status_code, removed.json_body) == (200, made)
    assert listed(api) == [hourly]
    gone = api.call("DELETE", "/schedules/nightly")
    assert (gone.status_code, gone.json_body["Message"]) == (404, "no schedule 'nightly'")


def test_the_same_schedule_again_changes_nothing_and_another_is_a_conflict(api: Frontend) -> None:
    made = add(api)
    tick(api, START + HOUR)
    again = add(api)
    assert again["created_at"] == made["created_at"]
    assert again["last_batch_id"] is not None
    body = {"name": "nightly", "every": "2h", "tasks": TASKS}
    answer = api.call("POST", "/schedules", body)
    assert answer.status_code == 409
    assert "another schedule 'nightly'" in answer.json_body["Message"]
    add(api, as_client="bob", every="2h")


@pytest.mark.parametrize(
    ("fields", "status", "reason"),
    [
        ({"every": None}, 422, "either `every` or `cron`"),
        ({"cron": "0 3 * * *"}, 422, "either `every` or `cron`"),
        ({"every": "1s"}, 422, "a rate is from 60 s"),
        ({"every": None, "cron": "0 3 * *"}, 422, "4 fields, not five"),
        ({"tasks": ["sleep 1", "nap 1"]}, 422, "task 1: "),
        ({"tasks": []}, 422, "at least one task"),
        ({"tasks": ["sleep 1" + " " * 100] * 1000}, 413, "over the cap of 100000 of a schedule"),
        ({"name": "a/b"}, 422, "name"),
        ({"name": ""}, 422, "name"),
        ({"missed": "never"}, 422, "missed"),
        ({"max_attempts": 0}, 422, "max_attempts"),
        ({"when": "now"}, 422, "when"),
        ({"after": ["0" * 26]}, 422, "after: the batches of a schedule wait for no others"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(
    api: Frontend, fields: dict[str, Any], status: int, reason: str
) -> None:
    body = {"name": "nightly", "every": "1h", "tasks": TASKS, **fields}
    answer = api.call("POST", "/schedules", {k: v for k, v in body.items() if v is not None})
    assert answer.status_code == status, answer.body
    assert reason in answer.json_body["Message"]
    assert listed(api) == []


def test_a_client_has_so_many_schedules_at_most(api: Frontend) -> None:
    for n in range(CLIENT_MAX_SCHEDULES):
        add(api, name=f"s{n}")
    body = {"name": "more", "every": "1h", "tasks": TASKS}
    answer = api.call("POST", "/schedules", body)
    assert answer.status_code == 409
    assert "100 schedules" in answer.json_body["Message"]
    add(api, name="s7")  # one that is there
    add(api, name="more", as_client="bob")


def test_each_batch_comes_at_its_time_with_its_tasks_and_options(api: Frontend) -> None:
    add(api, max_attempts=2)
    tick(api, START + HOUR - 1)
    assert batches(api) == []
    tick(api, START + HOUR + 20)
    tick(api, START + HOUR + 80)
    (batch,) = batches(api)
    assert (batch["name"], batch["total"]) == ("nightly", 2)
    assert batch["options"] == {"max_attempts": 2}
    assert batch["trace_id"]
    (schedule,) = listed(api)
    assert schedule["last_batch_id"] == batch["batch_id"]
    assert schedule["last_at"] == "2030-01-31T13:00:30.000Z"
    assert schedule["next_at"] == "2030-01-31T14:00:30.000Z"
    api.run()
    done = api.call("GET", f"/batches/{batch['batch_id']}").json_body
    assert (done["status"], done["succeeded"]) == ("DONE", 2)
    # The key is the one that is documented.
    body = {
        "tasks": TASKS,
        "name": "nightly",
        "max_attempts": 2,
        "idempotency_key": "nightly@2030-01-31T13:00:30Z",
    }
    again = api.call("POST", "/batches", body)
    assert again.json_body["batch_id"] == batch["batch_id"]
    tick(api, START + 2 * HOUR)
    assert len(batches(api)) == 2


@pytest.mark.parametrize(("missed", "count"), [("skip", 1), ("catch_up", 4)])
def test_a_tick_that_did_not_come_for_hours(api: Frontend, missed: str, count: int) -> None:
    add(api, missed=missed)
    tick(api, START + 4 * HOUR + 30)
    assert len(batches(api)) == count
    (schedule,) = listed(api)
    assert schedule["last_at"] == "2030-01-31T16:00:30.000Z"
    assert schedule["next_at"] == "2030-01-31T17:00:30.000Z"


def test_a_batch_that_is_missed_for_good_is_told(api: Frontend) -> None:
    add(api)
    tick(api, START + HOUR + 301)
    assert batches(api) == []
    (schedule,) = listed(api)
    assert schedule["last_error"] == (
        "2030-01-31T13:00:30.000Z: left out, since nobody looked in time"
    )
    tick(api, START + 2 * HOUR)
    assert listed(api)[0]["last_error"] is None


def test_a_clock_that_goes_back_and_forth_makes_one_batch_of_a_time(api: Frontend) -> None:
    add(api, missed="catch_up")
    for hours in (1, 0.5, 3, 0, 2, 3, 1, 3):
        tick(api, START + hours * HOUR)
    assert len(batches(api)) == 3


def test_ticks_at_once_make_one_batch_of_a_time(api: Frontend) -> None:
    add(api, missed="catch_up")
    api.cloud.clock.set(START + 5 * HOUR)
    together = threading.Barrier(4)
    inside = api.services.schedules._records.due

    def due(*args: Any, **options: Any) -> Any:
        found = inside(*args, **options)
        together.wait(10)  # all of them have read that the same is due
        return found

    api.services.schedules._records.due = due  # type: ignore[method-assign]
    looks = [
        threading.Thread(target=api.services.schedules.submit_due, args=(lambda: 9.0,))
        for _ in range(4)
    ]
    for look in looks:
        look.start()
    for look in looks:
        look.join(20)
    assert len(batches(api)) == 5
    api.run()
    assert {batch["status"] for batch in batches(api)} == {"DONE"}


def test_a_tick_that_is_cut_short_at_any_call_loses_no_time_and_doubles_none() -> None:
    """The first look at two times is broken at each of its calls in turn, before the call takes
    effect and after; the next look makes up for it."""
    calls: list[str] = []
    broken: tuple[int, str] | None = None

    def fault(name: str) -> str | None:
        calls.append(name)
        return broken[1] if broken is not None and len(calls) - 1 == broken[0] else None

    def looked() -> tuple[Frontend, bool]:
        """Returns an API after the first look, and whether that raised an error."""
        nonlocal broken
        wanted, broken = broken, None
        api = frontend(fault=fault)
        add(api, missed="catch_up")
        api.cloud.clock.set(START + 2 * HOUR)
        calls.clear()
        broken = wanted
        try:
            api.services.schedules.submit_due(lambda: 9.0)
        except TransientError:
            return api, True
        finally:
            broken = None
        return api, False

    _, failed = looked()
    names = list(calls)
    assert not failed
    assert {"due", "create_batch", "send", "record_enqueued", "advance"} <= set(names)
    for place, name in enumerate(names):
        for kind in ("before", "after"):
            broken = place, kind
            api, failed = looked()
            # Demand that is not told costs time only.
            assert failed == (name != "add_demand"), (name, kind)
            tick(api)
            api.run()
            assert [batch["status"] for batch in batches(api)] == ["DONE", "DONE"], (name, kind)
            assert listed(api)[0]["next_at"] == "2030-01-31T15:00:30.000Z"


class Ended(BaseException):
    """The process ends: nothing of it takes effect any more."""


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("missed", ["skip", "catch_up"])
@pytest.mark.parametrize("late_s", [60, 7 * HOUR])
def test_a_batch_that_a_look_left_half_submitted_is_completed_by_a_later_one(
    missed: str, late_s: float, ends: bool
) -> None:
    """The look at three times breaks off when the last one's batch is recorded and not yet on the
    queue. By the next look, further times are missed."""
    sent = 0

    def fault(name: str) -> str | None:
        nonlocal sent
        sent += name == "send"
        if name == "send" and sent == (1 if missed == "skip" else 3):
            if ends:
                raise Ended
            return "before"
        return None

    api = frontend(fault=fault)
    add(api, every="1m", missed=missed)
    with contextlib.suppress(TransientError, Ended):
        tick(api, START + 180)
    assert "QUEUED" in {batch["status"] for batch in batches(api)}
    tick(api, START + 180 + late_s)
    api.run()
    assert {batch["status"] for batch in batches(api)} == {"DONE"}
    assert len({batch["batch_id"] for batch in batches(api)}) == len(batches(api))


def test_a_schedule_that_is_removed_leaves_no_batch_half_submitted() -> None:
    broken = ""
    api = frontend(fault=lambda name: "before" if name == broken else None)
    add(api)
    broken = "send"
    with pytest.raises(TransientError):
        tick(api, START + HOUR)
    assert [batch["status"] for batch in batches(api)] == ["QUEUED"]
    assert api.call("DELETE", "/schedules/nightly").status_code == 503
    broken = ""
    assert api.call("DELETE", "/schedules/nightly").status_code == 200
    api.run()
    assert [batch["status"] for batch in batches(api)] == ["DONE"]
    assert listed(api) == []


def test_one_schedule_that_cannot_go_keeps_no_other_from_its_time() -> None:
    gone = thread_kind("gone", lambda params, context: None)
    cloud = Cloud()
    cloud.clock.set(START)
    api = Frontend(cloud, Registry([sleep, gone]))
    add(api, name="a", tasks=["gone"])
    add(api, name="b")
    later = Frontend(cloud, Registry([sleep]))  # a deployment without the kind
    tick(later, START + HOUR)
    assert [batch["name"] for batch in batches(later)] == ["b"]
    first, second = listed(later)
    assert first["last_error"].startswith("2030-01-31T13:00:30.000Z: task 0: ")
    assert (first["next_at"], first["last_at"]) == ("2030-01-31T14:00:30.000Z", None)
    assert second["last_error"] is None


def test_a_client_at_its_limit_gets_its_batch_when_it_has_room() -> None:
    api = frontend(settings=Settings(bucket="b", client_max_waiting=3))
    add(api)
    api.submit(["sleep 1"] * 2)
    tick(api, START + HOUR)
    assert len(batches(api)) == 1
    assert "must wait: 2 tasks of this client" in listed(api)[0]["last_error"]
    api.run()
    tick(api, START + HOUR + 60)
    assert len(batches(api)) == 2
    assert listed(api)[0]["last_error"] is None


def test_a_busy_table_fails_the_tick_but_not_the_provisioner() -> None:
    broken = ""
    api = frontend(fault=lambda name: "before" if name == broken else None)
    add(api)
    api.submit(["sleep 1000"] * 100)
    broken = "create_batch"
    with pytest.raises(TransientError, match="create_batch"):
        tick(api, START + HOUR)
    assert api.call("GET", "/fleet").json_body["desired"] > 0
    broken = ""
    tick(api, START + HOUR + 60)
    assert [batch["name"] for batch in batches(api)] == [None, "nightly"]


def test_what_has_no_time_in_one_look_comes_in_the_next(api: Frontend) -> None:
    for n in range(3):
        add(api, name=f"s{n}", missed="catch_up")
    api.cloud.clock.set(START + 2 * HOUR)
    left = iter([1.0] * 3 + [0.0] * 9)
    api.services.schedules.submit_due(lambda: next(left))
    assert len(batches(api)) == 3
    api.services.schedules.submit_due(lambda: 1.0)
    assert sorted(batch["name"] for batch in batches(api)) == ["s0", "s0", "s1", "s1", "s2", "s2"]


def test_its_batches_have_the_priority_and_the_goals_that_it_asks_for(api: Frontend) -> None:
    add(api, priority="high", deadline_s=60)
    tick(api, START + HOUR)
    (batch,) = batches(api)
    assert (api.cloud.tasks.depth().backlog, api.cloud.high.depth().backlog) == (0, 1)
    assert set(api.cloud.records.watched()) == {batch["batch_id"]}


def test_no_schedule_nudges_the_provisioner_from_inside_the_tick(api: Frontend) -> None:
    add(api)
    tick(api, START + HOUR)
    assert len(batches(api)) == 1
    assert api.cloud.nudges.count == 0


def test_a_record_of_an_earlier_version_is_read(api: Frontend) -> None:
    """Fields that are at their default are not stored, so that new ones can be added."""
    text = (
        '{"client_id":"alice","name":"s","created_at":1.0,"next_at":61.0,'
        '"tasks":["sleep 1"],"every_s":60}'
    )
    record = msgspec.json.decode(text, type=ScheduleRecord)
    assert msgspec.json.encode(record).decode() == text
    assert replace(record, last_error="x") != record


def test_the_client_adds_lists_and_removes(api: Frontend) -> None:
    with api.served() as server:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        with Client(url, api.token(), backoff_s=0) as client:
            made = client.add_schedule("a.b", iter(TASKS), every="15m", timeout_s=60)
            assert (made.every_s, made.total) == (900, 2)
            assert made.options is not None
            assert made.options.timeout_s == 60
            cron = client.add_schedule("n", TASKS, cron="0 3 * * *", missed="catch_up")
            assert client.schedules() == [made, cron]
            assert client.remove_schedule("a.b") == made
            for wrong in ("a.b", "a/b", "ä b"):
                with pytest.raises(ApiError) as refused:
                    client.remove_schedule(wrong)
                assert refused.value.status == 404
            with pytest.raises(ApiError) as refused:
                client.add_schedule("x", ["sleep 1", "nap"], every=60)
            assert (refused.value.status, refused.value.index) == (422, 1)
            with pytest.raises(ValueError, match="max_attempts"):
                client.add_schedule("x", TASKS, every=60, max_attempts=0)
            with pytest.raises(TypeError, match="a list of several tasks"):
                client.add_schedule("x", "sleep 1", every=60)


def test_a_reader_lists_and_changes_nothing(api: Frontend) -> None:
    made = add(api)
    reader = {"authorization": f"Bearer {api.token(role=Role.READER)}"}
    listed = api.call("GET", "/schedules", headers=reader)
    assert listed.json_body["schedules"] == [made]
    assert api.call("DELETE", "/schedules/nightly", headers=reader).status_code == 403
    body = {"name": "x", "every": 60, "tasks": TASKS}
    assert api.call("POST", "/schedules", body, headers=reader).status_code == 403
