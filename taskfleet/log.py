"""Logging: each record is one line, JSON with a stable `action`, or plain text on a terminal.
Owns the form of the lines and their bounds; not their content.

A line quotes what others wrote, such as a task's params or an answer's body. So long values are
cut, and a terminal gets no control characters.

Records are logged with the standard library's `logging`; `fields` makes their `extra` argument:

    log.warning("lease lost", extra=fields("lease_lost", job_id=..., attempt=...))

While a request, a bundle or a response is handled, its trace is bound with `bound`; every JSON line
of that time has its `trace_id`, also the lines of a task's own code.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, TextIO

VALUE_MAX_CHARS = 4_000
"""Longest text that a line shows of one value, in characters, but for the mark of the cut."""
TRACEBACK_MAX_CHARS = 16_000
"""Longest traceback in a line, in characters, but for the mark of the cut."""
LINE_MAX_BYTES = 200_000
"""Longest line in bytes. Less than an event of CloudWatch Logs may have ("CloudWatch Logs quotas":
1 MB, formerly 256 KB)."""


_trace_id: ContextVar[str | None] = ContextVar("trace_id", default=None)
"""The trace of what this thread is about, for the lines that it logs; nothing else reads it."""


@contextlib.contextmanager
def bound(trace_id: str | None) -> Iterator[None]:
    """A context in which the lines of this thread have this `trace_id`; none for None."""
    token = _trace_id.set(trace_id)
    try:
        yield
    finally:
        _trace_id.reset(token)


def fields(action: str, **values: Any) -> dict[str, Any]:
    """Returns the `extra` argument for a log call. `action` is a stable name to search and count
    records by; `values` are shown beside it."""
    return {"taskfleet": {"action": action, **values}}


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object on one line. Times are ISO 8601, UTC. Of a record with
    too many long values only the head is left."""

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        values = _values(record)
        head = {
            "at": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": _cut(record.name),
            "message": _cut(record.getMessage()),
        }
        if (trace_id := _trace_id.get()) is not None:
            head["trace_id"] = trace_id
        entry = {**head, **{name: _bounded(value) for name, value in values.items()}}
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            entry["traceback"] = _cut(trace, TRACEBACK_MAX_CHARS)
        line = json.dumps(entry)
        if len(line) > LINE_MAX_BYTES:
            cut = f"a line of {len(line)} bytes"
            line = json.dumps({**head, "action": _bounded(values.get("action")), "cut": cut})
        return line


class PlainFormatter(logging.Formatter):
    """Formats a record as plain text for a terminal. Times are local."""

    def format(self, record: logging.LogRecord) -> str:
        values = {name: value for name, value in _values(record).items() if name != "action"}
        shown = "".join(f" {name}={_text(value)}" for name, value in values.items())
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        told = _cut(record.getMessage()) + _cut(shown, TRACEBACK_MAX_CHARS)
        line = printable(f"{at} {record.levelname.lower():7} {told}")
        if record.exc_info:
            trace = _cut(self.formatException(record.exc_info), TRACEBACK_MAX_CHARS)
            line = "\n".join([line, *map(printable, trace.split("\n"))])
        return line


def _values(record: logging.LogRecord) -> dict[str, Any]:
    values: dict[str, Any] = getattr(record, "taskfleet", {})
    return values


def _bounded(value: Any) -> Any:
    """Returns the value as JSON can show it: a short one as it is, of a long one its text, cut."""
    if value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) < 1e18):
        return value
    if isinstance(value, str):
        return _cut(value)
    try:
        text = json.dumps(value, default=_text)
    except Exception as error:  # noqa: BLE001 - such as endless nesting; a log call never fails
        return f"a {type(value).__name__} that cannot be shown: {type(error).__name__}"
    return json.loads(text) if len(text) <= VALUE_MAX_CHARS else _cut(text)


def _text(value: Any) -> str:
    """Returns the value as text, cut."""
    try:
        return _cut(str(value))
    except Exception as error:  # noqa: BLE001 - a log call never fails
        return f"a {type(value).__name__} that cannot be shown: {type(error).__name__}"


def _cut(text: str, most: int = VALUE_MAX_CHARS) -> str:
    """Returns a text of more than `most` characters without its middle: the end of a message often
    has its cause."""
    if len(text) <= most:
        return text
    left_out = f" [{len(text) - most} characters left out] "
    return text[: most // 2] + left_out + text[-(most // 2) :]


def printable(text: str) -> str:
    """Returns the text with escapes for what would end a line or move a terminal's cursor."""
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    )


def set_up(level: str, stream: TextIO | None = None) -> None:
    """Send all records of this process from `level` upwards to `stream`, by default standard error:
    as plain text if it is a terminal, otherwise as JSON. Replaces the handlers of the root logger.
    """
    stream = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PlainFormatter() if stream.isatty() else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("boto3", "botocore", "urllib3", "s3transfer"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
