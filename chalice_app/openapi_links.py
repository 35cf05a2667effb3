"""Names and links of the operations in the OpenAPI document: `operationId`, by which generators of
clients name their methods, and OpenAPI links, which say how a value of one answer leads to the next
request. Owns both tables; not the operations themselves (`chalice_app.openapi`).
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

Json = dict[str, Any]

IDS: Mapping[tuple[str, str], str] = {
    ("post", "/batches"): "submitBatch",
    ("get", "/batches"): "listBatches",
    ("post", "/quote"): "quoteBatch",
    ("post", "/uploads"): "makeUpload",
    ("get", "/batches/{batch_id}"): "readBatch",
    ("delete", "/batches/{batch_id}"): "cancelBatch",
    ("post", "/batches/{batch_id}/tasks"): "addTasks",
    ("post", "/batches/{batch_id}/close"): "closeBatch",
    ("post", "/batches/{batch_id}/retry"): "retryBatch",
    ("get", "/batches/{batch_id}/results"): "readResults",
    ("get", "/batches/{batch_id}/audit"): "auditBatch",
    ("get", "/batches/{batch_id}/stream"): "readStream",
    ("get", "/batches/{batch_id}/tasks/{index}"): "readTask",
    ("get", "/batches/{batch_id}/tasks/{index}/log"): "readLog",
    ("get", "/schedules"): "listSchedules",
    ("post", "/schedules"): "makeSchedule",
    ("delete", "/schedules/{name}"): "removeSchedule",
    ("get", "/me"): "readMe",
    ("get", "/kinds"): "listKinds",
    ("get", "/fleet"): "readFleet",
    ("get", "/fleet/history"): "readFleetHistory",
    ("get", "/dead-letters"): "listDeadLetters",
    ("post", "/dead-letters/redrive"): "redriveDeadLetters",
    ("get", "/health"): "checkHealth",
    ("get", "/openapi.json"): "readDocument",
}
"""Name of each operation, by method and path."""

_BATCH = ("readBatch", "readResults", "readStream", "auditBatch", "cancelBatch", "retryBatch")
"""What can be asked of any batch."""
_SUBMITTED = (*_BATCH, "addTasks", "closeBatch", "readTask", "readLog")
"""What can be asked of a batch after its submission."""
_ID = "$response.body#/batch_id"
_SAME = "$request.path.batch_id"
_CURSOR = "$response.body#/cursor"


def _of_batch(batch_id: str, targets: tuple[str, ...]) -> Json:
    return {
        target: {
            "operationId": target,
            "parameters": {"path.batch_id": batch_id}
            | ({"path.index": 0} if target in ("readTask", "readLog") else {}),
        }
        for target in targets
    }


def _next_page(target: str, **parameters: str) -> Json:
    return {
        "nextPage": {
            "operationId": target,
            "parameters": {
                **{f"path.{name}": value for name, value in parameters.items()},
                "query.cursor": _CURSOR,
            },
        }
    }


LINKS: Mapping[tuple[str, str], Json] = {
    ("submitBatch", "202"): _of_batch(_ID, _SUBMITTED),
    ("retryBatch", "202"): _of_batch(_ID, _BATCH),
    ("listBatches", "200"): {
        **_next_page("listBatches"),
        **_of_batch("$response.body#/batches/0/batch_id", _BATCH),
    },
    ("readBatch", "200"): _of_batch(_ID, _SUBMITTED),
    ("cancelBatch", "202"): _of_batch(_ID, _BATCH),
    ("closeBatch", "202"): _of_batch(_ID, _BATCH),
    ("addTasks", "202"): {
        **_of_batch(_ID, ("readBatch", "closeBatch", "readTask")),
        "nextPart": {
            "operationId": "addTasks",
            "parameters": {"path.batch_id": _ID},
            "requestBody": {"first": "$response.body#/total", "tasks": ["sleep 1000"]},
        },
    },
    ("readResults", "200"): {
        **_next_page("readResults", batch_id=_SAME),
        "readTask": {
            "operationId": "readTask",
            "parameters": {
                "path.batch_id": _SAME,
                "path.index": "$response.body#/results/0/index",
            },
        },
    },
    ("readStream", "200"): _next_page("readStream", batch_id=_SAME),
    ("readTask", "200"): {
        "readLog": {
            "operationId": "readLog",
            "parameters": {"path.batch_id": _SAME, "path.index": "$request.path.index"},
        }
    },
    ("makeUpload", "201"): {
        "submitFile": {
            "operationId": "submitBatch",
            "requestBody": {"upload_id": "$response.body#/upload_id"},
            "description": "Once the file was sent with the form.",
        }
    },
    ("makeSchedule", "201"): {
        "removeSchedule": {
            "operationId": "removeSchedule",
            "parameters": {"path.name": "$response.body#/name"},
        }
    },
    ("listSchedules", "200"): {
        "removeSchedule": {
            "operationId": "removeSchedule",
            "parameters": {"path.name": "$response.body#/schedules/0/name"},
        }
    },
}
"""Links of an answer, by the name of its operation and its status."""


def add_links(paths: Mapping[str, Json]) -> None:
    """Adds names and links to the operations of the document. Raises KeyError for an operation
    without a name, and for links of an answer that no operation has."""
    named: dict[str, Json] = {}
    for path, methods in paths.items():
        for method, operation in methods.items():
            if method != "parameters":
                operation["operationId"] = IDS[method, path]
                named[operation["operationId"]] = operation
    for (name, status), links in LINKS.items():
        named[name]["responses"][status]["links"] = deepcopy(links)
