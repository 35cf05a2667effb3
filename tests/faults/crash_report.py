"""The figures and rows of the crash matrix, and its verdict."""

from __future__ import annotations

from collections.abc import Sequence

from tests.faults.crash_lanes import Outcome
from tests.faults.crash_load import Found
from tests.faults.figures import Figures


def report(outcomes: Sequence[Outcome], judged: Sequence[Found], figures: Figures) -> None:
    """Gives the figures of a trial. Fails with what contradicts the promises, and with the cells
    that were never reached, which count as not tried."""
    fired = [each for each in outcomes if each.fired]
    figures.add(tried=len(fired), fired=len(fired))
    bad = [each for each in outcomes if each.error]
    words = [f"{each.cell} in {each.during or 'work'}: {each.error}" for each in bad]
    for each in judged:
        figures.judge(lost=len(each.lost), doubled=len(each.doubled), wrong=len(each.wrong))
        words += [*each.lost, *each.doubled, *each.wrong]
    figures.judge(wrong=len(bad))
    figures.rows += [
        {
            "role": each.cell.role,
            "during": each.during or "work",
            "point": each.cell.point,
            "side": each.cell.side,
            "signal": each.cell.signal.name,
            "fired": int(each.fired),
        }
        for each in outcomes
    ]
    print(f"{len(fired)} of {len(outcomes)} cells fired, {len(judged)} batches judged")
    assert not words, "\n".join(words)
    missed = [f"{each.cell} in {each.during or 'work'}" for each in outcomes if not each.fired]
    assert not missed, f"never reached: {missed}"
