"""Lambda's Invoke call, as far as the nudge needs it: an asynchronous call of a scheduled function.
Owns the HTTP of it; what is called is `localcloud.pump`'s."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from localcloud.options import HOST

_PATH = re.compile(r"/2015-03-31/functions/(?P<name>[A-Za-z0-9_-]+)/invocations")
_MAX_BODY = 1_048_576


class Invocations:
    """Listens on `port` and calls `functions` by name, each in a thread of its own."""

    def __init__(self, port: int, functions: Mapping[str, Callable[[], None]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(min(int(self.headers.get("Content-Length", "0")), _MAX_BODY))
                found = _PATH.fullmatch(self.path.partition("?")[0])
                function = functions.get(found["name"]) if found else None
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

    def serve(self) -> None:
        self._server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
