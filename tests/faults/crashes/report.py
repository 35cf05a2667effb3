"""The figures and rows of the crash matrix, and its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.faults.crashes.lanes import Outcome
from tests.faults.crashes.load import Found
from tests.faults.figures import Figures

MISSED_MAX = 0.02
"""Most of the cells that may not be reached: some points come by chance only."""


def report(outcomes: Sequence[Outcome], judged: Sequence[Found], figures: Figures) -> None:
    """Gives the figures of a trial. Fails with what contradicts the promises, and if
    too many cells were never reached, which count as not tried."""
    fired = [each for each in outcomes if each.fired]
    figures.add(tried=len(fired), fired=len(fired))
    bad = [each for each in outcomes if each.error]
    words = [f"{each.cell} in {each.during or 'work'}: {each.error}" for each in bad]
    for each in judged:
        figures.judge(lost=len(each.lost), doubled=len(each.doubled), wrong=len(each.wrong))
        words += [*each.lost, *each.doubled, *each.wrong]
    figures.judge(wrong=len(bad))
    figures.rows += table(outcomes)
    print(f"{len(fired)} of {len(outcomes)} cells fired, {len(judged)} batches judged")
    assert not words, "\n".join(words)
    missed = [f"{each.cell} in {each.during or 'work'}" for each in outcomes if not each.fired]
    print(f"never reached, and not counted: {missed}")
    assert len(missed) <= len(outcomes) * MISSED_MAX, f"never reached: {missed}"


def table(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Returns one row for each point that was reached, with the side of the effect on which each
    signal came."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for each in outcomes:
        cell, during = each.cell, each.during or "work"
        if each.fired:
            row = rows.setdefault(
                (cell.role, during, cell.point),
                {"role": cell.role, "during": during, "point": cell.point}
                | dict.fromkeys(("SIGKILL", "SIGTERM", "SIGSTOP"), ""),
            )
            sides = {*filter(None, row[cell.signal.name].split(", ")), cell.side}
            row[cell.signal.name] = ", ".join(sorted(sides, reverse=True))
    return [rows[key] for key in sorted(rows)]
