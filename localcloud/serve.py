"""Serves the Chalice app over HTTP on loopback, as API Gateway does on AWS. Owns the HTTP;
`localcloud.gateway` owns what lies between it and the app, the answers are the app's.

`chalice local` is not used, since it sends headers and body in two packets with Nagle's algorithm
on (44 ms a request), confuses requests that run at the same time in threads, has a backlog of 5
connections, and reads a body of any size.

    python -m localcloud.serve [--port 8000]
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import importlib
import json
import logging
import os
import re
import signal
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from chalice.app import Chalice
from chalice.local import LocalChalice, LocalGatewayException

from localcloud import functions, guard
from localcloud.gateway import Gateway
from localcloud.options import HOST
from localcloud.quotas import NO_QUOTAS, Quotas, of_environment
from taskfleet.errors import TaskfleetError
from taskfleet.log import fields

_log = logging.getLogger(__name__)

BODY_MAX_BYTES = 10 * 1024 * 1024
"""Largest body of a request: API Gateway's cap. The app's is lower (`taskfleet.wire.http.caps`)."""
HEAD_MAX_BYTES = 10_240
"""Most bytes of a request's line and header values together, as on API Gateway ("Amazon API Gateway
quotas", which does not name the status of the refusal). A token of ours has at most 544."""
IDLE_TIMEOUT_S = 60.0
"""Seconds without a byte after which a connection is closed."""
LINGER_MAX_BYTES = 10 * BODY_MAX_BYTES
"""Most bytes that are read of a request that was refused."""
LINGER_TIMEOUT_S = 2.0
"""Longest wait for the next bytes of such a request, in seconds."""
STOP_GRACE_S = 2.0
"""Seconds that requests in progress may take to end once the server stops."""
_QUERY = re.compile(r"\?\S*")


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Serves each connection in a thread. The order of calls is `serve_forever`, `shutdown` from
    another thread, `server_close`."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, address: tuple[str, int], gateway: Gateway) -> None:
        self.gateway = gateway
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections[request] = threading.current_thread()
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                del self._connections[request]

    def server_close(self) -> None:
        """Closes idle connections at once, those with a request after `STOP_GRACE_S`."""
        super().server_close()
        with self._lock:
            open_now = dict(self._connections)
        for connection in open_now:
            with contextlib.suppress(OSError):  # its client may have closed it
                connection.shutdown(socket.SHUT_RD)
        deadline = time.monotonic() + STOP_GRACE_S
        for thread in open_now.values():
            thread.join(max(0.0, deadline - time.monotonic()))

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        if isinstance(sys.exception(), ConnectionError):
            _log.debug("a client left", extra=fields("client_left"))
        else:
            _log.exception("a connection failed", extra=fields("connection_failed"))


class _Handler(BaseHTTPRequestHandler):
    """Serves the requests of one connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"  # the base class's 0.9 has no status line
    disable_nagle_algorithm = True
    wbufsize = -1  # buffered: one write for each answer
    timeout = IDLE_TIMEOUT_S

    def _answer_request(self) -> None:
        refusal = self._refusal()
        if refusal is not None:
            self._refuse(*refusal)
            return
        length = int(self.headers.get("content-length", "0"))
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True  # the client left before the end of the body
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            answer = self.server.gateway.handle_request(
                method=self.command, path=self.path, headers=headers, body=body
            )
        except LocalGatewayException as error:
            self._respond(error.CODE, error.headers, error.body or b"")
            return
        except Exception:  # noqa: BLE001 - API Gateway answers whatever the app raises
            _log.exception("the app failed", extra=fields("app_failed", path=self.path))
            self._respond(502, {}, b'{"message": "Internal server error"}')
            return
        content = answer["body"] or ""
        raw = base64.b64decode(content) if answer.get("isBase64Encoded") else content.encode()
        self._respond(
            answer["statusCode"], {**answer["headers"], **answer["multiValueHeaders"]}, raw
        )

    def __getattr__(self, name: str) -> Any:
        """The base class calls `do_<method>`, and answers 501 where there is none. The gateway
        knows which methods there are."""
        if name.startswith("do_"):
            return self._answer_request
        raise AttributeError(name)

    def _refusal(self) -> tuple[int, str] | None:
        """Returns status and message when the guard or API Gateway would refuse the request, else
        None. The API's own pages may call it."""
        forbidden = guard.of_handler(self, own_origin=True)
        if forbidden is not None:
            return 403, f"Forbidden: {forbidden}"
        head = len(self.requestline) + sum(len(value) for value in self.headers.values())
        if head > HEAD_MAX_BYTES:
            return 431, (
                "Request Header Fields Too Large: the request line and the header values have "
                f"{head} bytes, over API Gateway's cap of {HEAD_MAX_BYTES}"
            )
        if any(not value.isascii() for value in self.headers.values()):
            return 400, "Bad Request: a header that is not ASCII"
        if self.headers.get("transfer-encoding") is not None:
            return 411, "Length Required: send the body with a Content-Length, not in chunks"
        lengths = set(self.headers.get_all("content-length", ["0"]))
        length = lengths.pop()
        if lengths or not (length.isascii() and length.isdigit()):
            return 400, "Bad Request: Content-Length is not one number"
        if len(length) > 18 or int(length) > BODY_MAX_BYTES:
            return 413, (
                f"Request Too Long: a body of {length[:18]} bytes is over API Gateway's cap of "
                f"{BODY_MAX_BYTES} bytes (10 MiB); send it as a file through POST /uploads"
            )
        return None

    def handle_expect_100(self) -> bool:
        """Overrides the base class: refuses before the client sends the body."""
        refusal = self._refusal()
        if refusal is not None:
            self._refuse(*refusal)
            return False
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Overrides the base class, which calls this for requests that are not HTTP."""
        self._refuse(code, message or explain or HTTPStatus(code).phrase)

    def _refuse(self, status: int, message: str) -> None:
        """Answers, then reads on for a while: a client that still sends when the connection is cut
        never sees the answer."""
        self.close_connection = True
        self._respond(status, {}, json.dumps({"message": message}).encode())
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(LINGER_TIMEOUT_S)
            left = LINGER_MAX_BYTES
            while left > 0 and (read := len(self.rfile.read1(65_536))):
                left -= read

    def _respond(self, status: int, headers: Mapping[str, Any], body: bytes) -> None:
        """Sends an answer. A header whose value is a list is sent once for each of them."""
        self.send_response(status)
        for name, value in guard.kept({"Content-Type": "application/json", **headers}.items()):
            for one in value if isinstance(value, list) else [value]:
                self.send_header(name, one)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def version_string(self) -> str:
        return "taskfleet-local"

    def log_message(self, format: str, *args: Any) -> None:
        # Without the query, since people put tokens there that belong in a header.
        _log.debug("http: %s", _QUERY.sub("?...", format % args))


def make_server(app: Chalice, host: str, port: int, quotas: Quotas = NO_QUOTAS) -> Server:
    """Returns a server of `app` that listens on `port`; 0 is any free one, which `server_address`
    tells. Raises OSError when the port is in use."""
    if not isinstance(app, LocalChalice):
        # LocalChalice keeps the current request by thread; Chalice keeps one for all threads.
        app.__class__ = type("ThreadedChalice", (LocalChalice, type(app)), {})
    return Server((host, port), Gateway(app, functions.config(functions.API), quotas))


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until SIGINT or SIGTERM. Exits with 1 when it cannot listen, 2 after bad usage."""
    parser = argparse.ArgumentParser(
        prog="python -m localcloud.serve",
        description="Serve the API on 127.0.0.1, with the settings of the environment.",
    )
    parser.add_argument(
        "--port", type=_port, default=8000, help="port of the API; 0: any free one (8000)"
    )
    options = parser.parse_args(arguments)
    root = str(Path(__file__).resolve().parent.parent)  # app.py belongs to no package
    if root not in sys.path:
        sys.path.insert(0, root)
    try:
        entry = importlib.import_module("app")
        entry.services()  # reports bad settings now, not at the first request
    except TaskfleetError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    try:
        server = make_server(entry.app, HOST, options.port, of_environment(os.environ))
    except OSError as error:
        parser.exit(1, f"{parser.prog}: cannot listen on {HOST}:{options.port}: {error}\n")
    for number in (signal.SIGINT, signal.SIGTERM):
        # In a thread, since shutdown waits for the loop that the signal interrupts.
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"serving http://{HOST}:{server.server_address[1]}", flush=True)
    server.serve_forever(poll_interval=0.2)
    server.server_close()


def _port(argument: str) -> int:
    port = int(argument)
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{port} is not a port; ports are 0 to 65535")
    return port


if __name__ == "__main__":
    main()
