"""Lambda's Invoke call, as far as `taskfleet.aws.lambda_nudge` needs it: the asynchronous call of a
function. Owns the HTTP; `localcloud.pump` says which functions there are."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from localcloud import guard
from localcloud.options import HOST

_PATH = re.compile(r"/2015-03-31/functions/(?P<name>[A-Za-z0-9_-]+)/invocations")
_BODY_MAX_BYTES = 1_048_576
"""Largest payload of an asynchronous call; Lambda's own cap."""


class Invocations:
    """Listens on `port` (0: any free one) and calls `functions` by name, each call in a thread of
    its own. Serves only requests that name the access key `key_id`; checks no signatures."""

    def __init__(self, port: int, functions: Mapping[str, Callable[[], None]], key_id: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _call(self) -> None:
                authorization = self.headers.get("Authorization")
                if guard.of_handler(self) or not guard.names_key(authorization, key_id):
                    self.close_connection = True  # its body is not read
                    self._answer(403, b'{"Message": "Forbidden"}')
                    return
                length = int(self.headers.get("Content-Length", "0"))
                self.rfile.read(min(length, _BODY_MAX_BYTES))
                match = _PATH.fullmatch(self.path.partition("?")[0])
                function = functions.get(match["name"]) if match else None
                if function is None or self.command != "POST":
                    self._answer(404, b'{"Message": "Function not found"}')
                else:
                    threading.Thread(target=function, daemon=True).start()
                    self._answer(202, b"")

            do_POST = do_GET = do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _call  # noqa: N815

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
