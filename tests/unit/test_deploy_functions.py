"""What a deployment sets on the functions beside Chalice. botocore's stub takes the calls and
checks them against Lambda's own description."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from infra import functions
from infra.stage import Stage

PROD = Stage("prod", "eu-west-1", "123456789012", "taskfleet-prod-bucket")
CONFIG = Path(__file__).resolve().parents[2] / ".chalice" / "config.json"


@pytest.fixture
def stub() -> Iterator[Stubber]:
    client = boto3.client(
        "lambda", PROD.region, aws_access_key_id="test", aws_secret_access_key="test"
    )
    with Stubber(client) as stub:
        yield stub
        stub.assert_no_pending_responses()


def test_the_reader_of_uploads_may_send_to_its_own_queue_for_ever(stub: Stubber) -> None:
    """By default, Lambda stops a function after 16 messages to its own queue."""
    wanted = {"FunctionName": "taskfleet-prod-expand_upload", "RecursiveLoop": "Allow"}
    stub.add_response("put_function_recursion_config", {"RecursiveLoop": "Allow"}, wanted)
    functions._allow_recursion(stub.client, functions.name_of(PROD, functions.EXPANDER))


def test_a_late_call_of_the_provisioner_is_forgotten(stub: Stubber) -> None:
    """By default, Lambda keeps it for six hours."""
    wanted = {
        "FunctionName": "taskfleet-prod-tick",
        "MaximumEventAgeInSeconds": 60,
        "MaximumRetryAttempts": 0,
    }
    stub.add_response("put_function_event_invoke_config", {}, wanted)
    functions._limit_event_age(stub.client, functions.name_of(PROD, functions.TICK))


def test_no_function_takes_concurrency_from_the_account() -> None:
    """An account whose quota is 10 must keep 10 unreserved, so that none can be reserved."""
    stages: dict[str, Any] = json.loads(CONFIG.read_text())["stages"]
    assert "reserved_concurrency" not in json.dumps(stages)


def test_everything_is_set_by_every_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    for name in ("_allow_recursion", "_limit_event_age", "_enable_partial_responses"):
        monkeypatch.setattr(functions, name, lambda *_, name=name: called.append(name))
    for name in ("_set_log_retention", "_throttle", "_gateway_stage"):
        monkeypatch.setattr(functions, name, lambda *_, name=name: called.append(name))

    class Session:
        def client(self, service: str) -> str:
            return service

    functions.configure(Session(), PROD, CONFIG.parents[1], "api", 30)
    assert {"_allow_recursion", "_limit_event_age", "_throttle"} <= set(called)
