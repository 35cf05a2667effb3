"""Lambda's Invoke as the local cloud plays it: the function gets what was sent, or Lambda's refusal
comes back."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from localcloud.invoke import ASYNC_MAX_BYTES, Invocations
from tests.support.moto_aws import aws_credentials


@pytest.fixture
def lambda_() -> Iterator[tuple[Any, queue.Queue[Any]]]:
    """A client, and the events that the function `taskfleet-dev-tick` got."""
    events: queue.Queue[Any] = queue.Queue()
    invocations = Invocations(0, {"taskfleet-dev-tick": events.put}, "test")
    thread = threading.Thread(target=invocations.serve)
    thread.start()
    with aws_credentials():
        client = boto3.client(
            "lambda",
            endpoint_url=f"http://127.0.0.1:{invocations.port}",
            config=Config(retries={"total_max_attempts": 1}),
        )
    yield client, events
    client.close()
    invocations.close()
    thread.join()


def test_the_function_gets_the_event_that_was_sent(lambda_: Any) -> None:
    client, events = lambda_
    for sent in (b'{"version":"0"}', b"[1]", b""):
        answer = client.invoke(
            FunctionName="taskfleet-dev-tick", InvocationType="Event", Payload=sent
        )
        assert answer["StatusCode"] == 202
        assert events.get(timeout=5) == json.loads(sent or b"{}")


@pytest.mark.parametrize(
    ("function", "payload", "error"),
    [
        ("taskfleet-dev-tock", b"{}", "ResourceNotFoundException"),
        ("taskfleet-dev-tick", b"{", "InvalidRequestContentException"),
        ("taskfleet-dev-tick", b'"' + b"x" * ASYNC_MAX_BYTES + b'"', "RequestTooLargeException"),
    ],
)
def test_what_lambda_refuses_is_refused(
    lambda_: Any, function: str, payload: bytes, error: str
) -> None:
    client, events = lambda_
    with pytest.raises(ClientError) as caught:
        client.invoke(FunctionName=function, InvocationType="Event", Payload=payload)
    assert caught.value.response["Error"]["Code"] == error
    assert events.empty()
