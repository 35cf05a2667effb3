"""The screenshots of the dashboard on the first page, which the tests of the browser leave in
`docs/img`, a light and a dark one of each view."""

from __future__ import annotations

from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent
FIRST = "img/batch"
CAPTION = "The dashboard: a batch and the stream of its tasks, one row for each slot"


def first(docs: Path = DOCS) -> str:
    """The screenshot of the first page as Markdown, in both colour schemes; empty if the tests have
    left none in the folder."""
    found = [
        (scheme, f"{FIRST}-{scheme}.png")
        for scheme in ("light", "dark")
        if (docs / f"{FIRST}-{scheme}.png").exists()
    ]
    return "\n".join(
        f"```{{image}} {path}\n:alt: {CAPTION}\n:class: screenshot"
        f"{f' only-{scheme}' if len(found) > 1 else ''}\n```\n"
        for scheme, path in found
    )
