"""Paces of task kinds in the table. Owns their items, `kind/<name>`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from taskfleet.aws.dynamodb.table import Item, Table, Update, wire_number, wire_text
from taskfleet.aws.errors import ConditionFailed
from taskfleet.pace import Pace, Sample

_OPERATION = "keep the paces of kinds in"


class PaceItems:
    """The methods of `taskfleet.ports.TaskMonitor` for paces."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def paces(self, kinds: Sequence[str]) -> dict[str, Pace]:
        items = self._table.read_many(_OPERATION, [_key(kind) for kind in kinds])
        return {kind: _pace(items[_key(kind)]) for kind in kinds if _key(kind) in items}

    def learn(self, samples: Mapping[str, Sample]) -> None:
        recorded = self.paces(list(samples))
        for kind, sample in samples.items():
            self._learn(kind, recorded.get(kind, Pace()), sample)

    def _learn(self, kind: str, pace: Pace, sample: Sample) -> None:
        """Apply a sample to a pace, which may have been updated since it was read. Each refused
        write has met another one that was made, and brings the pace as that left it."""
        while True:
            write = Update(
                _key(kind),
                "SET #pace = :pace, #tasks = :tasks, #ttl = :ttl",
                "attribute_not_exists(#tasks) OR #tasks = :before",
                {
                    ":pace": wire_text(msgspec.json.encode(pace.learn(sample)).decode()),
                    ":tasks": wire_number(pace.tasks + sample.tasks),
                    ":before": wire_number(pace.tasks),
                },
            )
            try:
                self._table.update(_OPERATION, write)
                return
            except ConditionFailed as failure:
                pace = _pace(failure.item or {})  # the condition holds where there is no item


def _pace(item: Item) -> Pace:
    return msgspec.json.decode(item["pace"]["S"], type=Pace)


def _key(kind: str) -> str:
    return f"kind/{kind}"
