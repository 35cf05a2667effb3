"""Bundles in the table. Owns their items and `taskfleet.lease` as condition expressions.

Attributes: `Job_ID`, `status`, `owner`, `attempt`, `expires_at`, `packed` or `spill`
(`taskfleet.aws.dynamodb.packing`), `ttl`. The owner stays when the bundle is given back or done, so
that a write that the SDK sent twice, because its first reply was lost, is recognised.
"""

from __future__ import annotations

from collections.abc import Sequence

from taskfleet.aws.dynamodb.packing import Packing
from taskfleet.aws.dynamodb.table import Item, Table, Update, number, read_number, text
from taskfleet.aws.errors import ConditionFailed
from taskfleet.errors import LeaseLost, PermanentError
from taskfleet.lease import BundleStatus, ClaimOutcome, Lease, decide_claim
from taskfleet.ports import BundleRecord, Claim
from taskfleet.task import Task, TaskResult

_QUEUED, _RUNNING, _DONE = (
    text(status) for status in (BundleStatus.QUEUED, BundleStatus.RUNNING, BundleStatus.DONE)
)

# As `lease.decide_claim`, but for my own nonce, which is recognised when the write fails: it must
# not count as another attempt.
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
    """The half of `TaskMonitor` that is about bundles."""

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
                        ":owner": text(owner),
                        ":expires_at": number(now + lease_s),
                        ":now": number(now),
                        ":queued": _QUEUED,
                        ":running": _RUNNING,
                        ":zero": number(0),
                        ":one": number(1),
                    },
                ),
                read_back=True,
            )
        except ConditionFailed as failure:
            return self._refused(job_id, failure, owner, now)
        return Claim(ClaimOutcome.ACQUIRED, _lease(item), self._packing.unpack(item)[1])

    def _refused(self, job_id: str, failure: ConditionFailed, owner: str, now: float) -> Claim:
        item = failure.item
        if item is None or "status" not in item:
            raise PermanentError(f"the table's item {job_id} is not a bundle") from failure
        outcome = decide_claim(
            BundleStatus(item["status"]["S"]),
            item["owner"]["S"],
            read_number(item, "expires_at"),
            claimant=owner,
            now=now,
        )
        return Claim(outcome, _lease(item), self._packing.unpack(item)[1])

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
    ) -> None:
        self._write(
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
            attempt=0,
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
    ) -> None:
        """Write what `lease` allows to. LeaseLost unless it holds, or a first sending of this same
        write has ended it."""
        packed, values = self._packing.pack(tasks, results)
        try:
            self._table.update(
                f"{step} bundle {job_id} in",
                Update(
                    job_id,
                    "SET #status = :status, #expires_at = :expires_at, #attempt = :new_attempt,"
                    f" #ttl = :ttl, {packed}",
                    _HELD,
                    {
                        ":owner": text(lease.owner),
                        ":attempt": number(lease.attempt),
                        ":running": _RUNNING,
                        ":status": text(status),
                        ":expires_at": number(expires_at),
                        ":new_attempt": number(attempt),
                        **values,
                    },
                ),
            )
        except ConditionFailed as failure:
            item = failure.item or {}
            found = (item.get("status", {}).get("S"), item.get("owner", {}).get("S"))
            if status is BundleStatus.RUNNING or found != (status, lease.owner):
                raise LeaseLost(
                    f"bundle {job_id} is no longer held by attempt {lease.attempt}"
                ) from failure

    def bundles(self, job_ids: Sequence[str]) -> list[BundleRecord]:
        items = self._table.read_many("read bundles from", job_ids)
        records = []
        for job_id in job_ids:
            item = items.get(job_id)
            if item is not None and "status" in item:
                tasks, results = self._packing.unpack(item)
                status = BundleStatus(item["status"]["S"])
                records.append(BundleRecord(job_id, status, _lease(item), tasks, results))
        return records


def _lease(item: Item) -> Lease | None:
    if item["status"]["S"] != BundleStatus.RUNNING:
        return None
    return Lease(item["owner"]["S"], int(item["attempt"]["N"]), read_number(item, "expires_at"))
