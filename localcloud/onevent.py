"""Tells the user of an event on the local cloud: prints one line, and hands its detail to the
user's command. Owns both, and that neither disturbs the cloud: events wait in a queue of their own,
and a command that fails or hangs costs a line.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from typing import Any

from taskfleet.wire.plain import plain, shortened

COMMAND_MAX_S = 30.0
"""Seconds after which a command is ended."""
WAITING_MAX = 1_000
"""Most events that wait for the one that is being told; further ones are dropped."""
SHOWN_CHARS = 300
"""Characters of a command's complaint that are printed."""


class OnEvent:
    """Tells of events, one after the other, in a thread of its own.

    say: called with each line for the person who started the cloud.
    command: command line for `/bin/sh` that gets the detail of each event as JSON on standard
        input; None for none.
    environ: its environment.
    command_max_s, waiting_max: as the constants of the same names.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        command: str | None,
        environ: Mapping[str, str],
        *,
        command_max_s: float = COMMAND_MAX_S,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        self._say = say
        self._command = command
        self._environ = dict(environ)
        self._command_max_s = command_max_s
        self._waiting: queue.Queue[Mapping[str, Any]] = queue.Queue(waiting_max)
        self._dropped = 0
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._closed = False
        threading.Thread(target=self._run, name="events", daemon=True).start()

    def put(self, _source: str, _detail_type: str, detail: Any) -> None:
        """Takes an event. Returns at once."""
        try:
            self._waiting.put_nowait(detail)
        except queue.Full:
            with self._lock:
                self._dropped += 1

    def close(self) -> None:
        """Ends the command that runs, with its children. No other starts after that."""
        with self._lock:
            self._closed = True
            running = self._running
        if running is not None:
            _kill(running)

    def _run(self) -> None:
        while True:
            detail = self._waiting.get()
            with self._lock:
                if self._closed:
                    return
                dropped, self._dropped = self._dropped, 0
            # The reader of the lines may be gone; the command runs all the same.
            with contextlib.suppress(OSError):
                if dropped:
                    self._say(f"{dropped} events were dropped: more than could wait came at once")
                self._say(line_of(detail))
            fault = None if self._command is None else self._run_command(self._command, detail)
            if fault is not None and not self._closed:
                with contextlib.suppress(OSError):
                    self._say(f"--on-event: {fault}")

    def _run_command(self, command: str, detail: Mapping[str, Any]) -> str | None:
        """Run the command on one event. Returns what went wrong, None if nothing did."""
        with self._lock:
            if self._closed:
                return None
            try:
                process = self._running = subprocess.Popen(
                    ["/bin/sh", "-c", command],
                    env=self._environ,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    start_new_session=True,  # a Ctrl-C at the terminal is for the cloud
                )
            except OSError as error:
                return f"the command could not be started: {error}"
        try:
            _, told = process.communicate(json.dumps(detail).encode(), self._command_max_s)
        except subprocess.TimeoutExpired:
            _kill(process)
            process.communicate()
            return f"the command was ended after {self._command_max_s:g} s"
        finally:
            with self._lock:
                self._running = None
        if process.returncode:
            words = shortened(" ".join(plain(told.decode(errors="replace")).split()), SHOWN_CHARS)
            return f"the command ended with exit status {process.returncode}: {words}"
        return None


def line_of(detail: Mapping[str, Any]) -> str:
    """Returns the line that tells of a batch that has ended."""
    words = [f"{detail[name]:,} {name}" for name in ("failed", "cancelled") if detail.get(name)]
    name = f" ({plain(str(detail['name']))})" if detail.get("name") else ""
    return (
        f"finished: batch {plain(str(detail.get('batch_id')))}{name} "
        f"{plain(str(detail.get('status')))}: "
        + ", ".join([f"{detail.get('succeeded', 0):,} succeeded", *words])
        + f" of {detail.get('total', 0):,}"
    )


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a command with all of its children."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
