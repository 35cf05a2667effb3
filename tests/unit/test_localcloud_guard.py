"""The rule of who may call a port of the local cloud, and its adapters."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from localcloud import guard, ministack

PORT = 4566
OWN = {"Host": f"127.0.0.1:{PORT}"}
OTHER_SITE = {**OWN, "Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "video"}
SIGNED = "/bucket/movies/1.mp4?X-Amz-Signature=1&X-Amz-Expires=60&response-content-type=video%2Fmp4"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:4566", "127.1.2.3:4566", "localhost:4566", "LOCALHOST:4566", "[::1]:4566"],
)
def test_loopback_by_any_name_may_call(host: str) -> None:
    assert guard.refusal("POST", "/", [("hOST", host)], PORT) is None


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example:4566",
        "127.0.0.1",
        "127.0.0.1:80",
        "127.0.0.1:4567",
        "127.0.0.1:4566:4566",
        "127.0.0.1.evil.example:4566",
        "localhost.evil.example:4566",
        "evil@127.0.0.1:4566",
        "127.0.0.1:4566, evil.example",
        "192.168.0.1:4566",
        "0.0.0.0:4566",
        "[::]:4566",
        "[::ffff:8.8.8.8]:4566",
        "2130706433:4566",
        "0x7f.1:4566",
        "127.0.0.1:٤٥٦٦",
    ],
)
def test_no_other_host_may_be_named(host: str) -> None:
    assert guard.refusal("GET", "/", [("Host", host)], PORT)


def test_exactly_one_host_is_named() -> None:
    assert guard.refusal("GET", "/", [], PORT)
    assert guard.refusal("GET", "/", [*OWN.items(), ("host", "evil.example")], PORT)
    assert guard.refusal("GET", "/", [("Host", "localhost")], 80) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": f"http://localhost:{PORT}"},
        {"Origin": f"https://127.0.0.1:{PORT}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "a site of tomorrow"},
        {"Origin": f"http://127.0.0.1:{PORT}", "Sec-Fetch-Site": "cross-site"},
    ],
)
@pytest.mark.parametrize("own_origin", [False, True])
def test_no_page_of_another_origin_may_call(headers: dict[str, str], own_origin: bool) -> None:
    sent = {**OWN, **headers}.items()
    assert guard.refusal("GET", "/", sent, PORT, own_origin=own_origin)


def test_a_page_of_the_port_itself_may_call_only_where_the_port_serves_pages() -> None:
    sent = {**OWN, "Origin": f"http://127.0.0.1:{PORT}", "Sec-Fetch-Site": "same-origin"}.items()
    assert guard.refusal("POST", "/", sent, PORT, own_origin=True) is None
    assert guard.refusal("POST", "/", sent, PORT)


def test_what_a_person_types_or_a_program_sends_may_pass() -> None:
    assert guard.refusal("GET", "/", {**OWN, "Sec-Fetch-Site": "none"}.items(), PORT) is None
    assert guard.refusal("OPTIONS", "/", OWN.items(), PORT) is None


def test_a_preflight_is_refused() -> None:
    sent = {**OWN, "Access-Control-Request-Method": "PUT"}.items()
    assert guard.refusal("OPTIONS", "/", sent, PORT, own_origin=True, signed_reads=True)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "target",
    [SIGNED, "/b-1.x/a/b?X-Amz-Signature=1&x-id=GetObject"],
)
def test_any_page_may_show_an_object_by_a_signed_url(method: str, target: str) -> None:
    sent = OTHER_SITE.items()
    assert guard.refusal(method, target, sent, PORT, signed_reads=True) is None
    assert guard.refusal(method, target, sent, PORT)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", SIGNED),
        ("DELETE", SIGNED),
        ("GET", "/bucket/key"),
        ("GET", "/bucket?X-Amz-Signature=1"),
        ("GET", "/bucket/?X-Amz-Signature=1"),
        ("GET", "/?Action=ListQueues&X-Amz-Signature=1"),
        ("GET", "/000000000000/queue?Action=SendMessage&X-Amz-Signature=1"),
        ("GET", "/000000000000/queue?%41ction=SendMessage&X-Amz-Signature=1"),
        ("GET", "/bucket/key?AWSAccessKeyId=a&Signature=b&Expires=1"),
        ("GET", "/bucket/key?acl&X-Amz-Signature=1"),
        ("GET", "/_ministack/config?X-Amz-Signature=1"),
    ],
)
def test_nothing_else_is_a_signed_read(method: str, target: str) -> None:
    assert guard.refusal(method, target, OTHER_SITE.items(), PORT, signed_reads=True)


def test_no_script_may_read_by_a_signed_url() -> None:
    sent = {**OTHER_SITE, "Origin": "http://localhost:3000"}.items()
    assert guard.refusal("GET", SIGNED, sent, PORT, signed_reads=True)


PAGE = 8000
UPLOAD_FORM = {
    **OWN,
    "Origin": f"http://127.0.0.1:{PAGE}",
    "Sec-Fetch-Site": "same-site",
    "Content-Type": "multipart/form-data; boundary=x",
}
"""What a browser sends for the dashboard when it sends a file by an upload form."""


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("target", ["/bucket", "/bucket/", "/bucket?"])
def test_the_dashboard_may_send_an_upload_form(name: str, target: str) -> None:
    sent = {**UPLOAD_FORM, "Origin": f"http://{name}:{PAGE}"}.items()
    assert guard.refusal("POST", target, sent, PORT, page_port=PAGE) is None
    assert guard.refusal("POST", target, sent, PORT)


@pytest.mark.parametrize(
    ("method", "target", "changed"),
    [
        ("PUT", "/bucket", {}),
        ("POST", "/", {}),
        ("POST", "/bucket/key", {}),
        ("POST", "/bucket?acl", {}),
        ("POST", "/000000000000/queue?Action=SendMessage", {}),
        ("POST", "/_ministack/reset", {}),
        ("POST", "/bucket", {"Origin": "http://evil.example"}),
        ("POST", "/bucket", {"Origin": f"https://127.0.0.1:{PAGE}"}),
        ("POST", "/bucket", {"Origin": "http://127.0.0.1:8001"}),
        ("POST", "/bucket", {"Origin": "null"}),
        ("POST", "/bucket", {"Content-Type": "text/plain"}),
        ("POST", "/bucket", {"Content-Type": "application/x-www-form-urlencoded"}),
        ("POST", "/bucket", {"Host": "evil.example"}),
    ],
)
def test_nothing_else_is_an_upload_form_of_the_dashboard(
    method: str, target: str, changed: dict[str, str]
) -> None:
    sent = {**UPLOAD_FORM, **changed}.items()
    assert guard.refusal(method, target, sent, PORT, page_port=PAGE)


@pytest.mark.parametrize(
    ("authorization", "named"),
    [
        ("AWS4-HMAC-SHA256 Credential=KEY/20260101/r/ec2/aws4_request, Signature=0", True),
        ("AWS4-HMAC-SHA256 SignedHeaders=host,Credential=KEY/x", True),
        ("AWS4-HMAC-SHA256 Credential=KEY2/20260101", False),
        ("AWS4-HMAC-SHA256 Credential=/20260101", False),
        ("Bearer KEY", False),
        ("KEY", False),
        ("", False),
        (None, False),
    ],
)
def test_a_signature_names_its_key(authorization: str | None, named: bool) -> None:
    assert guard.names_key(authorization, "KEY") is named


def test_a_wsgi_app_sees_only_what_may_pass_and_answers_no_origin() -> None:
    seen: list[str] = []
    started: list[Any] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(environ["PATH_INFO"])
        start_response("200 OK", [("Access-Control-Allow-Origin", "*"), ("X-Other", "1")])
        return [b"here"]

    guarded = guard.wsgi(app, PORT, lambda e: "no" if e["PATH_INFO"] == "/closed" else None)

    def call(path: str, **headers: str) -> bytes:
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, **headers}
        return b"".join(guarded(environ, lambda *start: started.append(start)))

    own = {"HTTP_HOST": OWN["Host"]}
    assert call("/a", **own) == b"here"
    assert b"<Message>no</Message>" in call("/closed", **own)
    assert b"Origin" in call("/b", **own, HTTP_ORIGIN="null")
    assert b"site" in call("/c", **own, HTTP_SEC_FETCH_SITE="cross-site")
    assert seen == ["/a"]
    assert [status for status, _ in started] == ["200 OK"] + ["403 Forbidden"] * 3
    assert started[0][1] == [("X-Other", "1")]


def test_an_asgi_app_sees_only_what_may_pass_and_answers_no_origin() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])
        headers = [(b"Access-Control-Allow-Origin", b"*"), (b"x-other", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"here"})

    guarded = guard.asgi(app, PORT, lambda scope: "no" if scope["path"] == "/closed" else None)

    def call(kind: str, path: str, **headers: str) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        pairs = [(k.encode(), v.encode()) for k, v in {**OWN, **headers}.items()]
        scope = {"type": kind, "path": path, "query_string": b"", "headers": pairs}
        if kind == "http":
            scope["method"] = "GET"
        asyncio.run(guarded(scope, receive, send))
        return sent

    assert call("http", "/")[0]["headers"] == [(b"x-other", b"1")]
    assert call("http", "/", origin="null")[0]["status"] == 403
    assert call("http", "/closed")[0]["status"] == 403
    assert call("websocket", "/", origin="null")[0]["type"] == "websocket.close"
    call("lifespan", "/", origin="null")
    assert seen == ["http", "lifespan"]


FORM = {"content-type": "multipart/form-data; boundary=x"}
BY_KEY = {"authorization": "AWS4-HMAC-SHA256 Credential=KEY/20260101/us-east-1/sqs/aws4_request"}
BY_TEST = {"authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/sqs/aws4_request"}


@pytest.mark.parametrize(
    ("method", "target", "headers", "passes"),
    [
        ("GET", "/_ministack/ready", {}, True),
        ("POST", "/_ministack/reset", BY_KEY, False),
        ("POST", "/_ministack/config", BY_KEY, False),
        ("POST", "/", BY_KEY, True),
        ("POST", "/", {}, False),
        ("POST", "/", BY_TEST, False),
        ("GET", "/b/k?X-Amz-Credential=KEY%2F20260101%2Fx&X-Amz-Signature=1", {}, True),
        ("GET", "/b/k?X-Amz-Credential=test%2F20260101%2Fx&X-Amz-Signature=1", {}, False),
        ("GET", "/b/k?X-Amz-Credential=KEY2%2F20260101%2Fx&X-Amz-Signature=1", {}, False),
        ("GET", "/b/k?AWSAccessKeyId=KEY&Signature=1&Expires=9999999999", {}, False),
        ("POST", "/bucket", FORM, True),
        ("PUT", "/bucket", FORM, False),
        ("POST", "/", FORM, False),
        ("POST", "/bucket/key", FORM, False),
        ("POST", "/2015-03-31/functions", FORM, False),
    ],
)
def test_ministack_sees_only_who_names_the_key_of_its_cloud(
    method: str, target: str, headers: dict[str, str], passes: bool
) -> None:
    path, _, query = target.partition("?")
    pairs = [(k.encode(), v.encode()) for k, v in headers.items()]
    scope = {"method": method, "path": path, "query_string": query.encode(), "headers": pairs}
    assert (ministack.refuses(scope, "KEY") is None) is passes
