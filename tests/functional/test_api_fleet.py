"""`GET /fleet`, the tick that runs the provisioner, and the nudge, with the API in this process."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from msgspec.structs import replace

from taskfleet.errors import PermanentError, TransientError
from taskfleet.provisioner.records import BootFailures, Demand, FleetState, KindDemand, WorkerRecord
from taskfleet.registry import Registry, TaskKind, sleep
from taskfleet.settings import Settings
from tests.support.frontend import Frontend
from tests.support.worker import run_nothing


@pytest.fixture
def api() -> Frontend:
    return Frontend()


def fleet(api: Frontend) -> dict[str, Any]:
    answer = api.call("GET", "/fleet")
    assert answer.status_code == 200, answer.body
    return dict(answer.json_body)


def tick(api: Frontend) -> None:
    event = api.client.events.generate_cw_event("aws.events", "Scheduled Event", {}, [])
    api.client.lambda_.invoke("tick", event)


def test_an_empty_fleet(api: Frontend) -> None:
    view = fleet(api)
    assert (view["backlog"], view["running"], view["workers"], view["instances"]) == (0, 0, [], [])
    assert view["why"] is None
    assert view["looked_s"] is None
    assert view["max_capacity"] == 10


def test_the_fleet_needs_a_token(api: Frontend) -> None:
    assert api.call("GET", "/fleet", as_client=None).status_code == 401


def test_a_batch_that_finds_no_machine_nudges_the_provisioner_and_the_tick_launches_one(
    api: Frontend,
) -> None:
    api.submit(["sleep 1000"] * 300)
    assert api.cloud.nudges.count == 1
    assert fleet(api)["why"] is not None
    assert "the provisioner has never run" in fleet(api)["why"]
    tick(api)
    view = fleet(api)
    assert view["desired"] == 1
    assert view["instances"][0]["state"] == "booting"
    assert view["decisions"][-1]["launched"] == 1
    assert "300 tasks wait" in view["decisions"][-1]["reason"]
    assert view["usd_per_hour"] == pytest.approx(0.0725)
    assert view["cost_usd"] > 0
    assert "1 machines are booting, the first since" in view["why"]
    assert len(api.cloud.fleet.instances()) == 1
    api.submit(["sleep 1"])
    assert api.cloud.nudges.count == 1, "a machine is booting already"


def test_a_batch_is_taken_although_the_provisioner_cannot_be_called() -> None:
    api = Frontend(fault=lambda name: "before" if name == "add_demand" else None)
    api.submit(["sleep 1"])
    assert api.cloud.nudges.count == 0

    def out_of_order() -> None:
        raise TransientError("could not call function taskfleet-dev-tick")

    api = Frontend()
    api.cloud.nudges.nudge = out_of_order  # type: ignore[method-assign]
    api.submit(["sleep 1"])
    assert api.cloud.records.demand().messages == 1


def test_demand_tells_how_long_the_tasks_take(api: Frontend) -> None:
    api.submit(["sleep 1500", "sleep 1500", "sleep 500"])
    demand = api.cloud.records.demand()
    assert demand == Demand(1, demand.messages, {"sleep": KindDemand(3, 3, 3.5)})


def test_a_batch_is_cut_for_the_fleet_that_the_provisioner_saw() -> None:
    note = TaskKind(name="note", run=run_nothing)  # of unknown duration
    api = Frontend(
        registry=Registry([sleep, note]), settings=Settings(bucket="b", max_capacity=9, slots=20)
    )
    cloud = api.cloud

    def cut_for(tasks: list[str]) -> int:
        batch = cloud.monitor.batch(api.submit(tasks))
        assert batch is not None
        return batch.plan.slots

    assert cut_for(["note"] * 80) == 20, "nothing is there: a machine will be"
    now = cloud.clock.now()
    cloud.records.report(WorkerRecord("w-static", None, 16, ["sleep"], now, now))
    cloud.fleet.launch(3, token="three")
    tick(api)
    assert cut_for(["note"] * 80) == 16 + 3 * 20
    assert cut_for(["sleep 1000"] * 80) == 16, "it makes no difference, and is not asked"
    upload = api.upload(b"sleep 1000\n" * 80)
    made = api.call("POST", "/batches", {"upload_id": upload}).json_body["batch_id"]
    known = cloud.monitor.batch(made)
    assert known is not None
    assert known.plan.slots == 76


def test_why_nothing_runs(api: Frontend) -> None:
    """The reasons that need the provisioner's history are in tests/unit/test_provisioner.py."""
    cloud = api.cloud
    api.submit(["sleep 1000"])
    tick(api)
    cloud.clock.sleep(400)
    assert "the provisioner has not run for" in fleet(api)["why"]
    now = cloud.clock.now()
    cloud.records.report(WorkerRecord("w-1", None, 16, ["animoto"], now, now))
    assert fleet(api)["why"].startswith(
        "no worker takes tasks of kind sleep: the workers there are take animoto"
    )
    worker = WorkerRecord("w-1", None, 16, ["sleep"], now, now)
    cloud.records.report(worker)
    assert "1 workers are there" in fleet(api)["why"]
    cloud.records.report(replace(worker, running={"sleep": 1}))
    view = fleet(api)
    assert view["why"] is None
    assert view["running"] == 1
    assert view["workers"][0]["worker_id"] == "w-1"


def test_a_table_that_does_not_answer_is_the_reason() -> None:
    broken: set[str] = set()
    api = Frontend(fault=lambda name: "before" if name in broken else None)
    api.submit(["sleep 1"])
    broken |= {"state", "workers"}
    assert "the records cannot be read" in fleet(api)["why"]


def test_a_tick_whose_rounds_all_fail_fails_so_that_lambda_counts_an_error() -> None:
    api = Frontend(fault=lambda name: "before" if name == "state" else None)
    api.submit(["sleep 1"])
    with pytest.raises(TransientError, match="state"):
        tick(api)


def test_one_failed_round_among_good_ones_is_a_line_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = itertools.count(1)
    api = Frontend(fault=lambda name: "before" if name == "state" and next(calls) == 2 else None)
    api.submit(["sleep 1"])
    tick(api)
    assert "look_failed" in [r.taskfleet["action"] for r in caplog.records if "round" in r.msg]


def test_a_tick_fails_while_machines_boot_in_vain() -> None:
    api = Frontend()
    failures = BootFailures(count=4, counted_at=api.cloud.clock.now(), last_step="unpack")
    api.cloud.records.save_state(FleetState(boot_failures=failures))
    tick(api)
    api.submit(["sleep 1"])
    with pytest.raises(
        PermanentError, match=r"4 machines in a row .* says: unpack; launches pause"
    ):
        tick(api)


def test_a_client_learns_of_others_totals_and_kinds_and_nothing_else(api: Frontend) -> None:
    batch_id = api.submit(["sleep 1234"] * 3, name="hush")
    tick(api)
    view = api.call("GET", "/fleet", as_client="curious").json_body
    assert view["backlog"] > 0
    told = json.dumps(view)
    assert not [word for word in ("alice", batch_id, "hush", "1234") if word in told]
