"""The API under Lambda's limits, measured as Lambda measures them: a page of results can be read
whatever is in it, and a body that is too large is refused with a way out."""

import http.client
import json
import threading

import pytest

from localcloud import gateway
from localcloud.quotas import Quotas
from taskfleet.batch import BatchRecord
from taskfleet.bundle import job_id
from taskfleet.client import Client
from taskfleet.task import Task, TaskResult, TaskStatus
from taskfleet.wire.http.caps import BODY_MAX_BYTES
from taskfleet.wire.payload import EVENT_MAX_BYTES, event_bytes
from tests.support.frontend import Frontend

TEXTS = {
    "russian": "я",
    "chinese": "中",
    "emoji": "😀",
    "quotes": '"',
    "control": "\x01",
    "delete": "\x7f",
}


@pytest.fixture(scope="module")
def api():
    return Frontend()


@pytest.fixture(scope="module")
def server(api):
    with api.served() as server:
        yield server


def ask(api, server, method, path, body=None, content_type="application/json"):
    """Returns status and body of the answer to one request."""
    line = http.client.HTTPConnection(*server.server_address, timeout=30)
    headers = {"Authorization": f"Bearer {api.token()}", "Content-Type": content_type}
    line.request(method, path, body, headers)
    answer = line.getresponse()
    read = json.loads(answer.read())
    line.close()
    return answer.status, read


def record(api, batch_id, results):
    """Records a batch whose tasks have these results, all in one bundle."""
    monitor, now = api.cloud.monitor, api.cloud.clock.now()
    monitor.create_batch(
        BatchRecord(
            batch_id=batch_id,
            client_id="alice",
            name=None,
            created_at=now,
            total=len(results),
            bundles=1,
            payload_hash="h",
            closed=True,
        )
    )
    job = job_id(batch_id, 0)
    lease = monitor.claim(job, owner="w", lease_s=30).lease
    monitor.commit(
        job,
        lease,
        tasks=[Task(index, "sleep", 5) for index in range(len(results))],
        results=[TaskResult(i, TaskStatus.SUCCEEDED, r) for i, r in enumerate(results)],
    )


def read_all(api, server, batch_id):
    """Reads every page. Returns the rows."""
    rows, cursor = [], ""
    while cursor is not None:
        path = f"/batches/{batch_id}/results?limit=5000&cursor={cursor}"
        status, page = ask(api, server, "GET", path)
        assert status == 200, page
        rows += page["results"]
        cursor = page["cursor"]
    return rows


@pytest.mark.parametrize("kind", TEXTS)
def test_four_megabytes_of_results_can_be_read_in_any_language(api, server, kind):
    text = TEXTS[kind]
    result = text * (2000 // len(text.encode()))
    batch_id = f"{list(TEXTS).index(kind):026d}"
    record(api, batch_id, [result] * 2000)
    rows = read_all(api, server, batch_id)
    assert [row["index"] for row in rows] == list(range(2000))
    assert {row["result"] for row in rows} == {result}


@pytest.mark.parametrize("kind", ["russian", "chinese", "emoji", "quotes"])
def test_one_result_as_large_as_a_result_may_be_can_be_read(api, server, kind):
    text = TEXTS[kind]
    result = text * ((1_000_000 - 2) // len(json.dumps(text, ensure_ascii=False).encode()[1:-1]))
    batch_id = f"{10 + list(TEXTS).index(kind):026d}"
    record(api, batch_id, [result])
    (row,) = read_all(api, server, batch_id)
    assert row["result"] == result


def test_a_row_that_no_answer_can_hold_says_so_and_hides_no_other(api, server):
    batch_id = f"{20:026d}"
    record(api, batch_id, ["before", "\x7f" * 1_100_000, "after"])
    before, large, after = read_all(api, server, batch_id)
    assert (before["result"], after["result"]) == ("before", "after")
    assert large["result"] is None
    assert "too large" in large["error"]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", b"sleep 1\n" * 12 + b"#" + b'"' * (BODY_MAX_BYTES - 200)),
        ("text/plain", b"sleep 1\n" * 12 + b"\n" * (BODY_MAX_BYTES - 200)),
        ("application/json", json.dumps({"tasks": ['"' * 2_600_000]}).encode()),
    ],
    ids=["quotes", "lines", "escaped"],
)
def test_a_body_that_no_event_can_hold_is_refused_before_the_app_sees_it(
    api, server, content_type, body
):
    assert len(body) <= BODY_MAX_BYTES
    assert event_bytes(body) > EVENT_MAX_BYTES
    status, answer = ask(api, server, "POST", "/batches", body, content_type)
    assert (status, answer) == (413, {"message": "Request Too Long"})


def test_a_body_just_below_an_event_s_limit_is_refused_by_the_app_with_a_way_out(api, server):
    spare = EVENT_MAX_BYTES - 10_000
    quotes = spare - BODY_MAX_BYTES
    body = b"sleep 1\n#" + b'"' * quotes
    body += b"x" * (BODY_MAX_BYTES - len(body))
    status, answer = ask(api, server, "POST", "/batches", body, "text/plain")
    assert status == 413
    assert "/uploads" in answer["Message"]
    assert f"{event_bytes(body)} bytes" in answer["Message"]


def test_a_call_without_a_token_is_refused_before_its_event_is_measured(server):
    line = http.client.HTTPConnection(*server.server_address, timeout=30)
    line.request("POST", "/batches", b'"' * (BODY_MAX_BYTES - 1), {"Content-Type": "text/plain"})
    assert line.getresponse().status == 401
    line.close()


def test_the_app_gets_the_event_of_api_gateway(api, server, monkeypatch):
    events = []
    call = gateway._Function.__call__

    def note(self, event, context):
        events.append((event, context.get_remaining_time_in_millis()))
        return call(self, event, context)

    monkeypatch.setattr(gateway._Function, "__call__", note)
    ask(api, server, "POST", "/batches?name=b%20c", b"sleep 1\n", "text/plain")
    ((event, left_ms),) = events
    assert event.keys() >= ON_API_GATEWAY
    assert event["body"] == "sleep 1\n"
    assert event["queryStringParameters"] == {"name": "b c"}
    assert event["multiValueHeaders"]["content-type"] == ["text/plain"]
    assert event["requestContext"]["authorizer"]["principalId"] == "alice"
    assert 28_000 < left_ms <= 29_000


ON_API_GATEWAY = {
    "resource",
    "path",
    "httpMethod",
    "headers",
    "multiValueHeaders",
    "queryStringParameters",
    "multiValueQueryStringParameters",
    "pathParameters",
    "stageVariables",
    "requestContext",
    "body",
    "isBase64Encoded",
}
"""Fields of an event ("Set up Lambda proxy integrations in API Gateway", Amazon API Gateway
Developer Guide)."""


def test_beyond_the_stage_s_rate_of_calls_the_api_answers_429_and_a_client_waits_it_out(api):
    with api.served(Quotas(api_rate=5)) as server:
        statuses = [ask(api, server, "GET", "/health") for _ in range(7)]
        assert statuses[0][0] == 200
        assert statuses[-1] == (429, {"message": "Too Many Requests"})
        url = "http://{}:{}".format(*server.server_address)
        with Client(url, api.token(), backoff_s=0.02) as client:
            for _ in range(7):
                assert client.health()["status"] == "ok"


def test_without_a_free_function_the_api_answers_500_as_api_gateway_does(api, monkeypatch):
    path = f"/batches/{api.submit(['sleep 1'])}"
    held, go_on = threading.Event(), threading.Event()
    read = api.cloud.monitor.batch

    def slow(batch_id):
        held.set()
        assert go_on.wait(10)
        return read(batch_id)

    monkeypatch.setattr(api.cloud.monitor, "batch", slow)
    answers = []
    with api.served(Quotas(lambda_concurrency=1)) as server:
        first = threading.Thread(target=lambda: answers.append(ask(api, server, "GET", path)))
        first.start()
        assert held.wait(10)
        assert ask(api, server, "GET", path) == (500, {"message": "Internal server error"})
        go_on.set()
        first.join(10)
        assert answers[0][0] == 200
        assert ask(api, server, "GET", path)[0] == 200
