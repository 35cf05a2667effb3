"""The files of a command: inputs that are in its folder when it starts, and outputs that are stored
when it has succeeded. Owns both ways and their bounds; not the form of their names
(`taskfleet.kinds.spec`) nor how a URL is fetched (`taskfleet.fetch`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from taskfleet.batch import upload_key
from taskfleet.errors import NotFound, PermanentError, TaskFailed, TooLarge, TransientError
from taskfleet.fetch.source import UPLOAD
from taskfleet.kinds import folder
from taskfleet.kinds.pattern import matches
from taskfleet.registry import TaskContext
from taskfleet.wire.filenames import name_fault

PREFIX = "outputs/"
"""Prefix of the keys of outputs; the batch's id and the task's index follow."""
OUTPUTS_MAX = 1_000
"""Most outputs of one task. Each has a place in its result."""
OUTPUTS_MAX_BYTES = 5_000_000_000
"""Most bytes of all outputs of one task together: what S3 takes in one object."""
STORE_TRIES = 6
"""Times that a call to the store is made before its trouble counts."""
STORE_PAUSE_S = 0.5
"""Pause in seconds after the first of them; it doubles each time."""
_CONNECTIONS = 4
_FETCH_S = 1800.0
"""Longest time in seconds to fetch one file, and a fifth of that for all files of a task."""

Value = TypeVar("Value")
Identity = tuple[int, int, int]
"""Inode, size and time of the last change, by which a file that was not changed is known."""


@dataclass(frozen=True)
class Limits:
    """What a task's inputs may be.

    bytes: most bytes of all together.
    allow_private: whether URLs may lead to private addresses.
    """

    bytes: int
    allow_private: bool


def prefix(batch_id: str, index: int) -> str:
    """Returns the beginning of the keys of a task's outputs; their names follow."""
    return f"{PREFIX}{batch_id}/{index}/"


# --- inputs -----------------------------------------------------------------------------------


def fetch_inputs(
    inputs: Mapping[str, str], work: str, context: TaskContext, limits: Limits
) -> dict[str, Identity]:
    """Write the inputs into the folder `work`, which is empty. Returns what they are then, by name.

    Raises PermanentError, which names the input, if there is none or it is too large;
    TransientError if it cannot be had now; TaskStopped if the task must end.
    """
    left = limits.bytes
    with _fetcher(context, limits) as fetch:
        for name, source in inputs.items():
            path = os.path.join(work, name)
            try:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                if source.startswith(UPLOAD):
                    left -= _fetch_upload(source.removeprefix(UPLOAD), path, context, left)
                else:
                    left -= fetch(source, path)
                os.chmod(path, 0o700)  # so that a script or a program may be an input
            except (NotFound, TooLarge) as error:
                raise PermanentError(f"inputs[{name!r:.100}]: {error}") from error
            except OSError as error:
                raise TransientError(
                    f"inputs[{name!r:.100}] cannot be written: {error.strerror}"
                ) from error
            if left < 0:
                raise PermanentError(
                    f"the inputs together are over the cap of {limits.bytes} bytes per task"
                )
    return {name: _identity(os.lstat(os.path.join(work, name))) for name in inputs}


def _fetch_upload(upload_id: str, path: str, context: TaskContext, max_bytes: int) -> int:
    """Write a file that the task's client uploaded. Returns its size in bytes."""
    key = upload_key(context.client_id, upload_id)

    def call() -> int:
        return context.store.get_file(key, path, max_bytes=max(max_bytes, 0))

    try:
        return patiently(context, call)
    except NotFound:
        raise NotFound(f"you have no upload {upload_id}, or it has expired") from None
    except TooLarge:
        raise TooLarge(
            f"upload {upload_id} is over the {max(max_bytes, 0)} bytes that are left to the task"
        ) from None


@contextmanager
def _fetcher(context: TaskContext, limits: Limits) -> Iterator[Callable[[str, str], int]]:
    """Yields a function that fetches a URL to a path and returns the size."""
    # Imported here: the API imports this module's neighbours and needs no HTTP client.
    from taskfleet.fetch.connect import Unfetchable
    from taskfleet.fetch.download import Downloader, DownloadLimits
    from taskfleet.fetch.source import without_query

    downloader = Downloader(
        allow_private=limits.allow_private,
        connections=_CONNECTIONS,
        limits=DownloadLimits(
            file_bytes=limits.bytes,
            job_bytes=limits.bytes,
            total_s=_FETCH_S,
            job_s=5 * _FETCH_S,
        ),
        job="task",
    )

    def fetch(url: str, path: str) -> int:
        try:
            return downloader.fetch(url, path)
        except Unfetchable as error:
            raise NotFound(f"{without_query(url):.200} {error}") from error
        except TransientError as error:
            raise TransientError(f"{without_query(url):.200}: {error}") from error

    cancel = context.on_stop(downloader.stop)
    try:
        yield fetch
    finally:
        cancel()
        downloader.close()


# --- outputs ----------------------------------------------------------------------------------


def find_outputs(
    patterns: Sequence[str], work: str, inputs: Mapping[str, Identity]
) -> list[folder.Found]:
    """Returns the files in the folder `work` that a pattern takes, in order of their names. Inputs
    that are as they were are none of them. Raises TaskFailed if a pattern takes no file, or if
    there are too many or too large ones."""
    found: dict[str, folder.Found] = {}
    taken = dict.fromkeys(patterns, 0)
    others = dict.fromkeys(patterns, "")
    try:
        for file in folder.files(work) if patterns else ():
            for pattern in taken:
                if matches(pattern, file.name):
                    other = _no_output(file, inputs)
                    if other is None:
                        taken[pattern] += 1
                        found[file.name] = file
                    else:
                        others[pattern] = f"; {file.name!r:.100} is {other}"
    except folder.Overfull as error:
        raise TaskFailed(str(error)) from error
    for pattern, count in taken.items():
        if not count:
            raise TaskFailed(f"the output pattern {pattern!r:.200} takes no file{others[pattern]}")
    if len(found) > OUTPUTS_MAX:
        raise TaskFailed(
            f"the outputs are {len(found)} files, over the cap of {OUTPUTS_MAX}; pack them into one"
        )
    size = sum(file.status.st_size for file in found.values())
    if size > OUTPUTS_MAX_BYTES:
        raise TaskFailed(f"the outputs have {size} bytes, over the cap of {OUTPUTS_MAX_BYTES}")
    for name in found:
        fault = name_fault(name)
        if fault:
            raise TaskFailed(f"the name of the output {name!r:.200} {fault}")
    return [found[name] for name in sorted(found)]


def _no_output(file: folder.Found, inputs: Mapping[str, Identity]) -> str | None:
    """Returns what a file is instead of an output, or None."""
    if stat.S_ISLNK(file.status.st_mode):
        return "a symbolic link, which is not followed"
    if not stat.S_ISREG(file.status.st_mode):
        return "no regular file"
    if inputs.get(file.name) == _identity(file.status):
        return "an input that was not changed"
    return None


def store_outputs(
    files: Sequence[folder.Found], context: TaskContext
) -> tuple[str, list[dict[str, Any]]]:
    """Store the outputs of a task. Returns the beginning of their keys, and of each its name and
    its size. Raises TransientError when the store takes them not even after some tries, and
    TaskStopped if the task must end."""
    if files and not context.batch_id:
        raise PermanentError("a task in the form of 2014 has no outputs")
    begin = prefix(context.batch_id, context.index)
    for done, file in enumerate(files):
        context.check_stopped()

        def call(file: folder.Found = file) -> None:
            context.store.put_file(
                begin + file.name, _opened(file), content_type="application/octet-stream"
            )

        patiently(context, call)
        if len(files) > 1:
            context.progress(done + 1, len(files))
    return begin, [{"name": file.name, "bytes": file.status.st_size} for file in files]


def _opened(file: folder.Found) -> int:
    """Returns the descriptor of an output, which must be the file that was found. Raises
    PermanentError."""
    shown = repr(file.name)[:200]
    try:
        opened = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise PermanentError(f"output {shown} is not readable: {error.strerror}") from None
    status = os.fstat(opened)
    if status.st_ino != file.status.st_ino or not stat.S_ISREG(status.st_mode):
        os.close(opened)
        raise PermanentError(f"output {shown} was replaced while it was stored")
    return opened


# --- the store --------------------------------------------------------------------------------


def patiently(context: TaskContext, call: Callable[[], Value]) -> Value:
    """Returns what a call to the store returns. Trouble with the store that may pass is waited out,
    in pauses that grow. Raises what the last try raised, and TaskStopped if the task must end."""
    pause_s = STORE_PAUSE_S
    for _ in range(STORE_TRIES - 1):
        try:
            return call()
        except TransientError as error:
            context.sleep(max(pause_s, error.retry_after_s or 0.0))
        pause_s *= 2
    return call()


def _identity(status: os.stat_result) -> Identity:
    return status.st_ino, status.st_size, status.st_mtime_ns
