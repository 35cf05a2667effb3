"""Building an environment with uv. Owns the command lines and what their failure says; not where
environments are kept, nor for how long (`taskfleet.kinds.environment`).

uv finds its package indexes as it always does: in its own files and its `UV_` variables. It does
not read pip's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from taskfleet.errors import PermanentError
from taskfleet.registry import TaskContext

BUILD_MAX_S = 1800.0
"""Longest time in seconds that one build may take."""
LINES = 8
"""Last lines of uv's output that stand in the error."""
LINES_MAX_CHARS = 1_500
"""Most characters of them."""
_OUTPUT_MAX_BYTES = 200_000
_LOOK_S = 0.05
_PYTHONS_OWN = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")


class CannotBuild(PermanentError):
    """What uv says of these requirements: another try at once would end the same way."""


def build(folder: Path, requirements: Sequence[str], cache: Path, context: TaskContext) -> None:
    """Make the environment `folder` with the requirements installed. `cache` is the folder where uv
    keeps what it downloads. Raises CannotBuild; PermanentError if there is no uv; TaskStopped."""
    uv = find()
    _run(
        [uv, "venv", "--quiet", "--no-project", "--python", sys.executable, str(folder)],
        cache,
        context,
    )
    python = folder / "bin" / "python"
    # Compiled now, and not by the first call in each of 16 processes.
    options = ["--quiet", "--compile-bytecode", "--python", str(python)]
    _run([uv, "pip", "install", *options, "--", *requirements], cache, context)


def find() -> str:
    """Returns the path of uv. Raises PermanentError if it is not installed."""
    with contextlib.suppress(ImportError, FileNotFoundError):
        from uv import find_uv_bin

        return str(find_uv_bin())
    found = shutil.which("uv")
    if found is None:
        raise PermanentError(
            "requirements need uv on the workers: install taskfleet[environments] there, or submit "
            "the function without requirements"
        )
    return found


def _run(words: Sequence[str], cache: Path, context: TaskContext) -> None:
    options = {"UV_CACHE_DIR": str(cache), "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
    give_up_at = time.monotonic() + BUILD_MAX_S
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**clean_environ(), **options},
            start_new_session=True,
        )
        try:
            while process.poll() is None and time.monotonic() < give_up_at:
                context.sleep(_LOOK_S)
            code = process.poll()
        finally:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        text = _end_of(output.fileno())
    if code != 0:
        print(text, file=sys.stderr)  # whole, into the task's output
        why = f"it took over {BUILD_MAX_S:g} s" if code is None else last_lines(text)
        raise CannotBuild(f"the environment cannot be built: {why or f'uv ended with {code}'}")


def clean_environ() -> dict[str, str]:
    """Returns the variables of this process without those that lead Python to the worker's own
    packages."""
    return {name: value for name, value in os.environ.items() if name not in _PYTHONS_OWN}


def _end_of(fd: int) -> str:
    size = os.fstat(fd).st_size
    start = max(0, size - _OUTPUT_MAX_BYTES)
    return os.pread(fd, size - start, start).decode(errors="replace")


def last_lines(text: str) -> str:
    """Returns the last lines of an output in one line, at most `LINES_MAX_CHARS` characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = " | ".join(lines[-LINES:])
    return told if len(told) <= LINES_MAX_CHARS else "…" + told[1 - LINES_MAX_CHARS :]
