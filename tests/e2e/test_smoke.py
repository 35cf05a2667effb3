"""The trial of `make smoke` on a local cloud: ministack plays queues, table and bucket, moto plays
EC2, and the machines are processes. Its deployment and teardown are the ones of
`tests/deploy/test_deploy.py`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]


def test_a_batch_and_a_movie_pass_through_a_machine_that_leaves(
    start_cloud: Any, tmp_path: Path
) -> None:
    cloud = start_cloud(
        tmp_path,
        *("--workers", "0", "--max-capacity", "1", "--boot-s", "0"),
        TASKFLEET_IDLE_S="2",
        TASKFLEET_SPOT="1",
    )
    done = subprocess.run(
        [sys.executable, "-m", "infra.smoke", "--stage", "dev", "--existing", "--deadline-s", "90"],
        cwd=ROOT,
        env=cloud.child_environ,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for said in (
        r"this costs \$0\.\d\d at most",
        r"s  a batch of 100 tasks",
        r"s  a movie of 3 pictures",
        r"s  no dead letters",
        r"s  machines leave when they are idle",
        r"-- 1 machines ran for \d+ s, 1 of them spot",
        r"s  passed; about \$0\.00\d\d, the cap was \$1",
    ):
        assert re.search(said, done.stderr), done.stderr
    healthy = subprocess.run(
        [sys.executable, "-m", "taskfleet", "doctor"],
        cwd=ROOT,
        env=cloud.child_environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert healthy.returncode == 0, healthy.stdout
    assert [line.split()[0] for line in healthy.stdout.splitlines()] == ["ok"] * 5, healthy.stdout
    assert cloud.stop() == 0
