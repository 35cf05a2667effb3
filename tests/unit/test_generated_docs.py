"""The documents that `make docs` writes: none is stale, and the settings page is complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import generate, settings_page
from taskfleet.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = [
    *sorted((ROOT / "docs" / "schemas").glob("*.json")),
    ROOT / "docs" / "openapi.json",
    ROOT / "docs" / "settings.md",
]


@pytest.fixture(scope="module")
def documents() -> dict[Path, str]:
    """The generated documents, made when a test needs them: it takes a second of computing, which
    each process of pytest would spend that only collects these tests."""
    return generate.documents()


@pytest.fixture(scope="module")
def settings_md(documents: dict[Path, str]) -> str:
    return documents[ROOT / "docs" / "settings.md"]


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.name)
def test_a_generated_document_is_what_the_code_says(path: Path, documents: dict[Path, str]) -> None:
    assert path.read_text(encoding="utf-8") == documents[path], f"{path.name} is stale: make docs"


def test_every_generated_document_is_committed(documents: dict[Path, str]) -> None:
    assert set(documents) == set(COMMITTED)


def test_a_stale_document_is_named_and_then_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs" / "schemas").mkdir(parents=True)
    monkeypatch.setattr(generate, "DOCS", tmp_path / "docs")
    assert generate.main(["--check"]) == 1
    assert "docs/openapi.json is stale: run make docs" in capsys.readouterr().err
    assert not (tmp_path / "docs" / "openapi.json").exists()
    assert generate.main([]) == 0
    capsys.readouterr()
    assert generate.main(["--check"]) == 0
    assert not capsys.readouterr().err


def test_an_unknown_argument_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--chekc"]) == 2
    assert "--chekc" in capsys.readouterr().err


GIVEN_TO_COMMANDS = {"TASKFLEET_TASK_ID", "TASKFLEET_ATTEMPT"}
"""Variables that are no settings: a worker tells them to commands."""

# --- settings -------------------------------------------------------------------------------


def test_every_variable_that_the_sources_name_has_a_row(settings_md: str) -> None:
    named: set[str] = set()
    for package in settings_page.PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                named |= set(re.findall(r"\bTASKFLEET_[A-Z][A-Z_]*[A-Z]\b", path.read_text()))
    rows = set(re.findall(r"^\| `(TASKFLEET_\w+)`", settings_md, re.MULTILINE))
    assert len(rows) == len(Settings.__struct_fields__) + 2
    assert named - GIVEN_TO_COMMANDS <= rows
    commands = (ROOT / "docs" / "commands.md").read_text()
    assert all(f"`{name}`" in commands for name in GIVEN_TO_COMMANDS)


def test_every_setting_is_read_somewhere() -> None:
    readers = settings_page.used_by()
    assert set(readers) == set(Settings.__struct_fields__)


def test_a_reader_is_found_through_properties_and_in_any_process(settings_md: str) -> None:
    readers = settings_page.used_by()
    assert "animoto" in readers["cores"]  # Settings.usable_cores
    assert "taskfleet.aws" in readers["launch_template"]  # Settings.worker_template
    assert "taskfleet.cli" in readers["token_secret"]  # found = settings.load(...)
    assert readers["lease_s"] == {"ec2_worker"}
    row = r"`TASKFLEET_LEASE_S` .* \*Read by\* `ec2_worker`\. \|$"
    assert re.search(row, settings_md, re.MULTILINE)


def test_every_description_can_be_read_alone() -> None:
    source = (ROOT / "taskfleet" / "settings.py").read_text()
    found = settings_page.descriptions(source, "Settings")
    for name, text in found.items():
        assert re.match(r"[A-Z]", text), name
        assert text.endswith("."), name
        assert not text.startswith("Of "), name


def test_a_field_without_a_docstring_is_an_error() -> None:
    source = 'class Some:\n    a: int = 1\n    """It has one."""\n    b: int = 2\n    c: int = 3\n'
    with pytest.raises(ValueError, match=r"Some\.b has no docstring"):
        settings_page.descriptions(source, "Some")


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("spot", "| yes or no, `0`, `1`; `1` |"),
        ("max_usd_per_hour", "| number, 0 or more; none |"),
        ("lease_s", "| number, 1 to 43,200; `30` |"),
        ("boot_s", "| number, over 0, to 1,800; `40` |"),
        ("max_capacity", "| whole number, 0 to 5,000; `10` |"),
        ("kinds", "| list; none |"),
        ("policy", "| choice, `threshold`, `work`; `work` |"),
        ("instance_usd_per_hour", "| number, over 0; `0.0725` |"),
    ],
)
def test_a_row_tells_type_range_and_default(name: str, cells: str, settings_md: str) -> None:
    assert f"| `TASKFLEET_{name.upper()}` {cells}" in settings_md
