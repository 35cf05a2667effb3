"""Several responses in one message of `Processed_Task`."""

from __future__ import annotations

import json

import pytest

from taskfleet.bundle import LegacyIds, Response, job_id
from taskfleet.errors import Undecodable
from taskfleet.pace import Sample
from taskfleet.task import TaskResult, TaskStatus
from taskfleet.wire.envelopes import (
    ENVELOPE_MAX_BYTES,
    ENVELOPE_MAX_RESPONSES,
    decode_responses,
    pack,
)
from taskfleet.wire.queues import LegacyResponseMessage, encode_response
from tests.unit.test_bundle import validate

BATCH = "0123456789abcdefghjkmnpqrs"


def response(number: int, client_id: str = "alice", size: int = 1) -> Response:
    rows = [TaskResult(0, TaskStatus.SUCCEEDED, "ü\uffff" + "x" * size, attempts=1)]
    timings = {"movie": Sample(1, 0.25, 0.0625)}
    return Response(job_id(BATCH, number), client_id, BATCH, rows, timings=timings)


def encode_responses(responses: list[Response]) -> list[tuple[str, str]]:
    return pack((each, encode_response(each)) for each in responses)


def of_2014(number: int) -> Response:
    rows = [TaskResult(0, TaskStatus.SUCCEEDED, 1, attempts=1)]
    return Response(f"1;{number}", "alice", "", rows, LegacyIds(1, number))


def test_a_single_response_keeps_its_form() -> None:
    assert encode_responses([response(1)]) == [("alice", encode_response(response(1)))]
    assert decode_responses(encode_response(response(1))) == [response(1)]
    assert encode_responses([]) == []


def test_responses_of_a_client_share_a_message_that_fits_the_schema() -> None:
    responses = [response(number) for number in range(ENVELOPE_MAX_RESPONSES)]
    ((client_id, body),) = encode_responses(responses)
    assert client_id == "alice"
    assert decode_responses(body) == responses
    assert json.loads(body)["responses"] == [json.loads(encode_response(r)) for r in responses]
    validate("processed_task", body)


def test_clients_share_no_message_and_answers_of_2014_stay_alone() -> None:
    messages = encode_responses(
        [response(1), response(2, "bob"), of_2014(3), response(4), of_2014(5), response(6, "bob")]
    )
    assert [client_id for client_id, _ in messages] == ["alice", "bob", "alice", "alice"]
    decoded = [decode_responses(body) for _, body in messages]
    assert decoded[:2] == [[response(1), response(4)], [response(2, "bob"), response(6, "bob")]]
    assert all(isinstance(each, LegacyResponseMessage) for each in decoded[2:])


def test_messages_keep_their_bounds() -> None:
    responses = [response(n) for n in range(2 * ENVELOPE_MAX_RESPONSES + 1)]
    responses += [response(100 + n, size=size) for n, size in enumerate([30_000] * 5 + [70_000, 9])]
    messages = [body for _, body in encode_responses(responses)]
    several = [body for body in messages if "responses" in json.loads(body)]
    assert all(len(body.encode()) <= ENVELOPE_MAX_BYTES for body in several)
    assert [each for body in messages for each in decode_responses(body)] == responses
    assert len(messages) == 7


def test_a_message_is_full_to_the_byte() -> None:
    spare = ENVELOPE_MAX_BYTES - len(encode_responses([response(1), response(2)])[0][1].encode())
    assert len(encode_responses([response(1), response(2, size=1 + spare)])) == 1
    assert len(encode_responses([response(1), response(2, size=2 + spare)])) == 2


@pytest.mark.parametrize(
    "text",
    [
        '{"v":1,"responses":[]}',
        '{"v":1,"responses":[%s]}',
        '{"v":1,"responses":[' + ",".join(["%s"] * (ENVELOPE_MAX_RESPONSES + 1)) + "]}",
        '{"v":2,"responses":[%s,%s]}',
        '{"responses":[%s,%s]}',
        '{"v":1,"responses":[%s,%s],"more":1}',
        '{"v":1,"responses":{"a":%s}}',
        '{"v":1,"responses":[%s,%s]',
        '{"v":1,"responses":[%s,' + "[" * 100_000 + "]}",
        '{"v":1,"responses":[{"v":1,"responses":[%s,%s]},{"v":1,"responses":[%s,%s]}]}',
    ],
    ids=lambda text: text[:40],
)
def test_other_messages_hold_no_response(text: str) -> None:
    found = decode_responses(text.replace("%s", encode_response(response(1))))
    assert isinstance(found, list)
    assert found
    assert all(isinstance(each, Undecodable) for each in found)
