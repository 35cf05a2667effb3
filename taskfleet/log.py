"""Logging: one JSON object a line with a stable `action`, or a plain line on a terminal.
Owns the form of a record; the words in it belong to whoever logs.

Every record is `log.info("message", extra=...)` of the standard library, made by `fields`:

    log.warning("lease lost", extra=fields("lease_lost", job_id=..., attempt=...))
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, TextIO


def fields(action: str, **values: Any) -> dict[str, Any]:
    """The `extra` of a record: `action` is a stable name to search and count by."""
    return {"taskfleet": {"action": action, **values}}


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry = {
            "at": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "taskfleet", {}),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        values = dict(getattr(record, "taskfleet", {}))
        values.pop("action", None)
        tail = "".join(f" {name}={value}" for name, value in values.items())
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{clock} {record.levelname.lower():7} {record.getMessage()}{tail}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def set_up(level: str, stream: TextIO | None = None) -> None:
    """Send every record of the process to `stream` (standard error unless told): plain when that
    is a terminal, JSON otherwise."""
    stream = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PlainFormatter() if stream.isatty() else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("boto3", "botocore", "urllib3", "s3transfer"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
