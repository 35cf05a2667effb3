"""Results of every size and number: each batch ends DONE, with every result readable (D2)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ec2_worker.attempt import ERROR_MAX_CHARS, RESULT_MAX_BYTES
from taskfleet.batch import BatchStatus
from taskfleet.errors import PermanentError
from taskfleet.registry import Registry, sleep
from taskfleet.wire.http.results import PAGE_MAX
from tests.support.frontend import Frontend
from tests.support.worker import thread_kind

CHARACTERS = ["x", '"', "\\", "\n", "\x00", "é", "世", "\N{GRINNING FACE}", "\ufffe", "\uffff"]


def make(params: Any, _context: Any) -> str:
    """Text of about `params[0]` bytes of JSON, of the character `params[1]`."""
    size, char = params
    return str(char) * size


def fail(params: Any, _context: Any) -> None:
    size, char = params
    raise PermanentError(char * size)


def stuck(_params: Any, context: Any) -> None:
    context.progress(1, 2)


KINDS = [
    thread_kind("make", make, expected_s=lambda _params: 1e-6),
    thread_kind("fail", fail, expected_s=lambda _params: 1e-6),
]


def json_size(text: str) -> int:
    import msgspec

    return len(msgspec.json.encode(text))


def outcomes(frontend: Frontend, batch_id: str) -> list[dict[str, Any]]:
    """Every row of the batch's results, read page by page over the API."""
    rows: list[dict[str, Any]] = []
    query = f"limit={PAGE_MAX}"
    while True:
        page = frontend.call("GET", f"/batches/{batch_id}/results?{query}")
        assert page.status_code == 200, page.body[:300]
        rows += page.json_body["results"]
        if page.json_body["cursor"] is None:
            return rows
        query = f"limit={PAGE_MAX}&cursor={page.json_body['cursor']}"


def run(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    frontend = Frontend(registry=Registry([sleep, *KINDS]))
    batch_id = frontend.submit(tasks)
    frontend.run()
    batch = frontend.call("GET", f"/batches/{batch_id}").json_body
    assert batch["status"] == BatchStatus.DONE
    assert frontend.cloud.tasks.depth().backlog + frontend.cloud.tasks.depth().in_flight == 0
    assert frontend.cloud.dead.depth().backlog == 0
    rows = outcomes(frontend, batch_id)
    assert [row["index"] for row in rows] == list(range(len(tasks)))
    return rows


SIZES = st.one_of(
    st.integers(0, 200),
    st.integers(0, 40_000),
    st.sampled_from([16_000, 64_000, 262_144, 350_000, 499_999, 999_998, 1_000_000]),
)
MIXES = st.lists(st.tuples(SIZES, st.sampled_from(CHARACTERS)), min_size=1, max_size=12)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(MIXES, st.integers(1, 80))
@example([(350_000, "x")] * 3, 1)
@example([(1_100, "x")], 1_000)
@example([(999_998, "x")] * 8, 1)
@example([(0, "x")], 1_000)
@example([(160_000, "\ufffe")], 1)
def test_any_mix_of_results_ends_done_and_every_result_can_be_read(
    mix: list[tuple[int, str]], times: int
) -> None:
    total = sum(size * len(char.encode()) for size, char in mix)
    times = max(1, min(times, 6_000_000 // max(1, total))) if total > 2_000 else times
    wanted = [pair for pair in mix for _ in range(times)][:1_000]
    rows = run([{"kind": "make", "params": list(pair)} for pair in wanted])
    for row, (size, char) in zip(rows, wanted, strict=True):
        text = char * size
        if json_size(text) > RESULT_MAX_BYTES:
            assert row["status"] == "FAILED"
            assert "over the cap" in row["error"]
        else:
            assert (row["status"], row["result"]) == ("SUCCEEDED", text)


@pytest.mark.parametrize("char", CHARACTERS)
def test_long_errors_are_cut_and_end_done(char: str) -> None:
    rows = run([{"kind": "fail", "params": [100_000, char]}] * 300)
    assert {row["status"] for row in rows} == {"FAILED"}
    assert all(len(row["error"]) <= ERROR_MAX_CHARS for row in rows)


def test_three_thousand_results_of_a_kilobyte_end_done() -> None:
    rows = run([{"kind": "make", "params": [1_100, "x"]}] * 3_000)
    assert {row["status"] for row in rows} == {"SUCCEEDED"}
