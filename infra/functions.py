"""What Chalice cannot set on the functions and their API: partial batch responses, recursion, the
age of events, throttling, and the retention of logs. Every deployment sets it again. Owns these
settings; `.chalice/config.json` owns all others."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from infra.stage import Stage
from taskfleet.settings import Settings

COLLECTOR = "collect_responses"
"""Handler that reads the queue of responses (`chalice_app.events`)."""
EXPANDER = "expand_upload"
"""Handler that reads the queue of uploads (`chalice_app.events`)."""
TICK = "tick"
"""Handler that runs the provisioner (`chalice_app.events`)."""
EVENT_AGE_S = 60
"""Seconds for which Lambda keeps a call of the provisioner that it cannot make yet; the least that
it takes. The next scheduled call comes after a minute, so that an older one has no use."""
RATE_PER_S = 100
"""Most calls of the API a second, all clients together. A long poll is one call."""
BURST = 200
"""Most calls of the API at once: the size of API Gateway's token bucket."""


def names(root: Path, stage: Stage) -> list[str]:
    """Returns the names in Lambda of all functions in `.chalice/config.json`."""
    config = json.loads((root / ".chalice" / "config.json").read_text())
    handlers = config["stages"].get(stage.name, config["stages"]["dev"])["lambda_functions"]
    return [name_of(stage, handler) for handler in handlers]


def name_of(stage: Stage, handler: str) -> str:
    """Returns the name in Lambda of the function of a handler, by Chalice's naming."""
    prefix = stage.function_prefix
    return prefix if handler == "api_handler" else f"{prefix}-{handler}"


def mappings(functions: Any, stage: Stage) -> dict[str, list[dict[str, Any]]]:
    """Returns the event source mappings from the stage's queues to its own functions, by
    handler."""
    queues = Settings(stage=stage.name)
    found: dict[str, list[dict[str, Any]]] = {}
    for handler, queue in ((COLLECTOR, queues.response_queue), (EXPANDER, queues.upload_queue)):
        arn = f"arn:{stage.partition}:sqs:{stage.region}:{stage.account}:{queue}"
        listed = functions.list_event_source_mappings(EventSourceArn=arn)["EventSourceMappings"]
        name = name_of(stage, handler)
        found[handler] = [one for one in listed if one["FunctionArn"].split(":")[6] == name]
    return found


def configure(session: Any, stage: Stage, root: Path, api_id: str, log_days: int) -> None:
    """Sets all of it.

    root: the checkout.
    log_days: days for which the functions' logs are kept.
    """
    functions = session.client("lambda")
    _enable_partial_responses(functions, stage)
    _allow_recursion(functions, name_of(stage, EXPANDER))
    _limit_event_age(functions, name_of(stage, TICK))
    _set_log_retention(session.client("logs"), names(root, stage), log_days)
    _throttle(session.client("apigateway"), api_id, _gateway_stage(root, stage.name))


def _enable_partial_responses(functions: Any, stage: Stage) -> None:
    """Makes Lambda read the collector's list of failed messages. Without this, it would delete
    those messages, too."""
    for mapping in mappings(functions, stage)[COLLECTOR]:
        if mapping.get("FunctionResponseTypes") != ["ReportBatchItemFailures"]:
            functions.update_event_source_mapping(
                UUID=mapping["UUID"], FunctionResponseTypes=["ReportBatchItemFailures"]
            )


def _allow_recursion(functions: Any, expander: str) -> None:
    """Lets the expander go on with a file by a message to its own queue, as often as the file
    needs. Otherwise Lambda takes it for a loop and stops it after 16 messages. Source: "Use Lambda
    recursive loop detection to prevent infinite loops", AWS Lambda Developer Guide."""
    functions.put_function_recursion_config(FunctionName=expander, RecursiveLoop="Allow")


def _limit_event_age(functions: Any, tick: str) -> None:
    """Makes Lambda forget calls of the provisioner that it could not make within `EVENT_AGE_S`, and
    try none again: it keeps and repeats them for six hours otherwise, and each would be late."""
    functions.put_function_event_invoke_config(
        FunctionName=tick, MaximumEventAgeInSeconds=EVENT_AGE_S, MaximumRetryAttempts=0
    )


def _set_log_retention(logs: Any, functions: list[str], days: int) -> None:
    """Sets the retention of the functions' logs. Chalice's own `log_retention_in_days` is no use,
    since it gets the name of the API's log group wrong."""
    for function in functions:
        group = f"/aws/lambda/{function}"
        with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):
            logs.create_log_group(logGroupName=group)
        logs.put_retention_policy(logGroupName=group, retentionInDays=days)


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
