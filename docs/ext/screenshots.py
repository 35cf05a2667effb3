"""The screenshots of the dashboard, which the tests of the browser leave in `docs/img`. A file's
name has the words of its view, and `dark` or `phone` if it is one of those, such as
`dashboard-batch-dark.png`."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent
FIRST = ("batch", "overview")
CAPTIONS = {
    "overview": "The overview, live, with the last hour",
    "batches": "Batches, to search and to filter",
    "batch": "A batch and the stream of its tasks, one row for each slot",
    "task": "A task, with its attempts and its output",
    "fleet": "The fleet, and the reasons of its decisions",
    "letters": "Dead letters with their reasons",
    "submit": "Submitting tasks, a command, or pictures",
}
"""The views in the order of the navigation, by the word in the names of their files."""


def first(docs: Path = DOCS) -> str:
    """The screenshot of the first page as Markdown, in both colour schemes: of the first view in
    `FIRST` that has one; empty if none has."""
    return next(filter(None, (_pictures(docs, view) for view in FIRST)), "")


def gallery(docs: Path = DOCS) -> str:
    """A screenshot of each view that has one, as Markdown."""
    return "\n".join(filter(None, (_pictures(docs, view) for view in CAPTIONS)))


def _pictures(docs: Path, view: str) -> str:
    """The pictures of a view, of which a reader sees the one in the colours of the page."""
    found: dict[bool, Path] = {}
    for path in sorted((docs / "img").glob("*.png"), key=lambda path: (len(path.name), path.name)):
        words = set(re.split(r"[-_.]", path.stem))
        if view in words and "phone" not in words:
            found.setdefault("dark" in words, path)
    return "\n".join(
        f"```{{image}} {path.relative_to(docs)}\n:alt: {CAPTIONS[view]}\n:class: screenshot"
        f"{(' only-dark' if dark else ' only-light') if len(found) > 1 else ''}\n```\n"
        for dark, path in sorted(found.items())
    )
