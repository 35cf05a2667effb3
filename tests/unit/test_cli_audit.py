"""`taskfleet audit`: its words and its exit codes."""

from __future__ import annotations

import pytest

from tests.support.stub_api import BATCH_ID, StubApi
from tests.unit.test_cli import Run, api, run  # noqa: F401 - fixtures
from tests.unit.test_cli_every import RECEIPT


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({}, 0, "3 tasks: 3 succeeded, 0 failed, 0 cancelled, 0 without a result"),
        (
            {"finished": False, "balanced": False, "succeeded": 1},
            1,
            "the batch has not ended; audit it again when it has",
        ),
        (
            {"balanced": False, "faults": ["task 1 has no\x1b result"], "fault_count": 1},
            1,
            "fault: task 1 has no  result",
        ),
        (
            {"balanced": False, "faults": ["task 1 has no result"], "fault_count": 7},
            1,
            "and 6 more faults",
        ),
    ],
)
def test_the_exit_code_says_whether_it_balances(
    api: StubApi,  # noqa: F811
    run: Run,  # noqa: F811
    change: dict[str, object],
    code: int,
    words: str,
) -> None:
    api.answers({**RECEIPT, **change})
    result = run("audit", BATCH_ID)
    assert result.exit_code == code
    assert words in result.stdout.splitlines()
    assert api.lines == [f"GET /batches/{BATCH_ID}/audit"]
