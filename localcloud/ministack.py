"""Runs ministack behind the guard, with a long poll that is nearly as prompt as that of SQS:
`python -m localcloud.ministack`.

While a receive waits, ministack looks for messages every 100 ms; SQS learns of a message at once.
ministack answers every origin. It answers its own paths, such as the one that wipes all, without
credentials. Even with AUTH=true it takes any signature by its own key, by `test` and by the number
of any account. Owns these differences from stock ministack.
"""

from __future__ import annotations

import asyncio
import os
import re
import types
from functools import partial
from urllib.parse import parse_qsl

from ministack import app
from ministack.core import iam_evaluator
from ministack.services import sqs

from localcloud import guard

POLL_S = 0.01
"""Longest time between two looks of a waiting receive, in seconds."""


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


def _never(_key_id: str) -> bool:
    return False


async def _short_sleep(seconds: float) -> None:
    await asyncio.sleep(min(seconds, POLL_S))


def main() -> None:
    """Runs ministack at the port GATEWAY_PORT for the access key AWS_ACCESS_KEY_ID; the `asyncio`
    that its SQS sees has the short sleep."""
    patched = types.ModuleType("asyncio")
    patched.__dict__.update(vars(asyncio) | {"sleep": _short_sleep})
    sqs.asyncio = patched
    iam_evaluator._is_root_key = _never  # it checks no signature by such a key
    closed = partial(refuses, key_id=os.environ["AWS_ACCESS_KEY_ID"])
    app.app = guard.asgi(app.app, int(os.environ["GATEWAY_PORT"]), closed)
    app.main()


if __name__ == "__main__":
    main()
