"""Runs Chalice, and sets what it cannot: partial batch responses of the queue handler, throttling
of the API, and the retention of logs. Keeps Chalice's record of what it deployed in the bucket, so
that other checkouts find it. `.chalice/config.json` owns the functions' settings."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from infra.stage import Stage
from taskfleet.settings import Settings

CLI = "from chalice.cli import main; main()"
"""The Python program that runs Chalice. `python -m chalice` does not exist, and the script
`chalice` on PATH may belong to another Python."""
CONSTRAINTS = "infra/constraints.txt"
"""File with the versions that Chalice's pip installs. The path is relative to the checkout, since
pip splits the variable that names it at blanks, and the checkout's own path may have some."""
TIMEOUT_S = 900
"""Longest run of Chalice, in seconds."""
COLLECTOR = "collect_responses"
"""Handler that reads the queue of responses (`chalice_app.events`)."""
EXPANDER = "expand_upload"
"""Handler that reads the queue of uploads (`chalice_app.events`)."""
LOG_DAYS = 30
"""Days for which the functions' logs are kept."""
RATE_PER_S = 100
"""Most calls of the API a second, all clients together. A long poll is one call."""
BURST = 200
"""Most calls of the API at once: the size of API Gateway's token bucket."""


class ChaliceFailed(Exception):
    """Chalice failed. The message ends with its output."""


def deploy(session: Any, stage: Stage, root: Path) -> str:
    """Creates or updates the functions and their API. Returns the API's URL, without a slash at its
    end. Raises ChaliceFailed.

    root: the checkout.
    """
    record = _record(root, stage.name)
    s3 = session.client("s3")
    _fetch_record(s3, stage, record)
    if not record.exists():
        _remove_orphans(session.client("lambda"), stage)
    run(root, "deploy", stage.name)
    s3.put_object(Bucket=stage.bucket, Key=_record_key(stage), Body=record.read_bytes())
    _enable_partial_responses(session.client("lambda"), stage)
    _set_log_retention(session.client("logs"), function_names(root, stage))
    resources = {entry["name"]: entry for entry in json.loads(record.read_text())["resources"]}
    api = resources["rest_api"]
    _throttle(session.client("apigateway"), api["rest_api_id"], _gateway_stage(root, stage.name))
    return str(api["rest_api_url"]).rstrip("/")


def delete(session: Any, stage: Stage, root: Path) -> None:
    """Deletes what Chalice deployed; does nothing without a record of it. Raises ChaliceFailed."""
    record = _record(root, stage.name)
    _fetch_record(session.client("s3"), stage, record)
    if record.exists():
        run(root, "delete", stage.name)
        record.unlink(missing_ok=True)


def function_names(root: Path, stage: Stage) -> list[str]:
    """Returns the names in Lambda of all functions in `.chalice/config.json`."""
    config = json.loads((root / ".chalice" / "config.json").read_text())
    names = config["stages"].get(stage.name, config["stages"]["dev"])["lambda_functions"]
    prefix = stage.function_prefix
    return [prefix if name == "api_handler" else f"{prefix}-{name}" for name in names]


def known_bucket(root: Path, stage: str) -> str:
    """Returns the bucket of the stage's last deployment from this checkout; empty without one."""
    config = json.loads((root / ".chalice" / "config.json").read_text())
    variables = config["stages"].get(stage, {}).get("environment_variables", {})
    return str(variables.get("TASKFLEET_BUCKET", ""))


def run(root: Path, command: str, stage: str) -> None:
    """Runs a command of Chalice. Raises ChaliceFailed, or TimeoutExpired after `TIMEOUT_S`."""
    done = subprocess.run(
        [sys.executable, "-c", CLI, command, "--stage", stage],
        cwd=root,
        # Compiled files would get into the package and change its hash.
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PIP_CONSTRAINT": CONSTRAINTS},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        output = (done.stdout + done.stderr).strip()[-3000:]
        raise ChaliceFailed(f"chalice {command} --stage {stage} failed: {output}")


def _record(root: Path, stage: str) -> Path:
    """Returns the file in which Chalice records what it deployed."""
    return root / ".chalice" / "deployed" / f"{stage}.json"


def _record_key(stage: Stage) -> str:
    return f"deploy/{stage.name}.json"


def _fetch_record(s3: Any, stage: Stage, record: Path) -> None:
    """Fetches the record of an earlier deployment from another checkout, if there is one. Without
    it, Chalice would create everything a second time."""
    if record.exists() or not stage.bucket:
        return
    try:
        listing = s3.list_objects_v2(Bucket=stage.bucket, Prefix=_record_key(stage))
    except s3.exceptions.NoSuchBucket:  # an earlier `make destroy` has deleted it
        return
    if listing.get("KeyCount"):
        body = s3.get_object(Bucket=stage.bucket, Key=_record_key(stage))["Body"].read()
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_bytes(body)


def _remove_orphans(functions: Any, stage: Stage) -> None:
    """Deletes event source mappings that a failed deployment left behind. Chalice has no record of
    them, so its next deployment would fail to create them again."""
    names = Settings(stage=stage.name)
    for mapping in (
        *_mappings(functions, stage, COLLECTOR, names.response_queue),
        *_mappings(functions, stage, EXPANDER, names.upload_queue),
    ):
        functions.delete_event_source_mapping(UUID=mapping["UUID"])


def _enable_partial_responses(functions: Any, stage: Stage) -> None:
    """Makes Lambda read the collector's list of failed messages. Without this, it would delete
    those messages, too."""
    queue = Settings(stage=stage.name).response_queue
    for mapping in _mappings(functions, stage, COLLECTOR, queue):
        if mapping.get("FunctionResponseTypes") != ["ReportBatchItemFailures"]:
            functions.update_event_source_mapping(
                UUID=mapping["UUID"], FunctionResponseTypes=["ReportBatchItemFailures"]
            )


def _set_log_retention(logs: Any, functions: list[str]) -> None:
    """Sets the retention of the functions' logs. Chalice's own `log_retention_in_days` is no use,
    since it gets the name of the API's log group wrong."""
    for function in functions:
        group = f"/aws/lambda/{function}"
        with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):
            logs.create_log_group(logGroupName=group)
        logs.put_retention_policy(logGroupName=group, retentionInDays=LOG_DAYS)


def _mappings(functions: Any, stage: Stage, function: str, queue: str) -> list[dict[str, Any]]:
    """Returns the event source mappings from a queue to a function of the stage."""
    arn = f"arn:{stage.partition}:sqs:{stage.region}:{stage.account}:{queue}"
    mappings = functions.list_event_source_mappings(EventSourceArn=arn)["EventSourceMappings"]
    name = f"{stage.function_prefix}-{function}"
    return [mapping for mapping in mappings if mapping["FunctionArn"].split(":")[6] == name]


def _gateway_stage(root: Path, stage: str) -> str:
    """Returns the stage's name in API Gateway, the last part of the API's URL."""
    config = json.loads((root / ".chalice" / "config.json").read_text())
    return str(config["stages"][stage]["api_gateway_stage"])


def _throttle(gateway: Any, api_id: str, stage: str) -> None:
    """Limits the calls of all routes together."""
    limits = {"rateLimit": RATE_PER_S, "burstLimit": BURST}
    gateway.update_stage(
        restApiId=api_id,
        stageName=stage,
        patchOperations=[
            {"op": "replace", "path": f"/*/*/throttling/{name}", "value": str(value)}
            for name, value in limits.items()
        ],
    )
