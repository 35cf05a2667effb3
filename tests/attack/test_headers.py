"""Headers of every size and form: what the API gets is refused with a clear answer where API
Gateway refuses it, and what the client gets never ends it with a traceback."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from localcloud.serve import Server
from taskfleet.client.transport import ApiError, ClientError, Transport
from taskfleet.clock import SystemClock
from taskfleet.wire import token
from tests.support.frontend import SECRET, Frontend
from tests.support.worker import Cloud

API_GATEWAY_BYTES = 10_240
"""Most bytes of request line and header values together ("Amazon API Gateway quotas")."""


@pytest.fixture
def api() -> Frontend:
    return Frontend(Cloud(clock=SystemClock()))


@pytest.fixture
def server(api: Frontend) -> Iterator[Server]:
    with api.served() as server:
        yield server


def ask(server: Server, path: str = "/health", **headers: str) -> tuple[int, dict[str, Any]]:
    line = http.client.HTTPConnection(*server.server_address[:2], timeout=10)  # type: ignore[arg-type]
    try:
        line.request("GET", path, headers=headers)
        answer = line.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        line.close()


def fill(server: Server, total: int) -> str:
    """A header value with which a request has a head of `total` bytes."""
    host = f"127.0.0.1:{server.server_address[1]}"
    rest = len("GET /health HTTP/1.1") + len(host) + len("identity")  # what http.client sends
    return "x" * (total - rest)


@pytest.mark.parametrize("client_id", ["a" * 128, '"' * 128, "\\" * 128])
def test_the_token_of_the_longest_client_id_takes_a_tenth_of_the_room(client_id: str) -> None:
    made = token.make(SECRET, client_id, 10 * 365 * 86_400, 1_700_000_000.0)
    assert len(f"Bearer {made}") <= API_GATEWAY_BYTES / 10


def test_a_head_is_as_long_as_api_gateway_takes_and_no_longer(server: Server) -> None:
    assert ask(server, Filler=fill(server, API_GATEWAY_BYTES))[0] == 200
    status, body = ask(server, Filler=fill(server, API_GATEWAY_BYTES + 1))
    assert status == 431
    assert "10241 bytes" in body["message"]
    assert "10240" in body["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer " + "x" * 20_000},
        {"Cookie": "c=" + "x" * 60_000},
        {"Content-Type": "application/json; a=" + "b" * 20_000},
        {"Filler": "x" * 70_000},
        {f"H{n}": "x" for n in range(97)},
        {f"H{n}": "x" * 200 for n in range(60)},
    ],
    ids=["token", "cookie", "media", "over-a-line", "many", "many-long"],
)
def test_large_headers_get_an_answer(server: Server, headers: dict[str, str]) -> None:
    status, body = ask(server, **headers)
    small = sum(map(len, headers.values())) < 1_000
    assert (status == 200) if small else (status == 431 and body["message"])


def test_a_long_address_gets_an_answer(server: Server) -> None:
    status, body = ask(server, "/batches?cursor=" + "x" * 20_000)
    assert (status, bool(body["message"])) == (431, True)


def test_the_client_tells_what_was_too_long(server: Server) -> None:
    transport = Transport(f"http://127.0.0.1:{server.server_address[1]}", "x" * 20_000)
    with pytest.raises(ApiError, match=r"header.*10240") as caught:
        transport.call("GET", "/batches", dict)
    assert (caught.value.status, caught.value.passing) == (431, False)
    transport.close()


# --- answers ------------------------------------------------------------------------------------


@pytest.fixture
def hostile() -> Iterator[Callable[..., str]]:
    """Starts a server whose every answer has this status and these headers. Returns its URL."""
    servers = []

    def start(status: int, headers: list[tuple[str, str]]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "name", "value"),
    [
        (503, "Retry-After", "9" * 5_000),
        (503, "Retry-After", "soon"),
        (503, "Retry-After", "-5"),
        (503, "Retry-After", "Fri, 31 Dec 999999999 23:59:59 GMT"),
        (429, "Retry-After", ""),
        (301, "Location", "x" * 60_000),
        (200, "Content-Encoding", "gzip"),
        (401, "WWW-Authenticate", 'Digest realm="' + "x" * 30_000),
    ],
)
def test_whatever_headers_an_answer_has_the_client_says_what_came(
    hostile: Callable[..., str], status: int, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    transport = Transport(hostile(status, [(name, value)]), "token", backoff_s=0.0)
    with pytest.raises(ClientError) as caught:
        transport.call("GET", "/x", dict)
    assert len(str(caught.value)) < 1_000
    assert getattr(caught.value, "status", status) == status
    transport.close()


def test_the_media_type_of_an_answer_does_not_matter(hostile: Callable[..., str]) -> None:
    transport = Transport(hostile(200, [("Content-Type", "\xff\xfe")]), "token")
    assert transport.call("GET", "/x", dict) == {}
    transport.close()
