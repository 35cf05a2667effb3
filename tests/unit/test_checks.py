"""The commit hooks are the steps of `make check`: the same commands in the same order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def steps_of_check() -> list[str]:
    makefile = (ROOT / "Makefile").read_text()
    found = re.search(r"^check:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert found, "the Makefile has no target `check`"
    return [line.strip().replace("$(BIN)", ".venv/bin") for line in found[1].splitlines()]


def hooks() -> list[dict[str, Any]]:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    found: list[dict[str, Any]] = repository["hooks"]
    return found


def command(hook: dict[str, Any]) -> str:
    """The command that a hook runs, without the shell around it."""
    words = shlex.split(hook["entry"])
    return str(words[2] if words[:2] == ["sh", "-c"] else hook["entry"])


def test_the_hooks_are_the_steps_of_make_check() -> None:
    assert [command(hook) for hook in hooks()] == steps_of_check()


@pytest.mark.parametrize("hook", hooks(), ids=lambda hook: hook["id"])
def test_a_hook_runs_a_tool_of_the_checkout_on_the_whole_project(hook: dict[str, Any]) -> None:
    assert hook["language"] == "system"
    assert hook["pass_filenames"] is False
    assert command(hook).startswith(".venv/bin/")
    assert bool({"*", "?"} & set(command(hook))) == hook["entry"].startswith("sh -c ")
