"""Batches with a deadline or a budget over HTTP, with the provisioner's tick in between."""

from __future__ import annotations

from typing import Any

import pytest

from taskfleet.provisioner.ports import ProvisionerPorts
from taskfleet.provisioner.reconcile import Provisioner
from taskfleet.provisioner.records import KindDemand, WorkerRecord
from taskfleet.registry import Registry, TaskKind
from taskfleet.settings import Settings
from tests.support.frontend import Frontend
from tests.support.worker import run_nothing

CONF = Settings(bucket="b", max_capacity=5)


@pytest.fixture
def api() -> Frontend:
    return Frontend(settings=CONF)


def look(api: Frontend) -> None:
    """Make one round of the provisioner."""
    cloud = api.cloud
    ports = ProvisionerPorts(cloud.tasks, cloud.monitor, cloud.records, cloud.fleet, cloud.clock)
    Provisioner(ports, CONF).round()


def status(api: Frontend, batch_id: str) -> dict[str, Any]:
    return dict(api.call("GET", f"/batches/{batch_id}").json_body)


def test_a_batch_that_cannot_make_it_says_so_within_one_round_and_goes_on() -> None:
    slow = TaskKind("slow", run_nothing, expected_s=lambda _: 60.0, runs_in="thread")
    api = Frontend(settings=CONF, registry=Registry([slow]))
    batch_id = api.submit(["slow"] * 64, deadline_s=90, budget_usd=2)
    assert status(api, batch_id)["at_risk"] is None
    assert status(api, batch_id)["options"] == {"deadline_s": 90.0, "budget_usd": 2.0}
    look(api)
    said = status(api, batch_id)["at_risk"]
    assert "the 90 s until the deadline are too short: a machine boots in 40 s" in said
    (listed,) = api.call("GET", "/batches").json_body["batches"]
    (found,) = api.call("GET", "/batches?status=QUEUED").json_body["batches"]
    assert listed["at_risk"] == found["at_risk"] == said
    assert len(api.cloud.fleet.instances()) >= 1, "it is served all the same"
    api.cloud.clock.sleep(95)
    assert status(api, batch_id)["at_risk"] == "its deadline passed 5 s ago"
    api.run()
    ended = status(api, batch_id)
    assert ended["status"] == "DONE"
    assert "s after its deadline" in ended["at_risk"]


def test_a_relaxed_deadline_takes_one_machine_where_none_takes_several(api: Frontend) -> None:
    batch_id = api.submit(["sleep 1000"] * 4_000, deadline_s=3_600)
    look(api)
    assert len(api.cloud.fleet.instances()) == 1
    assert status(api, batch_id)["at_risk"] is None
    decision = api.call("GET", "/fleet").json_body["decisions"][0]
    assert f"4000 tasks wait and 0 run of batch {batch_id}, due in 3600 s" in decision["reason"]
    other = Frontend(settings=CONF)
    other.submit(["sleep 1000"] * 4_000)
    look(other)
    assert len(other.cloud.fleet.instances()) == 4


def test_a_spent_budget_launches_nothing_and_the_fleet_says_why(api: Frontend) -> None:
    batch_id = api.submit(["sleep 1000"] * 100, budget_usd=0.0005)
    look(api)
    assert api.cloud.fleet.instances() == []
    assert "of its budget are left" in status(api, batch_id)["at_risk"]
    assert "no machine is paid for: 100 tasks wait" in api.call("GET", "/fleet").json_body["why"]
    assert status(api, batch_id)["status"] == "QUEUED"


def test_machines_are_put_down_to_the_batch_until_its_money_is_spent(api: Frontend) -> None:
    batch_id = api.submit(["sleep 1000"] * 2_000, budget_usd=0.0045)
    look(api)
    (machine,) = api.cloud.fleet.instances()
    spent = 0.0
    for _ in range(30):
        api.cloud.clock.sleep(15)
        now = api.cloud.clock.now()
        if now - machine.launched_at > 40:
            worker = WorkerRecord("w", machine.instance_id, 16, ["sleep"], now, now, {"sleep": 16})
            if api.cloud.records.report(worker):
                break
        look(api)
        spent = api.cloud.records.state().watched[batch_id].machines_usd
    assert spent == pytest.approx(api.cloud.records.state().cost_usd)
    assert 0.003 < spent < 0.0045, "what is left pays for the end of the machine"


def test_a_batch_is_watched_until_it_has_ended(api: Frontend) -> None:
    records = api.cloud.records
    first = api.submit(["sleep 1", "sleep 3"], deadline_s=600)
    assert records.watched() == {first: {"sleep": KindDemand(2, 2, 0.004)}}
    look(api)
    assert set(records.state().watched) == {first}
    second = api.submit(["sleep 1"], budget_usd=1)
    look(api)
    assert set(records.state().watched) == {first, second}
    api.run()
    look(api)
    assert (records.state().watched, records.watched()) == ({}, {})
    assert records.state().other_tasks == 0


def test_the_tasks_of_an_upload_and_of_parts_are_watched_as_they_join(api: Frontend) -> None:
    body = {"upload_id": api.upload(b"sleep 2000\n" * 3), "deadline_s": 600}
    upload = api.call("POST", "/batches", body).json_body["batch_id"]
    assert api.cloud.records.watched() == {}
    api.feed(api.cloud.uploads, "expand_upload", 1)
    assert api.cloud.records.watched() == {upload: {"sleep": KindDemand(3, 3, 6.0)}}
    body = {"open": True, "tasks": ["sleep 1000"], "budget_usd": 0.5}
    grown = api.call("POST", "/batches", body).json_body["batch_id"]
    api.call("POST", f"/batches/{grown}/tasks", {"first": 1, "tasks": ["sleep 3000"]})
    assert api.cloud.records.watched()[grown] == {"sleep": KindDemand(2, 2, 4.0)}


def test_a_batch_that_cannot_be_watched_is_not_taken() -> None:
    broken = {"watch"}
    api = Frontend(settings=CONF, fault=lambda name: "before" if name in broken else None)
    body = {"tasks": ["sleep 1"], "idempotency_key": "k", "deadline_s": 60}
    assert api.call("POST", "/batches", body).status_code == 503
    broken.clear()
    assert api.call("POST", "/batches", body).status_code == 202
    assert len(api.cloud.records.watched()) == 1


def test_a_batch_without_either_costs_no_call_more(api: Frontend) -> None:
    calls: list[str] = []
    api = Frontend(settings=CONF, fault=lambda name: calls.append(name))  # type: ignore[func-returns-value]
    batch_id = api.submit(["sleep 1"] * 3)
    assert calls.count("watch") == 0
    calls.clear()
    status(api, batch_id)
    api.call("GET", "/batches")
    assert "state" not in calls
    api.submit(["sleep 1"], deadline_s=60)
    assert calls.count("watch") == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("deadline_s", 0), ("deadline_s", 604_801), ("budget_usd", 0), ("budget_usd", "1")],
)
def test_a_bad_deadline_or_budget_is_a_422_that_names_it(
    api: Frontend, field: str, value: Any
) -> None:
    answer = api.call("POST", "/batches", {"tasks": ["sleep 1"], field: value})
    assert answer.status_code == 422
    assert field in answer.json_body["Message"]
