"""PutEvents of Amazon EventBridge, as far as `taskfleet.aws.events` needs it. Owns the HTTP and
what EventBridge refuses; `localcloud.onevent` does with an event what there is to do.

Sources: "PutEvents" and "Calculating PutEvents event entry size", Amazon EventBridge.
"""

from __future__ import annotations

import json
import sys
import threading
import uuid
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from localcloud import guard
from localcloud.options import HOST

TARGET = "AWSEvents.PutEvents"
"""The header X-Amz-Target of the one call that is served."""
CALL_MAX_ENTRIES = 10
"""Most entries in one call."""
CALL_MAX_BYTES = 262_144
"""Most bytes of the entries of one call."""
POLL_S = 0.05
"""Seconds between two looks whether to stop serving."""

Put = Callable[[str, str, Any], None]
"""Takes an event: its source, its detail-type and its detail. It must not wait."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores callers that left, such as a function that was killed. Others are told on
        standard error by the base class."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class EventBus:
    """Listens on any free port and hands each event to `put`. Serves only requests that name the
    access key `key_id`; checks no signatures."""

    def __init__(self, put: Put, key_id: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def _call(self) -> None:
                authorization = self.headers.get("Authorization")
                if guard.of_handler(self) or not guard.names_key(authorization, key_id):
                    self.close_connection = True  # its body is not read
                    self._answer(403, {"__type": "AccessDeniedException", "message": "Forbidden"})
                    return
                length = int(self.headers.get("Content-Length", "0"))
                if length > 8 * CALL_MAX_BYTES:
                    self.close_connection = True
                    self._refuse("the body is too large")
                    return
                body = self.rfile.read(length)
                if self.command != "POST" or self.headers.get("X-Amz-Target") != TARGET:
                    self._answer(
                        400, {"__type": "UnknownOperationException", "message": f"only {TARGET}"}
                    )
                    return
                try:
                    entries = json.loads(body)["Entries"]
                    fault = _fault(entries)
                except (ValueError, KeyError, TypeError, AttributeError):
                    fault = "the body is no request of PutEvents"
                if fault:
                    self._refuse(fault)
                    return
                answers = [_put(entry, put) for entry in entries]
                failed = sum("ErrorCode" in answer for answer in answers)
                self._answer(200, {"FailedEntryCount": failed, "Entries": answers})

            do_POST = do_GET = do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _call  # noqa: N815

            def _refuse(self, message: str) -> None:
                self._answer(400, {"__type": "ValidationException", "message": message})

            def _answer(self, status: int, answer: Mapping[str, Any]) -> None:
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: ARG002
                return

        self._server = _Server((HOST, 0), Handler)
        self.url = f"http://{HOST}:{self._server.server_address[1]}"
        """Its URL."""
        thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_S,), name="event bus", daemon=True
        )
        thread.start()

    def close(self) -> None:
        """Stops serving and closes the port."""
        self._server.shutdown()
        self._server.server_close()


def _fault(entries: list[dict[str, Any]]) -> str | None:
    """Returns why EventBridge refuses a whole call, None if it does not."""
    if not 1 <= len(entries) <= CALL_MAX_ENTRIES:
        return f"a call has 1 to {CALL_MAX_ENTRIES} entries, not {len(entries)}"
    if sum(map(_bytes, entries)) > CALL_MAX_BYTES:
        return f"Total size of the entries in the request is over the limit of {CALL_MAX_BYTES}"
    return None


def _bytes(entry: Mapping[str, Any]) -> int:
    """Returns the size of an entry as EventBridge counts it."""
    texts = [entry.get(name, "") for name in ("Source", "DetailType", "Detail")]
    return sum(len(text.encode()) for text in [*texts, *entry.get("Resources", [])])


def _put(entry: Mapping[str, Any], put: Put) -> dict[str, str]:
    """Hands over one event. Returns what EventBridge answers for its entry."""
    for name in ("Source", "DetailType", "Detail"):
        if not entry.get(name):
            return _error("InvalidArgument", f"Parameter {name} is not valid. Reason: it is empty.")
    if entry["Source"].startswith("aws."):
        return _error("NotAuthorizedForSourceException", "Not authorized for the source.")
    try:
        detail = json.loads(entry["Detail"])
    except ValueError:
        detail = None
    if not isinstance(detail, dict):
        return _error("MalformedDetail", "Detail is malformed.")
    put(entry["Source"], entry["DetailType"], detail)
    return {"EventId": str(uuid.uuid4())}


def _error(code: str, message: str) -> dict[str, str]:
    return {"ErrorCode": code, "ErrorMessage": message}
