"""`make demo` as a new user sees it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_runs_the_workloads_and_leaves_no_process(tmp_path):
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("TASKFLEET_", "AWS_"))}
    mark = f"demo-of-{os.getpid()}"
    ended = subprocess.run(
        [sys.executable, "-m", "localcloud.demo"],
        cwd=tmp_path,
        env={**environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "TASKFLEET_TEST_MARK": mark},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert ended.returncode == 0, ended.stderr
    rows = re.findall(
        r"^ +(sleep 1000|sleep 0|wordcount|collatz\(n\)|sha256sum|movie)  +(\S.*)$",
        ended.stdout,
        re.MULTILINE,
    )
    cells = {name: row.split() for name, row in rows}
    assert [cells[name][:2] for name in cells] == [
        ["80", "0"],
        ["10,000", "0"],
        ["100", "25"],
        ["1,000", "0"],
        ["3", "0"],
        ["1", "0"],
    ]
    assert float(cells["sleep 1000"][4]) > 0.5
    assert "25 failed: wordcount needs text" in ended.stdout
    movie = tmp_path / ".local" / "demo.mp4"
    assert f"The movie: {movie.relative_to(tmp_path)}, 5 photographs, 12.0 s" in ended.stdout
    assert movie.read_bytes()[4:8] == b"ftyp"
    left = [pid for pid in os.listdir("/proc") if pid.isdigit() and mark in environ_of(pid)]
    assert left == []


def environ_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:  # it ended, or is another user's
        return ""
