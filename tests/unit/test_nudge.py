"""The nudge of the provisioner: what Lambda is asked to hand over, and what the function takes."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from chalice.app import CloudWatchEvent

from localcloud.schedule_source import ScheduleSource
from taskfleet.aws.lambda_nudge import LambdaNudge
from taskfleet.memory import ManualClock
from tests.support.frontend import Frontend
from tests.support.moto_aws import aws_credentials

ON_EVENTBRIDGE = {
    "version": "0",
    "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
    "detail-type": "Scheduled Event",
    "source": "aws.events",
    "account": "123456789012",
    "time": "2015-10-08T16:53:06Z",
    "region": "us-east-1",
    "resources": ["arn:aws:events:us-east-1:123456789012:rule/my-scheduled-rule"],
    "detail": {},
}
"""The example of "Schedule expression reference", Amazon EventBridge User Guide."""


def payload_of_a_nudge() -> bytes:
    with aws_credentials():
        client = boto3.client("lambda", region_name="eu-west-1")
    sent: list[bytes] = []

    def answer(params: Any, **_: Any) -> Any:
        sent.append(params["body"])
        return type("Response", (), {"status_code": 202})(), {"StatusCode": 202}

    client.meta.events.register("before-call.lambda.Invoke", answer)
    LambdaNudge(client, "taskfleet-dev-tick", ManualClock(1_700_000_000.5)).nudge()
    (payload,) = sent
    return payload


def test_a_nudge_has_the_form_of_eventbridge() -> None:
    event = json.loads(payload_of_a_nudge())
    assert event.keys() == ON_EVENTBRIDGE.keys()
    assert {type(event[name]) is type(value) for name, value in ON_EVENTBRIDGE.items()} == {True}
    read = CloudWatchEvent(event, None)
    assert (read.region, read.time) == ("eu-west-1", "2023-11-14T22:13:20Z")


def test_the_real_handler_takes_a_nudge_and_fails_on_an_empty_object() -> None:
    tick = Frontend().app.handler_map["tick"]
    tick(json.loads(payload_of_a_nudge()), None)
    with pytest.raises(KeyError, match="version"):
        tick({}, None)


def test_the_local_cloud_hands_over_what_was_sent(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []

    def handler(event: Any, context: Any) -> None:
        seen.append(event)
        Frontend().app.handler_map["tick"](event, context)

    source = ScheduleSource("tick", 60.0, handler, "us-east-1")
    sent = json.loads(payload_of_a_nudge())
    source.invoke(sent)
    assert not caplog.records
    source.invoke({})
    assert seen == [sent, {}]
    assert "KeyError: 'version'" in caplog.text
