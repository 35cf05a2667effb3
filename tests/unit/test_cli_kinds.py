"""The output of `taskfleet kinds`."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from taskfleet.cli.main import main
from tests.support.stub_api import serving

KINDS = {
    "kinds": [
        {
            "name": "sleep",
            "runs_in": "thread",
            "timeout_s": None,
            "max_attempts": 5,
            "schema": {"type": "number"},
        }
    ],
    "workers": {"cloudpickle": ["3.1.1"], "python": ["3.11", "3.12"]},
}


def run(monkeypatch: pytest.MonkeyPatch, answer: object, *arguments: str) -> str:
    with serving() as stub:
        monkeypatch.setenv("TASKFLEET_URL", stub.url)
        monkeypatch.setenv("TASKFLEET_TOKEN", "t")
        stub.answers(answer)
        result = CliRunner().invoke(main, ["kinds", *arguments])
        assert stub.asked[0].path == "/kinds"
    assert result.exit_code == 0
    return result.output


def test_the_kinds_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    text = run(monkeypatch, KINDS)
    assert "sleep" in text
    assert "workers: cloudpickle 3.1.1; python 3.11, 3.12" in text


def test_before_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "none has reported" in run(monkeypatch, {**KINDS, "workers": {}})


def test_the_kinds_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(run(monkeypatch, KINDS, "--json")) == KINDS
