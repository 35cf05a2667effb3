"""A `TaskMonitor` in DynamoDB: the table's kinds of items put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskfleet.aws.backoff import Backoff
from taskfleet.aws.dynamodb.batches import BatchItems
from taskfleet.aws.dynamodb.bundles import BundleItems
from taskfleet.aws.dynamodb.paces import PaceItems
from taskfleet.aws.dynamodb.packing import Packing
from taskfleet.aws.dynamodb.table import Table
from taskfleet.ports import Clock, ObjectStore

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class DynamoMonitor(BundleItems, BatchItems, PaceItems):
    """`TaskMonitor` for any number of threads.

    store: takes what is too large for an item.
    ttl_days: how long a record is kept after its last change.
    """

    def __init__(
        self,
        client: DynamoDBClient,
        table: str,
        *,
        store: ObjectStore,
        clock: Clock,
        backoff: Backoff,
        ttl_days: int,
    ) -> None:
        items = Table(client, table, clock, backoff, ttl_days)
        BundleItems.__init__(self, items, Packing(store))
        BatchItems.__init__(self, items, backoff)
        PaceItems.__init__(self, items)
