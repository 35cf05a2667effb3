"""Calls a handler as EventBridge and Lambda call a scheduled function: at a rate, and whenever it
is invoked. Owns when the handler is called; `taskfleet.wire.schedule` owns the event's form."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from typing import Any

from localcloud.handler import Context, Handler
from taskfleet.log import fields
from taskfleet.wire.schedule import schedule_event

_log = logging.getLogger(__name__)


class ScheduleSource:
    """Calls one handler, one call at a time: the function's reserved concurrency is one
    (`.chalice/config.json`). An event that comes during a call waits for the end of that call.

    every_s: seconds between the starts of two scheduled calls. A call that takes longer than this
        delays the next one.
    """

    def __init__(self, name: str, every_s: float, handler: Handler, region: str) -> None:
        self.name = name
        self.every_s = every_s
        self._handler = handler
        self._region = region
        self._changed = threading.Condition()
        self._is_calling = False
        self._has_waiting_invocation = False

    def run(self, stop: threading.Event) -> None:
        """Calls the handler at its rate until `stop` is set."""
        while not stop.is_set():
            started = time.monotonic()
            self.call(time.time())
            stop.wait(max(0.0, self.every_s - (time.monotonic() - started)))

    def call(self, at: float) -> None:
        """Calls the handler with the event of epoch seconds `at`, after any call that runs."""
        with self._changed:
            self._take_turn()
        self._call(schedule_event(self.name, str(uuid.uuid4()), self._region, at))

    def invoke(self, event: Any) -> None:
        """Calls the handler with `event`, as it was sent, after any call that runs. Does nothing
        when another invocation waits already: that one sees whatever this one is for. A handler
        that raises is called once, while Lambda would call it twice more."""
        with self._changed:
            if self._has_waiting_invocation:
                return
            self._has_waiting_invocation = True
            self._take_turn()
            self._has_waiting_invocation = False
        self._call(event)

    def finish(self) -> None:
        """Returns at once: a scheduled call that runs at the end is not waited for."""

    def _take_turn(self) -> None:
        """Waits until no call runs and registers one. The caller holds `_changed`."""
        self._changed.wait_for(lambda: not self._is_calling)
        self._is_calling = True

    def _call(self, event: Any) -> None:
        """Calls the handler and ends the turn that the caller took."""
        try:
            self._handler(event, Context.of(self.name))
        except Exception:  # noqa: BLE001 - Lambda survives whatever a handler raises
            _log.exception(
                "a scheduled handler failed", extra=fields("handler_failed", function=self.name)
            )
        finally:
            with self._changed:
                self._is_calling = False
                self._changed.notify_all()
