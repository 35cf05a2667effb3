"""Event source mappings are told apart by queue and function: the stage's own, and no others."""

from __future__ import annotations

from typing import Any

import app
from infra import functions
from infra.stage import Stage

PROD = Stage("prod", "eu-west-1", "123456789012", "taskfleet-prod-bucket")


class Lambda:
    """Event source mappings, as Lambda lists them."""

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


def test_mappings_of_the_stages_own_functions_are_found_and_no_others() -> None:
    found = functions.mappings(Lambda([*OWN, *FOREIGN]), PROD)
    assert {one["UUID"] for mappings in found.values() for one in mappings} == {
        f"{queue} to {function}" for queue, function in OWN
    }


def test_mappings_of_every_queue_that_the_app_reads_are_found() -> None:
    reads = [
        (source.queue, f"taskfleet-dev-{source.name}")
        for source in app.app.event_sources
        if getattr(source, "queue", None)
    ]
    assert len(reads) == 2
    found = functions.mappings(Lambda(reads), Stage("dev", PROD.region, PROD.account, "b"))
    assert [len(mappings) for mappings in found.values()] == [1, 1]
