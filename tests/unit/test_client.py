"""The client against a real HTTP server whose answers the tests determine."""

from __future__ import annotations

import email
import io
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskfleet.batch import BatchStatus
from taskfleet.client import (
    ApiError,
    Client,
    Unreachable,
    body,
    transport,
)
from taskfleet.errors import InvalidTask, SettingsError
from taskfleet.memory.clock import ManualClock
from taskfleet.task import TaskStatus
from taskfleet.wire.http.batches import Accepted, BatchView
from tests.support.ports import free_port
from tests.support.stub_api import BATCH, BATCH_ID, DONE, ROW, Answer, StubApi, accepted, serving

CUT = Answer(0, None)


@pytest.fixture
def api() -> Iterator[StubApi]:
    with serving() as stub:
        yield stub
    assert stub.left == 0, "the client asked for less than the test laid out"


@pytest.fixture
def client(api: StubApi) -> Iterator[Client]:
    with Client(api.url + "/", " the-token\n", backoff_s=0, clock=ManualClock()) as made:
        yield made


@pytest.fixture
def small_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a body hold at most two tasks."""
    monkeypatch.setitem(body.pack.__kwdefaults__, "max_tasks", 2)


# --- one call ---------------------------------------------------------------------------------


TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.usefixtures("small_bodies")
@pytest.mark.parametrize("tasks", [1, 3])
def test_a_submission_carries_its_callers_trace(api: StubApi, client: Client, tasks: int) -> None:
    form = {"upload_id": "u", "url": f"{api.url}/form", "fields": {}}
    if tasks > 2:
        api.answers(Answer(201, form), Answer(204, None))
    api.answers(Answer(202, accepted(tasks)))
    client.submit(["sleep 0"] * tasks, traceparent=TRACEPARENT)
    sent = {asked.path: asked.headers.get("traceparent") for asked in api.asked}
    assert sent.pop("/batches") == TRACEPARENT
    assert set(sent.values()) <= {None}  # a file goes to the bucket, which is no part of the trace


def test_a_malformed_trace_context_is_an_error_before_anything_is_sent(client: Client) -> None:
    with pytest.raises(ValueError, match="traceparent 'hello' is malformed"):
        client.submit(["sleep 0"], traceparent="hello")
    with pytest.raises(ValueError, match="malformed"):
        client.submit_file(io.BytesIO(b"sleep 0"), traceparent=f"{TRACEPARENT}\nX: y")


def test_a_submission_travels_with_token_and_key(api: StubApi, client: Client) -> None:
    api.answers(Answer(202, accepted(2)))
    answer = client.submit(["sleep 1", {"kind": "x", "params": [1]}], name="n", idempotency_key="k")
    assert answer == Accepted(BATCH_ID, BatchStatus.QUEUED, 2, "http://x/batches/y")
    (asked,) = api.asked
    assert asked.line == "POST /batches"
    assert asked.headers["authorization"] == "Bearer the-token"
    assert asked.headers["content-type"] == "application/json"
    assert asked.json == {
        "tasks": ["sleep 1", {"kind": "x", "params": [1]}],
        "name": "n",
        "idempotency_key": "k",
    }


def test_the_token_goes_before_a_password_in_netrc(
    api: StubApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_LOOPBACK", ())  # for other hosts requests reads the file
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    api.answers(BATCH)
    with Client(api.url, "the-token") as client:
        client.status(BATCH_ID)
    assert api.asked[0].headers["authorization"] == "Bearer the-token"


def test_two_submissions_without_a_key_get_one_each(api: StubApi, client: Client) -> None:
    api.answers(Answer(202, accepted()), Answer(202, accepted()))
    client.submit(["sleep 1"])
    client.submit(["sleep 1"])
    keys = {asked.json["idempotency_key"] for asked in api.asked}
    assert len(keys) == 2
    assert all(keys)


def test_status_is_typed_and_asks_to_wait_only_when_told(api: StubApi, client: Client) -> None:
    api.answers(BATCH, {**BATCH, "a_field_of_a_later_version": 1})
    assert client.status(BATCH_ID) == BatchView(**{**BATCH, "status": BatchStatus.RUNNING})
    client.status(BATCH_ID, wait_s=2.5)
    assert api.lines == [f"GET /batches/{BATCH_ID}", f"GET /batches/{BATCH_ID}?wait=2.5"]


def test_cancel_and_health(api: StubApi, client: Client) -> None:
    api.answers(Answer(202, {**BATCH, "status": "CANCELLED"}), {"status": "ok", "version": "1"})
    assert client.cancel(BATCH_ID).status is BatchStatus.CANCELLED
    assert client.health() == {"status": "ok", "version": "1"}
    assert api.lines == [f"DELETE /batches/{BATCH_ID}", "GET /health"]


def test_results_come_page_after_page_only_as_they_are_read(api: StubApi, client: Client) -> None:
    second = {**ROW, "index": 1, "status": "FAILED", "error": "why"}
    api.answers({"results": [ROW], "cursor": "1-0"})
    rows = client.results(BATCH_ID)
    assert next(rows).task == "sleep 1000"
    assert len(api.asked) == 1
    api.answers({"results": [], "cursor": "2-0"}, {"results": [second], "cursor": None})
    assert [(row.index, row.error) for row in rows] == [(1, "why")]
    assert [line.partition("?")[2] for line in api.lines] == [
        "limit=5000",
        "limit=5000&cursor=1-0",
        "limit=5000&cursor=2-0",
    ]


def test_results_of_some_statuses_are_asked_for(api: StubApi, client: Client) -> None:
    nothing = {"results": [], "cursor": None}
    api.answers(nothing, nothing)
    assert list(client.results(BATCH_ID, status=["FAILED", TaskStatus.CANCELLED])) == []
    assert list(client.results(BATCH_ID, "completion", status=["FAILED"])) == []
    assert "status=FAILED%2CCANCELLED" in api.lines[0]
    assert "order=completion&limit=5000&status=FAILED" in api.lines[1]
    with pytest.raises(TypeError, match=r"a list such as \['FAILED'\]"):
        next(client.results(BATCH_ID, status="FAILED"))


def test_batches_come_page_after_page(api: StubApi, client: Client) -> None:
    api.answers({"batches": [BATCH], "cursor": "c&="}, {"batches": [DONE], "cursor": None})
    assert [batch.status for batch in client.batches()] == ["RUNNING", "DONE"]
    assert api.lines == ["GET /batches?limit=100", "GET /batches?limit=100&cursor=c%26%3D"]


def test_who_the_token_names(api: StubApi, client: Client) -> None:
    api.answers({"client_id": "ann", "role": "reader", "expires_at": "2026-11-22T12:00:00.000Z"})
    assert (client.me().client_id, api.lines) == ("ann", ["GET /me"])


def test_the_history_of_the_fleet(api: StubApi, client: Client) -> None:
    point = dict.fromkeys(["backlog", "in_flight", "running", "ended", "slots", "workers"], 1)
    point |= {"at": "2026-11-22T12:00:00.000Z", "instances": 1, "desired": 1, "usd_per_hour": 0.1}
    api.answers({"points": [point]}, {"points": []})
    assert [point.ended for point in client.fleet_history()] == [1]
    assert client.fleet_history(5) == []
    assert api.lines == ["GET /fleet/history?minutes=60", "GET /fleet/history?minutes=5"]


def test_dead_letters_are_shown_and_moved(api: StubApi, client: Client) -> None:
    letter = dict.fromkeys(["batch_id", "job_id", "body"]) | {
        "message_id": "m",
        "queue": "uploads",
        "reason": "why",
        "sent_at": "2026-11-22T12:00:00.000Z",
    }
    api.answers({"letters": [letter]}, Answer(202, {"moved": 3}))
    assert [each.reason for each in client.dead_letters("uploads", 5)] == ["why"]
    assert client.redrive("uploads") == 3
    assert api.lines == ["GET /dead-letters?queue=uploads&limit=5", "POST /dead-letters/redrive"]
    assert api.asked[1].json == {"queue": "uploads"}


def test_a_retry_has_a_key_so_that_it_may_be_sent_again(api: StubApi, client: Client) -> None:
    api.answers(Answer(202, accepted()), Answer(202, accepted()))
    assert client.retry(BATCH_ID).batch_id == BATCH_ID
    client.retry(BATCH_ID, status=["CANCELLED"], idempotency_key="k")
    assert api.lines == [f"POST /batches/{BATCH_ID}/retry"] * 2
    first, second = (asked.json for asked in api.asked)
    assert first["status"] == ["FAILED"]
    assert len(first["idempotency_key"]) == 36
    assert second == {"status": ["CANCELLED"], "idempotency_key": "k"}
    with pytest.raises(TypeError, match="not one text"):
        client.retry(BATCH_ID, status="FAILED")


def test_the_stream_goes_on_with_its_cursor(api: StubApi, client: Client) -> None:
    page = {"kinds": ["sleep"], "workers": ["w"], "errors": [], "cursor": "c1.p1"}
    api.answers(
        {**page, "rows": [[0, 0, 0, 1_700_000_000_000, 1.5, 0, -1]]},
        {**page, "rows": [[1, 0, 2, None, None, -1, -1]], "cursor": None},
    )
    first = client.stream(BATCH_ID)
    assert (first.rows[0].index, first.rows[0].duration_ms) == (0, 1.5)
    assert client.stream(BATCH_ID, first.cursor).cursor is None
    assert api.lines == [
        f"GET /batches/{BATCH_ID}/stream",
        f"GET /batches/{BATCH_ID}/stream?cursor=c1.p1",
    ]


def test_batches_are_searched(api: StubApi, client: Client) -> None:
    api.answers({"batches": [], "cursor": "c"}, {"batches": [BATCH], "cursor": None})
    found = list(client.batches(name="a b", status=BatchStatus.RUNNING, kind="sleep"))
    assert [batch.kinds for batch in found] == [["sleep"]]
    query = "limit=100&name=a+b&status=RUNNING&kind=sleep"
    assert api.lines == [f"GET /batches?{query}", f"GET /batches?{query}&cursor=c"]


# --- errors -----------------------------------------------------------------------------------


def test_a_port_where_nobody_listens_is_said_so() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with (
        Client(url, "t", backoff_s=0) as client,
        pytest.raises(Unreachable, match=f"cannot reach {url}: .*refused; is it running") as caught,
    ):
        client.health()
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)


def test_an_answer_that_never_comes_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            Client(url, "t", backoff_s=0, read_timeout_s=0.02) as client,
            pytest.raises(Unreachable, match="timed out"),
        ):
            client.status(BATCH_ID)


def test_an_answer_cut_in_the_middle_is_no_answer(api: StubApi, client: Client) -> None:
    api.answers(Answer(200, b'{"batch', {"Content-Length": "100"}))
    with pytest.raises(Unreachable):
        client.status(BATCH_ID)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(401, {"message": "Unauthorized"}), "Unauthorized; the token may be wrong"),
        (Answer(403, {"Message": "Not authorized"}), "Not authorized; the token may be wrong"),
        (Answer(404, {"Code": "NotFoundError", "Message": "no batch 'x'"}), "no batch 'x'"),
        (Answer(500, b"<html>oops</html>"), "Internal Server Error"),
        (Answer(418, b"[]"), "Teapot"),
        (Answer(301, b"", {"Location": "https://else.where/"}), "moved to https://else.where/"),
        (Answer(200, b"<html>hello</html>"), "does not answer as Taskfleet does"),
        (Answer(200, {"another": "service"}), "does not answer as Taskfleet does"),
    ],
)
def test_every_other_answer_is_an_api_error_that_says_what_it_was(
    api: StubApi, client: Client, answer: Answer, message: str
) -> None:
    api.answers(answer)
    with pytest.raises(ApiError, match=message) as caught:
        client.status(BATCH_ID)
    assert caught.value.status == answer.status


@pytest.mark.parametrize("bad", ["", "..", "a/b", "a?b", f"{BATCH_ID}/0", "x\n"])
def test_what_cannot_be_an_id_is_never_sent(api: StubApi, client: Client, bad: str) -> None:
    for call in (client.status, client.cancel, lambda b: next(client.results(b))):
        with pytest.raises(ApiError, match="no batch") as caught:
            call(bad)
        assert caught.value.status == 404
    assert api.asked == []


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://x", "http://", "http:///x", "http://x y", "http://x?y"]
)
def test_a_url_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="not the URL of an API"):
        Client(url, "t")


@pytest.mark.parametrize("token", ["", " ", "a\nb", "a b", "é"])
def test_a_token_that_is_none_is_refused_at_once_and_not_repeated(token: str) -> None:
    with pytest.raises(ValueError, match="the token is empty, or has"):
        Client("http://x", token)


def test_a_proxy_is_not_asked_for_this_machine(
    api: StubApi, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    api.answers(BATCH)
    assert client.status(BATCH_ID).total == 3


def test_one_text_is_not_taken_for_a_batch_of_letters(api: StubApi, client: Client) -> None:
    with pytest.raises(TypeError, match="several tasks"):
        client.submit("sleep 1000")
    assert api.asked == []


# --- files ------------------------------------------------------------------------------------


def form(api: StubApi) -> Answer:
    return Answer(
        201, {"upload_id": "u1", "url": f"{api.url}/store", "fields": {"key": "k", "policy": "p"}}
    )


STORED = Answer(204, b"")


def sent_file(api: StubApi, place: int = 1) -> bytes:
    """Returns the file in the form that was sent."""
    asked = api.asked[place]
    boundary = asked.headers["content-type"].partition("boundary=")[2]
    *_, last = asked.body.split(f"--{boundary}\r\n".encode())
    return last.partition(b"\r\n\r\n")[2].removesuffix(f"\r\n--{boundary}--\r\n".encode())


@pytest.mark.usefixtures("small_bodies")
class TestFiles:
    def test_what_is_too_much_for_one_post_goes_as_a_file(
        self, api: StubApi, client: Client
    ) -> None:
        api.answers(form(api), STORED, Answer(202, accepted(0)))
        seen: list[tuple[int, int]] = []
        answer = client.submit(
            (f"sleep {n}" for n in range(5)),
            name="n",
            idempotency_key="k",
            on_sent=lambda sent, total: seen.append((sent, total)),
        )
        assert api.lines == ["POST /uploads", "POST /store", "POST /batches"]
        assert sent_file(api) == b"sleep 0\nsleep 1\nsleep 2\nsleep 3\nsleep 4\n"
        assert api.asked[2].json == {"upload_id": "u1", "name": "n", "idempotency_key": "k"}
        assert answer.total == 0
        assert seen[-1] == (len(api.asked[1].body), len(api.asked[1].body))

    def test_a_form_is_sent_as_any_browser_would_and_without_the_token(
        self, api: StubApi, client: Client
    ) -> None:
        api.answers(form(api), STORED, Answer(202, accepted(0)))
        client.submit_file(io.BytesIO(b"sleep 1"))
        sent = api.asked[1]
        assert "authorization" not in sent.headers
        assert int(sent.headers["content-length"]) == len(sent.body)
        message = email.message_from_bytes(
            b"Content-Type: " + sent.headers["content-type"].encode() + b"\r\n\r\n" + sent.body
        )
        parts = {
            part.get_param("name", header="content-disposition"): part.get_payload()
            for part in message.get_payload()  # type: ignore[union-attr]
        }
        assert parts == {"key": "k", "policy": "p", "file": "sleep 1"}
        assert list(parts)[-1] == "file"

    def test_a_file_is_sent_as_it_is(self, api: StubApi, client: Client) -> None:
        data = b"# \xff\r\n" + b"sleep 1\n" * 300_000
        api.answers(form(api), STORED, Answer(202, accepted(0)))
        client.submit_file(io.BytesIO(data))
        assert sent_file(api) == data
        assert api.asked[2].json == {"upload_id": "u1"}

    def test_a_file_is_sent_again_from_its_start_when_the_connection_is_lost(
        self, api: StubApi, client: Client
    ) -> None:
        api.answers(form(api), CUT, Answer(503, b"<x/>"), STORED, Answer(202, accepted(0)))
        client.submit(["sleep 1"] * 3)
        assert api.lines == ["POST /uploads", *["POST /store"] * 3, "POST /batches"]
        assert sent_file(api, 1) == sent_file(api, 3) == b"sleep 1\n" * 3

    def test_a_file_that_the_store_refuses_is_told_in_its_words(
        self, api: StubApi, client: Client
    ) -> None:
        told = b"<Error><Code>EntityTooLarge</Code><Message>It &gt; the cap.</Message></Error>"
        api.answers(form(api), Answer(400, told))
        with pytest.raises(ApiError, match="the file was refused: It > the cap") as caught:
            client.submit(["sleep 1"] * 3)
        assert caught.value.status == 400
        assert api.lines == ["POST /uploads", "POST /store"]

    def test_a_store_that_cannot_be_reached_is_named(self, api: StubApi, client: Client) -> None:
        url = f"http://127.0.0.1:{free_port()}/store"
        api.answers(Answer(201, {"upload_id": "u1", "url": url, "fields": {}}))
        with pytest.raises(Unreachable, match=url.removesuffix("/store")):
            client.submit(["sleep 1"] * 3)

    @pytest.mark.parametrize("fault", [InvalidTask("line 9: bad"), KeyboardInterrupt(), OSError()])
    def test_when_the_source_breaks_off_nothing_is_sent(
        self, api: StubApi, client: Client, fault: BaseException
    ) -> None:
        def source() -> Iterator[str]:
            yield from ["sleep 1"] * 3
            raise fault

        with pytest.raises(type(fault)):
            client.submit(source(), idempotency_key="mine")
        assert api.asked == []


@pytest.mark.parametrize(
    "refusal",
    [
        Answer(413, {"Code": "PayloadTooLargeError", "Message": "send it through POST /uploads"}),
        Answer(413, {"message": "Request Too Long"}),
        Answer(413, b"<html><h1>413 Request Entity Too Large</h1></html>"),
    ],
    ids=["api", "api-gateway", "proxy"],
)
def test_a_body_that_is_too_large_for_someone_on_the_way_goes_as_a_file(
    api: StubApi, client: Client, refusal: Answer
) -> None:
    tasks: list[Any] = ["sleep 1", {"kind": "x", "params": {"a": 2**70, "b": "я\n"}}]
    api.answers(refusal, form(api), STORED, Answer(202, accepted(0)))
    assert client.submit(iter(tasks), name="n").batch_id == BATCH_ID
    assert api.lines == ["POST /batches", "POST /uploads", "POST /store", "POST /batches"]
    first, second = sent_file(api, 2).splitlines()
    assert first == b"sleep 1"
    assert json.loads(second) == tasks[1]
    assert api.asked[3].json["idempotency_key"] == api.asked[0].json["idempotency_key"]


def test_a_body_that_lambda_would_not_take_is_sent_as_a_file_at_once(
    api: StubApi, client: Client
) -> None:
    api.answers(form(api), STORED, Answer(202, accepted(0)))
    client.submit(['"' * 500_000] * 5)
    assert api.lines == ["POST /uploads", "POST /store", "POST /batches"]


def test_the_reason_of_a_refusal_is_raised(api: StubApi, client: Client) -> None:
    api.answers(Answer(422, {"Message": "task 0: no"}))
    with pytest.raises(ApiError, match="task 0: no"):
        client.submit(["nap"])
    assert api.lines == ["POST /batches"]


# --- where the API is ---------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TASKFLEET_URL", raising=False)
    monkeypatch.delenv("TASKFLEET_TOKEN", raising=False)
    (tmp_path / ".local").mkdir()
    return tmp_path / ".local" / "env"


def test_the_env_file_of_a_local_cloud_is_enough(api: StubApi, here: Path) -> None:
    here.write_text(f"# a comment\nexport TASKFLEET_URL={api.url}\nexport TASKFLEET_TOKEN='a#b'\n")
    api.answers(BATCH)
    with Client.from_env() as client:
        client.status(BATCH_ID)
    assert api.asked[0].headers["authorization"] == "Bearer a#b"


def test_the_environment_goes_before_the_env_file(
    api: StubApi, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.write_text("export TASKFLEET_URL=http://elsewhere\nexport TASKFLEET_TOKEN=local\n")
    monkeypatch.setenv("TASKFLEET_URL", api.url)
    monkeypatch.setenv("TASKFLEET_TOKEN", "mine")
    api.answers(BATCH)
    with Client.from_env() as client:
        client.status(BATCH_ID)
    assert api.asked[0].headers["authorization"] == "Bearer mine"


@pytest.mark.parametrize(
    ("environ", "file", "message"),
    [
        ({}, None, "neither TASKFLEET_URL and TASKFLEET_TOKEN nor"),
        ({}, "", "neither"),
        ({}, "export TASKFLEET_URL=http://x", "env has no TASKFLEET_TOKEN"),
        ({}, "export TASKFLEET_URL='http://x", "line 1"),
        (
            {"TASKFLEET_URL": "http://x"},
            "export TASKFLEET_URL=http://y\nexport TASKFLEET_TOKEN=t",
            "the environment has no TASKFLEET_TOKEN",
        ),
    ],
)
def test_what_is_missing_is_said(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, Any],
    file: str | None,
    message: str,
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    if file is not None:
        here.write_text(file)
    with pytest.raises(SettingsError, match=message):
        Client.from_env()


# --- options ----------------------------------------------------------------------------------


def test_options_go_into_the_body(api: StubApi, client: Client) -> None:
    api.answers(Answer(202, accepted()))
    client.submit(["sleep 1"], idempotency_key="k", timeout_s=2.5, retry_timeouts=False)
    assert api.asked[0].json == {
        "tasks": ["sleep 1"],
        "idempotency_key": "k",
        "timeout_s": 2.5,
        "retry_timeouts": False,
    }


@pytest.mark.usefixtures("small_bodies")
def test_options_go_with_a_file_and_on_its_lines(api: StubApi, client: Client) -> None:
    api.answers(form(api), STORED, Answer(202, accepted(0)))
    task = {"kind": "x", "params": 1, "max_attempts": 2}
    client.submit(["sleep 1", task, "sleep 1"], idempotency_key="k", memory_mb=512)
    assert sent_file(api) == (b'sleep 1\n{"kind":"x","params":1,"max_attempts":2}\nsleep 1\n')
    assert api.asked[2].json == {"upload_id": "u1", "idempotency_key": "k", "memory_mb": 512}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"timeout_s": float("nan")}, "timeout_s: Expected `float` > 0"),
        ({"timeout_s": -1}, "timeout_s: Expected `float` > 0"),
        ({"max_attempts": "3"}, "max_attempts: Expected `int | null`"),
    ],
)
def test_a_bad_option_is_refused_here(
    api: StubApi, client: Client, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        client.submit(["sleep 1"], **options)
    with pytest.raises(ValueError, match=re.escape(reason)):
        client.submit_file(io.BytesIO(b"sleep 1"), **options)
    assert api.asked == []
