"""Lambda's Invoke call, as far as `taskfleet.aws.lambda_nudge` needs it: the asynchronous call of a
function. Owns the HTTP; `localcloud.pump` says which functions there are."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from localcloud.options import HOST

_PATH = re.compile(r"/2015-03-31/functions/(?P<name>[A-Za-z0-9_-]+)/invocations")
_BODY_MAX_BYTES = 1_048_576
"""Largest payload of an asynchronous call; Lambda's own cap."""


class Invocations:
    """Listens on `port` (0: any free one) and calls `functions` by name, each call in a thread of
    its own."""

    def __init__(self, port: int, functions: Mapping[str, Callable[[], None]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                self.rfile.read(min(length, _BODY_MAX_BYTES))
                match = _PATH.fullmatch(self.path.partition("?")[0])
                function = functions.get(match["name"]) if match else None
                if function is None:
                    self._answer(404, b'{"Message": "Function not found"}')
                else:
                    threading.Thread(target=function, daemon=True).start()
                    self._answer(202, b"")

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                if status == 404:
                    self.send_header("x-amzn-ErrorType", "ResourceNotFoundException")
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
