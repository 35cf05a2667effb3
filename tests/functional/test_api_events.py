"""The handlers that Lambda calls for queues and schedules."""

import json
import logging

import pytest

from chalice_app.application import create_app
from chalice_app.events import stage_settings
from taskfleet.errors import SettingsError, TransientError
from taskfleet.registry import Registry, sleep
from tests.support.frontend import Frontend
from tests.support.worker import HandWorker, thread_kind

# Each task is a bundle of its own, as long tasks are.
ALONE = thread_kind("alone", lambda params, context: None, expected_s=lambda params: 2.0)


@pytest.fixture
def api():
    return Frontend(registry=Registry([sleep, ALONE]))


def deliver(api, bodies):
    records = [
        {"messageId": f"m{n}", "receiptHandle": f"r{n}", "body": body}
        for n, body in enumerate(bodies)
    ]
    return api.client.lambda_.invoke("collect_responses", {"Records": records}).payload


def answered(api, tasks):
    """Returns the id of a batch whose responses wait on the queue, and their bodies."""
    batch_id = api.submit(tasks)
    HandWorker(api.cloud, api.registry).work()
    messages = api.cloud.responses.receive(10, wait_s=0, visibility_s=30)
    return batch_id, [message.body for message in messages]


def counts(api, batch_id):
    body = api.call("GET", f"/batches/{batch_id}").json_body
    return body["status"], body["succeeded"]


def test_responses_are_counted_once_whatever_comes_twice_or_late(api):
    batch_id, (together,) = answered(api, ["alone"] * 3)
    bodies = [json.dumps(each) for each in json.loads(together)["responses"]]
    assert len(bodies) == 3
    assert deliver(api, [bodies[2], bodies[2]]) == {"batchItemFailures": []}
    assert counts(api, batch_id) == ("RUNNING", 1)
    deliver(api, [bodies[1], bodies[2], bodies[0]])
    deliver(api, [*bodies, together])
    assert counts(api, batch_id) == ("DONE", 3)


def test_answers_to_programs_of_2014_stay_on_the_queue(api):
    batch_id, bodies = answered(api, ["sleep 1"])
    old = '{"clientID":56783,"jobID":152,"status":"SUCCEEDED","result":null}'
    payload = deliver(api, [old, *bodies])
    assert payload == {"batchItemFailures": [{"itemIdentifier": "m0"}]}
    assert counts(api, batch_id) == ("DONE", 1)


def test_an_unreadable_response_blocks_nothing(api):
    batch_id, bodies = answered(api, ["sleep 1"])
    assert deliver(api, ["{", *bodies]) == {"batchItemFailures": []}
    assert counts(api, batch_id) == ("DONE", 1)


def test_a_busy_table_fails_the_call_so_that_the_queue_delivers_again():
    broken = set()
    api = Frontend(fault=lambda name: "before" if name in broken else None)
    batch_id, bodies = answered(api, ["sleep 1"])
    broken.add("record_progress")
    with pytest.raises(TransientError):
        deliver(api, bodies)
    broken.clear()
    deliver(api, bodies)
    assert counts(api, batch_id) == ("DONE", 1)


def test_the_tick_logs_what_waits_and_runs(api, caplog):
    caplog.set_level(logging.INFO)
    api.submit(["alone"] * 3)
    api.cloud.tasks.receive(1, wait_s=0, visibility_s=30)
    rule = "arn:aws:events:eu-west-1:000000000000:rule/taskfleet-dev-tick-event"
    event = api.client.events.generate_cw_event("aws.events", "Scheduled Event", {}, [rule])
    api.client.lambda_.invoke("tick", event)
    (record,) = [r for r in caplog.records if r.name == "chalice_app.events"]
    assert record.taskfleet == {
        "action": "queue_depth",
        "backlog": 2,
        "in_flight": 1,
        "called_by": ["taskfleet-dev-tick-event"],
    }


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, "Processed_Task"),
        ({"TASKFLEET_STAGE": "dev"}, "Processed_Task"),
        ({"TASKFLEET_STAGE": "prod", "TASKFLEET_LEASE_S": "x"}, "Processed_Task-prod"),
    ],
)
def test_the_response_queue_is_that_of_the_stage(environ, name):
    assert stage_settings(environ).response_queue == name


def test_the_number_of_collectors_is_a_setting():
    assert stage_settings({}).collectors == 20
    environ = {"TASKFLEET_COLLECTORS": "7"}
    assert stage_settings(environ).collectors == 7
    with pytest.raises(SettingsError, match="TASKFLEET_COLLECTORS"):
        stage_settings({"TASKFLEET_COLLECTORS": "1"})


def test_as_many_collectors_run_as_the_setting_says(monkeypatch):
    monkeypatch.setenv("TASKFLEET_COLLECTORS", "7")
    sources = {source.name: source for source in create_app(lambda: None).event_sources}
    assert sources["collect_responses"].maximum_concurrency == 7


def test_an_impossible_stage_is_refused():
    with pytest.raises(SettingsError, match="TASKFLEET_STAGE"):
        stage_settings({"TASKFLEET_STAGE": "Prod!"})
