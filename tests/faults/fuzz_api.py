"""Fuzzes the HTTP API from its own OpenAPI document by schemathesis: each boundary of each
parameter, random requests, valid and not, and sequences along the links of the document. Owns how
schemathesis is set up and which of its findings count; not the cloud and the judgement
(`tests.faults.fuzz_cloud`).
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import schemathesis
import schemathesis.hooks
from schemathesis.engine import events, from_schema
from schemathesis.generation import GenerationMode

from chalice_app.openapi import spec
from tests.faults.fuzz_cloud import TASKS, make_cloud

WORK_EVERY = 5
"""Answers after which the worker and the collector take their turn."""
SEMANTIC = "the document cannot say which values are right"
REFUSED_THOUGH_VALID = {
    "submitBatch": (413, 422, SEMANTIC),
    "quoteBatch": (413, 422, SEMANTIC),
    "addTasks": (413, 422, SEMANTIC),
    "makeSchedule": (422, SEMANTIC),
    "makeUpload": (413, "the cap of an upload is a setting of the stage"),
    "retryBatch": (422, "a batch may have no task to run again"),
    "listBatches": (422, "a cursor is opaque"),
    "readResults": (422, "a cursor is opaque"),
    "readStream": (422, "a cursor is opaque"),
}
"""Operations that may refuse a request which the document allows: with these statuses, for this
reason."""
COVERED_BY = {"quoteBatch": "makeSchedule", "submitBatch": "makeSchedule"}
"""Operations with the parameters of another one."""
TOO_LONG = 431
"""Status of API Gateway, and of the local cloud, for a request line of more than 10,240 bytes. The
API itself never sees such a request, so the document does not have the status."""


@dataclass
class Findings:
    """What a run tried and found.

    statuses: answers, by status.
    links: calls that followed a link of the document, by its name.
    operations: names of the operations that succeeded at least once.
    faults: descriptions of what was wrong, each with the request to try it again.
    """

    tried: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    links: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


class Api:
    """The API that is fuzzed, and a worker beside it."""

    def __init__(self) -> None:
        self.frontend = make_cloud()
        self.batches: list[str] = []
        self._answers = 0

    def make_right(self, case: Any) -> None:
        """Put tasks of kinds that exist, and batches that exist, into a request that is valid by
        the document, so that some are accepted."""
        body = case.body
        if not isinstance(body, dict):
            return
        case.query = {}  # it is for other bodies, which the document says in words only
        name = case.operation.definition.raw["operationId"]
        if name == "makeSchedule":
            rate = {"every": "15m"} if len(body["name"]) % 2 else {"cron": "*/5 3 * * 1"}
            body = {**body, "every": None, "cron": None, **rate}
        if name == "addTasks" and body["first"] % 2:
            batch = self.frontend.cloud.monitor.batch(case.path_parameters["batch_id"])
            body = {**body, "first": batch.total if batch else 0}
        if body.get("tasks"):
            body = {**body, "tasks": TASKS[: 1 + len(body["tasks"]) % len(TASKS)]}
        if body.get("after"):
            known = self.batches[-len(body["after"]) :]
            body = {**body, "after": None if body.get("open") else known or None}
        case.body = body

    def answered(self, name: str, response: Any) -> None:
        """Look at an answer of the operation of this name: store the file of an upload, remember a
        batch, and let the worker work now and then."""
        self._answers += 1
        if name == "makeUpload" and response.status_code == 201:
            key = response.json()["fields"]["key"]
            data = b"double 1\n# a comment\n\ndouble 2\n"
            self.frontend.cloud.store.put(key, data, content_type="text/plain")
        if name in ("submitBatch", "retryBatch") and response.status_code == 202:
            self.batches.append(response.json()["batch_id"])
        if self._answers % WORK_EVERY == 0:
            self.frontend.run()


def fuzz(api: Api, *, seed: int, examples: int, briefly: bool = False) -> Findings:
    """Fuzz the API. Returns what was found.

    seed: repeats a run, with the same `examples`.
    examples: random requests of each operation, and sequences.
    briefly: without the boundaries of the parameters of `COVERED_BY`.
    """
    found = Findings()
    with api.frontend.served() as server:
        url = "http://{}:{}".format(*server.server_address)
        schema = schemathesis.openapi.from_dict(
            spec(), config=_config(api, url, seed, examples, briefly)
        )
        with _hooks(api, found):
            for event in from_schema(schema).execute():
                found.faults += _faults(event)
    return found


def _config(api: Api, url: str, seed: int, examples: int, briefly: bool) -> schemathesis.Config:
    settings: dict[str, Any] = {
        "base-url": url,
        "seed": seed,
        "continue-on-failure": True,
        # A token for the whole run: `wait` lets the clock of the cloud jump.
        "auth": {"openapi": {"token": {"bearer": api.frontend.token(ttl_s=1e9)}}},
        "generation": {"max-examples": examples, "no-shrink": True, "database": "none"},
        "checks": {
            "negative_data_rejection": {"expected-statuses": ["4xx"]},
            # DELETE of a batch cancels it. What is left of it stays.
            "use_after_free": {"enabled": False},
        },
        "operations": [
            {
                "include-operation-id": name,
                "checks": {
                    "positive_data_acceptance": {
                        "expected-statuses": ["2xx", "404", "409", *map(str, statuses)]
                    }
                },
            }
            for name, (*statuses, _why) in REFUSED_THOUGH_VALID.items()
        ]
        + [
            {"include-operation-id": name, "phases": {"coverage": {"enabled": not briefly}}}
            for name in COVERED_BY
        ],
    }
    return schemathesis.Config.from_dict(settings)


@contextlib.contextmanager
def _hooks(api: Api, found: Findings) -> Iterator[None]:
    """Sets hooks of schemathesis, which knows these for the whole process only."""

    def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
        if case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE:
            api.make_right(case)

    def after_call(_context: Any, case: Any, response: Any) -> None:
        name = case.operation.definition.raw["operationId"]
        found.tried += 1
        found.statuses[response.status_code] += 1
        if response.status_code < 300:
            found.operations[name] += 1
        api.answered(name, response)

    def filter_failure(_context: Any, _failure: Any, _case: Any, response: Any) -> bool:
        return response is None or response.status_code != TOO_LONG

    hooks = (before_call, after_call, filter_failure)
    for each in hooks:
        schemathesis.hook(each)
    try:
        yield
    finally:
        for each in hooks:
            schemathesis.hooks.unregister(each)


def _faults(event: events.EngineEvent) -> Iterator[str]:
    if isinstance(event, events.FatalError):
        raise event.exception
    if isinstance(event, events.NonFatalError):
        yield f"{event.label}: {event.info.format()}"
    if isinstance(event, events.ScenarioFinished):
        for case_id, checks in event.recorder.checks.items():
            operation = event.recorder.cases[case_id].value.operation.label
            for check in checks:
                if check.failure_info is not None:
                    failure, code = check.failure_info.failure, check.failure_info.code_sample
                    yield f"{operation}: {failure.title}: {failure.message}\n{code}"
