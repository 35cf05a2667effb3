"""Finds and deletes what Chalice deployed for a stage but has no record of, since it writes its
record only at the end of a deployment that succeeded. Owns how such things are known to be the
stage's: by their exact names, by Chalice's tag, and by the functions that they lead to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra import functions
from infra.stage import Stage


def delete_unrepeatable(session: Any, stage: Stage) -> None:
    """Deletes what a deployment without a record would create a second time, or fail to create: the
    API and the event source mappings. Chalice finds functions and the schedule by their names."""
    client = session.client("lambda")
    for mappings in functions.mappings(client, stage).values():
        for mapping in mappings:
            client.delete_event_source_mapping(UUID=mapping["UUID"])
    _delete_apis(session.client("apigateway"), stage)


def delete_all(session: Any, stage: Stage, root: Path) -> None:
    """Deletes everything that a deployment of the functions may have left: the schedule, which
    starts machines, first."""
    _delete_rule(session.client("events"), functions.name_of(stage, functions.TICK) + "-event")
    delete_unrepeatable(session, stage)
    client = session.client("lambda")
    for name in functions.names(root, stage):
        _delete_function(client, name, stage)


def _delete_apis(gateway: Any, stage: Stage) -> None:
    """Deletes the APIs of the stage: those whose routes call its function."""
    target = f":function:{stage.function_prefix}/invocations"
    found = [
        api["id"]
        for page in gateway.get_paginator("get_rest_apis").paginate()
        for api in page["items"]
        if api["name"].startswith("taskfleet") and _calls(gateway, api["id"], target)
    ]
    for api_id in found:
        gateway.delete_rest_api(restApiId=api_id)


def _calls(gateway: Any, api_id: str, target: str) -> bool:
    """Tells whether a route of the API calls the function whose ARN ends so."""
    pages = gateway.get_paginator("get_resources").paginate(restApiId=api_id, embed=["methods"])
    return any(
        target in method.get("methodIntegration", {}).get("uri", "")
        for page in pages
        for resource in page["items"]
        for method in resource.get("resourceMethods", {}).values()
    )


def _delete_rule(events: Any, name: str) -> None:
    """Deletes the schedule of the provisioner, whose targets must be removed before."""
    try:
        targets = events.list_targets_by_rule(Rule=name)["Targets"]
    except events.exceptions.ResourceNotFoundException:
        return
    if targets:
        events.remove_targets(Rule=name, Ids=[target["Id"] for target in targets])
    events.delete_rule(Name=name)


def _delete_function(client: Any, name: str, stage: Stage) -> None:
    """Deletes a function if Chalice has tagged it as the stage's: `taskfleet-a-tick` may be the API
    of a stage `a-tick`, too."""
    try:
        tags = client.get_function(FunctionName=name).get("Tags", {})
        if f":stage={stage.name}:" in tags.get("aws-chalice", ""):
            client.delete_function(FunctionName=name)
    except client.exceptions.ResourceNotFoundException:
        return
