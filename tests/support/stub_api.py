"""A real HTTP server that gives the answers that a test prepares, in order, and keeps the requests
that it gets."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BATCH_ID = "0123456789abcdefghjkmnpqrs"
BATCH = {
    "batch_id": BATCH_ID,
    "name": None,
    "status": "RUNNING",
    "total": 3,
    "succeeded": 0,
    "failed": 0,
    "cancelled": 0,
    "created_at": "2026-11-22T12:00:00.000Z",
    "finished_at": None,
    "eta_s": None,
    "aws_calls": 0,
    "cost_usd": 0.0,
    "error": None,
    "trace_id": None,
    "options": None,
    "open": False,
    "retry_of": None,
    "followers": [],
    "kinds": ["sleep"],
    "at_risk": None,
    "quote": None,
}
DONE = {**BATCH, "status": "DONE", "succeeded": 3, "finished_at": "2026-11-22T12:00:05.500Z"}
ROW = {
    "task_id": f"{BATCH_ID}/0",
    "index": 0,
    "task": "sleep 1000",
    "status": "SUCCEEDED",
    "result": None,
    "error": None,
    "attempts": 1,
    "started_at": "2026-11-22T12:00:00.000Z",
    "duration_s": 1.0,
    "worker_id": "w1",
    "progress": None,
    "traceback": None,
    "reused_from": None,
}

TASK = {
    **ROW,
    "history": [],
    "limits": None,
    "traceback": None,
    "log_tail": None,
    "log_bytes": 0,
    "log_dropped": 0,
    "why": "nothing: it is done",
}


def accepted(total: int = 3) -> dict[str, Any]:
    """Returns the body of the answer to a submission."""
    return {"batch_id": BATCH_ID, "status": "QUEUED", "total": total, "url": "http://x/batches/y"}


def printed(text: str, offset: int = 0, *, total: int | None = None, dropped: int = 0) -> Answer:
    """Returns the answer with a part of an output, which begins at `offset`."""
    data = text.encode()
    end = offset + len(data)
    headers = {
        "X-Log-End": str(end),
        "X-Log-Bytes": str(end if total is None else total),
        "X-Log-Dropped": str(dropped),
        "Content-Type": "text/plain; charset=utf-8",
    }
    return Answer(200, data, headers)


@dataclass(frozen=True)
class Asked:
    """A request that the server got."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """An answer to one request. `body` is sent as JSON unless it is bytes; with the status 0 the
    connection is closed without an answer."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


class StubApi:
    """The server; `serving` runs it."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._answers: deque[Answer] = deque()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                stub.asked.append(Asked(self.command, self.path, headers, body))
                unexpected = Answer(500, {"Message": "the test expected no such call"})
                answer = stub._answers.popleft() if stub._answers else unexpected
                if answer.status == 0:
                    return
                given = answer.body
                raw = given if isinstance(given, bytes) else json.dumps(given).encode()
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(raw)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = do_DELETE = handle_any  # noqa: N815 - the base class's names

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answers(self, *answers: Answer | dict[str, Any]) -> None:
        """Prepare the answers to the next requests; a body alone is sent with the status 200."""
        self._answers.extend(a if isinstance(a, Answer) else Answer(200, a) for a in answers)

    @property
    def lines(self) -> list[str]:
        return [asked.line for asked in self.asked]

    @property
    def left(self) -> int:
        """The number of prepared answers that were not needed."""
        return len(self._answers)


@contextmanager
def serving() -> Iterator[StubApi]:
    """Run a server for the time of the `with` block."""
    stub = StubApi()
    thread = threading.Thread(target=stub._server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield stub
    finally:
        stub._server.shutdown()
        thread.join()
        stub._server.server_close()
