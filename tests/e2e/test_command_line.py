"""Every command of docs/command-line.md does what it says, against a local cloud."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "command-line.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def shell(cloud, script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a script in a folder in which the cloud was started, as it seems."""
    (folder / ".local").mkdir()
    (folder / ".local" / "env").write_text((cloud.directory / "env").read_text())
    (folder / "examples").symlink_to(ROOT / "examples")
    program = folder / "bin" / "taskfleet"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m taskfleet "$@"\n')
    program.chmod(0o755)
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("TASKFLEET_", "AWS_"))}
    environ |= {"PATH": f"{program.parent}:{environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=110,
    )


def test_the_page_has_its_blocks():
    assert len(BLOCKS) == 5


@pytest.mark.parametrize("script", BLOCKS, ids=[f"block-{n}" for n in range(len(BLOCKS))])
def test_a_block_runs(cloud, script, tmp_path):
    ended = shell(cloud, script, tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr


def test_what_failed_is_seen_and_run_again(cloud, tmp_path):
    script = """
        printf 'command exit 3\\nsleep 1\\n' > tasks.txt
        batch=$(taskfleet submit tasks.txt --name broken || true)
        taskfleet results "$batch" --status FAILED --json || true
        new=$(taskfleet retry "$batch" || true)
        taskfleet status "$new" --json || true
        taskfleet retry "$new" --status CANCELLED || true
    """
    ended = shell(cloud, script, tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    failed, again = [json.loads(line) for line in ended.stdout.splitlines()]
    assert (failed["index"], failed["error"]) == (0, "exit status 3")
    assert (again["name"], again["total"], again["failed"]) == ("broken", 1, 1)
    assert again["retry_of"] == failed["task_id"].partition("/")[0]
    assert ended.stderr.splitlines()[-1].endswith("(HTTP 422)")


def test_a_reader_sees_and_changes_nothing(cloud, tmp_path):
    script = """
        eval "$(cat .local/env)"
        export TASKFLEET_TOKEN=$(taskfleet token --client-id ann --role reader)
        taskfleet status --json
        taskfleet submit examples/tasks.txt || echo "refused: $?"
    """
    ended = shell(cloud, script, tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "refused: 2\n"), ended.stderr
    assert "HTTP 403" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
