"""A task stream in characters, for a terminal: one row a slot, time from left to right. Owns the
packing of tasks into rows and the form of the picture; the same stream as a page is
`localcloud.picture`'s.

With colour, a cell has the colour of the kind that filled most of it and is as high as it was
filled; without, each kind has a character. A cell in which a task failed shows that instead.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.text import Text

from taskfleet.wire.http.results import StreamPage
from taskfleet.wire.plain import shortened

FAILED = 1
"""The status of a failed task in a stream."""
SLACK_S = 0.001
"""Seconds by which two tasks of one slot may seem to overlap, since starts are whole
milliseconds."""
COLUMNS_MAX = 200
"""Most columns of the picture; a wider one is hard to follow."""
NAME_CHARS = 24
"""Characters of a kind's name in the legend."""
_LEVELS = "▁▂▃▄▅▆▇█"
_COLOURS = ("cyan", "green", "magenta", "blue", "yellow", "white")
_SHADES = "█▓▒░▚▞"
_FAILED_STYLE, _FAILED_SHADE = "red", "×"


@dataclass(frozen=True)
class Ran:
    """One execution. Times are in seconds since 1970."""

    kind: str
    worker: str
    failed: bool
    start_s: float
    end_s: float


@dataclass
class Row:
    """The tasks that one slot ran."""

    worker: str
    ran: list[Ran] = field(default_factory=list)


def executions(pages: Iterable[StreamPage]) -> list[Ran]:
    """Returns the executions in answers of `GET /batches/{id}/stream`, in the order of their
    starts. Tasks that never started are left out."""
    found = [
        Ran(
            page.kinds[row.kind] if row.kind >= 0 else "?",
            page.workers[row.worker] if row.worker >= 0 else "?",
            row.status == FAILED,
            row.started_ms / 1000,
            (row.started_ms + (row.duration_ms or 0)) / 1000,
        )
        for page in pages
        for row in page.rows
        if row.started_ms is not None
    ]
    return sorted(found, key=lambda ran: (ran.start_s, ran.end_s))


def rows_of(ran: Iterable[Ran]) -> list[Row]:
    """Packs executions, which are in the order of their starts, into as few rows for each worker as
    hold them without an overlap. Returns the rows, those of one worker together."""
    rows: dict[str, list[Row]] = {}
    busy: dict[str, list[tuple[float, int]]] = {}
    free: dict[str, list[int]] = {}
    for each in ran:
        mine = rows.setdefault(each.worker, [])
        ends, idle = busy.setdefault(each.worker, []), free.setdefault(each.worker, [])
        while ends and ends[0][0] <= each.start_s + SLACK_S:
            heapq.heappush(idle, heapq.heappop(ends)[1])
        if idle:
            number = heapq.heappop(idle)
        else:
            number = len(mine)
            mine.append(Row(each.worker))
        mine[number].ran.append(each)
        heapq.heappush(ends, (each.end_s, number))
    return [row for worker in sorted(rows) for row in rows[worker]]


def picture(pages: Iterable[StreamPage], width: int, *, colour: bool) -> RenderableType:
    """Returns the picture with its axis and its legend, at most `width` characters wide."""
    ran = executions(pages)
    if not ran:
        return Text("nothing ran")
    rows = rows_of(ran)
    kinds = list(dict.fromkeys(each.kind for each in ran))
    label = len(str(len(rows)))
    columns = max(1, min(width, COLUMNS_MAX) - label - 1)
    start_s = ran[0].start_s
    cell_s = max(max(each.end_s for each in ran) - start_s, 1e-3) / columns
    lines: list[RenderableType] = []
    several = len({row.worker for row in rows}) > 1
    number = 0
    for place, row in enumerate(rows):
        first = place == 0 or rows[place - 1].worker != row.worker
        if first and several:
            lines.append(Text(shortened(f"worker {row.worker}", width)))
        number = 1 if first else number + 1
        cells = fill(row.ran, start_s, cell_s, columns)
        line = Text(f"{number:>{label}} ")
        for cell in cells:
            line.append(*_drawn(cell, cell_s, kinds, colour))
        line.rstrip()
        lines.append(line)
    lines.append(Text(" " * (label + 1) + axis(columns, columns * cell_s)))
    legend = _legend(kinds, any(each.failed for each in ran), colour)
    return Group(*lines, legend)


@dataclass
class Cell:
    """What one slot did in the time of one column: the seconds of each kind, and whether a task
    failed."""

    kinds: dict[str, float] = field(default_factory=dict)
    failed: bool = False


def fill(ran: Iterable[Ran], start_s: float, cell_s: float, columns: int) -> list[Cell]:
    """Returns the cells of one row. A task is in at least one, however short it is."""
    cells = [Cell() for _ in range(columns)]
    for each in ran:
        first = min(columns - 1, int((each.start_s - start_s) / cell_s))
        last = max(first, min(columns - 1, math.ceil((each.end_s - start_s) / cell_s) - 1))
        for column in range(first, last + 1):
            left = start_s + column * cell_s
            seconds = max(0.0, min(each.end_s, left + cell_s) - max(each.start_s, left))
            cell = cells[column]
            cell.kinds[each.kind] = cell.kinds.get(each.kind, 0.0) + seconds
            cell.failed = cell.failed or each.failed
    return cells


def _drawn(cell: Cell, cell_s: float, kinds: Sequence[str], colour: bool) -> tuple[str, str]:
    """Returns the character of a cell and its style."""
    if not cell.kinds:
        return " ", ""
    kind = kinds.index(max(cell.kinds, key=lambda name: cell.kinds[name]))
    if not colour:
        return (_FAILED_SHADE if cell.failed else _SHADES[kind % len(_SHADES)]), ""
    filled = min(1.0, sum(cell.kinds.values()) / cell_s)
    level = _LEVELS[max(0, math.ceil(filled * len(_LEVELS)) - 1)]
    return level, _FAILED_STYLE if cell.failed else _COLOURS[kind % len(_COLOURS)]


def axis(columns: int, seconds: float) -> str:
    """Returns the times below the picture: 0 at its left, all seconds at its right, and the middle
    if there is room."""
    end = f"{seconds:.1f} s"
    line = list("0 s".ljust(columns))
    middle = f"{seconds / 2:.1f}"
    place = columns // 2 - len(middle) // 2
    if columns >= 4 * len(end):
        line[place : place + len(middle)] = middle
    if columns >= len(end) + 4:
        line[-len(end) :] = end
    return "".join(line)[:columns]


def _legend(kinds: Sequence[str], failed: bool, colour: bool) -> Text:
    legend = Text("one row a slot:")
    for number, kind in enumerate(kinds):
        style = _COLOURS[number % len(_COLOURS)] if colour else ""
        shade = _LEVELS[-1] if colour else _SHADES[number % len(_SHADES)]
        legend.append("  ").append(shade, style).append(f" {shortened(kind, NAME_CHARS)}")
    if failed:
        shade, style = (_LEVELS[-1], _FAILED_STYLE) if colour else (_FAILED_SHADE, "")
        legend.append("  ").append(shade, style).append(" a task failed")
    return legend
