"""The task kind `command`, which runs a program in a folder of its own. Owns what Taskfleet sees of
the kind: its params, its result and its failures; not how the program runs
(`taskfleet.kinds.process`), its folder (`taskfleet.kinds.folder`) nor its files
(`taskfleet.kinds.files`).

Trouble with the store is waited out here. A command that fails is not run again, unless its batch
or task has `max_attempts`: nobody but its owner knows whether that does harm.
"""

from __future__ import annotations

import functools
import os
import re
import signal
import sys
from typing import Any

from taskfleet.errors import PermanentError, TaskFailed
from taskfleet.kinds import spec
from taskfleet.kinds.spec import Command
from taskfleet.ports import ObjectStore
from taskfleet.registry import TaskContext, TaskKind
from taskfleet.retry import RetryPolicy
from taskfleet.settings import Settings, load
from taskfleet.task import task_id
from taskfleet.wire.filenames import name_fault

RETRY = RetryPolicy(max_attempts=1, transient=(Exception,))
ERROR_MAX_CHARS = 300
"""Most characters of an error that are quoted from standard error."""
LANG = "C.UTF-8"
_PREFIX = re.compile(r"outputs/[0-9a-z]{1,64}/[0-9]{1,9}/")


@functools.cache
def process_settings() -> Settings:
    """Returns the settings of this process, read from the environment at the first call. Raises
    SettingsError."""
    return load()


def check() -> None:
    """Raises PermanentError where commands cannot run."""
    if sys.platform != "linux":
        raise PermanentError("commands need Linux")


def prepare() -> None:
    """Deletes the folders that killed workers left behind."""
    from taskfleet.kinds import folder

    folder.remove_leftovers()


def run(params: Any, context: TaskContext) -> dict[str, Any]:
    """Runs the command with this process's settings; see `run_command`."""
    conf = process_settings()
    return run_command(
        spec.command(params),
        context,
        disk_max_bytes=conf.task_disk_mb * 1_000_000,
        allow_private=conf.allow_private_urls,
    )


def run_command(
    wanted: Command, context: TaskContext, *, disk_max_bytes: int, allow_private: bool
) -> dict[str, Any]:
    """Runs the command and stores its outputs. Returns the task's result: `exit_status`, the ends
    of `stdout` and `stderr`, `outputs` with their names and bytes, and `prefix`, the beginning of
    their keys (`with_urls` adds URLs).

    disk_max_bytes: most bytes that its folder may take.
    allow_private: admits inputs from private addresses.

    Raises TaskFailed, with such a result, if the command fails; PermanentError or TransientError
    for faults of inputs and outputs; TaskStopped if the task must end.
    """
    # Imported here: the API imports this module for the params alone.
    from taskfleet.kinds import confine, files, folder, process

    folder.remove_leftovers()
    with folder.new() as own, confine.outside(folder.parent(), own.path) as confined:
        limits = files.Limits(disk_max_bytes, allow_private)
        inputs = files.fetch_inputs(wanted.inputs, own.work, context, limits)
        ended = process.run(
            wanted.words,
            env=environment(wanted, context, home=own.work, tmp=own.tmp),
            cwd=own.work,
            stdin=wanted.stdin,
            context=context,
            watch=lambda: _overfull(own, disk_max_bytes),
            before=confined,
        )
        result: dict[str, Any] = {
            "exit_status": ended.code if ended.code >= 0 else None,
            "stdout": ended.stdout.decode(errors="replace"),
            "stderr": ended.stderr.decode(errors="replace"),
            "outputs": [],
        }
        fault = ended.fault or _overfull(own, disk_max_bytes) or _failure(ended.code, result)
        if fault is not None:
            raise TaskFailed(fault, result)
        try:
            found = files.find_outputs(wanted.outputs, own.work, inputs)
        except TaskFailed as error:
            raise TaskFailed(str(error), result) from None
        begin, outputs = files.store_outputs(found, context)
    if outputs:
        result |= {"outputs": outputs, "prefix": begin}
    return result


def environment(wanted: Command, context: TaskContext, *, home: str, tmp: str) -> dict[str, str]:
    """Returns the environment of a command: nothing of the worker's but its PATH."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": home,
        "TMPDIR": tmp,
        "LANG": LANG,
        **wanted.env,
        "TASKFLEET_TASK_ID": task_id(context.batch_id, context.index),
        "TASKFLEET_ATTEMPT": str(context.attempt),
    }


def _overfull(own: Any, disk_max_bytes: int) -> str | None:
    """Returns why the folder has too much in it, or None."""
    from taskfleet.kinds import folder

    try:
        used = folder.used_bytes(own.path)
    except folder.Overfull as error:
        return str(error)
    if used > disk_max_bytes:
        return (
            f"used {used / 1e6:.0f} MB of disk, over its {disk_max_bytes / 1e6:.0f} MB "
            "(TASKFLEET_TASK_DISK_MB)"
        )
    return None


def _failure(code: int, result: dict[str, Any]) -> str | None:
    """Returns why the command failed, or None."""
    if code < 0:
        try:
            return f"its process died: {signal.Signals(-code).name}"
        except ValueError:
            return f"its process died: signal {-code}"
    if code > 0:
        said = last_line(result["stderr"])
        return f"exit status {code}" + (f": {said}" if said else "")
    return None


def last_line(text: str) -> str:
    """Returns the last line that is not blank, without control characters; of a long one the end,
    `ERROR_MAX_CHARS` characters. Empty if there is none."""
    lines = [line for line in text.splitlines() if line.strip()]
    line = lines[-1].strip() if lines else ""
    if len(line) > ERROR_MAX_CHARS:
        line = "…" + line[1 - ERROR_MAX_CHARS :]
    return "".join(char if char.isprintable() else " " for char in line)


def present(result: Any, store: ObjectStore) -> Any:
    """Returns the result as clients see it, with this process's settings; see `with_urls`."""
    conf = process_settings()
    return with_urls(result, store, expires_s=conf.result_url_s)


def with_urls(result: Any, store: ObjectStore, *, expires_s: int) -> Any:
    """Returns the result with a URL for each output, which anyone can open for `expires_s` seconds.
    They are never stored. Only keys of outputs get one, whoever wrote the result."""
    if not isinstance(result, dict) or "prefix" not in result:
        return result
    begin, outputs = result["prefix"], result.get("outputs")
    if not isinstance(begin, str) or not _PREFIX.fullmatch(begin) or not isinstance(outputs, list):
        return result
    shown = [
        {**each, "url": store.url(begin + each["name"], expires_s=expires_s)}
        for each in outputs
        if isinstance(each, dict)
        and isinstance(each.get("name"), str)
        and name_fault(each["name"]) is None
    ]
    return {**{k: v for k, v in result.items() if k != "prefix"}, "outputs": shown}


command = TaskKind(
    name="command",
    run=run,
    runs_client_code=True,
    parse=spec.parse,
    schema=spec.SCHEMA,
    retry=RETRY,
    prepare=prepare,
    check=check,
    present=present,
)
