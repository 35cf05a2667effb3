"""Attacks on a local cloud's real processes: the worker lives, and other clients' batches end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from taskfleet.wire import token
from tests.support.waiting import eventually

pytestmark = pytest.mark.e2e

KINDS = """
from taskfleet.registry import task_kind

@task_kind("big")
def big(params, context):
    return "x" * params

@task_kind("quick", expected_s=lambda params: 1e-5)
def quick(params, context):
    return "x" * params

@task_kind("leave")
def leave(params, context):
    raise SystemExit(3)
"""


def workers_of(cloud: Any) -> set[int]:
    """The process ids of the cloud's workers."""
    return {pid for pid, command in cloud.processes().items() if "ec2_worker/run.py" in command}


def test_large_results_and_dying_threads_end_no_worker(start_cloud: Any, tmp_path: Path) -> None:
    (tmp_path / "attack_kinds.py").write_text(KINDS)
    cloud = start_cloud(tmp_path / "dir", "--kinds", "attack_kinds", cwd=tmp_path)
    secret = cloud.environ["TASKFLEET_TOKEN_SECRET"]
    mallory = {"Authorization": f"Bearer {token.make(secret, 'mallory', 600, time.time())}"}
    workers = workers_of(cloud)

    def submit(tasks: list[Any], headers: dict[str, str]) -> str:
        answer = cloud.api("POST", "/batches", json={"tasks": tasks}, headers=headers)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["batch_id"])

    def view(batch_id: str, headers: dict[str, str]) -> Any:
        return cloud.api("GET", f"/batches/{batch_id}", headers=headers).json()

    quiet = submit(["sleep 4000"], {})
    big = [{"kind": "big", "params": 350_000}] * 3
    quick = [{"kind": "quick", "params": 1_100}] * 3_000
    loud = submit([*big, *quick, "leave"], mallory)

    eventually(lambda: view(quiet, {})["status"] == "DONE", 30, "the quiet batch is done")
    eventually(lambda: view(loud, mallory)["status"] == "DONE", 60, "the loud batch is done")
    ended = view(loud, mallory)
    assert (ended["succeeded"], ended["failed"]) == (3_003, 1)
    page = cloud.api("GET", f"/batches/{loud}/results?limit=3", headers=mallory).json()
    assert [len(row["result"]) for row in page["results"]] == [350_000] * 3
    assert workers_of(cloud) == workers
    (row,) = cloud.api("GET", f"/batches/{quiet}/results").json()["results"]
    assert row["attempts"] == 1
    assert cloud.stop() == 0
