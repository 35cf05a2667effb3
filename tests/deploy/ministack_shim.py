"""ministack with the three calls that `chalice deploy` makes and ministack 1.5.33 does not know:

- ImportRestApi and PutRestApi, led to ministack's own import of API definitions;
- UpdateRestApi with an empty `minimumCompressionSize`, which on AWS means none.

An import of an API is refused while the file FAULT exists, in STATE_DIR, as a quota of APIs would
refuse it: a deployment then ends half-way.

Time goes faster in it, so that no test waits: a function is ready 0.1 s after a change instead of
0.5 s, and a schedule's minute lasts `MINUTE_S`.

    python ministack_shim.py        as `python -m ministack`
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ministack.app import main
from ministack.services import apigateway_v1 as gateway
from ministack.services import eventbridge, lambda_svc

MINUTE_S = 6.0
FAULT = "refuse-imports"

answer = gateway.handle_request


async def handle_request(
    method: str, path: str, headers: Any, body: Any, query_params: dict[str, Any]
) -> Any:
    parts = path.strip("/").split("/")
    if parts[0] == "restapis":
        if method == "POST" and len(parts) == 1 and "mode" in query_params:
            if Path(os.environ["STATE_DIR"], FAULT).exists():
                return 400, {}, json.dumps({"__type": "LimitExceededException"}).encode()
            api_id = gateway._import_rest_api(json.loads(body))
            _status, _headers, text = gateway._get_rest_api(api_id)
            return 201, _headers, text
        if method == "PUT" and len(parts) == 2:
            overwrite(parts[1], json.loads(body))
            return gateway._get_rest_api(parts[1])
        if method == "PATCH" and len(parts) == 2:
            body = without_empty_compression(body)
    return await answer(method, path, headers, body, query_params)


def overwrite(api_id: str, definition: dict[str, Any]) -> None:
    """The API keeps its id and stages, and gets everything else of a new import."""
    new_id = gateway._import_rest_api(definition)
    for store in (gateway._resources, gateway._authorizers_v1, gateway._models):
        store[api_id] = store.pop(new_id)
    gateway._delete_rest_api(new_id)


def without_empty_compression(body: bytes) -> bytes:
    patch = json.loads(body)
    kept = [
        operation
        for operation in patch["patchOperations"]
        if operation["path"] != "/minimumCompressionSize" or operation.get("value")
    ]
    return json.dumps({**patch, "patchOperations": kept}).encode()


def fast_rate_s(expression: str) -> float | None:
    """Seconds between two events of a `rate(...)`; None for any other expression."""
    seconds = rate_s(expression)
    return None if seconds is None else seconds / 60 * MINUTE_S


rate_s = eventbridge._parse_rate_seconds
eventbridge._parse_rate_seconds = fast_rate_s
eventbridge._SCHEDULER_TICK_INTERVAL = 0.5
lambda_svc._LAMBDA_STATE_TRANSITION_DELAY = 0.1
gateway.handle_request = handle_request

if __name__ == "__main__":
    main()
