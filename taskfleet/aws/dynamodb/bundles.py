"""Bundles in the table. Owns their items and the condition expressions for the rule of
`taskfleet.lease`.

A bundle is an item with the attributes `Job_ID`, `status`, `owner`, `attempt`, `expires_at`, `ttl`,
`packed` or `spill` (`taskfleet.aws.dynamodb.packing`), and `crc` once it is done. The owner
stays when the bundle is released or done, so that a request that the SDK sends again after a lost
reply is recognised.

Source: "Condition and filter expressions, operators, and functions in DynamoDB", Amazon DynamoDB
Developer Guide.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from taskfleet.aws.dynamodb.packing import Packing
from taskfleet.aws.dynamodb.table import Item, Table, Update, number_of, wire_number, wire_text
from taskfleet.aws.errors import ConditionFailed
from taskfleet.errors import LeaseLost, PermanentError
from taskfleet.lease import BundleStatus, ClaimOutcome, Lease, decide_claim
from taskfleet.ports import BundleRecord, Claim
from taskfleet.task import Task, TaskResult

_QUEUED, _RUNNING, _DONE = (
    wire_text(status) for status in (BundleStatus.QUEUED, BundleStatus.RUNNING, BundleStatus.DONE)
)

# The rule of `taskfleet.lease.decide_claim`, except that a claimant with the lease is refused: its
# request is a repeated one, which must not count as another attempt (`_refused` recognises it).
_CLAIMABLE = (
    "attribute_not_exists(#Job_ID) OR #status = :queued"
    " OR (#status = :running AND #expires_at < :now)"
)
_CLAIM = (
    "SET #status = :running, #owner = :owner, #expires_at = :expires_at, #ttl = :ttl,"
    " #attempt = if_not_exists(#attempt, :zero) + :one"
)
_HELD = "#owner = :owner AND #attempt = :attempt AND #status = :running"


class BundleItems:
    """The methods of `taskfleet.ports.TaskMonitor` for bundles."""

    def __init__(self, table: Table, packing: Packing) -> None:
        self._table = table
        self._packing = packing

    def claim(self, job_id: str, *, owner: str, lease_s: float) -> Claim:
        now = self._table.now()
        try:
            item = self._table.update(
                f"claim bundle {job_id} in",
                Update(
                    job_id,
                    _CLAIM,
                    _CLAIMABLE,
                    {
                        ":owner": wire_text(owner),
                        ":expires_at": wire_number(now + lease_s),
                        ":now": wire_number(now),
                        ":queued": _QUEUED,
                        ":running": _RUNNING,
                        ":zero": wire_number(0),
                        ":one": wire_number(1),
                    },
                ),
                read_back=True,
            )
        except ConditionFailed as failure:
            return self._refused(job_id, failure, owner, now)
        return self._claim(ClaimOutcome.ACQUIRED, item)

    def _claim(self, outcome: ClaimOutcome, item: Item) -> Claim:
        content = self._packing.unpack(item)
        return Claim(outcome, _lease(item), content.results, content.checksum)

    def _refused(self, job_id: str, failure: ConditionFailed, owner: str, now: float) -> Claim:
        """Returns the answer to a claim whose condition does not hold: HELD, DONE, or ACQUIRED if
        an earlier request of the same claim succeeded."""
        item = failure.item
        if item is None or "status" not in item:
            raise PermanentError(f"the table's item {job_id} is not a bundle") from failure
        outcome = decide_claim(
            BundleStatus(item["status"]["S"]),
            item["owner"]["S"],
            number_of(item, "expires_at"),
            claimant=owner,
            now=now,
        )
        return self._claim(outcome, item)

    def renew(
        self,
        job_id: str,
        lease: Lease,
        *,
        lease_s: float,
        tasks: Sequence[Task],
        results: Sequence[TaskResult],
    ) -> Lease:
        expires_at = self._table.now() + lease_s
        self._write(
            "renew",
            job_id,
            lease,
            tasks,
            results,
            BundleStatus.RUNNING,
            expires_at=expires_at,
            attempt=lease.attempt,
        )
        return Lease(lease.owner, lease.attempt, expires_at)

    def commit(
        self, job_id: str, lease: Lease, *, tasks: Sequence[Task], results: Sequence[TaskResult]
    ) -> int:
        return self._write(
            "commit",
            job_id,
            lease,
            tasks,
            results,
            BundleStatus.DONE,
            expires_at=lease.expires_at,
            attempt=lease.attempt,
        )

    def release(
        self, job_id: str, lease: Lease, *, tasks: Sequence[Task], results: Sequence[TaskResult]
    ) -> None:
        self._write(
            "release",
            job_id,
            lease,
            tasks,
            results,
            BundleStatus.QUEUED,
            expires_at=lease.expires_at,
            attempt=lease.attempt - 1,
        )

    def unclaim(self, job_id: str, *, owner: str) -> None:
        with contextlib.suppress(ConditionFailed):
            self._table.update(
                f"take back the claim of bundle {job_id} in",
                Update(
                    job_id,
                    "SET #status = :queued, #attempt = #attempt - :one, #ttl = :ttl",
                    "#owner = :owner AND #status = :running",
                    {
                        ":owner": wire_text(owner),
                        ":queued": _QUEUED,
                        ":running": _RUNNING,
                        ":one": wire_number(1),
                    },
                ),
            )

    def _write(
        self,
        step: str,
        job_id: str,
        lease: Lease,
        tasks: Sequence[Task],
        results: Sequence[TaskResult],
        status: BundleStatus,
        *,
        expires_at: float,
        attempt: int,
    ) -> int:
        """Write the bundle's tasks, results and new state. Returns the checksum of what is stored.
        Raises LeaseLost if `lease` no longer holds, unless it was ended by an earlier request of
        this same write."""
        packed = self._packing.pack(tasks, results)
        seal, sealed = "", {}
        if status is BundleStatus.DONE:
            seal, sealed = " #crc = :crc,", {":crc": wire_number(packed.checksum)}
        try:
            self._table.update(
                f"{step} bundle {job_id} in",
                Update(
                    job_id,
                    "SET #status = :status, #expires_at = :expires_at, #attempt = :new_attempt,"
                    f" #ttl = :ttl,{seal} {packed.clauses}",
                    _HELD,
                    {
                        ":owner": wire_text(lease.owner),
                        ":attempt": wire_number(lease.attempt),
                        ":running": _RUNNING,
                        ":status": wire_text(status),
                        ":expires_at": wire_number(expires_at),
                        ":new_attempt": wire_number(attempt),
                        **packed.values,
                        **sealed,
                    },
                ),
            )
        except ConditionFailed as failure:
            item = failure.item or {}
            recorded_status = item.get("status", {}).get("S")
            recorded_owner = item.get("owner", {}).get("S")
            is_repeated = recorded_status == status and recorded_owner == lease.owner
            if status is BundleStatus.RUNNING or not is_repeated:
                raise LeaseLost(
                    f"bundle {job_id} is no longer held by attempt {lease.attempt}"
                ) from failure
        return packed.checksum

    def bundles(self, job_ids: Sequence[str]) -> list[BundleRecord]:
        items = self._table.read_many("read bundles from", job_ids)
        records = []
        for job_id in job_ids:
            item = items.get(job_id)
            if item is not None and status_of(item) is not None:
                records.append(record_of(item, self._packing))
        return records


def status_of(item: Item) -> BundleStatus | None:
    """Returns the status of a bundle's item, None for an item that is not a bundle."""
    return BundleStatus(item["status"]["S"]) if "status" in item else None


def record_of(item: Item, packing: Packing) -> BundleRecord:
    """Returns the record of a bundle's item. `packing` reads its tasks and results."""
    sealed = int(item["crc"]["N"]) if "crc" in item else None
    return BundleRecord(
        item["Job_ID"]["S"],
        BundleStatus(item["status"]["S"]),
        _lease(item),
        *packing.unpack(item),
        sealed,
    )


def _lease(item: Item) -> Lease | None:
    """Returns the lease of a bundle's item, None unless its status is RUNNING."""
    if item["status"]["S"] != BundleStatus.RUNNING:
        return None
    return Lease(item["owner"]["S"], int(item["attempt"]["N"]), number_of(item, "expires_at"))
