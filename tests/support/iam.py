"""Evaluates IAM policies offline with `@cloud-copilot/iam-simulate`, a test tool that node runs,
and reads the policies of functions as a stage gets them."""

from __future__ import annotations

import ast
import functools
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import boto3

from infra.stage import Stage, exact
from tests.support.moto_aws import create_stack, moto_account
from tests.support.once import once
from tests.support.tools import needs

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = "@cloud-copilot/iam-simulate"
VERSION = "0.1.173"
ACCOUNT = "123456789012"
STAGE = Stage("prod", "eu-west-1", ACCOUNT, "taskfleet-prod-bucket-1x2y3z")


LISTS = frozenset({"aws:TagKeys", "dynamodb:LeadingKeys", "dynamodb:Attributes"})
"""Condition keys whose value is a list."""


class Request(NamedTuple):
    """A request to AWS. `context` holds condition keys and their values; a key that has several
    values is there several times."""

    action: str
    resource: str
    context: tuple[tuple[str, str], ...] = ()


def on_item(action: str, resource: str, *keys: str, attributes: Sequence[str] = ()) -> Request:
    """A request to DynamoDB for the items `keys`, which names `attributes` beside the key."""
    named = ("Job_ID", *attributes) if attributes else ()
    context = [("dynamodb:LeadingKeys", key) for key in keys]
    context += [("dynamodb:Attributes", name) for name in named]
    return Request(action, resource, tuple(context))


@functools.cache
def worker_policy(stage: Stage = STAGE) -> dict[str, Any]:
    """The policy of the worker's role, as CloudFormation resolves it in moto."""
    with moto_account(stage.region):
        create_stack(stage.name, stage.bucket)
        role = boto3.client("iam").get_role_policy(
            RoleName=stage.role_name("worker"), PolicyName="worker"
        )
        document = role["PolicyDocument"]  # moto keeps what CloudFormation gave it as Python text
    policy: dict[str, Any] = ast.literal_eval(document) if isinstance(document, str) else document
    return policy


def policy_of(process: str) -> dict[str, Any]:
    """The policy of a process of the stage: of a function, or of `worker`."""
    return worker_policy() if process == "worker" else function_policy(process)


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
            "context": _context(request),
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


def _context(request: Request) -> dict[str, Any]:
    """The request's context in the evaluator's form."""
    context: dict[str, Any] = {}
    for key, value in request.context:
        if key in LISTS:
            context.setdefault(key, []).append(value)
        else:
            context[key] = value
    return context


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
