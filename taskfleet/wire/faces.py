"""Batches, results and the fleet as a person meets them in a Python shell or a notebook: one line
of text, or a piece of HTML. Owns these forms; the structs are `taskfleet.wire.http`'s. All text of
users is escaped in HTML and made plain in lines.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from taskfleet.wire.plain import plain, shortened

if TYPE_CHECKING:
    from taskfleet.wire.http.batches import Accepted, BatchView
    from taskfleet.wire.http.fleet import FleetView
    from taskfleet.wire.http.results import ResultPage, ResultView

SHOWN_CHARS = 80
"""Characters of a task, a result or an error in a line or a cell."""
SHOWN_ROWS = 20
"""Rows of a page that are shown."""
_COLOURS = {
    "SUCCEEDED": "#1a7f37",
    "DONE": "#1a7f37",
    "FAILED": "#cf222e",
    "CANCELLED": "#9a6700",
    "RUNNING": "#0969da",
}
_BAR = (("succeeded", "#2da44e"), ("failed", "#cf222e"), ("cancelled", "#bf8700"))


# --- batches ----------------------------------------------------------------------------------


def seconds_of(batch: BatchView) -> float | None:
    """Returns the seconds from the batch's creation to its last result; None until then."""
    if batch.finished_at is None:
        return None
    took = datetime.fromisoformat(batch.finished_at) - datetime.fromisoformat(batch.created_at)
    return took.total_seconds()


def counts(batch: BatchView) -> str:
    """Returns how far the batch is, such as `2 succeeded, 1 failed of 3 in 5.5 s`."""
    seconds = seconds_of(batch)
    words = [f"{batch.succeeded:,} succeeded"]
    words += [f"{batch.failed:,} failed"] if batch.failed else []
    words += [f"{batch.cancelled:,} cancelled"] if batch.cancelled else []
    took = "" if seconds is None else f" in {seconds:.1f} s"
    return f"{', '.join(words)} of {batch.total:,}{took}"


def batch_text(batch: BatchView) -> str:
    """Returns the batch as a line."""
    left = "" if batch.finished_at or batch.eta_s is None else f", {_duration(batch.eta_s)} left"
    why = "" if batch.error is None else f": {shortened(batch.error, SHOWN_CHARS)}"
    name = "" if batch.name is None else f" {shortened(batch.name, SHOWN_CHARS)!r}"
    return f"<batch {batch.batch_id}{name} {batch.status}: {counts(batch)}{left}{why}>"


def batch_html(batch: BatchView) -> str:
    """Returns the batch as HTML, with a bar of its outcomes."""
    parts = [
        f'<span style="background:{colour};flex:{number}"></span>'
        for name, colour in _BAR
        if (number := getattr(batch, name))
    ]
    rest = batch.total - batch.succeeded - batch.failed - batch.cancelled
    parts += [f'<span style="flex:{rest}"></span>'] if rest > 0 else []
    left = "" if batch.finished_at or batch.eta_s is None else f", {_duration(batch.eta_s)} left"
    said = [text for text in (batch.error, batch.at_risk) if text is not None]
    error = "".join(f"<div>{_cell(text)}</div>" for text in said)
    return (
        f"<div>{_status(batch.status)} <b>{_cell(batch.name or '')}</b> "
        f"<code>{_cell(batch.batch_id)}</code>"
        '<div style="display:flex;height:.6em;max-width:30em;border-radius:.3em;overflow:hidden;'
        f'background:#8884" role="img" aria-label="{_cell(counts(batch))}">{"".join(parts)}</div>'
        f"{_cell(counts(batch) + left)}{error}</div>"
    )


def accepted_text(accepted: Accepted) -> str:
    """Returns a batch that was submitted as a line."""
    return f"<batch {accepted.batch_id} {accepted.status}: {accepted.total:,} tasks>"


def accepted_html(accepted: Accepted) -> str:
    """Returns a batch that was submitted as HTML, with a link to it on the dashboard."""
    end = f"/batches/{accepted.batch_id}"
    link = ""
    if accepted.url.startswith(("http://", "https://")) and accepted.url.endswith(end):
        page = _escaped(f"{accepted.url.removesuffix(end)}/#{end}")
        link = f' <a href="{page}" target="_blank" rel="noopener noreferrer">dashboard</a>'
    return (
        f"<div>{_status(accepted.status)} <code>{_cell(accepted.batch_id)}</code> "
        f"{accepted.total:,} tasks{link}</div>"
    )


# --- results ----------------------------------------------------------------------------------


def row_text(row: ResultView) -> str:
    """Returns a result as a line."""
    took = "" if row.duration_s is None else f" in {row.duration_s:.3g} s"
    said = row.error if row.error is not None else _value(row.result)
    told = f": {shortened(said, SHOWN_CHARS)}" if said else ""
    return f"<task {row.task_id} {row.status}{took}{told}>"


def rows_html(rows: Sequence[ResultView], more: bool = False) -> str:
    """Returns results as an HTML table, the first `SHOWN_ROWS` of them.

    more: whether there are results that are not among the rows.
    """
    titles = ("index", "status", "task", "attempts", "seconds", "result")
    head = "".join(f'<th style="text-align:left">{title}</th>' for title in titles)
    lines = []
    for row in rows[:SHOWN_ROWS]:
        seconds = "" if row.duration_s is None else f"{row.duration_s:.3f}"
        said = row.error if row.error is not None else _value(row.result)
        cells = (
            f"{row.index}",
            _status(row.status),
            f"<code>{_cell(_value(row.task))}</code>",
            f"{row.attempts}",
            seconds,
            _cell(said),
        )
        lines.append("".join(f'<td style="text-align:left">{cell}</td>' for cell in cells))
    hidden = len(rows) - SHOWN_ROWS
    rest = f"<div>{hidden:,} more on this page</div>" if hidden > 0 else ""
    rest += "<div>and more on the next page</div>" if more else ""
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}</div>"


def page_text(page: ResultPage) -> str:
    """Returns a page of results as a line."""
    more = "" if page.cursor is None else ", and more on the next page"
    return f"<{len(page.results):,} results{more}>"


# --- the fleet --------------------------------------------------------------------------------


def fleet_text(fleet: FleetView) -> str:
    """Returns the state of the fleet as a line."""
    slots = sum(worker.slots for worker in fleet.workers)
    why = "" if fleet.why is None else f"; nothing runs: {plain(fleet.why)}"
    return (
        f"<fleet: {fleet.backlog:,} messages wait, {fleet.running:,} tasks run in {slots:,} slots "
        f"of {len(fleet.workers):,} workers, {fleet.desired:,} machines wanted{why}>"
    )


# --- pieces -----------------------------------------------------------------------------------


def _value(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _escaped(text: str) -> str:
    # Imported here, since what is shown to people is not shown in a Lambda function, which would
    # wait for the import.
    import html

    return html.escape(text)


def _cell(text: str) -> str:
    return _escaped(shortened(text, SHOWN_CHARS))


def _status(status: str) -> str:
    colour = _COLOURS.get(status, "#59636e")
    return f'<span style="color:{colour};font-weight:600">{_escaped(str(status))}</span>'
