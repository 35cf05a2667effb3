"""A large file through real processes, past a dead reader, to its last result or faulty line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from taskfleet import Client

pytestmark = pytest.mark.e2e

TASKS = 300_000
SOON_S = 2.0


def taskfleet(cloud: Any, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "taskfleet", *arguments],
        env=cloud.child_environ,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        **options,
    )


def test_a_large_file_is_handed_in_at_once_and_done_although_its_reader_dies(
    start_cloud: Any, tmp_path: Path
) -> None:
    cloud = start_cloud(tmp_path / "cloud", "--workers", "1", "--threads", "16")
    with Client(cloud.url, cloud.token) as client:
        file = tmp_path / "tasks.txt"
        file.write_bytes(b"# as many as three requests\n" + b"sleep   0\n" * TASKS * 2)
        with file.open("rb") as data:
            sent: list[float] = []
            accepted = client.submit_file(data, on_sent=lambda *_: sent.append(time.monotonic()))
        assert time.monotonic() - sent[-1] < SOON_S
        assert accepted.total == 0
        while client.status(accepted.batch_id).total < TASKS:  # until all of it is checked
            time.sleep(0.05)
        (pump,) = (pid for pid, what in cloud.processes().items() if "localcloud.pump" in what)
        os.kill(pump, signal.SIGKILL)
        batch = client.wait(accepted.batch_id, timeout_s=100)
        assert (batch.status, batch.total, batch.succeeded) == ("DONE", TASKS * 2, TASKS * 2)
        rows = 0
        for row in client.results(accepted.batch_id):
            assert row.index == rows
            rows += 1
        assert rows == TASKS * 2


def test_a_fault_in_a_large_file_is_told_by_its_line(cloud: Any, tmp_path: Path) -> None:
    file = tmp_path / "tasks.txt"
    file.write_text("# a comment\n\n" + "sleep 60000\n" * TASKS * 2 + "sleep sound\n")
    told = taskfleet(cloud, "submit", str(file))
    assert told.returncode == 2
    assert f"line {TASKS * 2 + 3}: sleep needs a number" in told.stderr


def test_very_many_tasks_of_standard_input_go_the_same_way(cloud: Any) -> None:
    lines = "\n" + "sleep 0\n" * (TASKS - 1) + "nap\n"
    told = taskfleet(cloud, "submit", "-", input=lines)
    assert told.returncode == 2
    assert f"standard input, line {TASKS + 1}: unknown kind" in told.stderr
