"""Evaluates IAM policies offline with `@cloud-copilot/iam-simulate`, a test tool that node runs,
and reads the policies of functions as a stage gets them."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from infra.stage import Stage, exact
from tests.support.once import once
from tests.support.tools import needs

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
        [needs("node"), str(ROOT / "tests" / "iam" / "simulate.mjs")],
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
    npm = needs("npm")
    needs("node")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "taskfleet" / "iam-simulate" / VERSION

    def install(draft: Path) -> None:
        command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(draft)]
        subprocess.run(
            [*command, f"{LIBRARY}@{VERSION}"], check=True, capture_output=True, timeout=100
        )

    return once(folder, install) / "node_modules" / LIBRARY / "dist" / "esm" / "index.js"
