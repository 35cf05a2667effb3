"""A batch as an item of the table, and back. Owns the names and units of its attributes."""

from __future__ import annotations

from typing import Any

import msgspec

from taskfleet.aws.dynamodb.table import Item, number, read_number, text
from taskfleet.batch import (
    BatchRecord,
    Tally,
    Upload,
)
from taskfleet.bill import Spend
from taskfleet.bundle import Plan

_CALL_PARTS = 10**3
_USD_PARTS = 10**12
_TEXTS = ("name", "error")
_TIMES = ("started_at", "progressed_at", "cancelled_at")


def spent(spend: Spend) -> dict[str, Any]:
    """In whole thousandths of a call and trillionths of a dollar: integers add up everywhere."""
    return {
        ":calls": number(round(spend.calls * _CALL_PARTS)),
        ":usd": number(round(spend.usd * _USD_PARTS)),
    }


def to_item(batch: BatchRecord) -> Item:
    item: dict[str, Any] = {
        "Job_ID": text(batch.batch_id),
        "client_id": text(batch.client_id),
        "created_at": number(batch.created_at),
        "total": number(batch.total),
        "bundles": number(batch.bundles),
        "payload_hash": text(batch.payload_hash),
        "closed": {"BOOL": batch.closed},
        "enqueued": number(batch.enqueued),
        "plan": text(msgspec.json.encode(batch.plan).decode()),
        "succeeded": number(batch.tally.succeeded),
        "failed": number(batch.tally.failed),
        "cancelled": number(batch.tally.cancelled),
        "ended": number(batch.tally.total),
        "milli_calls": number(round(batch.spend.calls * _CALL_PARTS)),
        "pico_usd": number(round(batch.spend.usd * _USD_PARTS)),
    }
    for name in _TEXTS:
        value = getattr(batch, name)
        if value is not None:
            item[name] = text(value)
    if batch.upload is not None:
        item["upload_key"] = text(batch.upload.key)
        item["upload_etag"] = text(batch.upload.etag)
        item["upload_lines"] = number(batch.upload.lines)
        item["upload_tasks"] = number(batch.upload.tasks)
        item["upload_checked"] = {"BOOL": batch.upload.checked}
    for name in _TIMES:
        moment = getattr(batch, name)
        if moment is not None:
            item[name] = number(moment)
    return item


def to_record(item: Item | None) -> BatchRecord | None:
    """None for no item, and for one that is not a batch."""
    if item is None or "payload_hash" not in item:
        return None
    optional: dict[str, Any] = {"name": None}
    optional |= {name: item[name]["S"] for name in _TEXTS if name in item}
    optional |= {name: read_number(item, name) for name in _TIMES if name in item}
    return BatchRecord(
        batch_id=item["Job_ID"]["S"],
        client_id=item["client_id"]["S"],
        created_at=read_number(item, "created_at"),
        total=int(item["total"]["N"]),
        bundles=int(item["bundles"]["N"]),
        payload_hash=item["payload_hash"]["S"],
        closed=item["closed"]["BOOL"],
        enqueued=int(item["enqueued"]["N"]),
        upload=_upload(item),
        plan=msgspec.json.decode(item["plan"]["S"], type=Plan),
        tally=Tally(
            int(item["succeeded"]["N"]), int(item["failed"]["N"]), int(item["cancelled"]["N"])
        ),
        spend=Spend(
            read_number(item, "milli_calls") / _CALL_PARTS,
            read_number(item, "pico_usd") / _USD_PARTS,
        ),
        **optional,
    )


def _upload(item: Item) -> Upload | None:
    if "upload_key" not in item:
        return None
    return Upload(
        key=item["upload_key"]["S"],
        etag=item["upload_etag"]["S"],
        lines=int(item["upload_lines"]["N"]),
        tasks=int(item["upload_tasks"]["N"]),
        checked=item["upload_checked"]["BOOL"],
    )
