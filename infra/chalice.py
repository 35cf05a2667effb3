"""`chalice deploy` and what it leaves out: partial answers of the queue handler, throttling, an end
for logs, and the record of what was deployed in a place that the next person finds. Owns nothing of
the functions' settings, which are in `.chalice/config.json`."""

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
"""It has no `python -m`, and its script may be of another Python."""
TIMEOUT_S = 900
COLLECTOR = "collect_responses"
EXPANDER = "expand_upload"
LOG_DAYS = 30
RATE_PER_S = 100
BURST = 200
"""Calls of the API, all clients together. Long polls are few calls that take long."""


class ChaliceFailed(Exception):
    """The message ends with what Chalice said."""


def deploy(session: Any, stage: Stage, root: Path) -> str:
    """Deploy, and return the API's URL without a slash at its end."""
    record = _record(root, stage.name)
    s3 = session.client("s3")
    _fetch_record(s3, stage, record)
    if not record.exists():
        _remove_orphans(session.client("lambda"), stage)
    run(root, "deploy", stage.name)
    s3.put_object(Bucket=stage.bucket, Key=_record_key(stage), Body=record.read_bytes())
    _answer_in_parts(session.client("lambda"), stage)
    _end_logs(session.client("logs"), function_names(root, stage))
    resources = {entry["name"]: entry for entry in json.loads(record.read_text())["resources"]}
    api = resources["rest_api"]
    _throttle(session.client("apigateway"), api["rest_api_id"], _gateway_stage(root, stage.name))
    return str(api["rest_api_url"]).rstrip("/")


def delete(session: Any, stage: Stage, root: Path) -> None:
    """Delete what Chalice deployed, if it did."""
    record = _record(root, stage.name)
    _fetch_record(session.client("s3"), stage, record)
    if record.exists():
        run(root, "delete", stage.name)
        record.unlink(missing_ok=True)


def function_names(root: Path, stage: Stage) -> list[str]:
    """In Lambda, of the functions that `config.json` knows."""
    config = json.loads((root / ".chalice" / "config.json").read_text())
    names = config["stages"].get(stage.name, config["stages"]["dev"])["lambda_functions"]
    prefix = stage.function_prefix
    return [prefix if name == "api_handler" else f"{prefix}-{name}" for name in names]


def known_bucket(root: Path, stage: str) -> str:
    """That of the stage's last deployment from this checkout; empty when there was none."""
    config = json.loads((root / ".chalice" / "config.json").read_text())
    variables = config["stages"].get(stage, {}).get("environment_variables", {})
    return str(variables.get("TASKFLEET_BUCKET", ""))


def run(root: Path, command: str, stage: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLI, command, "--stage", stage],
        cwd=root,
        # Compiled files would change the package's hash.
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()[-3000:]
        raise ChaliceFailed(f"chalice {command} --stage {stage} failed: {said}")


def _record(root: Path, stage: str) -> Path:
    return root / ".chalice" / "deployed" / f"{stage}.json"


def _record_key(stage: Stage) -> str:
    return f"deploy/{stage.name}.json"


def _fetch_record(s3: Any, stage: Stage, record: Path) -> None:
    """Another checkout may have deployed: without the record Chalice would make all anew."""
    if record.exists() or not stage.bucket:
        return
    try:
        found = s3.list_objects_v2(Bucket=stage.bucket, Prefix=_record_key(stage))
    except s3.exceptions.NoSuchBucket:  # a teardown came so far
        return
    if found.get("KeyCount"):
        body = s3.get_object(Bucket=stage.bucket, Key=_record_key(stage))["Body"].read()
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_bytes(body)


def _remove_orphans(functions: Any, stage: Stage) -> None:
    """A deployment that failed half-way leaves its event source mappings without a record of them;
    the next one would stumble over them."""
    names = Settings(stage=stage.name)
    for mapping in (
        *_mappings(functions, stage, COLLECTOR, names.response_queue),
        *_mappings(functions, stage, EXPANDER, names.upload_queue),
    ):
        functions.delete_event_source_mapping(UUID=mapping["UUID"])


def _answer_in_parts(functions: Any, stage: Stage) -> None:
    """Without this Lambda would take the handler's list of what failed for success of all."""
    queue = Settings(stage=stage.name).response_queue
    for mapping in _mappings(functions, stage, COLLECTOR, queue):
        if mapping.get("FunctionResponseTypes") != ["ReportBatchItemFailures"]:
            functions.update_event_source_mapping(
                UUID=mapping["UUID"], FunctionResponseTypes=["ReportBatchItemFailures"]
            )


def _end_logs(logs: Any, functions: list[str]) -> None:
    """Chalice's own `log_retention_in_days` takes the API's function for one of another name."""
    for function in functions:
        group = f"/aws/lambda/{function}"
        with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):
            logs.create_log_group(logGroupName=group)
        logs.put_retention_policy(logGroupName=group, retentionInDays=LOG_DAYS)


def _mappings(functions: Any, stage: Stage, function: str, queue: str) -> list[dict[str, Any]]:
    """Those that feed the queue to the stage's own function."""
    arn = f"arn:{stage.partition}:sqs:{stage.region}:{stage.account}:{queue}"
    found = functions.list_event_source_mappings(EventSourceArn=arn)["EventSourceMappings"]
    name = f"{stage.function_prefix}-{function}"
    return [mapping for mapping in found if mapping["FunctionArn"].split(":")[6] == name]


def _gateway_stage(root: Path, stage: str) -> str:
    config = json.loads((root / ".chalice" / "config.json").read_text())
    return str(config["stages"][stage]["api_gateway_stage"])


def _throttle(gateway: Any, api_id: str, stage: str) -> None:
    limits = {"rateLimit": RATE_PER_S, "burstLimit": BURST}
    gateway.update_stage(
        restApiId=api_id,
        stageName=stage,
        patchOperations=[
            {"op": "replace", "path": f"/*/*/throttling/{name}", "value": str(value)}
            for name, value in limits.items()
        ],
    )
