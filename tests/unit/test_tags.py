"""Tags of one's own, `TASKFLEET_TAGS`: their form, and how they reach functions and stacks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from infra.stage import Stage, tags_of, write
from taskfleet.errors import SettingsError
from taskfleet.settings import load

CONFIG = Path(__file__).resolve().parents[2] / ".chalice" / "config.json"


def test_tags_have_keys_and_values() -> None:
    loaded = load({"TASKFLEET_TAGS": "cost-center=42, owner=Team A,url=a=b"})
    assert loaded.tag_values == {"cost-center": "42", "owner": "Team A", "url": "a=b"}
    assert load({}).tag_values == {}


@pytest.mark.parametrize("tag", ["owner", "=x", "aws:x=1", "taskfleet:stage=dev", "a=<b>"])
def test_a_tag_that_aws_or_taskfleet_would_refuse_is_refused(tag: str) -> None:
    with pytest.raises(SettingsError, match="TASKFLEET_TAGS"):
        load({"TASKFLEET_TAGS": tag})


def test_the_functions_have_the_tags(tmp_path: Path) -> None:
    shutil.copy(CONFIG, tmp_path)
    stage = Stage("prod", "eu-west-1", "123456789012", "bucket")
    write(tmp_path, stage, {"TASKFLEET_TAGS": "owner=a"})
    write(tmp_path, stage, {})
    entry = json.loads((tmp_path / "config.json").read_text())["stages"]["prod"]
    assert entry["tags"] == tags_of(entry["environment_variables"]) == {"owner": "a"}
