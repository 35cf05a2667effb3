"""The screenshots of the dashboard, which the tests of the browser leave in `docs/img`."""

from __future__ import annotations

from pathlib import Path

IMAGES = Path(__file__).resolve().parent.parent / "img"
VIEWS = {
    "overview": "The overview: what runs, what waits, what it costs, and the newest batches",
    "batch": "A batch: its progress and the stream of its tasks, one row for each slot",
    "task": "A task: its attempts on a line of time, its result and its output",
    "fleet": "The fleet: machines, slots, and the reason of each decision",
    "batches": "The batches, to search and to filter",
    "submit": "Submitting a task file, a command or pictures",
    "dead-letters": "Dead letters with their reasons",
}
"""The views, and what stands below their pictures."""


def gallery() -> str:
    """Every screenshot that is there, as Markdown."""
    found = (IMAGES / f"{name}-light.png" for name in VIEWS)
    return "\n".join(_figure(path) for path in found if path.exists())


def _figure(path: Path) -> str:
    return path.name
