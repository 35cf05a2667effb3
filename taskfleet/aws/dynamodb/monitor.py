"""`TaskMonitor` in DynamoDB, put together from the modules for bundles, batches, paces and results
that serve again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskfleet.aws.backoff import Backoff
from taskfleet.aws.dynamodb.batches import BatchItems
from taskfleet.aws.dynamodb.bundles import BundleItems
from taskfleet.aws.dynamodb.paces import PaceItems
from taskfleet.aws.dynamodb.packing import Packing
from taskfleet.aws.dynamodb.pages import Pages
from taskfleet.aws.dynamodb.progress import ProgressItems
from taskfleet.aws.dynamodb.reuse import ReuseItems
from taskfleet.aws.dynamodb.table import Table
from taskfleet.ports import Clock, ObjectStore

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class DynamoMonitor(BundleItems, BatchItems, ProgressItems, PaceItems, ReuseItems):
    """Implements `taskfleet.ports.TaskMonitor`. Safe for any number of threads.

    table: name of the table.
    store: holds tasks and results that are too large for an item.
    backoff: makes the pauses between retries.
    ttl_days: days after its last write when an item expires.
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
        packing = Packing(store)
        BundleItems.__init__(self, items, packing)
        pages = Pages(items)
        BatchItems.__init__(self, items, pages)
        ProgressItems.__init__(self, items, pages, packing)
        PaceItems.__init__(self, items)
        ReuseItems.__init__(self, items)
