"""Conversion between a `BatchRecord` and its item in the table. Owns the names and units of the
item's attributes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from taskfleet.aws.dynamodb.table import Item, number_of, wire_bool, wire_number, wire_text
from taskfleet.batch import BatchRecord, Kept, Mark, Part, Tally, Upload
from taskfleet.bill import Spend
from taskfleet.bundle import Plan
from taskfleet.options import BatchOptions
from taskfleet.quote import Quote

_MILLI_CALLS = 10**3
"""One call, in the unit of the attribute `milli_calls`."""
_PICO_USD = 10**12
"""One dollar, in the unit of the attribute `pico_usd`."""
SUMS = ("succeeded", "failed", "cancelled", "ended", "milli_calls", "pico_usd", "crc", "busy_ms")
"""Attributes that results add to: integers, so that sums are exact in any order."""
_NEWEST_SUMS = ("crc", "busy_ms")
"""Those of `SUMS` that are missing in a new item."""
_OPTIONAL_TEXTS = ("name", "error", "traceparent", "retry_of")
"""Attributes with a text, which are missing for None."""
_OPTIONAL_TIMES = ("started_at", "progressed_at", "cancelled_at", "added_at", "closed_at")
"""Attributes with a time in epoch seconds, which are missing for None."""


def sum_of(item: Item, name: str) -> int:
    """Returns one of `SUMS` of a page or batch; 0 if an earlier version, which did not have it,
    wrote the item."""
    return int(item[name]["N"]) if name in item else 0


def sums(tally: Tally, spend: Spend, checksum: int = 0, busy_ms: int = 0) -> dict[str, int]:
    """Returns the values of `SUMS` for a tally, a spend, a sum of checksums and the milliseconds of
    tasks."""
    return {
        "succeeded": tally.succeeded,
        "failed": tally.failed,
        "cancelled": tally.cancelled,
        "ended": tally.total,
        "milli_calls": round(spend.calls * _MILLI_CALLS),
        "pico_usd": round(spend.usd * _PICO_USD),
        "crc": checksum,
        "busy_ms": busy_ms,
    }


def to_item(batch: BatchRecord) -> Item:
    """Returns the item of a batch, in wire form and without its expiry."""
    item: dict[str, Any] = {
        "Job_ID": wire_text(batch.batch_id),
        "client_id": wire_text(batch.client_id),
        "created_at": wire_number(batch.created_at),
        "total": wire_number(batch.total),
        "bundles": wire_number(batch.bundles),
        "payload_hash": wire_text(batch.payload_hash),
        "closed": wire_bool(batch.closed),
        "enqueued": wire_number(batch.enqueued),
        "plan": wire_text(msgspec.json.encode(batch.plan).decode()),
        # Results are added here by pages; page 0 is part of this item (`pages`).
        **{name: wire_number(each) for name, each in _sums_of(batch).items()},
        "folded_to": wire_number(1),
    }
    for name in _OPTIONAL_TEXTS:
        value = getattr(batch, name)
        if value is not None:
            item[name] = wire_text(value)
    if batch.upload is not None:
        item["upload_key"] = wire_text(batch.upload.key)
        item["upload_etag"] = wire_text(batch.upload.etag)
        item["upload_lines"] = wire_number(batch.upload.lines)
        item["upload_tasks"] = wire_number(batch.upload.tasks)
        item["upload_checked"] = wire_bool(batch.upload.checked)
        item["upload_offset"] = wire_number(batch.upload.offset)
        if batch.upload.handed.lines:
            for name, value in msgspec.structs.asdict(batch.upload.handed).items():
                item[f"handed_{name}"] = wire_number(value)
    if batch.parts:
        item["parts"] = wire_parts(batch.parts)
    if batch.kinds:
        item["kinds"] = wire_kinds(batch.kinds)
    if batch.followers:
        item["followers"] = {"SS": sorted(batch.followers)}
    if batch.kept is not None:
        item["kept"] = wire_kept(batch.kept)
    if batch.options is not None:
        item["options"] = wire_text(msgspec.json.encode(batch.options).decode())
    if batch.quote is not None:
        item["quote"] = wire_quote(batch.quote)
    if batch.ended_before:
        item["ended_before"] = wire_number(batch.ended_before)
    if batch.borders:
        item["borders"] = wire_number(batch.borders)
    for name in _OPTIONAL_TIMES:
        time = getattr(batch, name)
        if time is not None:
            item[name] = wire_number(time)
    return item


def _sums_of(batch: BatchRecord) -> dict[str, int]:
    """Returns the sums of a new batch's item. The newest of them are left out as long as they are
    0, so that the item of a small batch has less than 1 KB."""
    found = sums(batch.tally, batch.spend, batch.checksum, batch.busy_ms)
    return {name: each for name, each in found.items() if each or name not in _NEWEST_SUMS}


def to_record(item: Item | None) -> BatchRecord | None:
    """Returns the batch of an item in wire form. Returns None for no item, and for an item that is
    not a batch."""
    if item is None or "payload_hash" not in item:
        return None
    optional: dict[str, Any] = {"name": None}
    optional |= {name: item[name]["S"] for name in _OPTIONAL_TEXTS if name in item}
    optional |= {name: number_of(item, name) for name in _OPTIONAL_TIMES if name in item}
    if "options" in item:
        optional["options"] = msgspec.json.decode(item["options"]["S"], type=BatchOptions)
    if "quote" in item:
        optional["quote"] = msgspec.json.decode(item["quote"]["S"], type=Quote)
    if "parts" in item:
        optional["parts"] = tuple(_part(each["S"]) for each in item["parts"]["L"])
    if "kinds" in item:
        optional["kinds"] = tuple(sorted(item["kinds"]["SS"]))
    if "followers" in item:
        optional["followers"] = tuple(sorted(item["followers"]["SS"]))
    if "kept" in item:
        optional["kept"] = _kept(item["kept"])
    return BatchRecord(
        batch_id=item["Job_ID"]["S"],
        client_id=item["client_id"]["S"],
        created_at=number_of(item, "created_at"),
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
            number_of(item, "milli_calls") / _MILLI_CALLS,
            number_of(item, "pico_usd") / _PICO_USD,
        ),
        checksum=sum_of(item, "crc"),
        busy_ms=sum_of(item, "busy_ms"),
        borders=_integer(item, "borders"),
        ended_before=_integer(item, "ended_before"),
        **optional,
    )


def wire_parts(parts: Iterable[Part]) -> dict[str, Any]:
    """Returns the wire form of parts that a client added."""
    return {"L": [wire_text(f"{part.first}:{part.digest}") for part in parts]}


def wire_kinds(kinds: Iterable[str]) -> dict[str, Any]:
    """Returns the wire form of the names of kinds: a set, to which parts of a batch add theirs."""
    return {"SS": sorted(kinds)}


def wire_quote(quote: Quote) -> dict[str, Any]:
    """Returns the wire form of a quote."""
    return wire_text(msgspec.json.encode(quote).decode())


def wire_kept(kept: Kept) -> dict[str, Any]:
    """Returns the wire form of the place where a part is kept: binary for its content, a text for
    the key of an object."""
    return {"B": kept.content} if kept.content is not None else wire_text(kept.key or "")


def _part(text: str) -> Part:
    first, _, digest = text.partition(":")
    return Part(int(first), digest)


def _kept(value: Mapping[str, Any]) -> Kept:
    return Kept(content=bytes(value["B"])) if "B" in value else Kept(key=value["S"])


def _upload(item: Item) -> Upload | None:
    if "upload_key" not in item:
        return None
    return Upload(
        key=item["upload_key"]["S"],
        etag=item["upload_etag"]["S"],
        lines=int(item["upload_lines"]["N"]),
        tasks=int(item["upload_tasks"]["N"]),
        checked=item["upload_checked"]["BOOL"],
        # Records of earlier versions have none of the following.
        offset=_integer(item, "upload_offset"),
        handed=Mark(
            _integer(item, "handed_lines"),
            _integer(item, "handed_tasks"),
            _integer(item, "handed_offset"),
        ),
    )


def _integer(item: Item, name: str) -> int:
    """Returns an integer of the item, 0 if it does not have one of this name."""
    return int(item[name]["N"]) if name in item else 0
