"""Logging: each record is one line, JSON with a stable `action`, or plain text on a terminal.
Owns the form of the lines; not their content.

Records are logged with the standard library's `logging`; `fields` makes their `extra` argument:

    log.warning("lease lost", extra=fields("lease_lost", job_id=..., attempt=...))
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, TextIO


def fields(action: str, **values: Any) -> dict[str, Any]:
    """Returns the `extra` argument for a log call. `action` is a stable name to search and count
    records by; `values` are shown beside it."""
    return {"taskfleet": {"action": action, **values}}


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object on one line. Times are ISO 8601, UTC."""

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry = {
            "at": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "taskfleet", {}),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class PlainFormatter(logging.Formatter):
    """Formats a record as plain text for a terminal. Times are local."""

    def format(self, record: logging.LogRecord) -> str:
        values = dict(getattr(record, "taskfleet", {}))
        values.pop("action", None)
        shown = "".join(f" {name}={value}" for name, value in values.items())
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{at} {record.levelname.lower():7} {record.getMessage()}{shown}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


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
