"""Lambda's Invoke call, as far as `taskfleet.aws.lambda_nudge` needs it: the asynchronous call of a
function, which gets the payload as it was sent. Owns the HTTP and what Lambda refuses;
`localcloud.pump` says which functions there are.

Source: "Invoke", AWS Lambda API Reference.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from localcloud import guard
from localcloud.options import HOST

_PATH = re.compile(r"/2015-03-31/functions/(?P<name>[A-Za-z0-9_-]+)/invocations")
ASYNC_MAX_BYTES = 1_048_576
"""Largest payload of an asynchronous call ("Lambda quotas", AWS Lambda Developer Guide)."""


class Invocations:
    """Listens on `port` (0: any free one) and calls `functions` by name, each call in a thread of
    its own, with the payload. Serves only requests that name the access key `key_id`; checks no
    signatures."""

    def __init__(
        self, port: int, functions: Mapping[str, Callable[[Any], None]], key_id: str
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _call(self) -> None:
                authorization = self.headers.get("Authorization")
                if guard.of_handler(self) or not guard.names_key(authorization, key_id):
                    self.close_connection = True  # its body is not read
                    self._answer(403, b'{"Message": "Forbidden"}')
                    return
                length = int(self.headers.get("Content-Length", "0"))
                if length > ASYNC_MAX_BYTES:
                    self.close_connection = True
                    self.rfile.read(min(length, 8 * ASYNC_MAX_BYTES))  # so that the answer is seen
                    self._refuse(
                        413,
                        "RequestTooLargeException",
                        f"Request must be smaller than {ASYNC_MAX_BYTES} bytes for the "
                        "InvokeFunction operation",
                    )
                    return
                payload = self.rfile.read(length)
                match = _PATH.fullmatch(self.path.partition("?")[0])
                function = functions.get(match["name"]) if match else None
                if function is None or self.command != "POST":
                    self._refuse(404, "ResourceNotFoundException", "Function not found")
                    return
                try:
                    event = json.loads(payload or b"{}")
                except ValueError as error:
                    self._refuse(
                        400,
                        "InvalidRequestContentException",
                        f"Could not parse request body into json: {error}",
                    )
                    return
                threading.Thread(target=function, args=(event,), daemon=True).start()
                self._answer(202, b"")

            do_POST = do_GET = do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _call  # noqa: N815

            def _refuse(self, status: int, kind: str, message: str) -> None:
                self._answer(
                    status, json.dumps({"Type": "User", "Message": message}).encode(), kind
                )

            def _answer(self, status: int, body: bytes, kind: str = "") -> None:
                self.send_response(status)
                if kind:
                    self.send_header("x-amzn-ErrorType", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: ARG002
                return

        self._server = ThreadingHTTPServer((HOST, port), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        """Port that it listens on."""

    def serve(self) -> None:
        """Serves until `close`."""
        self._server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """Stops serving and closes the port."""
        self._server.shutdown()
        self._server.server_close()
