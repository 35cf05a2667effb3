"""The fleet of a local cloud: it grows with the backlog, heals, and shrinks to nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
NOMINAL_START_S = 0.6
"""CPU seconds of `run.py --help` on the machine that the five seconds are promised for."""


def ec2_of(cloud: Any) -> Any:
    return boto3.client(
        "ec2",
        endpoint_url=cloud.environ["AWS_ENDPOINT_URL_EC2"],
        region_name=cloud.environ["AWS_DEFAULT_REGION"],
        aws_access_key_id=cloud.environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=cloud.environ["AWS_SECRET_ACCESS_KEY"],
        config=Config(proxies={}),
    )


def machines(ec2: Any, *states: str) -> list[dict[str, Any]]:
    filters = [{"Name": "instance-state-name", "Values": list(states)}]
    pages = ec2.get_paginator("describe_instances").paginate(Filters=filters)
    return [i for page in pages for r in page["Reservations"] for i in r["Instances"]]


def workers(cloud: Any) -> list[int]:
    """Process ids of its workers, by their command lines."""
    return [pid for pid, command in cloud.processes().items() if "ec2_worker/run.py" in command]


def until(holds: Callable[[], Any], within_s: float) -> Any:
    deadline = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < deadline, f"still not so after {within_s:g} s"
        time.sleep(0.2)
    return found


def slowness() -> float:
    """How much longer a worker's program takes to start here and now than on two cores that have
    nothing else to do; 1 there."""
    started = time.monotonic()
    script = str(ROOT / "ec2_worker" / "run.py")
    subprocess.run([sys.executable, script, "--help"], check=True, capture_output=True)
    return max(1.0, (time.monotonic() - started) / NOMINAL_START_S)


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.fixture(scope="module")
def cloud(start_cloud: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cloud with no static worker and at most three machines, which boot at once."""
    return start_cloud(
        tmp_path_factory.mktemp("fleet"),
        *("--workers", "0", "--max-capacity", "3", "--threads", "16", "--boot-s", "0"),
        TASKFLEET_IDLE_S="4",
        TASKFLEET_LEASE_S="9",
    )


def submit(cloud: Any, tasks: list[str]) -> dict[str, Any]:
    answer = cloud.api("POST", "/batches", json={"tasks": tasks})
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def status(cloud: Any, batch: dict[str, Any]) -> dict[str, Any]:
    return dict(cloud.api("GET", f"/batches/{batch['batch_id']}").json())


def all_gone(cloud: Any, ec2: Any) -> bool:
    return not machines(ec2, "pending", "running") and not workers(cloud)


def test_it_grows_with_the_backlog_within_its_limit_and_shrinks_to_nothing(cloud: Any) -> None:
    ec2 = ec2_of(cloud)
    assert workers(cloud) == []
    batch = submit(cloud, ["sleep 1000"] * 300)
    most = 0

    def done() -> bool:
        nonlocal most
        there = machines(ec2, "pending", "running")
        for machine in there:
            tags = {tag["Key"]: tag["Value"] for tag in machine["Tags"]}
            assert tags["taskfleet:stage"] == "dev"
        most = max(most, len(there))
        return bool(status(cloud, batch)["status"] == "DONE")

    until(done, 60)
    slow = slowness()
    assert 2 <= most <= 3
    assert status(cloud, batch)["succeeded"] == 300
    page = cloud.api("GET", f"/batches/{batch['batch_id']}/results?limit=1000").json()
    first = min(seconds(row["started_at"]) for row in page["results"])
    assert first - seconds(status(cloud, batch)["created_at"]) <= 5.0 * slow
    until(lambda: all_gone(cloud, ec2), 30)
    assert machines(ec2, "terminated"), "they were there, and were ended"
    fleet = until(lambda: (f := cloud.api("GET", "/fleet").json())["instances"] == [] and f, 70)
    assert fleet["cost_usd"] > 0
    assert fleet["why"] is None
    assert any(decision["launched"] for decision in fleet["decisions"])


def test_killing_a_worker_and_ending_an_instance_lose_nothing(cloud: Any) -> None:
    ec2 = ec2_of(cloud)
    batch = submit(cloud, ["sleep 1000"] * 400)
    until(lambda: status(cloud, batch)["succeeded"] > 30, 40)
    os.kill(workers(cloud)[0], signal.SIGKILL)
    until(lambda: status(cloud, batch)["succeeded"] > 120, 40)
    victim = machines(ec2, "running")[0]["InstanceId"]
    ec2.terminate_instances(InstanceIds=[victim])
    until(lambda: status(cloud, batch)["status"] == "DONE", 90)
    final = status(cloud, batch)
    assert (final["succeeded"], final["failed"], final["total"]) == (400, 0, 400)
    page = cloud.api("GET", f"/batches/{batch['batch_id']}/results?limit=1000").json()
    assert sorted(row["index"] for row in page["results"]) == list(range(400))
    until(lambda: all_gone(cloud, ec2), 30)
