"""The request that running tasks end. Owns the flag and the actions that go with it; not who asks
nor why."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Stop:
    """A request to end that is made at most once. Its methods may be called from any thread.

    event: set once the request is made.
    """

    __slots__ = ("_actions", "_lock", "event")

    def __init__(self) -> None:
        self.event = threading.Event()
        self._lock = threading.Lock()
        self._actions: dict[object, Callable[[], None]] = {}

    def on_stop(self, action: Callable[[], None]) -> Callable[[], None]:
        """Call `action` when the request is made, at once when it has been made. Returns a function
        that takes the action back."""
        token = object()
        with self._lock:
            if not self.event.is_set():
                self._actions[token] = action
                return lambda: self._take_back(token)
        action()
        return lambda: None

    def _take_back(self, token: object) -> None:
        with self._lock:
            self._actions.pop(token, None)

    def stop(self) -> None:
        """Make the request, and call the actions in this thread."""
        with self._lock:
            self.event.set()
            actions = list(self._actions.values())
            self._actions.clear()
        for action in actions:
            action()
