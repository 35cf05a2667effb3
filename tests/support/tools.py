"""Programs of the system that tests need and pip does not install."""

from __future__ import annotations

import os
import shutil

import pytest

NAMES = {"chromium": ("chromium", "chromium-browser", "google-chrome")}
"""The names that a program goes by, where there are several."""


def needs(tool: str) -> str:
    """The path of a program on PATH, such as "ffprobe".

    Without the program the test is skipped with its name, or fails where the environment variable
    CI is set: there every program is expected, and a skip would go unseen.
    """
    for name in NAMES.get(tool, (tool,)):
        if found := shutil.which(name):
            return found
    told = f"{tool} is not installed"
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        pytest.fail(f"{told}, and CI is set: install it (.ci/run does)", pytrace=False)
    pytest.skip(told)
