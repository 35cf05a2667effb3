"""One movie, made as a worker would, in a process of its own: `python -m bench.animoto_child PARAMS
OUT`. Imports nothing that a worker does not, since what it takes is measured."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class FileStore:
    """The one movie goes to a path; what else a store does is not needed."""

    def __init__(self, out: str) -> None:
        self._out = out

    def put_file(self, key: str, path: str, *, content_type: str) -> None:  # noqa: ARG002
        if key.endswith(".mp4"):
            os.replace(path, self._out)


@dataclass
class Context:
    """A task's context for a movie that nobody stops."""

    store: Any
    batch_id: str = "bench"
    index: int = 0
    attempt: int = 1
    client_id: str = "bench"
    stopped: bool = False

    def check_stopped(self) -> None: ...

    def on_stop(self, action: Callable[[], None]) -> Callable[[], None]:  # noqa: ARG002
        return lambda: None

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def progress(self, done: int, total: int) -> None: ...


def child(params: str, out: str) -> None:
    """Make one movie as a worker would."""
    os.environ["TASKFLEET_ALLOW_PRIVATE_URLS"] = "1"
    tempfile.tempdir = str(Path(out).parent)
    from animoto import animoto

    result = animoto.run(animoto.parse(json.loads(params)), Context(FileStore(out)))
    if result["skipped"]:
        raise SystemExit(f"skipped: {result['skipped']}")


if __name__ == "__main__":
    child(*sys.argv[1:])
