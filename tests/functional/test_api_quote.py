"""`POST /quote`, and the quote that each batch keeps, with the API in this process."""

from __future__ import annotations

from typing import Any

import pytest

from taskfleet.bundle import Response
from taskfleet.pace import Sample
from taskfleet.provisioner.records import Noted, WorkerRecord
from taskfleet.registry import Registry, TaskKind, sleep
from taskfleet.scheduler.collect import collect
from taskfleet.task import TaskResult, TaskStatus
from taskfleet.wire.queues import decode_bundle, encode_response
from tests.support.frontend import Frontend
from tests.support.worker import run_nothing

NOTE = TaskKind(name="note", run=run_nothing)
SLOT_USD_S = 0.0725 / 3600 / 16


@pytest.fixture
def api() -> Frontend:
    return Frontend(registry=Registry([sleep, NOTE]))


def quote(api: Frontend, tasks: list[Any]) -> dict[str, Any]:
    answer = api.call("POST", "/quote", {"tasks": tasks})
    assert answer.status_code == 200, answer.body
    return dict(answer.json_body)


def run(api: Frontend, seconds: float) -> None:
    """End all tasks on the queue, each after so many seconds, 16 at a time."""
    messages = []
    while more := api.cloud.tasks.receive(10, wait_s=0, visibility_s=30):
        messages += more
    bundles = [decode_bundle(message.body) for message in messages]
    tasks = sum(len(bundle.tasks) for bundle in bundles)
    api.cloud.clock.sleep(seconds * -(-tasks // 16))
    for bundle in bundles:
        results = [
            TaskResult(task.index, TaskStatus.SUCCEEDED, attempts=1, duration_s=seconds)
            for task in bundle.tasks
        ]
        body = encode_response(Response(bundle.job_id, bundle.client_id, bundle.batch_id, results))
        # A response may come twice.
        for _ in range(2):
            collect({"m": body}, api.cloud.monitor, api.cloud.clock)
    api.cloud.tasks.delete(messages)


def test_nothing_is_submitted(api: Frontend) -> None:
    found = quote(api, ["sleep 1000"] * 32)
    assert found["tasks"] == 32
    assert found["rests_on"] == [{"name": "sleep", "tasks": 32, "mean_s": 1.0, "learned": None}]
    assert found["launches"] == 1
    assert api.call("GET", "/batches").json_body["batches"] == []
    assert api.cloud.tasks.depth().backlog == 0
    assert api.cloud.records.demand().messages == 0
    assert api.cloud.nudges.count == 0


def test_a_text_is_quoted_as_it_would_be_submitted(api: Frontend) -> None:
    answer = api.call(
        "POST", "/quote", "sleep 1000\n# none\n\nsleep 1000\n", content_type="text/plain"
    )
    assert answer.status_code == 200, answer.body
    assert answer.json_body["tasks"] == 2


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"tasks": ["sleep 1", "sleep -1"]}, 422, "task 1"),
        ({"tasks": []}, 422, "at least one task"),
        ({"upload_id": "0" * 26}, 422, "a quote is made of `tasks`"),
        ({"open": True}, 422, "a quote is made of `tasks`"),
        (b"{", 400, "the body"),
    ],
)
def test_faults_are_those_of_a_submission(
    api: Frontend, body: Any, status: int, words: str
) -> None:
    answer = api.call("POST", "/quote", body)
    assert answer.status_code == status
    assert words in answer.json_body["Message"]


def test_a_batch_keeps_the_quote_that_was_answered_and_shows_what_it_took(api: Frontend) -> None:
    api.cloud.records.note(Noted(1, 16, 16, boot_s=40.0, at=api.cloud.clock.now()))
    told = quote(api, ["sleep 1000"] * 32)
    batch_id = api.submit(["sleep 1000"] * 32)
    before = api.call("GET", f"/batches/{batch_id}").json_body["quote"]
    assert before == {
        **{name: told[name] for name in ("p50_s", "p90_s", "usd", "machines")},
        "actual_s": None,
        "actual_usd": None,
    }
    run(api, 1.0)
    batch = api.call("GET", f"/batches/{batch_id}").json_body
    assert batch["status"] == "DONE"
    assert batch["quote"]["actual_s"] == 2.0
    assert batch["quote"]["actual_usd"] == pytest.approx(
        batch["cost_usd"] + 32 * SLOT_USD_S, rel=1e-3
    )
    assert batch["quote"]["p50_s"] == pytest.approx(2.6, abs=0.1)


def test_what_a_kind_took_is_learned_for_its_next_quote(api: Frontend) -> None:
    assert quote(api, ["note"])["rests_on"][0]["learned"] == 0
    api.cloud.monitor.learn({"note": Sample(10, 20.0, 40.0)})
    group = quote(api, ["note"])["rests_on"][0]
    assert (group["mean_s"], group["learned"]) == (2.0, 10)


def test_a_cancelled_batch_and_an_open_one_have_nothing_to_compare(api: Frontend) -> None:
    batch_id = api.submit(["sleep 1000"])
    api.call("DELETE", f"/batches/{batch_id}")
    run(api, 1.0)
    assert api.call("GET", f"/batches/{batch_id}").json_body["quote"]["actual_s"] is None
    opened = api.call("POST", "/batches", {"open": True, "tasks": ["sleep 1"]})
    path = f"/batches/{opened.json_body['batch_id']}"
    assert api.call("GET", path).json_body["quote"] is None


def test_workers_are_counted_where_no_provisioner_notes_them(api: Frontend) -> None:
    now = api.cloud.clock.now()
    api.cloud.records.report(WorkerRecord("w", None, 8, ["sleep"], now, now))
    assert quote(api, ["sleep 1000"] * 16)["fleet"].startswith("8 slots are ready")


def test_a_batch_is_quoted_although_the_provisioner_cannot_be_told() -> None:
    api = Frontend(fault=lambda name: "before" if name == "add_demand" else None)
    batch_id = api.submit(["sleep 1000"])
    assert api.call("GET", f"/batches/{batch_id}").json_body["quote"]["p50_s"] > 30


def test_a_duration_that_no_task_can_have_is_not_counted(api: Frontend) -> None:
    batch_id = api.submit(["sleep 1000"])
    run(api, 1e12)
    batch = api.cloud.monitor.batch(batch_id)
    assert batch is not None
    assert (batch.tally.succeeded, batch.busy_ms) == (1, 0)
