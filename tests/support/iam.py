"""Evaluates IAM policies offline with `@cloud-copilot/iam-simulate`, a test tool that node runs,
and reads the policies of functions as a stage gets them."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from infra.stage import Stage, exact

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = "@cloud-copilot/iam-simulate"
VERSION = "0.1.173"
ACCOUNT = "123456789012"
STAGE = Stage("prod", "eu-west-1", ACCOUNT, "taskfleet-prod-bucket-1x2y3z")


class Request(NamedTuple):
    """A request to AWS. `context` holds condition keys and their values."""

    action: str
    resource: str
    context: tuple[tuple[str, str], ...] = ()


def function_policy(name: str, stage: Stage = STAGE) -> dict[str, Any]:
    """The policy of a function, as the stage gets it."""
    return exact(json.loads((ROOT / ".chalice" / f"policy-{name}.json").read_text()), stage)


def denied(
    policy: dict[str, Any], requests: Sequence[Request], account: str = ACCOUNT
) -> list[Request]:
    """The requests that the policy denies to a principal of the account."""
    cases = [
        {
            "policy": policy,
            "account": account,
            "action": request.action,
            "resource": request.resource,
            "context": dict(request.context),
        }
        for request in requests
    ]
    done = subprocess.run(
        ["node", str(ROOT / "tests" / "iam" / "simulate.mjs")],
        input=json.dumps({"library": str(_library()), "cases": cases}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    faults = [answer for answer in answers if answer.startswith("error")]
    assert not faults, faults
    return [r for r, answer in zip(requests, answers, strict=True) if answer != "Allowed"]


@functools.cache
def _library() -> Path:
    """The evaluator's entry, installed at first use outside the checkout."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("node and npm are needed to evaluate IAM policies")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "taskfleet" / f"iam-simulate-{VERSION}"
    package = folder / "node_modules" / LIBRARY
    if not package.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder)]
        subprocess.run(
            [*command, f"{LIBRARY}@{VERSION}"], check=True, capture_output=True, timeout=100
        )
    return package / "dist" / "esm" / "index.js"
