"""Makes one movie as a worker does, in a process of its own:
`python -m bench.animoto_child PARAMS OUT`. Imports only what a worker imports, because its time and
memory are measured."""

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
    """A store that moves the movie to a path and drops other files."""

    def __init__(self, out: str) -> None:
        self._out = out

    def put_file(self, key: str, path: str, *, content_type: str) -> None:  # noqa: ARG002
        if key.endswith(".mp4"):
            os.replace(path, self._out)


@dataclass
class Context:
    """The context of a task that is never stopped."""

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


def make_movie(params: str, out: str) -> None:
    """Make a movie from a task's params, as JSON, at the path `out`. Exits with a message if a
    picture was skipped."""
    os.environ["TASKFLEET_ALLOW_PRIVATE_URLS"] = "1"
    tempfile.tempdir = str(Path(out).parent)
    from animoto import animoto

    result = animoto.run(animoto.parse(json.loads(params)), Context(FileStore(out)))
    if result["skipped"]:
        raise SystemExit(f"pictures were skipped: {result['skipped']}")


if __name__ == "__main__":
    make_movie(*sys.argv[1:])
