"""DynamoDB's rule of conflicts, by the cases of its documentation."""

from __future__ import annotations

import pytest

from localcloud.conflicts import Conflicts, Refusal, Request, read_request

A, B = ("/t", '{"k": {"S": "a"}}'), ("/t", '{"k": {"S": "b"}}')
WRITE = Request(False, True, (A,))
TRANSACTION = Request(True, True, (B, A))
READS = Request(True, False, (A, B))


def code(refusal: Refusal | None) -> str | None:
    return None if refusal is None else refusal.code


@pytest.mark.parametrize(
    ("flying", "comes", "refused"),
    [
        (TRANSACTION, WRITE, "TransactionConflictException"),
        (TRANSACTION, TRANSACTION, "TransactionCanceledException"),
        (TRANSACTION, READS, "TransactionCanceledException"),
        (WRITE, READS, "TransactionCanceledException"),
        (WRITE, WRITE, None),
        (WRITE, TRANSACTION, None),
        (READS, WRITE, None),
        (READS, READS, None),
        (READS, TRANSACTION, None),
        (Request(True, True, (B,)), WRITE, None),
    ],
)
def test_two_requests_meet(flying: Request, comes: Request, refused: str | None) -> None:
    conflicts = Conflicts()
    assert conflicts.enter(flying) is None
    assert code(conflicts.enter(comes)) == refused
    if refused is None:
        conflicts.leave(comes)
    conflicts.leave(flying)
    for request in (WRITE, TRANSACTION, READS):
        assert conflicts.enter(request) is None
        conflicts.leave(request)


def test_an_item_is_in_flight_until_the_last_of_its_writes_has_left() -> None:
    conflicts = Conflicts()
    assert conflicts.enter(WRITE) is conflicts.enter(WRITE) is None
    conflicts.leave(WRITE)
    assert conflicts.enter(READS) is not None
    conflicts.leave(WRITE)
    assert conflicts.enter(READS) is None


def test_the_refusals_have_dynamodb_s_form() -> None:
    conflicts = Conflicts()
    conflicts.enter(Request(True, True, (A,)))
    plain, transaction = conflicts.enter(WRITE), conflicts.enter(TRANSACTION)
    assert plain is not None
    assert transaction is not None
    assert plain.body == {
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionConflictException",
        "message": "Transaction is ongoing for the item",
    }
    assert transaction.body == {
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "Transaction cancelled, please refer cancellation reasons for specific reasons "
        "[None, TransactionConflict]",
        "CancellationReasons": [
            {"Code": "None"},
            {"Code": "TransactionConflict", "Message": "Transaction is ongoing for the item"},
        ],
    }


ITEM = {"k": {"S": "a"}, "n": {"N": "1"}}
KEY = {"k": {"S": "a"}}


@pytest.mark.parametrize(
    ("operation", "body", "request_"),
    [
        ("PutItem", {"TableName": "t", "Item": ITEM}, WRITE),
        ("UpdateItem", {"TableName": "t", "Key": KEY}, WRITE),
        ("DeleteItem", {"TableName": "t", "Key": KEY}, WRITE),
        ("BatchWriteItem", {"RequestItems": {"t": [{"PutRequest": {"Item": ITEM}}]}}, WRITE),
        ("BatchWriteItem", {"RequestItems": {"t": [{"DeleteRequest": {"Key": KEY}}]}}, WRITE),
        (
            "TransactWriteItems",
            {
                "TransactItems": [
                    {"ConditionCheck": {"TableName": "t", "Key": {"k": {"S": "b"}}}},
                    {"Put": {"TableName": "t", "Item": ITEM}},
                ]
            },
            TRANSACTION,
        ),
        (
            "TransactGetItems",
            {
                "TransactItems": [
                    {"Get": {"TableName": "t", "Key": KEY}},
                    {"Get": {"TableName": "t", "Key": {"k": {"S": "b"}}}},
                ]
            },
            READS,
        ),
        ("GetItem", {"TableName": "t", "Key": KEY}, None),
        ("Query", {"TableName": "t"}, None),
    ],
)
def test_what_a_request_touches(operation: str, body: dict, request_: Request | None) -> None:
    assert read_request(operation, body, lambda table: ("k",)) == request_
