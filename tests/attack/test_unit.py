"""The worker's unit bounds what a task that breaks out of its kind can do to the machine (D14)."""

from __future__ import annotations

import ctypes.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.software import ROOT
from tests.support import seccomp

UNIT = ROOT / "infra" / "machine" / "taskfleet-worker.service"
COMMANDS = "tests/functional/test_command.py"
MOVIE = (
    "tests/functional/test_animoto_movie.py::test_the_result_says_what_was_made_and_where_it_lies"
)
ANALYZE = shutil.which("systemd-analyze")
WANTED = {
    "MemoryMax": "85%",
    "OOMPolicy": "continue",
    "TasksMax": "4096",
    "SystemCallArchitectures": "native",
    "SystemCallErrorNumber": "EPERM",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "RestrictNamespaces": "yes",
    "LockPersonality": "yes",
    "NoNewPrivileges": "yes",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectProc": "invisible",
    "RemoveIPC": "yes",
    "UMask": "0077",
    "AmbientCapabilities": "CAP_SETUID CAP_SETGID CAP_KILL",
    "CapabilityBoundingSet": "CAP_SETUID CAP_SETGID CAP_KILL",
}

needs_systemd = pytest.mark.skipif(not ANALYZE, reason="needs systemd-analyze")


def test_the_unit_has_its_limits() -> None:
    found = seccomp.directives(UNIT.read_text())
    assert {name: found.get(name) for name in WANTED} == {n: [v] for n, v in WANTED.items()}
    assert found["SystemCallFilter"] == [
        "@system-service",
        "~@privileged @keyring",
        "setgroups setreuid",  # for a child to become the user of tasks
        "landlock_create_ruleset landlock_add_rule landlock_restrict_self",
    ]
    assert "TASKFLEET_TASK_USER=taskfleet-task" in found["Environment"]


def test_files_under_way_are_on_the_disk() -> None:
    """In `/tmp` they would be memory on Amazon Linux 2023, which MemoryMax counts."""
    environment = " ".join(seccomp.directives(UNIT.read_text())["Environment"])
    assert "TMPDIR=/var/tmp" in environment.split()


@needs_systemd
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    for path in UNIT.parent.glob("*.service"):
        # systemd looks for the programs that a unit starts, which are not here.
        (tmp_path / path.name).write_text(re.sub(r"=/\S+ ", "=/bin/true ", path.read_text()))
    done = subprocess.run(
        [ANALYZE or "", "verify", "--man=no", *tmp_path.glob("taskfleet-worker.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "taskfleet" not in done.stderr
    assert done.returncode == 0


@needs_systemd
def test_systemd_finds_little_exposure() -> None:
    done = subprocess.run(
        [ANALYZE or "", "security", "--offline=true", "--no-pager", "--threshold=22", UNIT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-200:]


@needs_systemd
@pytest.mark.parametrize(
    "call",
    ["ptrace", "mount", "bpf", "kexec_load", "init_module", "setuid", "keyctl", "chroot", "capset"],
)
def test_a_call_that_no_task_needs_is_refused(call: str) -> None:
    assert call not in seccomp.allowed_calls(
        seccomp.directives(UNIT.read_text())["SystemCallFilter"]
    )


@needs_systemd
@pytest.mark.skipif(not ctypes.util.find_library("seccomp"), reason="needs libseccomp")
def test_a_movie_is_made_under_the_filter() -> None:
    """Pillow, ffmpeg and the network do with the calls that are left."""
    assert "1 passed" in outcome_under_the_filter(MOVIE)


@needs_systemd
@pytest.mark.skipif(not ctypes.util.find_library("seccomp"), reason="needs libseccomp")
def test_commands_run_and_are_confined_under_the_filter() -> None:
    found = outcome_under_the_filter(COMMANDS, "-k", "shell or another_task or background")
    assert "passed" in found
    assert "skipped" not in found


def outcome_under_the_filter(*tests: str) -> str:
    """Run tests under the unit's filter of system calls. Returns what they print."""
    under = [sys.executable, "-m", "tests.support.seccomp", str(UNIT)]
    done = subprocess.run(
        [*under, sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", *tests],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
