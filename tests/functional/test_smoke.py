"""`make smoke` with its real deployment and teardown (moto plays AWS, a stand-in plays Chalice);
the trial in between is told what to do. `tests/e2e/test_smoke.py` runs a real trial."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import chalice, smoke
from infra.trial import TrialFailed
from taskfleet.settings import Settings
from tests.support.deployed import left
from tests.support.deployment import StandIn, checkout, client, run


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(chalice, "run", StandIn(tmp_path))
    with checkout(tmp_path) as folder:
        yield folder


def smoked(*arguments: str) -> Any:
    return run(*arguments, command=smoke.main)


def test_a_run_that_fails_deploys_one_machine_at_most_and_leaves_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Settings] = []

    def fail(conf: Settings, url: str, access: str, deadline_s: float) -> float:
        tried.append(conf)
        assert url.startswith("https://")
        raise TrialFailed("two results for one task")

    monkeypatch.setattr(smoke, "_trial", fail)
    config = root / ".chalice" / "config.json"
    before, had = left(client), config.read_text()
    done = smoked("--set", "TASKFLEET_MAX_CAPACITY=9")
    assert isinstance(done.exception, TrialFailed), (done.output, done.exception)
    assert [conf.max_capacity for conf in tried] == [1]
    assert left(client) == before
    assert config.read_text() == had


def test_a_stage_that_exists_is_refused_and_stays(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client("cloudformation").create_stack(
        StackName="taskfleet-prod",
        TemplateBody='{"Resources": {"Q": {"Type": "AWS::SQS::Queue"}}}',
    )
    done = smoked()
    assert isinstance(done.exception, smoke.Refused)
    assert "stage prod exists, and a run would delete it" in str(done.exception)
    assert client("cloudformation").describe_stacks()["Stacks"]


def test_machines_without_a_price_are_refused() -> None:
    done = smoked("--set", "InstanceType=m7i.48xlarge")
    assert isinstance(done.exception, smoke.Refused)
    assert "TASKFLEET_INSTANCE_USD_PER_HOUR" in str(done.exception)
    done = smoked("--set", "InstanceType=x", "--set", "TASKFLEET_INSTANCE_USD_PER_HOUR=9")
    assert "more than the cap of $1" in str(done.exception)
