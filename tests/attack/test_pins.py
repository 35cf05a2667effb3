"""What runs on workers and on Lambda has exact versions, and the audit sees them all (D14)."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from infra import pins, software

LINE = re.compile(r"[a-z0-9-]+==[0-9][0-9a-z.+!]*")


def pinned() -> dict[str, str]:
    lines = software.CONSTRAINTS.read_text().splitlines()
    return dict(line.split("==", 1) for line in lines)  # type: ignore[misc]


def test_a_line_is_a_name_and_a_version() -> None:
    lines = software.CONSTRAINTS.read_text().splitlines()
    assert lines == sorted(lines)
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    assert len(pinned()) == len(lines)


@pytest.mark.parametrize("text", [*software.requirements(), *pins.lambda_requirements()])
def test_a_requirement_is_pinned_to_a_version_that_it_takes(text: str) -> None:
    requirement = Requirement(text)
    version = pinned()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version, prereleases=True)


@pytest.mark.parametrize("name", sorted(pinned()) if software.CONSTRAINTS.exists() else [])
def test_what_a_library_needs_is_pinned_too(name: str) -> None:
    """By the metadata of the installed version, which may be another than the pinned one."""
    for text in distribution(name).requires or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(pins.MACHINE):
            assert canonicalize_name(requirement.name) in pinned()


def test_the_generator_writes_installed_versions() -> None:
    lines = pins.lines(["requests>=2", "PyJWT"])
    assert [line.split("==")[0] for line in lines] == [
        "certifi",
        "charset-normalizer",
        "idna",
        "pyjwt",
        "requests",
        "urllib3",
    ]
    assert f"requests=={distribution('requests').version}" in lines


def test_the_generator_says_what_is_not_installed() -> None:
    with pytest.raises(pins.NotInstalled, match="no-such-library"):
        pins.lines(["no-such-library>=1"])


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, Any]]]:
    """Commands that are run, with the options of `subprocess.run`; none really runs."""
    made: list[tuple[list[str], dict[str, Any]]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        made.append((command, options))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return made


def test_the_workers_libraries_are_installed_by_the_pins(
    commands: list[tuple[list[str], dict[str, Any]]], tmp_path: Path
) -> None:
    software._install("arm64", tmp_path / "site")
    ((command, _),) = commands
    assert command[command.index("--constraint") + 1] == str(software.CONSTRAINTS)


def test_chalice_installs_exact_versions_whoever_runs_it() -> None:
    """Chalice's pip reads `requirements.txt` alone, and Chalice builds anew when it changes."""
    lines = pins.REQUIREMENTS.read_text().splitlines()
    assert lines == pins.lines(pins.lambda_requirements())
    assert {line.split("==")[0] for line in lines} >= {"pyjwt", "msgspec"}
    assert set(lines) <= set(software.CONSTRAINTS.read_text().splitlines())


def test_the_audit_reads_the_pins() -> None:
    makefile = (software.ROOT / "Makefile").read_text()
    (recipe,) = re.findall(r"^audit:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert "infra/constraints.txt" in recipe
