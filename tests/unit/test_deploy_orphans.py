"""Event source mappings that a failed deployment left, without a record of them, are deleted."""

from __future__ import annotations

from typing import Any

import app
from infra import chalice
from infra.stage import Stage

PROD = Stage("prod", "eu-west-1", "123456789012", "taskfleet-prod-bucket")


class Lambda:
    """Event source mappings, as Lambda lists, changes and deletes them."""

    def __init__(self, mappings: list[tuple[str, str]]) -> None:
        arn = f":{PROD.region}:{PROD.account}:"
        self.mappings = [
            {
                "UUID": f"{queue} to {function}",
                "EventSourceArn": f"arn:aws:sqs{arn}{queue}",
                "FunctionArn": f"arn:aws:lambda{arn}function:{function}",
            }
            for queue, function in mappings
        ]

    def list_event_source_mappings(self, *, EventSourceArn: str) -> dict[str, Any]:  # noqa: N803
        found = [m for m in self.mappings if m["EventSourceArn"] == EventSourceArn]
        return {"EventSourceMappings": found}

    def delete_event_source_mapping(self, *, UUID: str) -> None:  # noqa: N803
        self.mappings = [m for m in self.mappings if m["UUID"] != UUID]

    def remaining(self) -> set[str]:
        return {mapping["UUID"] for mapping in self.mappings}


OWN = [
    ("Processed_Task-prod", "taskfleet-prod-collect_responses"),
    ("Upload_to_expand-prod", "taskfleet-prod-expand_upload"),
]
FOREIGN = [
    ("Processed_Task-prod", "audit"),
    ("Upload_to_expand-prod", "taskfleet-prod-expand_upload_copy"),
    ("Processed_Task", "taskfleet-dev-collect_responses"),
    ("Upload_to_expand", "taskfleet-dev-expand_upload"),
]


def test_mappings_of_the_stages_own_functions_are_removed_and_no_others() -> None:
    functions = Lambda([*OWN, *FOREIGN])
    chalice._remove_orphans(functions, PROD)
    assert functions.remaining() == {f"{queue} to {function}" for queue, function in FOREIGN}


def test_mappings_of_every_queue_that_the_app_reads_are_removed() -> None:
    reads = [
        (source.queue, f"taskfleet-dev-{source.name}")
        for source in app.app.event_sources
        if getattr(source, "queue", None)
    ]
    assert len(reads) == 2
    functions = Lambda(reads)
    chalice._remove_orphans(functions, Stage("dev", PROD.region, PROD.account, "b"))
    assert functions.remaining() == set()
