"""Answers of SQS that emulators do not give, from a stubbed client."""

from __future__ import annotations

import random

import boto3
import pytest
from botocore.stub import Stubber

from taskfleet.aws.backoff import TRIES, Backoff
from taskfleet.aws.sqs import SqsQueue
from taskfleet.errors import PermanentError, TransientError
from taskfleet.memory import ManualClock
from taskfleet.ports import CALL_MAX_MESSAGES, Message, OutgoingMessage

URL = "https://sqs.us-east-1.amazonaws.com/1/Task_to_process"
DEAD_URL = URL + "_dead"


@pytest.fixture
def sqs():
    client = boto3.client("sqs", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    with Stubber(client) as stubber:
        stubber.add_response("get_queue_url", {"QueueUrl": URL}, {"QueueName": "Task_to_process"})
        yield client, stubber
        stubber.assert_no_pending_responses()


def queue_on(client, clock: ManualClock | None = None) -> SqsQueue:
    backoff = Backoff(clock or ManualClock(), random.Random(0))
    return SqsQueue(client, "Task_to_process", backoff)


def message(number: int) -> Message:
    return Message(f"id {number}", f"receipt {number}", f"body {number}", 1)


def failure(place: int, code: str, text: str = "", *, sender: bool) -> dict:
    return {"Id": str(place), "Code": code, "Message": text, "SenderFault": sender}


def entry(place: int, body: str, **more) -> dict:
    return {"Id": str(place), "MessageBody": body, **more}


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("MessageNotInflight", ""),
        ("AWS.SimpleQueueService.MessageNotInflight", ""),
        ("ReceiptHandleIsInvalid", "The input receipt handle is invalid."),
        (
            "InvalidParameterValue",
            "Value receipt 1 for parameter ReceiptHandle is invalid. Reason: Message does not "
            "exist or is not available for visibility timeout change.",
        ),
        (
            "InvalidParameterValue",
            "Value 30 for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout "
            "for the message is beyond the limit [43200 seconds].",
        ),
    ],
)
def test_a_message_with_an_invalid_receipt_handle_is_returned(sqs, code, text):
    client, stubber = sqs
    stubber.add_response(
        "change_message_visibility_batch",
        {"Successful": [{"Id": "0"}], "Failed": [failure(1, code, text, sender=True)]},
    )
    stale = queue_on(client).change_visibility([(message(0), 30), (message(1), 30)])
    assert stale == [message(1)]


def test_invalid_receipt_handles_are_returned_from_every_call(sqs):
    client, stubber = sqs
    for ids in ([3, 9], [0], []):
        failed = [failure(n, "MessageNotInflight", sender=True) for n in ids]
        stubber.add_response(
            "change_message_visibility_batch", {"Successful": [], "Failed": failed}
        )
    messages = [message(n) for n in range(25)]
    stale = queue_on(client).change_visibility([(m, 30) for m in messages])
    assert stale == [messages[3], messages[9], messages[10]]


@pytest.mark.parametrize(("seconds", "sent"), [(0, 0), (0.2, 1), (29.1, 30), (99_999, 43_200)])
def test_visibility_is_rounded_up_within_the_limits_of_sqs(sqs, seconds, sent):
    client, stubber = sqs
    stubber.add_response(
        "change_message_visibility_batch",
        {"Successful": [], "Failed": []},
        {
            "QueueUrl": URL,
            "Entries": [{"Id": "0", "ReceiptHandle": "receipt 0", "VisibilityTimeout": sent}],
        },
    )
    queue_on(client).change_visibility([(message(0), seconds)])


def test_deleting_with_an_invalid_receipt_handle_does_nothing(sqs):
    client, stubber = sqs
    stubber.add_response(
        "delete_message_batch",
        {"Successful": [], "Failed": [failure(0, "ReceiptHandleIsInvalid", sender=True)]},
    )
    queue_on(client).delete([message(0)])


def test_only_entries_with_a_transient_failure_are_sent_again(sqs):
    client, stubber = sqs
    clock = ManualClock()
    before = clock.now()
    messages = [OutgoingMessage(body, "client") for body in "abc"]
    entries = [entry(n, body, MessageGroupId="client") for n, body in enumerate("abc")]
    stubber.add_response(
        "send_message_batch",
        {
            "Successful": [],
            "Failed": [
                failure(0, "InternalError", sender=False),
                failure(2, "Timeout", sender=False),
            ],
        },
        {"QueueUrl": URL, "Entries": entries},
    )
    stubber.add_response(
        "send_message_batch",
        {"Successful": [], "Failed": [failure(2, "RequestThrottled", sender=True)]},
        {"QueueUrl": URL, "Entries": [entries[0], entries[2]]},
    )
    stubber.add_response(
        "send_message_batch",
        {"Successful": [], "Failed": []},
        {"QueueUrl": URL, "Entries": [entries[2]]},
    )
    queue_on(client, clock).send(messages)
    assert 0 < clock.now() - before < 1


def test_entries_that_fail_every_time_are_transient(sqs):
    client, stubber = sqs
    failed = [failure(0, "InternalError", sender=False)]
    for _ in range(TRIES):
        stubber.add_response("send_message_batch", {"Successful": [], "Failed": failed})
    with pytest.raises(TransientError, match="send to queue Task_to_process: InternalError for 1"):
        queue_on(client).send([OutgoingMessage("a"), OutgoingMessage("b")])


def test_an_entry_that_sqs_refuses_is_permanent(sqs):
    client, stubber = sqs
    failed = [failure(0, "InvalidMessageContents", "not XML", sender=True)]
    stubber.add_response("send_message_batch", {"Successful": [], "Failed": failed})
    with pytest.raises(PermanentError, match="Task_to_process: InvalidMessageContents: not XML"):
        queue_on(client).send([OutgoingMessage("a")])


def test_too_many_in_flight_is_transient(sqs):
    client, stubber = sqs
    stubber.add_client_error("receive_message", "OverLimit", "120,000 in flight", 403)
    with pytest.raises(TransientError, match="receive from queue Task_to_process: OverLimit"):
        queue_on(client).receive(CALL_MAX_MESSAGES, wait_s=20, visibility_s=30)


@pytest.mark.parametrize(
    ("group", "sent"),
    [
        ("client-1", "client-1"),
        ("a b", "c8687a08aa5d6ed2044328fa6a697ab8e96dc34291e8c2034ae8c38e6fcc6d65"),
    ],
)
def test_a_group_that_sqs_would_refuse_is_hashed(sqs, group, sent):
    client, stubber = sqs
    stubber.add_response(
        "send_message_batch",
        {"Successful": [], "Failed": []},
        {"QueueUrl": URL, "Entries": [entry(0, "a", MessageGroupId=sent)]},
    )
    queue_on(client).send([OutgoingMessage("a", group)])


def test_a_message_that_did_not_reach_the_dead_letter_queue_is_not_deleted(sqs):
    client, stubber = sqs
    policy = '{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:1:Task_to_process_dead"}'
    stubber.add_response("get_queue_attributes", {"Attributes": {"RedrivePolicy": policy}})
    stubber.add_response(
        "get_queue_url", {"QueueUrl": DEAD_URL}, {"QueueName": "Task_to_process_dead"}
    )
    stubber.add_client_error("send_message", "ServiceUnavailable", http_status_code=503)
    with pytest.raises(TransientError, match="Task_to_process_dead"):
        queue_on(client).dead_letter(message(0), "poison")  # the stub has no answer for a delete
