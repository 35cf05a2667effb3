"""The paces of task kinds in the table. Owns their items, `kind/<name>`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from taskfleet.aws.dynamodb.table import Table, Update, number, text
from taskfleet.aws.errors import ConditionFailed
from taskfleet.pace import Pace, Sample

_OPERATION = "keep the paces of kinds in"


class PaceItems:
    """The part of `TaskMonitor` that is about kinds."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def paces(self, kinds: Sequence[str]) -> dict[str, Pace]:
        items = self._table.read_many(_OPERATION, [_key(kind) for kind in kinds])
        return {
            kind: msgspec.json.decode(items[_key(kind)]["pace"]["S"], type=Pace)
            for kind in kinds
            if _key(kind) in items
        }

    def learn(self, samples: Mapping[str, Sample]) -> None:
        known = self.paces(list(samples))
        for kind, sample in samples.items():
            before = known.get(kind, Pace())
            write = Update(
                _key(kind),
                "SET #pace = :pace, #tasks = :tasks, #ttl = :ttl",
                "attribute_not_exists(#tasks) OR #tasks = :before",
                {
                    ":pace": text(msgspec.json.encode(before.learn(sample)).decode()),
                    ":tasks": number(before.tasks + sample.tasks),
                    ":before": number(before.tasks),
                },
            )
            try:
                self._table.update(_OPERATION, write)
            except ConditionFailed:
                continue  # somebody else taught it just now: the next sample will do


def _key(kind: str) -> str:
    return f"kind/{kind}"
