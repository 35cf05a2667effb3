"""`make demo` as a new user sees it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from localcloud.demo import next_commands

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
    the_picture_shows_what_ran(ended.stdout)
    page = (tmp_path / ".local" / "demo.html").read_text()
    assert "The same to look around in: .local/demo.html" in ended.stdout
    (data,) = re.findall(r'<script type="application/json" id="pages">(.*?)</script>', page)
    assert sum(len(part["rows"]) for part in json.loads(data)) == 11_184
    assert not re.search(r"(src|href)=", page)
    assert "\x1b" not in ended.stdout
    left = [pid for pid in os.listdir("/proc") if pid.isdigit() and mark in environ_of(pid)]
    assert left == []


def the_picture_shows_what_ran(printed: str) -> None:
    """Check the picture: 16 slots slept for five seconds, and each kind was somewhere."""
    _, _, after = printed.partition("What ran where, over time\n")
    lines = after.splitlines()
    slots = [line for line in lines if re.match(r"^ ?\d+ [█▓▒░▚▞× ]+$", line)]
    assert [int(line.split()[0]) for line in slots] == list(range(1, 17))
    assert all("███" in line for line in slots)
    assert max(map(len, lines[: len(slots) + 1])) <= 100
    assert lines[16].split()[:2] == ["0", "s"]
    legend = lines[17]
    kinds = re.findall(r"  (\S) (\S+)", legend)
    assert [kind for _, kind in kinds] == [
        "sleep",
        "wordcount",
        "python",
        "command",
        "animoto",
        "a",
    ]
    for shade, _ in kinds:
        assert any(shade in line for line in slots), shade


def test_the_commands_to_try_next_work(cloud, tmp_path):
    """The last two run against a local cloud, the first starts one."""
    commands = [shlex.split(command) for command, _ in next_commands()]
    assert len(commands) == 3
    assert commands[0][0] == "make"
    planned = subprocess.run(
        ["make", "--dry-run", "--old-file=pyproject.toml", *commands[0][1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "-m localcloud" in planned.stdout
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "env").write_text((cloud.directory / "env").read_text())
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TASKFLEET_", "AWS_"))}
    for program, *words in commands[1:]:
        assert Path(program).name == "taskfleet"
        ended = subprocess.run(
            [sys.executable, "-m", "taskfleet", *words],
            cwd=tmp_path,
            env={**clean, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ended.returncode == 0, ended.stderr


def environ_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:  # it ended, or is another user's
        return ""
