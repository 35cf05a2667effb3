"""A large file through real processes, past a dead reader, to its last result or faulty line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taskfleet import Client
from taskfleet.scheduler.expand import PART_TASKS
from taskfleet.wire.http.caps import BODY_MAX_BYTES
from tests.support.waiting import eventually

pytestmark = pytest.mark.e2e

TASKS = 4 * PART_TASKS
"""Tasks of a file that is read part by part, so that a reader can die between two of them."""
TOO_MANY = 250_001
"""For one request."""


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
    # The messages that the reader dies with come again after 5 s instead of 30.
    options = ("--workers", "1", "--threads", "16")
    cloud = start_cloud(tmp_path / "cloud", *options, LOCALCLOUD_VISIBILITY_S="5")
    (pump,) = (pid for pid, what in cloud.processes().items() if "localcloud.pump" in what)
    with Client(cloud.url, cloud.token) as client:
        file = tmp_path / "tasks.txt"
        file.write_bytes(b"# more than one request takes\n" + b"sleep   0".ljust(70) + b"\n")
        with file.open("ab") as data:
            data.writelines([b"sleep   0".ljust(70) + b"\n"] * (TASKS - 1))
        assert file.stat().st_size > BODY_MAX_BYTES
        os.kill(pump, signal.SIGSTOP)  # the reader: the answer does not wait for it
        with file.open("rb") as data:
            accepted = client.submit_file(data)
        assert accepted.total == 0
        os.kill(pump, signal.SIGCONT)
        eventually(
            lambda: client.status(accepted.batch_id).total >= TASKS // 2,
            what="all of it is checked and half of it handed in",
        )
        os.kill(pump, signal.SIGKILL)
        batch = client.wait(accepted.batch_id, timeout_s=100)
        assert (batch.status, batch.total, batch.succeeded) == ("DONE", TASKS, TASKS)
        rows = 0
        for row in client.results(accepted.batch_id):
            assert row.index == rows
            rows += 1
        assert rows == TASKS


def test_a_fault_in_a_large_file_is_told_by_its_line(cloud: Any, tmp_path: Path) -> None:
    file = tmp_path / "tasks.txt"
    file.write_text("# a comment\n\n" + f"{'sleep 60000':70}\n" * TASKS + "sleep sound\n")
    assert file.stat().st_size > BODY_MAX_BYTES
    told = taskfleet(cloud, "submit", str(file))
    assert told.returncode == 2
    assert f"line {TASKS + 3}: sleep needs a number" in told.stderr


def test_very_many_tasks_of_standard_input_go_the_same_way(cloud: Any) -> None:
    lines = "\n" + "sleep 0\n" * (TOO_MANY - 1) + "nap\n"
    told = taskfleet(cloud, "submit", "-", input=lines)
    assert told.returncode == 2
    assert f"standard input, line {TOO_MANY + 1}: unknown kind" in told.stderr
