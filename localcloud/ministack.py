"""Runs ministack behind the guard and the strict hop, with a long poll that is nearly as prompt as
that of SQS: `python -m localcloud.ministack`.

While a receive waits, ministack looks for messages every 100 ms; SQS learns of a message at once,
and so does a receive here.
ministack answers every origin. It answers its own paths, such as the one that wipes all, without
credentials. Even with AUTH=true it takes any signature by its own key, by `test` and by the number
of any account. Its own server, in plain Python, takes half of a call's time; here uvicorn serves
it. Owns these differences from stock ministack.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import signal
import sys
import time
import types
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import uvicorn
from ministack import app
from ministack.core import iam_evaluator
from ministack.services import dynamodb, sqs

from localcloud import guard, quotas
from localcloud.options import HOST
from localcloud.strict import Strict

STOCK_POLL_S = 0.1
"""Seconds between two looks of ministack's own while a receive has longer to wait."""
POLL_S = 0.25
"""The same here: a message whose delay or visibility time-out ends is seen so much later, and a
receive may last a little longer than it was told. A look takes the processor from the tasks."""
KEEP_ALIVE_S = 75
"""Seconds for which a connection without a request stays open."""
GRACE_S = 3
"""Seconds that a stop gives to requests, such as receives that wait."""
_NEWS = re.compile(r"AmazonSQS\.(Send|ChangeMessageVisibility|StartMessageMove)")
"""Operations after which a waiting receive may find a message."""

READY_PATH = "/_ministack/ready"
"""The only path of ministack's own that is served."""
_BUCKET = re.compile(r"/[a-z0-9][a-z0-9.-]+/?")


def refuses(scope: guard.Scope, key_id: str) -> str | None:
    """Returns why ministack must not see a request, or None. A request must name the access key
    `key_id`, in its `Authorization` header or as a presigned URL, or be an upload form, whose
    fields name it. ministack checks the signature then."""
    method, path = scope.get("method", "GET"), str(scope["path"])
    if (method, path) == ("GET", READY_PATH):
        return None
    if path.startswith("/_"):
        return "this path of the emulator is closed in the local cloud"
    headers = dict(guard.headers_of(scope))
    query = dict(parse_qsl(guard.target_of(scope).partition("?")[2]))
    form = headers.get("content-type", "").startswith("multipart/form-data")
    if (
        guard.names_key(headers.get("authorization"), key_id)
        or query.get("X-Amz-Credential", "").startswith(f"{key_id}/")
        or (method == "POST" and form and _BUCKET.fullmatch(path))
    ):
        return None
    return "the request is not signed with this cloud's access key, which its file env holds"


ACCOUNT = "000000000000"
"""Account of everything in ministack, since the cloud's access key names none."""


def key_names(table: str, region: str) -> tuple[str, ...]:
    """Returns the names of a table's key attributes, none for an unknown table."""
    found = dynamodb._tables.get_scoped(ACCOUNT, region, table.rpartition("/")[2], {})
    return tuple(found[name] for name in ("pk_name", "sk_name") if found.get(name))


def messages_in_flight(url: str, region: str) -> int:
    """Returns the number of messages of a queue that are received and not deleted, 0 for an unknown
    queue."""
    url = sqs._queue_name_to_url.get_scoped(ACCOUNT, region, url.rpartition("/")[2], url)
    messages = sqs._queues.get_scoped(ACCOUNT, region, url, {}).get("messages", ())
    now = time.time()
    return sum(m["receive_count"] > 0 and m["visible_at"] > now for m in messages)


def _never(_key_id: str) -> bool:
    return False


class Prompt:
    """An ASGI app that stands before ministack and ends the pauses of waiting receives as soon as a
    message may be there."""

    def __init__(self, app: guard.Asgi) -> None:
        self._app = app
        self._news = asyncio.Event()

    async def __call__(self, scope: guard.Scope, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)
        if scope["type"] == "http":
            operation = dict(guard.headers_of(scope)).get("x-amz-target", "")
            if _NEWS.match(operation):
                self._news.set()
                self._news = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Takes the place of `asyncio.sleep` in ministack's SQS."""
        with contextlib.suppress(TimeoutError):
            pause_s = POLL_S if seconds >= STOCK_POLL_S else seconds
            await asyncio.wait_for(self._news.wait(), pause_s)


def main() -> None:
    """Runs ministack at the port GATEWAY_PORT for the access key AWS_ACCESS_KEY_ID and for files
    that pages at the port PAGE_PORT send, until SIGINT or SIGTERM; the `asyncio` that its SQS sees
    has the pause that ends with news."""
    prompt = Prompt(app.app)
    patched = types.ModuleType("asyncio")
    patched.__dict__.update(vars(asyncio) | {"sleep": prompt.sleep})
    sqs.asyncio = patched
    iam_evaluator._is_root_key = _never  # it checks no signature by such a key
    closed = partial(refuses, key_id=os.environ["AWS_ACCESS_KEY_ID"])
    strict = Strict(prompt, key_names, messages_in_flight, quotas.of_environment(os.environ))
    port, page_port = int(os.environ["GATEWAY_PORT"]), int(os.environ["PAGE_PORT"])
    # Each connection takes a descriptor, and the limit of a shell is often 1,024.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))  # after uvicorn has ended
    uvicorn.run(
        guard.asgi(strict, port, closed, page_port),
        host=HOST,
        port=port,
        http="httptools",
        loop="uvloop",
        ws="none",
        log_level=os.environ.get("LOG_LEVEL", "WARNING").lower(),
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,  # ministack sends one
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )


if __name__ == "__main__":
    main()
