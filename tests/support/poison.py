"""Kinds whose tasks do their worst, each in one attempt. A task whose params are no text is
innocent and returns them."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from taskfleet.kinds.environment import own_folder
from taskfleet.registry import TaskContext, task_kind
from taskfleet.retry import RetryPolicy

ONCE = RetryPolicy(max_attempts=1)


def garbage() -> None:
    for fd in range(256):
        with contextlib.suppress(OSError):
            os.write(fd, b"\x00\x01garbage \xff" * 50)


def orphan() -> None:
    """Leave a process behind that is in no group of ours, and die."""
    code = "import os, time; os.setsid(); os.fork() and os._exit(0); time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", code]).wait()
    os._exit(9)


def stray() -> None:
    """Leave a grandchild in a session of its own, whose parent has ended, and stay."""
    code = (
        "import os, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "time.sleep(600)\n"
    )
    subprocess.Popen([sys.executable, "-c", code]).wait()
    time.sleep(600)


def bomb() -> None:
    """Multiply up to 64 processes, and stay."""
    for _ in range(6):
        os.fork()
    time.sleep(600)


def deep() -> int:
    return 1 + deep()


def nested() -> list[Any]:
    found: list[Any] = []
    for _ in range(100_000):
        found = [found]
    return found


def deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1)


def pool() -> list[int]:
    """Use processes as libraries do."""
    with multiprocessing.get_context("fork").Pool(2) as made:
        return made.map(square, range(3))


def kill_worker() -> None:
    """Kill the worker itself: this process if this is one of its threads, else the parent of the
    fork server."""
    pid = os.getpid()
    if threading.current_thread() is threading.main_thread():
        with open(f"/proc/{os.getppid()}/stat") as file:
            pid = int(file.read().rpartition(")")[2].split()[1])
    os.kill(pid, signal.SIGKILL)
    time.sleep(600)


def square(number: int) -> int:
    return number * number


KEPT: list[bytes] = []
DEEDS: dict[str, Any] = {
    "exit": lambda: os._exit(3),
    "segv": lambda: ctypes.string_at(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "kill parent": lambda: os.kill(os.getppid(), signal.SIGKILL),
    "kill worker": kill_worker,
    "close": lambda: os.closerange(0, 256),
    "close output": lambda: os.close(1),
    "garbage": garbage,
    "sys.exit": lambda: sys.exit(4),
    "interrupt": lambda: signal.raise_signal(signal.SIGINT),
    "deep": deep,
    "object": object,
    "nested": nested,
    "memory": lambda: [bytearray(b"x" * 10_000_000) for _ in range(100)] and time.sleep(600),
    "re": lambda: re.match("(a+)+$", "a" * 60 + "b"),
    "deaf": deaf,
    "bomb": bomb,
    "orphan": orphan,
    "stray": stray,
    "pool": pool,
    "fork": lambda: os.fork() and None,
    "error": lambda: 1 / 0,
    "print": lambda: os.system("echo from a child") and None,
}


def act(params: Any, _context: TaskContext) -> Any:
    return DEEDS[params]() if isinstance(params, str) else params


poison = task_kind("poison", retry=ONCE, expected_s=lambda _params: 1e-5)(act)
poison_in_thread = task_kind("poison_in_thread", retry=ONCE, runs_in="thread")(act)
slow_poison = task_kind("slow_poison", retry=ONCE, timeout_s=0.3)(act)
hungry = task_kind("hungry", retry=ONCE, memory_mb=150)(act)
again = task_kind("again", retry=RetryPolicy(max_attempts=2))(act)
patient = task_kind(
    "patient", retry=RetryPolicy(max_attempts=2), timeout_s=0.2, retry_timeouts=True
)(act)


@task_kind("waits", timeout_s=0.2)
def waits(params: Any, context: TaskContext) -> Any:
    """Wait in the way of a well-behaved task."""
    if params == "wait":
        context.sleep(60)
    return params


@task_kind("waits_in_thread", timeout_s=0.2, runs_in="thread", expected_s=lambda _params: 1e-5)
def waits_in_thread(params: Any, context: TaskContext) -> Any:
    if params == "wait":
        context.sleep(60)
    if params == "deaf":
        time.sleep(0.8)
    return params


@task_kind("holds")
def holds(params: Any, context: TaskContext) -> Any:
    """Tell the store that it runs, and stay until told to end."""
    context.store.put(f"pid/{context.index}", str(os.getpid()).encode(), content_type="text/plain")
    if params == "deaf":
        deaf()
    context.on_stop(lambda: os.write(1, b"stopped\n") and None)
    context.progress(1, 2)
    context.sleep(60)


def refused(call: Any) -> str | None:
    """Returns the name of the error of a call, None if it succeeds."""
    try:
        call()
    except OSError as error:
        return type(error).__name__
    return None


def attach(pid: int) -> None:
    """Begin to trace a process (ptrace(2), PTRACE_ATTACH)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, pid, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(1)


@task_kind("spies")
def spies(params: Any, context: TaskContext) -> dict[str, Any]:
    """Try what only the worker's own user may do. The params are the path of a file of that
    user."""
    with open(f"/proc/{os.getppid()}/stat") as file:
        worker = int(file.read().rpartition(")")[2].split()[1])
    with open("/proc/self/status") as file:
        status = {name: rest.strip() for name, _, rest in (line.partition(":") for line in file)}
    own = tempfile.gettempdir()
    with open(os.path.join(own, "mine"), "w") as file:
        file.write("mine")
    for stream in ("/dev/stdout", "/dev/stderr"):
        with open(stream, "a") as file:
            file.write(f"{stream}\n")
    context.store.put_file("mine", os.path.join(own, "mine"), content_type="text/plain")
    return {
        "ids": [os.getresuid(), os.getresgid(), os.getgroups()],
        "rights": [status[name].lstrip("0") for name in ("CapPrm", "CapEff", "CapAmb")],
        "no_new_privs": status["NoNewPrivs"],
        "folder": [os.stat(own).st_uid, oct(os.stat(own).st_mode & 0o777), own],
        "kept": own_folder(Path(os.environ["TASKFLEET_CACHE_DIR"], "environments")),
        "secrets": sorted(name for name in os.environ if name.startswith(("AWS_", "TASKFLEET_"))),
        "file": refused(lambda: read(params)),
        "folders of others": refused(lambda: os.listdir(os.path.dirname(own))),
        "kill worker": refused(lambda: os.kill(worker, signal.SIGKILL)),
        "trace worker": refused(lambda: attach(worker)),
        "trace fork server": refused(lambda: attach(os.getppid())),
        "environment": refused(lambda: read(f"/proc/{worker}/environ")),
        "memory": refused(lambda: read(f"/proc/{worker}/mem")),
        "descriptors": refused(lambda: os.listdir(f"/proc/{worker}/fd")),
        "become root": refused(lambda: os.setuid(0)),
    }


@task_kind("tells")
def tells(params: Any, _context: TaskContext) -> None:
    """Print each line of a file, told by name, once it is there, up to the line `end`."""
    told = 0
    while True:
        with open(params) as file:
            lines = file.read().splitlines()
        for line in lines[told:]:
            if line == "end":
                return
            print(line)
        told = len(lines)
        time.sleep(0.02)


@task_kind("stores")
def stores(params: Any, context: TaskContext) -> Any:
    """Use every call of the store."""
    store, path = context.store, f"/tmp/taskfleet-test-{os.getpid()}"
    store.put("a", b"line 1\nline 2\n", content_type="text/plain")
    with open(path, "wb") as file:
        file.write(b"file" * params)
    store.put_file("b", path, content_type="text/plain")
    os.unlink(path)
    sizes = [len(store.get("a")), len(store.get("b"))]
    errors = []
    for call in (lambda: store.get("none"), lambda: store.get("b", max_bytes=1)):
        try:
            call()
        except Exception as error:  # noqa: BLE001 - shown to the test
            errors.append(type(error).__name__)
    lines = [line.decode() for line in store.lines("a", offset=7)]
    store.delete("a")
    return [sizes, errors, lines, store.etag("a"), store.url("b", expires_s=60)]


@task_kind("large")
def large(params: Any, _context: TaskContext) -> str:
    return "x" * params


@task_kind("environ")
def environ(_params: Any, _context: TaskContext) -> dict[str, str]:
    return dict(os.environ)


@task_kind("who")
def who(params: Any, _context: TaskContext) -> int:
    """Keep so many bytes, and tell the process."""
    KEPT.append(b"x" * params)
    return os.getpid()


@task_kind("says", retry=ONCE, expected_s=lambda _params: 1e-4)
def says(params: Any, _context: TaskContext) -> None:
    """Print the params, or so many bytes."""
    if isinstance(params, int):
        while params > 0:
            print("x" * min(params, 10_000_000), end="")
            params -= 10_000_000
        print()
    elif params is not None:
        print(params)
    if params == "child":
        os.system("echo from a child")
    if params == "cut":
        os.ftruncate(1, 0)
        print("rest")
    if params == "crash":
        os._exit(1)


@task_kind("counted", retry=ONCE)
def counted(params: Any, _context: TaskContext) -> Any:
    """Append a line to a file at each execution; the word `exit` then ends the process."""
    path, word = params
    with open(path, "a") as file:
        file.write(f"{word}\n")
    if word == "exit":
        os._exit(3)
    return word


@task_kind("copied", hedge=True)
def copied(params: Any, context: TaskContext) -> Any:
    """Works for 25 ms. A path is taken once: who finds no file there, makes one and hangs."""
    if isinstance(params, str):
        path = Path(params)
        if not path.exists():
            path.write_text(str(os.getpid()))
            time.sleep(600)
        return "copy"
    time.sleep(0.025)
    return params
