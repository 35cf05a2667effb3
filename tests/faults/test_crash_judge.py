"""The judge of the crash matrix finds what is lost, doubled and wrong; points have names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.faults.crash_load import Found, Given, Judge
from tests.faults.crash_points import AFTER, KILL, STOP, TERM, cells, point_of
from tests.support.hop import Call

ROWS = [
    {"index": 0, "status": "SUCCEEDED", "result": 9},
    {"index": 1, "status": "FAILED", "result": None},
]
GIVEN = Given("b", "a batch", [("square", 3), ("bad", 1)], at=0.0)
FINE = {"balanced": True, "total": 2}


class Answer(requests.Response):
    """An answer with this JSON."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self._content = json.dumps(value).encode()


def judged(
    folder: Path,
    rows: list[dict[str, Any]],
    *,
    receipt: dict[str, Any] = FINE,
    runs: tuple[int, int] = (1, 1),
    status: str = "DONE",
    crashes: int = 0,
) -> Found:
    for index, count in enumerate(runs):
        (folder / f"b-{index}").write_text("." * count)

    def call(_method: str, path: str) -> requests.Response:
        if path.endswith("/audit"):
            return Answer(receipt)
        if "/results" in path:
            return Answer({"results": rows})
        return Answer({"status": status, "finished_at": "now"})

    return Judge(call, folder, folder, lambda _at: crashes).judge(GIVEN)


def test_a_batch_that_is_right_is_found_so(tmp_path: Path) -> None:
    assert not judged(tmp_path, ROWS)
    assert not judged(tmp_path, ROWS, runs=(2, 1), crashes=1)


@pytest.mark.parametrize(
    ("named", "more"),
    [
        ("lost", {"rows": ROWS[:1]}),
        ("doubled", {"rows": [*ROWS, ROWS[0]]}),
        ("wrong", {"rows": [{**ROWS[0], "result": 8}, ROWS[1]]}),
        ("wrong", {"rows": [ROWS[0], {**ROWS[1], "status": "SUCCEEDED"}]}),
        ("wrong", {"rows": [*ROWS, {**ROWS[0], "index": 2}]}),
        ("wrong", {"rows": ROWS, "receipt": {**FINE, "balanced": False}}),
        ("wrong", {"rows": ROWS, "receipt": {**FINE, "total": 3}}),
        ("wrong", {"rows": ROWS, "runs": (2, 1)}),
        ("wrong", {"rows": ROWS, "runs": (0, 1)}),
        ("wrong", {"rows": ROWS, "status": "CANCELLED"}),
    ],
)
def test_what_is_wrong_with_a_batch_is_found(
    tmp_path: Path, named: str, more: dict[str, Any]
) -> None:
    found = judged(tmp_path, **more)
    assert len(getattr(found, named)) == 1, found


def test_a_lost_lease_that_a_worker_tells_of_explains_one_more_run(tmp_path: Path) -> None:
    (tmp_path / "worker-1.log").write_text('{"action": "lease_lost", "job_id": "b:0"}\n')
    assert not judged(tmp_path, ROWS, runs=(2, 1))
    assert judged(tmp_path, ROWS, runs=(3, 1)).wrong


@pytest.mark.parametrize(
    ("service", "operation", "given", "name"),
    [
        (
            "dynamodb",
            "UpdateItem",
            {
                "Key": {"Job_ID": {"S": "abc:1"}},
                "UpdateExpression": "SET #status = :status REMOVE #spill",
                "ExpressionAttributeValues": {":status": {"S": "DONE"}},
            },
            "UpdateItem bundle done",
        ),
        ("dynamodb", "PutItem", {"Item": {"Job_ID": {"S": "abc"}}}, "PutItem batch"),
        (
            "sqs",
            "ReceiveMessage",
            {"QueueUrl": "http://127.0.0.1/0/Task_to_process"},
            "ReceiveMessage Task_to_process",
        ),
        ("ec2", "CreateFleet", {}, "CreateFleet"),
    ],
)
def test_a_point_is_named_by_what_a_request_does(
    service: str, operation: str, given: dict[str, Any], name: str
) -> None:
    call = Call("worker", service, operation, 1, json.dumps(given).encode(), "POST /")
    assert point_of(call) == name


def test_an_effect_has_all_crashes_a_receive_those_after_it_and_a_read_the_stop() -> None:
    found = list(cells("worker", [("PutItem batch", 1), ("ReceiveMessage q", 1), ("GetItem", 1)]))
    assert len(found) == 6 + 3 + 1
    assert {(each.side, each.signal) for each in found[6:9]} == {
        (AFTER, signal) for signal in (KILL, TERM, STOP)
    }
    assert (found[9].side, found[9].signal) == (AFTER, STOP)
    assert not list(cells("worker", [("GetQueueUrl q", 1)]))
