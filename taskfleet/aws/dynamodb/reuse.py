"""Results that serve again in the table. Owns their items, `reuse/<hash>`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from taskfleet.aws.dynamodb.table import Table, Update
from taskfleet.aws.errors import ConditionFailed
from taskfleet.reuse import KeptResult

_OPERATION = "keep results for later tasks in"


class ReuseItems:
    """The methods of `taskfleet.ports.TaskMonitor` for results that serve again."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def kept_results(self, keys: Sequence[str]) -> dict[str, KeptResult]:
        items = self._table.read_many(_OPERATION, keys)
        return {
            key: msgspec.json.decode(item["kept"]["B"], type=KeptResult)
            for key, item in items.items()
        }

    def keep_result(self, key: str, result: KeptResult) -> None:
        write = Update(
            key,
            "SET #kept = :kept, #ttl = :ttl",
            "attribute_not_exists(#kept)",
            {":kept": {"B": msgspec.json.encode(result)}},
        )
        try:
            self._table.update(_OPERATION, write)
        except ConditionFailed:
            return  # an equal task was faster
