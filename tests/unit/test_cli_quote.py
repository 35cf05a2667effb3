"""`taskfleet quote` and `taskfleet status --quotes`: their words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.stub_api import BATCH_ID, DONE, Answer, StubApi
from tests.unit.test_cli import Run, api, run  # noqa: F401 - fixtures
from tests.unit.test_cli_every import QUOTE


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "300 tasks: 89.4 s expected, 116 s at most in nine of ten cases"),
        ({}, "$0.00063 for tasks and AWS calls, and $0.0023 for machines that boot and idle"),
        ({}, "machines: 1, 1 of them launched for it"),
        ({}, "sleep: 300 tasks of 1 s on average, as the kind says"),
        ({"idle_usd": 0.0}, "$0.00063 for tasks and AWS calls"),
        ({"usd": 2e-5, "idle_usd": 0.0}, "$0.00002 for tasks and AWS calls"),
        ({"launches": 0}, "machines: 1"),
        ({"p50_s": 7_000.0}, "300 tasks: 117 min expected, 116 s at most in nine of ten cases"),
        (
            {"p50_s": None, "p90_s": None},
            "300 tasks: it would not end: no slot is there, and no machine may be launched",
        ),
        (
            {"rests_on": [{"name": "no\x1bte", "tasks": 2, "mean_s": 10.0, "learned": 0}]},
            "no te: 2 tasks of 10 s on average, assumed, since none has run yet",
        ),
        (
            {"rests_on": [{"name": "note", "tasks": 2, "mean_s": 0.5, "learned": 1_234}]},
            "note: 2 tasks of 0.5 s on average, learned from 1,234 tasks",
        ),
    ],
)
def test_a_quote_says_what_it_rests_on(
    api: StubApi,  # noqa: F811
    run: Run,  # noqa: F811
    tmp_path: Path,
    change: dict[str, Any],
    words: str,
) -> None:
    file = tmp_path / "some.txt"
    file.write_text("sleep 1000\n" * 300)
    api.answers({**QUOTE, **change})
    result = run("quote", str(file))
    assert result.exit_code == 0, result.output
    assert words in result.stdout.splitlines()
    assert api.lines == ["POST /quote"]


def test_a_fault_names_the_line(
    api: StubApi,  # noqa: F811
    run: Run,  # noqa: F811
    tmp_path: Path,
) -> None:
    file = tmp_path / "some.txt"
    file.write_text("sleep 1\n\nsleep -1\n")
    api.answers(Answer(422, {"Code": "InvalidTask", "Message": "task 1: sleep -1 is negative"}))
    result = run("quote", str(file))
    assert result.exit_code == 2
    assert "line 3: sleep -1 is negative" in result.stderr


def batch(actual_s: float | None, actual_usd: float | None) -> dict[str, Any]:
    quote = {"p50_s": 10.0, "p90_s": 15.0, "usd": 0.01, "machines": 1}
    return {**DONE, "quote": {**quote, "actual_s": actual_s, "actual_usd": actual_usd}}


def test_the_status_shows_how_good_quotes_were(
    api: StubApi,  # noqa: F811
    run: Run,  # noqa: F811
) -> None:
    batches = [batch(8.0, 0.01), batch(20.0, 0.02), batch(None, None), {**DONE, "quote": None}]
    api.answers({"batches": batches, "cursor": None})
    result = run("status", "--quotes")
    assert result.exit_code == 0, result.output
    assert "p90 s" in result.stdout
    assert len(result.stdout.splitlines()) == 5
    assert (
        "2 quotes: time was off by 38%, dollars by 25% (medians); 50% ended within their p90"
        in result.stderr
    )


def test_without_a_quote_it_says_so(
    api: StubApi,  # noqa: F811
    run: Run,  # noqa: F811
) -> None:
    api.answers({"batches": [DONE], "cursor": None})
    assert "no batch with a quote has ended" in run("status", "--quotes").stderr


@pytest.mark.parametrize("words", [(BATCH_ID, "--quotes"), ("--quotes", "--cost")])
def test_quotes_go_alone(run: Run, words: tuple[str, ...]) -> None:  # noqa: F811
    result = run("status", *words)
    assert result.exit_code == 2
    assert "--quotes goes without" in result.stderr
