"""Importing the package loads no module that a Lambda function does not have or need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import taskfleet

ROOT = Path(taskfleet.__file__).parent.parent
EXTRAS = {"opentelemetry", "prometheus_client"}
"""Libraries of optional outlets of metrics, which only a worker that is asked for them loads."""
ABSENT_ON_LAMBDA = {"requests", "click", "rich", *EXTRAS}


def modules_after(statement: str) -> set[str]:
    """Returns the top-level modules that a fresh interpreter has loaded after the statement."""
    script = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["taskfleet", "taskfleet.registry", "chalice_app.application"])
def test_what_lambda_imports_loads_no_client(module: str) -> None:
    loaded = modules_after(f"import {module}")
    assert "taskfleet" in loaded
    assert not loaded & ABSENT_ON_LAMBDA


def test_a_fork_server_loads_no_more_than_runners_need() -> None:
    loaded = modules_after("import ec2_worker.runner.forkserver")
    assert not loaded & {*ABSENT_ON_LAMBDA, "boto3", "botocore", "urllib3", "jwt"}


@pytest.mark.parametrize("module", ["ec2_worker.run", "taskfleet.cli.main"])
def test_a_worker_loads_no_outlet_that_it_is_not_asked_for(module: str) -> None:
    assert not modules_after(f"import {module}") & EXTRAS


def test_the_client_is_loaded_when_it_is_used() -> None:
    assert "requests" in modules_after("from taskfleet import Client")


@pytest.mark.parametrize("name", taskfleet.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(taskfleet, name).__name__ == name


def test_any_other_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'taskfleet' has no attribute 'no_such_name'"):
        _ = taskfleet.no_such_name
