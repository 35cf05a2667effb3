"""The API on ports in memory, for tests in this process and over HTTP."""

from __future__ import annotations

import contextlib
import json
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from chalice.test import Client, HTTPResponse

from chalice_app.application import create_app
from chalice_app.services import Services, assemble
from localcloud.quotas import NO_QUOTAS, Quotas
from localcloud.serve import Server, make_server
from taskfleet.memory import MemoryQueue
from taskfleet.registry import Registry
from taskfleet.scheduler.ports import EventSink
from taskfleet.settings import Settings
from taskfleet.wire import token
from tests.support.worker import Cloud, Faulty, HandWorker, no_fault

SECRET = "a secret of more than thirty-two characters"


class Frontend:
    """One API and the cloud behind it.

    fault: breaks calls to the queues and the table; see `tests.support.worker.Faulty`.
    random_bytes: makes the ids of batches and uploads. Hypothesis sets the module's own back for
        each example.
    """

    def __init__(
        self,
        cloud: Cloud | None = None,
        registry: Registry | None = None,
        fault: Callable[[str], str | None] = no_fault,
        settings: Settings | None = None,
        sinks: Sequence[EventSink] = (),
        random_bytes: Callable[[int], bytes] = random.randbytes,
    ) -> None:
        self.cloud = cloud or Cloud()
        self.registry = registry or Registry.load()
        services = assemble(
            registry=self.registry,
            task_queue=Faulty(self.cloud.tasks, fault),
            response_queue=Faulty(self.cloud.responses, fault),
            upload_queue=Faulty(self.cloud.uploads, fault),
            monitor=Faulty(self.cloud.monitor, fault),
            store=self.cloud.store,
            clock=self.cloud.clock,
            random_bytes=random_bytes,
            token_secret=lambda: SECRET,
            records=Faulty(self.cloud.records, fault),
            schedule_records=Faulty(self.cloud.schedules, fault),
            fleet=self.cloud.fleet,
            nudge=self.cloud.nudges,
            settings=settings or Settings(bucket="b"),
            sinks=sinks,
            high_queue=Faulty(self.cloud.high, fault),
        )
        self.on_services: Callable[[], None] = lambda: None
        """Called whenever a handler gets its services."""

        def provide() -> Services:
            self.on_services()
            return services

        self.services = services
        self.app = create_app(provide)
        self.client = Client(self.app)

    def token(
        self,
        client_id: str = "alice",
        ttl_s: float = 3600.0,
        role: token.Role = token.Role.WRITER,
    ) -> str:
        return token.make(SECRET, client_id, ttl_s, self.cloud.clock.now(), role=role)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        as_client: str | None = "alice",
        content_type: str | None = "application/json",
        headers: dict[str, str] | None = None,
    ) -> HTTPResponse:
        """Make one request. `body` is sent as it is when bytes, as UTF-8 when text, otherwise as
        JSON."""
        sent = dict(headers or {})
        if as_client is not None:
            sent.setdefault("authorization", f"Bearer {self.token(as_client)}")
        if body is not None and content_type is not None:
            sent["content-type"] = content_type
        return self.client.http.request(method, path, headers=sent, body=as_bytes(body))

    def submit(self, tasks: list[Any], **options: Any) -> str:
        response = self.call("POST", "/batches", {"tasks": tasks, **options})
        assert response.status_code == 202, response.body
        return str(response.json_body["batch_id"])

    def upload(self, data: bytes, as_client: str = "alice") -> str:
        """Store `data` as an upload. Returns the upload's id."""
        form = self.call("POST", "/uploads", as_client=as_client)
        assert form.status_code == 201, form.body
        key = form.json_body["fields"]["key"]
        self.cloud.store.put(key, data, content_type="text/plain")
        return str(form.json_body["upload_id"])

    def run(self) -> None:
        """Read all uploads, execute all tasks and count all responses that wait on the queues."""
        self.feed(self.cloud.uploads, "expand_upload", 1)
        HandWorker(self.cloud, self.registry).work()
        self.feed(self.cloud.responses, "collect_responses", 10)

    def feed(self, queue: MemoryQueue, function: str, size: int) -> None:
        """Call a function with the queue's messages, up to `size` at a time, as Lambda does."""
        while messages := queue.receive(size, wait_s=0, visibility_s=30):
            records = [
                {
                    "messageId": m.message_id,
                    "receiptHandle": m.receipt_handle,
                    "body": m.body,
                    "attributes": {"SentTimestamp": str(round(m.sent_at * 1000))},
                }
                for m in messages
            ]
            self.client.lambda_.invoke(function, {"Records": records})
            queue.delete(messages)

    @contextlib.contextmanager
    def served(self, quotas: Quotas = NO_QUOTAS) -> Iterator[Server]:
        """Serve the API with a real HTTP server on a free port."""
        server = make_server(self.app, "127.0.0.1", 0, quotas)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def as_bytes(body: Any) -> bytes:
    if body is None:
        return b""
    if isinstance(body, bytes):
        return body
    return (body if isinstance(body, str) else json.dumps(body)).encode()
