"""The event that a batch has ended: from the end in each way to what a sink gets, and what becomes
of a sink that fails; and the adapters of EventBridge and SNS on moto."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import msgspec
import pytest

from taskfleet.aws.events import EventBus
from taskfleet.aws.session import Aws
from taskfleet.batch import BatchStatus
from taskfleet.clock import SystemClock
from taskfleet.errors import PermanentError, SettingsError, TransientError
from taskfleet.settings import Settings, load
from taskfleet.wire.events import FinishedBatch
from tests.support.frontend import Frontend
from tests.support.moto_aws import moto_account

ARN = "arn:aws:sns:us-east-1:123456789012:taskfleet-dev-batches"


class Sink:
    """Keeps events; raises its errors first."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.events: list[FinishedBatch] = []

    def send(self, event: FinishedBatch) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.events.append(event)


def test_each_way_in_which_a_batch_ends_is_told_with_its_view() -> None:
    sink = Sink()
    api = Frontend(sinks=[sink])
    done = api.submit(["sleep 1", "sleep 2"], name="nightly", max_attempts=2)
    assert sink.events == []
    api.run()
    (event,) = sink.events
    assert (event.batch_id, event.name, event.status) == (done, "nightly", BatchStatus.DONE)
    assert (event.total, event.succeeded, event.client_id, event.stage) == (2, 2, "alice", "dev")
    shown = api.call("GET", f"/batches/{done}").json_body
    assert {name: value for name, value in json.loads(encoded(event)).items() if name in shown} == (
        shown
    )

    opened = api.call("POST", "/batches", {"open": True}).json_body["batch_id"]
    api.call("POST", f"/batches/{opened}/close")
    faulty = api.call("POST", "/batches", {"upload_id": api.upload(b"sleep 1\nnap\n")}).json_body
    api.run()
    cancelled = api.submit(["sleep 1"] * 3)
    api.call("DELETE", f"/batches/{cancelled}")
    assert [event.batch_id for event in sink.events] == [done, opened, faulty["batch_id"]]
    assert "line 2" in str(sink.events[2].error)
    api.run()  # its tasks are on the queue; with their end it has ended
    assert [event.batch_id for event in sink.events[3:]] == [cancelled]
    assert (sink.events[3].status, sink.events[3].cancelled) == (BatchStatus.CANCELLED, 3)


def encoded(event: FinishedBatch) -> bytes:
    return msgspec.json.encode(event)


def test_a_failure_that_may_pass_is_tried_again_and_any_other_keeps_nothing() -> None:
    busy, gone = Sink(TransientError("busy")), Sink(PermanentError("no such topic"))
    api = Frontend(sinks=[busy, gone])
    batch_id = api.submit(["sleep 1"])
    with pytest.raises(TransientError, match="busy"):
        api.run()
    api.cloud.clock.sleep(31)  # the response is visible again
    api.run()
    assert [event.batch_id for event in busy.events] == [batch_id]
    assert [event.batch_id for event in gone.events] == [batch_id]
    assert api.call("GET", f"/batches/{batch_id}").json_body["succeeded"] == 1


def test_a_topic_that_is_gone_stops_no_count() -> None:
    api = Frontend(sinks=[Sink(*[PermanentError("no such topic")] * 9)])
    batch_id = api.submit(["sleep 1"])
    api.run()
    assert api.call("GET", f"/batches/{batch_id}").json_body["status"] == "DONE"
    assert api.cloud.responses.depth().in_flight == 0


def test_a_topic_is_one_of_the_stage() -> None:
    assert load({"TASKFLEET_EVENTS_TOPIC": ARN}).events_topic == ARN
    assert not load({}).events
    for topic, reason in (
        (ARN.replace("dev", "prod"), "must begin with taskfleet-dev-"),
        ("taskfleet-dev-batches", "matching regex"),
    ):
        with pytest.raises(SettingsError, match=reason):
            load({"TASKFLEET_EVENTS_TOPIC": topic})


@pytest.fixture
def heard() -> Iterator[Any]:
    """A function that returns the next message of a queue to which a rule of EventBridge and a
    topic send."""
    with moto_account():
        region = {"region_name": "us-east-1"}
        sqs, sns = boto3.client("sqs", **region), boto3.client("sns", **region)
        url = sqs.create_queue(QueueName="heard")["QueueUrl"]
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        arn = attributes["Attributes"]["QueueArn"]
        bus = boto3.client("events", **region)
        pattern = {"source": ["taskfleet"], "detail-type": ["Batch finished"]}
        pattern["detail"] = {"stage": ["dev"], "status": ["DONE"]}  # type: ignore[assignment]
        bus.put_rule(Name="r", EventPattern=json.dumps(pattern))
        bus.put_targets(Rule="r", Targets=[{"Id": "1", "Arn": arn}])
        topic = sns.create_topic(Name="taskfleet-dev-batches")["TopicArn"]
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)

        def receive() -> dict[str, Any]:
            (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            return dict(json.loads(message["Body"]))

        receive.topic = topic  # type: ignore[attr-defined]
        yield receive


def test_both_services_carry_the_same_event(heard: Any) -> None:
    event = FinishedBatch(
        "b" * 26, None, BatchStatus.DONE, 1, 1, 0, 0, "x", "y", 0.0, client_id="alice", stage="dev"
    )
    aws = Aws(Settings(events=True, events_topic=heard.topic), SystemClock())
    bus, topic = aws.event_sinks()
    before = aws.meter.spend()
    bus.send(event)
    by_bus = heard()
    topic.send(event)
    by_topic = heard()
    message = json.loads(by_topic["Message"])
    assert {name: by_bus[name] for name in message} == message
    assert message["source"] == "taskfleet"
    assert message["detail-type"] == "Batch finished"
    assert message["detail"]["batch_id"] == "b" * 26
    assert message["detail"]["client_id"] == "alice"
    assert by_topic["MessageAttributes"]["status"]["Value"] == "DONE"
    spent = aws.meter.spend() - before
    assert (spent.calls, spent.usd) == (2, pytest.approx(1.5e-6))

    gone = Aws(Settings(events_topic=heard.topic + "-gone"), SystemClock()).event_sinks()
    with pytest.raises(Exception, match="could not send an event to topic "):
        gone[0].send(event)
    assert Aws(Settings(), SystemClock()).event_sinks() == []


def test_an_entry_that_the_bus_refuses_is_an_error() -> None:
    class Client:
        def __init__(self, code: str) -> None:
            self.code = code

        def put_events(self, **_: Any) -> dict[str, Any]:
            entry = {"ErrorCode": self.code, "ErrorMessage": "m"}
            return {"FailedEntryCount": 1, "Entries": [entry]}

    event = FinishedBatch(
        "b", None, BatchStatus.DONE, 1, 1, 0, 0, "x", "y", 0.0, client_id="alice", stage="dev"
    )
    for code, kind in (
        ("ThrottlingException", TransientError),
        ("InternalFailure", TransientError),
        ("MalformedDetail", PermanentError),
    ):
        with pytest.raises(kind, match=f"refused an event: {code}: m"):
            EventBus(Client(code)).send(event)
