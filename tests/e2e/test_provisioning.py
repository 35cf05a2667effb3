"""The fleet of a local cloud: it grows with the backlog, heals, and shrinks to nothing."""

from __future__ import annotations

import json
import os
import signal
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.support.waiting import eventually

pytestmark = pytest.mark.e2e

NOMINAL_START_S = 1.0
"""From three instances' boot to the first worker's start, on the machine that the five seconds are
promised for."""


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


def logged(cloud: Any, pattern: str, action: str) -> float:
    """When an action was first logged, as seconds; `pattern` is one of log files."""
    lines = [
        json.loads(line)
        for log in (cloud.directory / "logs").glob(pattern)
        for line in log.read_text().splitlines()
        if f'"action": "{action}"' in line
    ]
    return min(seconds(line["at"]) for line in lines)


def slowness(cloud: Any) -> float:
    """How much longer the first workers took to start than on two cores that have nothing else
    to do; 1 there. Measured on these very workers, since a busy machine is not equally busy for
    long."""
    took_s = logged(cloud, "i-*.log", "worker_started") - logged(
        cloud, "fleet.log", "instance_boots"
    )
    return max(1.0, took_s / NOMINAL_START_S)


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def fleet(start_cloud: Any, directory: Path, **environ: str) -> Any:
    """A cloud with no static worker and at most three machines, which boot at once."""
    return start_cloud(
        directory,
        *("--workers", "0", "--max-capacity", "3", "--threads", "16", "--boot-s", "0"),
        TASKFLEET_IDLE_S="4",
        TASKFLEET_LEASE_S="6",
        **environ,
    )


def submit(cloud: Any, tasks: list[str]) -> dict[str, Any]:
    answer = cloud.api("POST", "/batches", json={"tasks": tasks})
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def status(cloud: Any, batch: dict[str, Any]) -> dict[str, Any]:
    return dict(cloud.api("GET", f"/batches/{batch['batch_id']}").json())


def all_gone(cloud: Any, ec2: Any) -> bool:
    return not machines(ec2, "pending", "running") and not workers(cloud)


def test_it_grows_with_the_backlog_within_its_limit_and_shrinks_to_nothing(
    start_cloud: Any, tmp_path: Path
) -> None:
    cloud = fleet(start_cloud, tmp_path)
    ec2 = ec2_of(cloud)
    assert workers(cloud) == []
    batch = submit(cloud, ["sleep 1000"] * 192)
    most = 0

    def done() -> bool:
        nonlocal most
        there = machines(ec2, "pending", "running")
        for machine in there:
            tags = {tag["Key"]: tag["Value"] for tag in machine["Tags"]}
            assert tags["taskfleet:stage"] == "dev"
        most = max(most, len(there))
        return bool(status(cloud, batch)["status"] == "DONE")

    eventually(done, 90, "the batch is done", poll_s=0.2)
    assert 2 <= most <= 3
    assert status(cloud, batch)["succeeded"] == 192
    page = cloud.api("GET", f"/batches/{batch['batch_id']}/results?limit=1000").json()
    first = min(seconds(row["started_at"]) for row in page["results"])
    assert first - seconds(status(cloud, batch)["created_at"]) <= 5.0 * slowness(cloud)
    eventually(lambda: all_gone(cloud, ec2), 60, "no machine is left", poll_s=0.2)
    assert machines(ec2, "terminated"), "they were there, and were ended"
    launched = len(machines(ec2, "terminated"))
    shown = {}

    def is_empty() -> bool:
        shown.update(cloud.api("GET", "/fleet").json())
        return shown["instances"] == []

    eventually(is_empty, 90, lambda: f"the fleet is shown as empty, not as {shown}")
    assert len(machines(ec2, "terminated")) == launched, "none comes for work that is done"
    assert shown["cost_usd"] > 0
    assert shown["why"] is None
    assert any(decision["launched"] for decision in shown["decisions"])
    assert cloud.stop() == 0


def rounds(cloud: Any) -> int:
    """How often the provisioner has looked."""
    return (cloud.directory / "logs" / "pump.log").read_text().count('"provisioner_looked"')


def test_killing_a_worker_and_ending_an_instance_lose_nothing(
    start_cloud: Any, tmp_path: Path
) -> None:
    cloud = fleet(start_cloud, tmp_path, TASKFLEET_LOOK_S="1")
    ec2 = ec2_of(cloud)
    batch = submit(cloud, ["sleep 1000"] * 240)
    eventually(lambda: status(cloud, batch)["succeeded"] > 30, what="the first tasks are done")
    # A launched machine that was never listed counts as booting for a minute: let one whole round
    # of the provisioner begin and end while the machines are there.
    before = rounds(cloud)
    eventually(lambda: rounds(cloud) >= before + 2, what="the provisioner has seen the machines")
    os.kill(workers(cloud)[0], signal.SIGKILL)
    eventually(lambda: status(cloud, batch)["succeeded"] > 90, what="more tasks are done")
    victim = machines(ec2, "running")[0]["InstanceId"]
    ec2.terminate_instances(InstanceIds=[victim])
    eventually(lambda: status(cloud, batch)["status"] == "DONE", 90, "the batch is done")
    final = status(cloud, batch)
    assert (final["succeeded"], final["failed"], final["total"]) == (240, 0, 240)
    page = cloud.api("GET", f"/batches/{batch['batch_id']}/results?limit=1000").json()
    assert sorted(row["index"] for row in page["results"]) == list(range(240))
    eventually(lambda: all_gone(cloud, ec2), 60, "no machine is left", poll_s=0.2)
    assert cloud.stop() == 0
