"""The HTTP API under requests that schemathesis makes of its OpenAPI document: every answer is as
the document says, none is a 5xx, and what was accepted ends with its results."""

import random

import pytest

from tests.faults.fuzz_api import Api, Findings, fuzz
from tests.faults.fuzz_cloud import judge

pytestmark = pytest.mark.timeout(900)

# Operations that a run must have got through. One that never succeeds was not tried.
SUCCEED = {
    "submitBatch", "listBatches", "quoteBatch", "makeUpload", "readBatch", "cancelBatch",
    "closeBatch", "readResults", "auditBatch", "readStream", "readTask", "makeSchedule",
    "listSchedules", "readMe", "listKinds", "readFleet", "readFleetHistory", "listDeadLetters",
    "redriveDeadLetters", "checkHealth", "readDocument",
}  # fmt: skip
MORE = {"addTasks", "retryBatch", "readLog", "removeSchedule"}
"""Those that take a sequence of requests, for which a short run has no time."""


def test_no_request_that_the_document_describes_breaks_the_api(figures, deep):
    found = figures("fuzz", unit="inputs")
    seed = random.SystemRandom().randrange(2**32) if deep else 17
    api = Api()
    run = fuzz(api, seed=seed, examples=150 if deep else 4, briefly=not deep)
    told = f"seed {seed}: {run.statuses}, {run.operations}"
    found.add(tried=run.tried, fired=sum(n for status, n in run.statuses.items() if status >= 400))
    found.rows += _rows(run, seed)
    assert not run.faults, f"{told}\n" + "\n\n".join(run.faults[:5])
    assert not [status for status in run.statuses if status >= 500], told
    succeeded = set(run.operations)
    assert (SUCCEED | MORE if deep else SUCCEED) <= succeeded, f"never: {SUCCEED - succeeded}"
    end = judge(api.frontend)
    assert end.tasks > (100 if deep else 0)
    found.judge(lost=end.lost, doubled=end.doubled, wrong=end.wrong)
    assert not end.faults, f"seed {seed}: {end.faults[:5]}"


def _rows(run: Findings, seed: int) -> list[dict[str, object]]:
    return [
        {"what": "HTTP requests by schemathesis", "seed": seed, "answer": status, "inputs": number}
        for status, number in sorted(run.statuses.items())
    ]
