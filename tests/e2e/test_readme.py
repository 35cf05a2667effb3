"""Every command of the README does what it says. The blocks of `sh` run one after the other, each
in a shell of its own, against the shared local cloud; the Python block too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
ELSEWHERE = {
    "make demo": "tests/e2e/test_demo.py",
    "make test": "whoever runs this",
    "make up": "tests/e2e/test_localcloud.py",
    "make deploy STAGE=dev": "tests/deploy/test_deploy.py",
    "make destroy STAGE=dev": "tests/deploy/test_deploy.py",
}


def runnable() -> list[Any]:
    found = []
    for number, (language, text) in enumerate(BLOCKS):
        lines = [line.split("#")[0].strip() for line in text.splitlines()]
        if language == "sh" and not set(lines) <= set(ELSEWHERE):
            found.append(pytest.param(text, id=f"block-{number}"))
    return found


def test_the_readme_has_its_blocks():
    assert len(runnable()) >= 5
    for command, where in ELSEWHERE.items():
        assert command in README
        assert "whoever" in where or (ROOT / where).exists()


@pytest.mark.parametrize("script", runnable())
def test_a_block_of_shell_runs(cloud, script, tmp_path):
    env_file = cloud.directory / "env"
    (tmp_path / "checkout").symlink_to(ROOT)
    script = script.replace(".local/env", str(env_file))
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("TASKFLEET_", "AWS_"))}
    environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
    if ". " + str(env_file) not in script:  # the command line finds .local/env by itself
        environ |= {"TASKFLEET_URL": cloud.url, "TASKFLEET_TOKEN": cloud.token}
    try:
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        (ROOT / "results.jsonl").unlink(missing_ok=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert '"Code"' not in ended.stdout, ended.stdout


def test_the_block_of_python_runs(cloud):
    (text,) = [text for language, text in BLOCKS if language == "python" and "Client" in text]
    ended = subprocess.run(
        [sys.executable, "-c", text],
        cwd=ROOT,
        env=cloud.child_environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("SUCCEEDED") == 20


@pytest.mark.parametrize("local", [False, True])
def test_the_first_example_runs(cloud, local, tmp_path):
    text = next(text for language, text in BLOCKS if language == "python")
    assert "FleetExecutor(" in text
    environ = cloud.child_environ
    if local:
        text = text.replace("FleetExecutor(", "FleetExecutor(local=True, ")
        environ = {k: v for k, v in environ.items() if not k.startswith(("TASKFLEET_", "AWS_"))}
    for _ in range(2):  # the second time on the cloud, the key has its results already
        ended = subprocess.run(
            [sys.executable, "-c", text],
            cwd=tmp_path,
            env={**environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.startswith("pi is about 3.1")


def test_the_example_in_the_readme_is_the_file():
    example = (ROOT / "examples" / "my_tasks.py").read_text()
    assert any(language == "python" and text == example for language, text in BLOCKS)
