"""Made-up answers of `GET /batches/{id}/stream`, as a fleet would give them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

PAGE_ROWS = 20_000
BEGIN_MS = 1_795_960_000_000
ERRORS = ("exit status 3", "timed out after 2 s", "ValueError: <b>no</b> number")


def stream_pages(
    count: int,
    *,
    workers: int = 2,
    slots: int = 16,
    kinds: Sequence[str] = ("sleep", "command"),
    mean_ms: float = 20.0,
    failed: float = 0.01,
    cancelled: float = 0.01,
    page_rows: int = PAGE_ROWS,
    seed: int = 1,
) -> list[dict[str, Any]]:
    """Returns pages of `count` tasks that workers with `slots` slots ran one after another, in the
    order of their ends. Starts are whole milliseconds, as the API gives them, so that bars of one
    slot may seem to overlap."""
    chance = random.Random(seed)
    free = [[BEGIN_MS + 700.0 * worker, worker] for worker in range(workers) for _ in range(slots)]
    rows: list[list[Any]] = []
    for index in range(count):
        slot = min(free)
        kind = chance.randrange(len(kinds))
        took = round(mean_ms * (0.2 + chance.random() * chance.random() * 3) * (1 + kind), 3)
        status = 1 if chance.random() < failed else 2 if chance.random() < cancelled else 0
        error = chance.randrange(len(ERRORS)) if status == 1 else -1
        rows.append([index, kind, status, round(slot[0]), took, slot[1], error])
        slot[0] += took + chance.random() * mean_ms * 0.02
    rows.sort(key=lambda row: row[3] + row[4])
    tables = {
        "kinds": list(kinds),
        "workers": [f"w-{number}" for number in range(workers)],
        "errors": list(ERRORS),
    }
    parts = [rows[first : first + page_rows] for first in range(0, count, page_rows)]
    return [
        {**tables, "rows": part, "cursor": str(n) if n < len(parts) else None}
        for n, part in enumerate(parts, 1)
    ]
