"""`GET /fleet/history`: what the provisioner noted of its rounds, with the API in this process."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from taskfleet.errors import TransientError
from taskfleet.provisioner.records import FleetState, WorkerRecord
from taskfleet.wire.http.times import iso_time
from tests.support.frontend import Frontend


@pytest.fixture
def api() -> Frontend:
    return Frontend()


def look(api: Frontend) -> None:
    assert api.services.provisioner is not None
    api.services.provisioner.round()


def points(api: Frontend, minutes: int | None = None) -> list[dict[str, Any]]:
    query = "" if minutes is None else f"?minutes={minutes}"
    answer = api.call("GET", f"/fleet/history{query}")
    assert answer.status_code == 200, answer.body
    found: list[dict[str, Any]] = answer.json_body["points"]
    return found


def worker(api: Frontend, ended: int, name: str = "w-1", **others: Any) -> WorkerRecord:
    now = api.cloud.clock.now()
    made = replace(WorkerRecord(name, None, 16, ["sleep"], now, now, ended=ended), **others)
    api.cloud.records.report(made)
    return made


def test_a_round_makes_a_point_a_minute_apart(api: Frontend) -> None:
    assert points(api) == []
    worker(api, 0, running={"sleep": 5})
    api.submit(["sleep 60000"] * 300)
    began = api.cloud.clock.now()
    for _ in range(12):
        look(api)
        api.cloud.clock.sleep(15)
        worker(api, 0, running={"sleep": 5})
    found = points(api)
    assert [point["at"] for point in found] == [iso_time(began + at) for at in (0, 60, 120)]
    first, second = found[0], found[1]
    assert (first["workers"], first["slots"], first["running"]) == (1, 16, 5)
    backlog = api.cloud.tasks.depth().backlog
    assert [point["backlog"] for point in found] == [backlog] * 3
    assert second["instances"] == api.services.provisioner._ports.records.state().machines
    assert second["desired"] == second["instances"] > 0
    assert second["usd_per_hour"] == pytest.approx(0.0725 * second["instances"])


def test_tasks_that_ended_are_counted_once_however_many_rounds_lie_between(api: Frontend) -> None:
    for ended in (0, 7, 10, 10, 40, 41, 50, 50, 50):
        worker(api, ended)
        look(api)
        api.cloud.clock.sleep(15)
    # At 0, 60 and 120 seconds: what workers had reported by then.
    assert [point["ended"] for point in points(api)] == [0, 40, 10]


def test_workers_that_come_and_go_count(api: Frontend) -> None:
    worker(api, 0)
    look(api)
    worker(api, 5)
    other = worker(api, 30, "w-2")
    api.cloud.clock.sleep(30)
    look(api)
    api.cloud.records.sign_off(replace(other, ended=37, leaving=True, signed_off=True))
    worker(api, 6)
    api.cloud.clock.sleep(30)
    look(api)
    assert [point["ended"] for point in points(api)] == [0, 43]


def test_a_worker_that_an_earlier_version_has_seen_does_not_count_its_whole_life(api: Frontend):
    api.cloud.records.save_state(FleetState(last_round_at=1.0, claimed={"w-1": 9}))
    worker(api, 1_000)
    look(api)
    api.cloud.clock.sleep(60)
    worker(api, 1_003)
    look(api)
    assert [point["ended"] for point in points(api)] == [0, 3]


def test_a_quiet_stage_makes_no_points(api: Frontend) -> None:
    for _ in range(10):
        look(api)
        api.cloud.clock.sleep(60)
    assert len(points(api)) == 1


def test_only_the_minutes_that_are_asked_for(api: Frontend) -> None:
    for _ in range(100):
        worker(api, 0)
        look(api)
        api.cloud.clock.sleep(60)
    assert len(points(api)) == 60
    assert len(points(api, 10)) == 10
    assert len(points(api, 1440)) == 100
    times = [point["at"] for point in points(api, 1440)]
    assert times == sorted(times)


def test_history_that_cannot_be_kept_fails_no_round(api: Frontend, caplog: Any) -> None:
    worker(api, 3)

    def refused(_point: object) -> None:
        raise TransientError("throttled")

    api.cloud.records.add_point = refused  # type: ignore[method-assign]
    look(api)
    assert api.cloud.records.state().revision > 0
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [record.taskfleet["action"] for record in warnings] == ["point_lost"]


@pytest.mark.parametrize("query", ["minutes=0", "minutes=1441", "minutes=x", "hours=1"])
def test_a_bad_query_is_refused(api: Frontend, query: str) -> None:
    assert api.call("GET", f"/fleet/history?{query}").status_code == 422


def test_the_fleet_tells_what_each_worker_has_ended(api: Frontend) -> None:
    worker(api, 12)
    (shown,) = api.call("GET", "/fleet").json_body["workers"]
    assert shown["ended"] == 12
