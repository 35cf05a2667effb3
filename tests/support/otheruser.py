"""Another user for tests that run as root, and a Python that this user can run."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).parents[2]
USER = "nobody"
PATH = os.pathsep.join([str(ROOT), str(Path(msgspec.__file__).parents[1])])
"""Where such a Python finds this checkout and its libraries."""


@functools.cache
def python() -> str:
    """Returns the Python. Skips the test where there is none or this process is not root, but with
    CI=true, root must find one."""
    if os.geteuid() != 0:
        pytest.skip("only root can run tasks as another user here")
    for path in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        try:
            done = subprocess.run(
                [path, "-c", "import msgspec, ec2_worker.run"],
                user=USER,
                group="nogroup",
                extra_groups=[],
                env={**os.environ, "PYTHONPATH": PATH},
                capture_output=True,
                check=False,
            )
        except OSError:
            continue
        if done.returncode == 0:
            return path
    if os.environ.get("CI") == "true":
        pytest.fail(f"{USER} can run no Python of this version")
    pytest.skip(f"{USER} can run no Python of this version")
