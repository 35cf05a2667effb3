"""The output of `taskfleet fleet`."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from taskfleet.cli.main import main
from tests.support.stub_api import StubApi, serving

FLEET = {
    "backlog": 1200,
    "in_flight": 3,
    "running": 0,
    "workers": [
        {
            "worker_id": "w-1",
            "instance_id": "i-1",
            "slots": 16,
            "running": 0,
            "pending": 2,
            "age_s": 61.0,
            "beat_s": 4.2,
            "leaving": True,
            "ended": 12,
        }
    ],
    "instances": [{"state": "booting", "count": 2, "oldest_s": 31.0, "newest_s": 12.0}],
    "desired": 3,
    "max_capacity": 10,
    "decisions": [
        {
            "at": "2026-01-01T00:00:00Z",
            "desired": 3,
            "launched": 2,
            "ended": 0,
            "retired": 1,
            "reason": "1200 tasks wait",
        }
    ],
    "cost_usd": 0.25,
    "usd_per_hour": 0.145,
    "looked_s": 7.0,
    "why": "2 machines are booting, the first since 31 s",
}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubApi]:
    with serving() as stub:
        monkeypatch.setenv("TASKFLEET_URL", stub.url)
        monkeypatch.setenv("TASKFLEET_TOKEN", "t")
        yield stub
    assert stub.left == 0


def test_the_fleet_in_words(api: StubApi) -> None:
    api.answers(FLEET)
    result = CliRunner().invoke(main, ["fleet"])
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines == [
        "1,200 messages wait, 3 are in flight, 0 tasks run",
        "3 machines wanted, at most 10 allowed; the provisioner ran 7 s ago",
        "$0.2500 so far, $0.1450 an hour",
        "nothing runs: 2 machines are booting, the first since 31 s",
        "instances count oldest s newest s",
        "booting 2 31 12",
        "worker running pending slots age s report s",
        "w-1 i-1 (leaving) 0 2 16 61 4",
        "2026-01-01T00:00:00Z launched 2, asked 1 to leave, 1200 tasks wait",
    ]
    assert api.asked[0].path == "/fleet"


def test_the_fleet_as_json(api: StubApi) -> None:
    api.answers(FLEET)
    result = CliRunner().invoke(main, ["fleet", "--json"])
    assert json.loads(result.stdout) == FLEET


def test_a_fleet_whose_provisioner_never_ran(api: StubApi) -> None:
    api.answers({**FLEET, "looked_s": None, "why": None, "workers": [], "instances": []})
    result = CliRunner().invoke(main, ["fleet"])
    assert "the provisioner never ran" in result.stdout
    assert "nothing runs" not in result.stdout
